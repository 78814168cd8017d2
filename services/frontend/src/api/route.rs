//! A path with the methods that it has: the handlers, and the `Allow` of a 405, from one statement.

use axum::Router;
use axum::handler::Handler;
use axum::routing::MethodRouter;
use http::Method;

use super::problem::Problem;
use crate::app::App;

/// A path and what it answers.
pub(crate) struct Route {
    /// As the router writes it: `/lookup/{id}`.
    pub(crate) path: &'static str,
    /// In the order of their statement.
    pub(crate) methods: Vec<Method>,
    handlers: MethodRouter<App>,
}

impl Route {
    /// A path without methods yet.
    pub(crate) fn at(path: &'static str) -> Self {
        Self { path, methods: Vec::new(), handlers: MethodRouter::new() }
    }

    /// GET that only reads, so that HEAD can be answered by it as well.
    pub(crate) fn read<H: Handler<T, App>, T: 'static>(mut self, handler: H) -> Self {
        self.methods.extend([Method::GET, Method::HEAD]);
        Self { handlers: self.handlers.get(handler), ..self }
    }

    /// GET that changes something. A HEAD must not, so the path has none.
    pub(crate) fn get_that_writes<H: Handler<T, App>, T: 'static>(mut self, handler: H) -> Self {
        self.methods.push(Method::GET);
        let handlers = self.handlers.get(handler).head(Self::refuse_head);
        Self { handlers, ..self }
    }

    /// POST.
    pub(crate) fn post<H: Handler<T, App>, T: 'static>(mut self, handler: H) -> Self {
        self.methods.push(Method::POST);
        Self { handlers: self.handlers.post(handler), ..self }
    }

    /// DELETE.
    pub(crate) fn delete<H: Handler<T, App>, T: 'static>(mut self, handler: H) -> Self {
        self.methods.push(Method::DELETE);
        Self { handlers: self.handlers.delete(handler), ..self }
    }

    async fn refuse_head() -> Problem {
        Problem::MethodNotAllowed { allow: "GET".to_owned() }
    }

    /// Adds it to a router.
    pub(crate) fn join(self, router: Router<App>) -> Router<App> {
        let names: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        let allow = names.join(", ");
        let refused = move || async move { Problem::MethodNotAllowed { allow } };
        router.route(self.path, self.handlers.fallback(refused))
    }
}
