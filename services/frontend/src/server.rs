//! The public listener: connections, their number, their end.
//!
//! Each connection is a task of the one [`JoinSet`] here. Its way is watched from outside, by a look at
//! all connections once in a while, so that a busy one pays for no timer: one whose client has taken no byte
//! from one look to the next, with no request under way, is closed. That bounds how long a head may take to
//! come, how long an answer may wait to be taken, and how long a silent connection is kept.
//!
//! On shutdown the port is closed at once; requests under way are finished within a limit.

mod connection;
mod socket;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use common::process::file_limit;
use common::shutdown::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use self::connection::{Pulse, refuse, serve_connection};
use crate::api::front::Front;
use crate::api::router;
use crate::app::App;
use crate::metrics::Metrics;

/// How often connections are looked at; one that is silent is closed after one to two of these.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long requests under way may take once the front end stops. Less than the 10 s after which whoever
/// stops it loses patience.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);
/// How long to wait after a failed accept: what is missing, such as a free file, does not come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How many open files are not for clients: links to nodes, the files of views and logs, and some room.
const FILES_KEPT: u64 = 256;
/// How many clients beyond the limit are told so at a time; the others are just cut off.
const REFUSALS: usize = 64;

/// Serves until shutdown, and finishes what is under way then.
pub async fn serve(listener: TcpListener, app: App, metrics: Arc<Metrics>, mut shutdown: Shutdown) {
    let router = router(app.clone()).layer(Extension(metrics.clone())).layer(Extension(shutdown.clone()));
    let places = places(app.config().limits.connections, file_limit());
    let mut server = Server {
        front: Arc::new(Front::new(app, router, metrics)),
        places: Arc::new(Semaphore::new(places)),
        refusals: Arc::new(Semaphore::new(REFUSALS)),
        tasks: JoinSet::new(),
        connections: HashMap::new(),
    };
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.wait() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => server.take(stream),
                Err(error) => pause_after(&error).await,
            },
            Some(ended) = server.tasks.join_next_with_id(), if !server.tasks.is_empty() => server.forget(ended),
            _ = look.tick() => server.close_silent(),
        }
    }
    drop(listener);
    server.drain().await;
}

/// How many connections there may be: as many as are configured, if the process may open so many files. One
/// connection too many is told so; one file too many would keep everybody waiting.
fn places(configured: u32, files: Option<u64>) -> usize {
    let configured = u64::from(configured);
    let fitting = files.map_or(u64::MAX, |files| files.saturating_sub(FILES_KEPT).max(1));
    if fitting < configured {
        tracing::warn!(
            configured,
            connections = fitting,
            open_files = files,
            "`limits.connections` is more than this process may have open; raise its limit of open files (ulimit -n)"
        );
    }
    usize::try_from(configured.min(fitting)).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

async fn pause_after(error: &io::Error) {
    // The client gave up before it was accepted: no reason to keep the next one waiting.
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    tracing::warn!(%error, "a connection can't be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

struct Server {
    front: Arc<Front>,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    tasks: JoinSet<()>,
    /// Each with its task and what it had done at the last look.
    connections: HashMap<Id, Watched>,
}

struct Watched {
    task: AbortHandle,
    pulse: Arc<Pulse>,
    beats: u64,
}

impl Server {
    fn take(&mut self, stream: TcpStream) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.front.metrics().refused_connection();
            if let Ok(turn) = Arc::clone(&self.refusals).try_acquire_owned() {
                let refusal = self.front.too_many_connections();
                self.tasks.spawn(async move {
                    refuse(stream, refusal).await;
                    drop(turn);
                });
            }
            return;
        };
        let (front, pulse) = (Arc::clone(&self.front), Arc::new(Pulse::default()));
        let seen = Arc::clone(&pulse);
        let task = self.tasks.spawn(async move {
            let _open = front.metrics().open_connection();
            serve_connection(stream, &front, &pulse).await;
            drop(place);
        });
        // As if it had just been busy: its first look must not end it.
        self.connections.insert(task.id(), Watched { task, pulse: seen, beats: u64::MAX });
    }

    fn forget(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        self.connections.remove(&id);
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!(%error, "a connection's task panicked");
        }
    }

    fn close_silent(&mut self) {
        for watched in self.connections.values_mut() {
            let beats = watched.pulse.beats();
            if beats == watched.beats && !watched.pulse.is_busy() {
                watched.task.abort();
            }
            watched.beats = beats;
        }
    }

    async fn drain(mut self) {
        for watched in self.connections.values() {
            watched.pulse.stop();
        }
        let all_ended = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                drop(ended);
            }
        };
        if tokio::time::timeout(DRAIN_TIMEOUT, all_ended).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "requests under way were cut off");
        }
        self.tasks.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
