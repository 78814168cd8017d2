//! What operators and their tools ask: is it alive, is it ready, how does it stand, what has it done.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header::CONTENT_TYPE;
use serde_json::json;

use super::outcome::NO_STORE;
use super::problem::{Problem, Unavailable};
use super::route::Route;
use crate::app::App;
use crate::metrics::Metrics;

/// The text form of metrics that is made here.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::at("/livez").read(live),
        Route::at("/healthz").read(live),
        Route::at("/readyz").read(ready),
        Route::at("/status").read(status),
        Route::at("/metrics").read(metrics),
    ]
}

async fn live() -> impl IntoResponse {
    (NO_STORE, Json(json!({ "live": true })))
}

async fn ready(State(app): State<App>) -> Response {
    match app.readiness() {
        Ok(()) => (NO_STORE, Json(json!({ "ready": true }))).into_response(),
        Err(waiting_for) => not_ready(waiting_for).into_response(),
    }
}

fn not_ready(waiting_for: Vec<String>) -> Problem {
    let detail = waiting_for.join("; ");
    Problem::Unavailable { detail, more: Unavailable { waiting_for, ..Unavailable::default() } }
}

async fn status(State(app): State<App>) -> impl IntoResponse {
    (NO_STORE, Json(app.status()))
}

async fn metrics(State(app): State<App>, Extension(metrics): Extension<Arc<Metrics>>) -> impl IntoResponse {
    (NO_STORE, [(CONTENT_TYPE, OPENMETRICS)], metrics.render(&app.status()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_told() {
        let problem = not_ready(vec!["shard 0 waits for a writer".to_owned(), "no order node".to_owned()]);
        let body = problem.body();
        assert_eq!((body.status, body.more["waiting_for"].as_array().unwrap().len()), (503, 2));
        assert_eq!(body.detail, "shard 0 waits for a writer; no order node");
    }
}
