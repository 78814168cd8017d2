//! The REST API: what clients may ask, and the one place where HTTP becomes calls of [`App`].
//!
//! - `url`, `json`, `fields`, `paging`, `extract`: from a request to checked arguments. Each call states
//!   its keys once, for its GET and its POST form.
//! - `books`, `search`, `orders`, `ledger`, `admin`, `bulk`, `backup`: the calls. `operators`, `events`,
//!   `pages`: the rest.
//! - `problem`: every error. `cached`, `conditions`, `outcome`: the good answers.
//! - `front`: what all requests go through, and the short ways of a cached book and of a buy past most of the above;
//!   `plain`: the requests that take the shortest ones.

pub(crate) mod admin;
pub(crate) mod backup;
pub(crate) mod books;
pub mod bulk;
pub(crate) mod cached;
pub(crate) mod conditions;
pub(crate) mod events;
pub(crate) mod extract;
pub(crate) mod fields;
pub mod front;
pub mod json;
pub(crate) mod ledger;
pub(crate) mod operators;
pub(crate) mod orders;
pub(crate) mod outcome;
pub(crate) mod pages;
pub(crate) mod paging;
pub mod plain;
pub(crate) mod problem;
pub(crate) mod route;
pub(crate) mod search;
pub(crate) mod trace;
pub mod url;

use axum::Router;

use crate::api::problem::Problem;
use crate::api::route::Route;
use crate::app::App;

/// All paths and their handlers.
pub fn router(app: App) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, route| route.join(router));
    router.fallback(nothing_here).with_state(app)
}

fn routes() -> Vec<Route> {
    let parts = [
        books::routes(),
        search::routes(),
        orders::routes(),
        ledger::routes(),
        admin::routes(),
        bulk::routes(),
        backup::routes(),
        operators::routes(),
        events::routes(),
        pages::routes(),
    ];
    parts.into_iter().flatten().collect()
}

async fn nothing_here() -> Problem {
    let detail = "there is no such path; /docs says which there are".to_owned();
    Problem::NotFound { detail, id: None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::Method;

    use super::*;

    #[test]
    fn the_description_and_the_router_have_the_same_paths_and_methods() {
        let description: serde_json::Value = serde_json::from_str(pages::OPENAPI).unwrap();
        assert_eq!(description["openapi"], "3.1.0");
        let mut described = BTreeSet::new();
        for (path, item) in description["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
                described.insert((path.clone(), method.to_uppercase()));
            }
        }
        let routed = routes().into_iter().flat_map(|Route { path, methods, .. }| {
            // Whatever has GET without side effects has HEAD; the description need not say it each time.
            let methods = methods.into_iter().filter(|method| *method != Method::HEAD);
            methods.map(move |method| (path.to_owned(), method.to_string())).collect::<Vec<_>>()
        });
        assert_eq!(described, routed.collect());
    }

    #[test]
    fn every_reference_of_the_description_leads_somewhere() {
        let description: serde_json::Value = serde_json::from_str(pages::OPENAPI).unwrap();
        let mut open = vec![&description];
        let mut references = 0;
        while let Some(value) = open.pop() {
            if let Some(reference) = value.get("$ref").and_then(|reference| reference.as_str()) {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(description.pointer(pointer).is_some(), "{reference}");
                references += 1;
            }
            match value {
                serde_json::Value::Object(object) => open.extend(object.values()),
                serde_json::Value::Array(list) => open.extend(list),
                _ => {}
            }
        }
        assert!(references > 20);
    }

    #[test]
    fn no_path_stands_there_twice() {
        let paths: Vec<&str> = routes().iter().map(|route| route.path).collect();
        assert_eq!(paths.iter().collect::<BTreeSet<_>>().len(), paths.len());
    }
}
