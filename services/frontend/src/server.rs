//! The public listener: who is let in, and on which lane.
//!
//! There is a lane (`lane`) for each core. All connections are accepted here and handed to lanes. Those whose packets
//! come in on one core, because a network card or a client of this machine works there, share a lane where that
//! leaves the lanes about even: who waits for whom on that core then is settled there, and no lane that waits
//! for its core keeps the clients of another core waiting. Otherwise a connection goes to the lane that has the
//! fewest; the kernel's own ways to spread them leave some lanes with twice as many as others, and whoever is on
//! those waits twice as long. The first lane runs where everything else of the front end does, so that a client
//! that is alone wakes no other core.
//!
//! On shutdown the port is closed at once; requests under way are finished within a limit.

mod bodies;
mod connection;
mod desk;
mod lane;
mod pulse;
mod short;
mod socket;

use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use common::process::file_limit;
use common::shutdown::Shutdown;
use rustix::net::sockopt::socket_incoming_cpu;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use self::connection::refuse;
use self::lane::{Entrance, Lane};
use crate::api::front::Front;
use crate::api::router;
use crate::app::App;
use crate::metrics::Metrics;

/// How long to wait after a failed accept: what is missing, such as a free file, does not come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How many open files are not for clients: links to nodes, the files of views and logs, and some room.
const FILES_KEPT: u64 = 256;
/// How many connections the lane of a core may have more than another, so that those of that core stay together.
const AHEAD_MAX: usize = 32;
/// How many clients beyond the limit are told so at a time; the others are just cut off.
const REFUSALS: usize = 64;

/// Serves until shutdown, and finishes what is under way then. Ends before that only if something is wrong.
pub async fn serve(listener: TcpListener, app: App, metrics: Arc<Metrics>, mut shutdown: Shutdown) {
    let router = router(app.clone()).layer(Extension(metrics.clone())).layer(Extension(shutdown.clone()));
    let places = places(app.config().limits.connections, file_limit());
    let front = Front::new(app, router, metrics);
    let mut server =
        Server { front, places, entrances: Vec::new(), lanes: JoinSet::new(), refusals: JoinSet::new() };
    server.open_lanes(&shutdown);
    loop {
        tokio::select! {
            () = shutdown.wait() => break,
            accepted = listener.accept() => match accepted.and_then(|(stream, _)| server.sort(stream)) {
                Ok(Some((entrance, stream))) => entrance.take(stream).await,
                Ok(None) => {}
                Err(error) => pause_after(&error).await,
            },
            Some(ended) = server.lanes.join_next() => {
                return tracing::error!(?ended, "a lane ended, and the clients that were on it are cut off");
            }
            Some(_) = server.refusals.join_next() => {}
        }
    }
    drop(listener);
    server.entrances.clear();
    while let Some(ended) = server.lanes.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a lane did not end well");
        }
    }
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
    usize::try_from(configured.min(fitting)).unwrap_or(usize::MAX)
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
    front: Front,
    places: usize,
    entrances: Vec<Entrance>,
    lanes: JoinSet<()>,
    refusals: JoinSet<()>,
}

impl Server {
    fn open_lanes(&mut self, shutdown: &Shutdown) {
        let (entrance, lane) = Lane::new(self.front.beside());
        self.entrances.push(entrance);
        self.lanes.spawn(lane.run(shutdown.clone()));
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        for _ in 1..cores {
            let (entrance, lane) = Lane::new(self.front.beside());
            self.entrances.push(entrance);
            let shutdown = shutdown.clone();
            self.lanes.spawn_blocking(move || lane.run_alone(shutdown));
        }
    }

    /// The lane for a connection; nothing if there is no place for it.
    fn sort(&mut self, stream: TcpStream) -> io::Result<Option<(&Entrance, std::net::TcpStream)>> {
        let connections: Vec<usize> = self.entrances.iter().map(Entrance::connections).collect();
        if connections.iter().sum::<usize>() >= self.places {
            self.refuse(stream);
            return Ok(None);
        }
        let stream = stream.into_std()?;
        let core = socket_incoming_cpu(&stream).ok().and_then(|core| usize::try_from(core).ok());
        Ok(self.entrances.get(lane_for(&connections, core)).map(|entrance| (entrance, stream)))
    }

    fn refuse(&mut self, stream: TcpStream) {
        self.front.metrics().refused_connection();
        if self.refusals.len() < REFUSALS {
            self.refusals.spawn(refuse(stream, self.front.too_many_connections()));
        }
    }
}

/// The lane for one connection more, whose packets come in on a core: that core's, unless it is too far ahead.
fn lane_for(connections: &[usize], core: Option<usize>) -> usize {
    let Some((emptiest, &fewest)) = connections.iter().enumerate().min_by_key(|&(_, &count)| count) else {
        return 0;
    };
    if connections.iter().all(|&count| count == 0) {
        return 0;
    }
    let near = core.map(|core| core % connections.len());
    near.filter(|&near| connections[near] < fewest + AHEAD_MAX).unwrap_or(emptiest)
}

#[cfg(test)]
mod tests;
