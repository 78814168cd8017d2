//! An axum handler that looks a book up in a moka cache: what a front end is that keeps no promises.

use std::error::Error;
use std::path::PathBuf;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use http::StatusCode;
use mimalloc::MiMalloc;
use moka::sync::Cache;
use peers::Answer;

/// The front end's: what differs is the server.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How many answers the cache may hold: enough for every book that is asked for.
const CAPACITY: u64 = 10_000;

async fn lookup(State(cache): State<Cache<u64, Answer>>, Path(id): Path<u64>) -> Response {
    match cache.get(&id) {
        Some(answer) => (answer.headers, answer.body).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: peer-axum ANSWER")?;
    let cache = Cache::new(CAPACITY);
    cache.insert(1, Answer::read(&path)?);
    let router = Router::new().route("/lookup/{id}", get(lookup)).with_state(cache);
    let listener = peers::listen().await?.tap_io(|stream| {
        // Without it the answers would only be slower.
        drop(stream.set_nodelay(true));
    });
    axum::serve(listener, router).await?;
    Ok(())
}
