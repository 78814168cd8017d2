//! Accepting links until the process stops.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::link::{Connected, Credentials, accept};
use crate::shutdown::Shutdown;

/// The most connections that an internal listener holds at a time: a few from each process of a
/// cluster. Further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
/// The pause after a failure to accept, such as too many open files: trying on at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts links and hands each to `handle`, until shutdown; then all handlers are cancelled.
pub async fn serve<H, F>(
    listener: TcpListener,
    credentials: Arc<Credentials>,
    mut shutdown: Shutdown,
    handle: H,
) where
    H: Fn(Connected) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut links = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept_one(&listener, &places) => accepted,
            Some(ended) = links.join_next() => {
                if let Err(failure) = ended {
                    tracing::error!(%failure, "the task of a link failed");
                }
                continue;
            }
            () = shutdown.wait() => return,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(problem) => {
                tracing::warn!(%problem, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (credentials, handle) = (credentials.clone(), handle.clone());
        links.spawn(async move {
            let from = stream.peer_addr().map_or_else(|_| "unknown".to_owned(), |addr| addr.to_string());
            match accept(stream, &credentials).await {
                Ok(Some(connected)) => handle(connected).await,
                Ok(None) => tracing::debug!(%from, "a caller was refused"),
                Err(problem) => tracing::debug!(%from, %problem, "a connection was given up"),
            }
            drop(place);
        });
    }
}

async fn accept_one(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}
