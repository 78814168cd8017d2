//! What every request goes through, whatever it asks: its id, its client's rate, its time, its log line;
//! and the short ways of a cached book and of a buy.
//!
//! A lookup that the cache can answer costs one read of a map and the making of a head: no router, no
//! timer, no log line. If it is plain as well, it is no request of hyper's either, but bytes for bytes.
//! A plain buy is none as well, and goes straight to where buys are handled. Everything else goes to the router.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, DATE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::{Either, Full};
use protocol::command::Scope;
use protocol::ids::BookId;
use tower::ServiceExt;

use super::cached::{self, Side};
use super::extract::{self, Write, WriteKey};
use super::orders;
use super::plain::{Names, PlainBuy, PlainLookup};
use super::problem::{Problem, WriteOutcome};
use super::trace::{
    RequestId, RequestIds, TRACEPARENT, X_REQUEST_ID, X_SERVED_BY, is_traceparent, trace_of, traceparent,
};
use crate::app::{App, CacheUse};
use crate::limits::RateLimit;
use crate::metrics::{Metrics, RouteClass};
use crate::render::node_header;

/// How long a request may take until its answer begins, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The body of an answer: ready bytes, or what a handler made.
pub type Reply = Either<Full<Bytes>, Body>;

/// What all connections of a lane share.
#[derive(Debug)]
pub struct Front {
    app: App,
    router: Router,
    metrics: Arc<Metrics>,
    rate: Option<Arc<RateLimit>>,
    ids: RequestIds,
    me: HeaderValue,
}

impl Front {
    /// The way in to a router.
    pub fn new(app: App, router: Router, metrics: Arc<Metrics>) -> Self {
        let rate = app.config().limits.requests_per_second_per_client.map(RateLimit::new).map(Arc::new);
        let me = node_header(app.id());
        Self { app, router, metrics, rate, ids: RequestIds::new(), me }
    }

    /// Another way in to the same, for another lane: what each request writes to is not shared with it, but
    /// for the clients' rates.
    pub(crate) fn beside(&self) -> Self {
        Self {
            app: self.app.clone(),
            router: self.router.clone(),
            metrics: Arc::clone(&self.metrics),
            rate: self.rate.clone(),
            ids: RequestIds::new(),
            me: self.me.clone(),
        }
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Writes the answer to a plain lookup, if the cache has the book and the client may ask. If not, nothing is
    /// written or counted: whoever answers the request then does all of that.
    pub fn plain(&self, client: IpAddr, lookup: &PlainLookup<'_>, date: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(answer) = self.app.cached_book(lookup.id) else { return false };
        let Some(found) = &answer.found else { return false };
        if self.rate.as_ref().is_some_and(|rate| rate.take(client, Instant::now()).is_err()) {
            return false;
        }
        self.app.cache_hit();
        self.metrics.answered(RouteClass::Lookup, StatusCode::OK);
        cached::write_head(found, &answer.served_by, out);
        out.extend_from_slice(X_REQUEST_ID.as_str().as_bytes());
        out.extend_from_slice(b": ");
        self.ids.write_of(lookup.names.request_id, out);
        out.extend_from_slice(b"\r\n");
        if let Some(traceparent) = lookup.names.traceparent.filter(|value| is_traceparent(value)) {
            cached::write_field(&TRACEPARENT, traceparent, out);
        }
        cached::write_field(&DATE, date, out);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&found.body);
        tracing::debug!(id = %lookup.id, status = 200, "answered from the cache");
        true
    }

    /// Begins a plain buy, if it is sound and the client may ask. If not, nothing is begun or counted: whoever answers
    /// the request then says why.
    pub fn buy<'f>(
        &'f self,
        client: IpAddr,
        asked: &PlainBuy<'_>,
    ) -> Option<impl Future<Output = Response<Bytes>> + use<'f>> {
        if asked.body.len() as u64 > self.app.config().limits.body_bytes {
            return None;
        }
        let what = extract::of_json(asked.body).ok()?;
        let key = WriteKey::new(Scope::Public, asked.key).ok()?;
        if self.rate.as_ref().is_some_and(|rate| rate.take(client, Instant::now()).is_err()) {
            return None;
        }
        let asked = Asked::to_buy(&asked.names, &self.ids);
        let write = Write { trace: trace_of(&asked.id, asked.traceparent.as_ref()), key };
        Some(async move {
            let sold = tokio::time::timeout(REQUEST_TIMEOUT, orders::sell(&self.app, write, what)).await;
            let mut response = sold.unwrap_or_else(|_| too_late(asked.route).response());
            self.close(&asked, &mut response);
            response
        })
    }

    /// The answer to a request that needs no waiting: a book that the cache has, or one request too many.
    pub fn at_once<B>(&self, client: IpAddr, request: &http::Request<B>) -> Option<Response<Reply>> {
        if let Some(wait) = self.rate.as_ref().and_then(|rate| rate.take(client, Instant::now()).err()) {
            self.metrics.limited();
            let problem = Problem::TooManyRequests { retry_after_s: wait.as_secs() + 1 };
            let route = RouteClass::of(request.uri().path());
            return Some(self.finish(problem.response(), route, request.headers()));
        }
        let id = book_asked_for(request)?;
        let answer = self.app.cached_book(id)?;
        self.app.cache_hit();
        let response = cached::book(id, Side::Book, &answer, CacheUse::Hit, request.headers());
        let response = self.finish(response, RouteClass::Lookup, request.headers());
        tracing::debug!(%id, status = response.status().as_u16(), "answered from the cache");
        Some(response)
    }

    /// What a client gets whose connection is one too many.
    pub(crate) fn too_many_connections(&self) -> Response<Bytes> {
        let problem = Problem::write_failed(
            "the front end has as many connections as it may have",
            WriteOutcome::NotDone,
        );
        let mut response = problem.response();
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        self.stamp(response.headers_mut(), self.ids.next(), None);
        response
    }

    fn finish(&self, response: Response<Bytes>, route: RouteClass, asked: &HeaderMap) -> Response<Reply> {
        self.metrics.answered(route, response.status());
        let mut response = response.map(|body| Either::Left(Full::new(body)));
        let id = self.ids.of(asked.get(X_REQUEST_ID));
        self.stamp(response.headers_mut(), id, traceparent(asked).cloned());
        response
    }

    fn stamp(&self, headers: &mut HeaderMap, id: HeaderValue, traceparent: Option<HeaderValue>) {
        headers.insert(X_REQUEST_ID, id);
        if let Some(traceparent) = traceparent {
            headers.insert(TRACEPARENT, traceparent);
        }
        headers.entry(X_SERVED_BY).or_insert_with(|| self.me.clone());
    }

    /// The answer to any other request.
    pub async fn routed(&self, request: Request) -> Response<Reply> {
        let asked = Asked::of(&request, &self.ids);
        let mut response = self.route(request, &asked).await;
        self.close(&asked, &mut response);
        response.map(Either::Right)
    }

    /// All that a request that took its time comes to besides its answer.
    fn close<B>(&self, asked: &Asked, response: &mut Response<B>) {
        self.stamp(response.headers_mut(), asked.id.0.clone(), asked.traceparent.clone());
        let time = asked.since.elapsed();
        self.metrics.answered(asked.route, response.status());
        self.metrics.took(asked.route, time);
        asked.log(response, time);
    }

    async fn route(&self, mut request: Request, asked: &Asked) -> axum::response::Response {
        request.extensions_mut().insert(asked.id.clone());
        let answer = self.router.clone().oneshot(request);
        if matches!(asked.route, RouteClass::Bulk | RouteClass::Backup) {
            // They take as long as their data does, and watch over that themselves.
            return infallible(answer.await);
        }
        match tokio::time::timeout(REQUEST_TIMEOUT, answer).await {
            Ok(answer) => infallible(answer),
            Err(_) => axum::response::IntoResponse::into_response(too_late(asked.route)),
        }
    }
}

fn infallible<T>(result: Result<T, std::convert::Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

fn too_late(route: RouteClass) -> Problem {
    let detail = format!("there was no answer within {} s", REQUEST_TIMEOUT.as_secs());
    if route.writes() {
        Problem::write_failed(detail, WriteOutcome::Unknown)
    } else {
        Problem::unavailable(detail)
    }
}

/// The book that a request is for, if nothing about it needs more than the cache.
fn book_asked_for<B>(request: &http::Request<B>) -> Option<BookId> {
    let reads = *request.method() == Method::GET || *request.method() == Method::HEAD;
    if !reads || request.uri().query().is_some() || request.headers().contains_key(CACHE_CONTROL) {
        return None;
    }
    request.uri().path().strip_prefix("/lookup/")?.parse().ok()
}

/// What of a request is needed once it is gone.
struct Asked {
    since: Instant,
    id: RequestId,
    traceparent: Option<HeaderValue>,
    route: RouteClass,
    method: Method,
    path: String,
}

impl Asked {
    fn of(request: &Request, ids: &RequestIds) -> Self {
        let path = request.uri().path();
        Self {
            since: Instant::now(),
            id: RequestId(ids.of(request.headers().get(X_REQUEST_ID))),
            traceparent: traceparent(request.headers()).cloned(),
            route: RouteClass::of(path),
            method: request.method().clone(),
            path: path.chars().take(LOGGED_PATH_MAX).collect(),
        }
    }

    fn to_buy(names: &Names<'_>, ids: &RequestIds) -> Self {
        let value = |bytes| HeaderValue::from_bytes(bytes).ok();
        Self {
            since: Instant::now(),
            id: RequestId(ids.of(names.request_id.and_then(value).as_ref())),
            traceparent: names.traceparent.filter(|bytes| is_traceparent(bytes)).and_then(value),
            route: RouteClass::Buy,
            method: Method::POST,
            path: "/buy".to_owned(),
        }
    }

    /// The request's one line.
    fn log<B>(&self, response: &Response<B>, time: Duration) {
        let (method, path) = (self.method.as_str(), self.path.as_str());
        let status = response.status().as_u16();
        let latency_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let request_id = String::from_utf8_lossy(self.id.0.as_bytes());
        let served_by =
            response.headers().get(X_SERVED_BY).map(|node| String::from_utf8_lossy(node.as_bytes()));
        let served_by = served_by.as_deref().unwrap_or_default();
        if response.status() >= StatusCode::INTERNAL_SERVER_ERROR {
            tracing::warn!(method, path, status, latency_us, %request_id, served_by, "request");
        } else {
            tracing::debug!(method, path, status, latency_us, %request_id, served_by, "request");
        }
    }
}

/// The part of a path that is worth a place in the log.
const LOGGED_PATH_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(method: Method, uri: &str, headers: &[(&str, &str)]) -> Option<u64> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        book_asked_for(&request.body(()).unwrap()).map(BookId::get)
    }

    #[test]
    fn only_a_plain_lookup_takes_the_short_way() {
        assert_eq!(asks(Method::GET, "/lookup/7", &[]), Some(7));
        assert_eq!(asks(Method::GET, "http://store/lookup/7", &[("if-none-match", "*")]), Some(7));
        assert_eq!(asks(Method::HEAD, "/lookup/9007199254740991", &[]), Some(9_007_199_254_740_991));
        for uri in
            ["/lookup/0", "/lookup/x", "/lookup/", "/lookup/7/", "/lookup/7?", "/lookup/7?a=1", "/lookup/%37"]
        {
            assert_eq!(asks(Method::GET, uri, &[]), None, "{uri}");
        }
        assert_eq!(asks(Method::GET, "/lookup/7", &[("cache-control", "no-cache")]), None);
        assert_eq!(asks(Method::POST, "/lookup/7", &[]), None);
    }

    #[test]
    fn a_write_that_takes_too_long_may_have_been_done() {
        let outcome = |route| too_late(route).body().more.get("outcome").cloned();
        assert_eq!(outcome(RouteClass::Buy), Some("unknown".into()));
        assert_eq!(outcome(RouteClass::Search), None);
    }
}
