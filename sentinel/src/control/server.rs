//! The supervisor's end of the control channel.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use common::secret::Secret;

use super::{Action, NodeReport, Overview, Refusal};
use crate::supervisor::fleet::Fleet;

#[derive(Clone)]
struct App {
    fleet: Fleet,
    secret: Arc<Secret>,
}

/// The calls of the control channel.
pub(crate) fn router(fleet: Fleet, secret: Secret) -> Router {
    let app = App { fleet, secret: Arc::new(secret) };
    Router::new()
        .route("/nodes", get(show_nodes))
        .route("/nodes/{id}/{action}", post(act))
        .layer(from_fn_with_state(app.clone(), only_with_secret))
        .with_state(app)
}

async fn show_nodes(State(app): State<App>) -> Json<Overview> {
    Json(Overview { pid: std::process::id(), nodes: app.fleet.reports() })
}

async fn act(
    State(app): State<App>,
    Path((id, action)): Path<(String, Action)>,
) -> Result<Json<NodeReport>, Response> {
    let Some(handle) = app.fleet.handle(&id) else {
        return Err(refuse(StatusCode::NOT_FOUND, format!("the running store has no node `{id}`")));
    };
    handle.act(action).await.map(Json).map_err(|detail| refuse(StatusCode::CONFLICT, detail))
}

async fn only_with_secret(State(app): State<App>, request: Request, next: Next) -> Response {
    let token = request.headers().get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
    match token.and_then(|value| value.strip_prefix(b"Bearer ")) {
        Some(token) if app.secret.matches(token) => next.run(request).await,
        _ => refuse(StatusCode::UNAUTHORIZED, "the cluster secret is needed".to_owned()),
    }
}

fn refuse(status: StatusCode, detail: String) -> Response {
    (status, Json(Refusal { detail })).into_response()
}
