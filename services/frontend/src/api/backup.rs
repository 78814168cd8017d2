//! `/backup/{shard}`: a whole shard as one file, for those who hold the admin token.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use common::api::FieldError;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use protocol::ids::ShardId;

use super::extract::{Admin, Args};
use super::fields::{Call, Fields};
use super::problem::Problem;
use super::route::Route;
use super::trace::X_SERVED_BY;
use crate::app::App;

/// What the copy holds, as JSON.
const X_SNAPSHOT: HeaderName = HeaderName::from_static("x-snapshot");

pub(super) fn routes() -> Vec<Route> {
    // No HEAD: it would have the copy made and thrown away.
    vec![Route::at("/backup/{shard}").get_that_writes(backup)]
}

/// Which shard.
struct Which(u32);

impl Call for Which {
    const KEYS: &'static [&'static str] = &["shard"];

    fn read(fields: &mut Fields) -> Result<Self, FieldError> {
        let shard = fields.within("shard", 0..=u64::from(u32::MAX))?;
        let shard = shard.and_then(|shard| u32::try_from(shard).ok());
        shard.map(Self).ok_or_else(|| fields.error("shard", "is missing"))
    }
}

async fn backup(
    State(app): State<App>,
    _: Admin,
    Args(Which(shard)): Args<Which>,
) -> Result<Response, Problem> {
    let shards = app.config().shards.count.get();
    if shard >= shards {
        let detail = format!("there is no shard {shard}; the store has {shards}, from 0");
        return Err(Problem::NotFound { detail, id: None });
    }
    let backup = app.backup(ShardId(shard)).await?;
    let info = serde_json::to_string(&backup.info).unwrap_or_default();
    let mut headers = vec![
        (CONTENT_TYPE, HeaderValue::from_static("application/vnd.sqlite3")),
        (CONTENT_LENGTH, HeaderValue::from(backup.info.bytes)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    for (name, text) in [(X_SNAPSHOT, &info), (X_SERVED_BY, &backup.info.node)] {
        headers.extend(HeaderValue::from_str(text).ok().map(|value| (name, value)));
    }
    let mut response = Response::new(Body::from_stream(backup.into_stream()));
    response.headers_mut().extend(headers);
    Ok(response)
}
