//! A lane: one thread with an event loop of its own, and the connections that it serves from their first byte to
//! their last.
//!
//! A connection never changes its lane, so that no task moves to another core and none has to wake one: what
//! comes on a lane's connections is served in the order in which it came, and all of them have their turn before
//! one has its next. Each connection is a task of the lane's [`JoinSet`]. Its way is watched from outside, by a
//! look at all connections once in a while, so that a busy one pays for no timer: one whose client has taken no
//! byte from one look to the next, with no request under way, is closed. That bounds how long a head may take
//! to come, how long an answer may wait to be taken, and how long a silent connection is kept.

use std::collections::HashMap;
use std::net::TcpStream as PlainStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::shutdown::Shutdown;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use super::connection::serve_connection;
use super::pulse::Pulse;
use crate::api::front::Front;

/// How often connections are looked at; one that is silent is closed after one to two of these.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long requests under way may take once the front end stops. Less than the 10 s after which whoever
/// stops it loses patience.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);
/// New connections that wait for a lane. When it is full, further ones wait to be accepted.
const NEWCOMERS_MAX: usize = 256;

/// Where a lane takes its connections from.
#[derive(Debug)]
pub(super) struct Entrance {
    newcomers: mpsc::Sender<Newcomer>,
    connections: Arc<AtomicUsize>,
}

/// A connection on its way to its lane.
#[derive(Debug)]
struct Newcomer {
    stream: PlainStream,
    place: Place,
}

/// A place on a lane, free again when this is dropped.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Entrance {
    /// How many connections the lane has.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Hands a connection to the lane. If the lane has ended, so has the connection.
    pub(super) async fn take(&self, stream: PlainStream) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&self.connections));
        drop(self.newcomers.send(Newcomer { stream, place }).await);
    }
}

/// The connections of a lane.
pub(super) struct Lane {
    front: Arc<Front>,
    newcomers: mpsc::Receiver<Newcomer>,
    tasks: JoinSet<()>,
    /// Each with its task and what it had done at the last look.
    connections: HashMap<Id, Watched>,
}

struct Watched {
    task: AbortHandle,
    pulse: Arc<Pulse>,
    beats: u64,
}

impl Lane {
    /// A lane without connections, and the way into it.
    pub(super) fn new(front: Front) -> (Entrance, Self) {
        let (sender, newcomers) = mpsc::channel(NEWCOMERS_MAX);
        let entrance = Entrance { newcomers: sender, connections: Arc::default() };
        let lane =
            Self { front: Arc::new(front), newcomers, tasks: JoinSet::new(), connections: HashMap::new() };
        (entrance, lane)
    }

    /// Serves until its entrance is closed. If that is because the front end stops, what is under way is
    /// finished, within a limit.
    pub(super) async fn run(mut self, shutdown: Shutdown) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                newcomer = self.newcomers.recv() => match newcomer {
                    Some(newcomer) => self.take(newcomer),
                    None => break,
                },
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.forget(ended),
                _ = look.tick() => self.close_silent(),
            }
        }
        if shutdown.is_on() {
            self.drain().await;
        }
    }

    /// The same on a thread that has nothing else to do.
    pub(super) fn run_alone(self, shutdown: Shutdown) {
        match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.run(shutdown)),
            Err(error) => tracing::error!(%error, "a lane can't begin"),
        }
    }

    fn take(&mut self, Newcomer { stream, place }: Newcomer) {
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => return tracing::warn!(%error, "a connection can't be served"),
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
mod tests {
    use tokio::net::TcpListener;

    use super::super::tests::stage::{Stage, within};
    use super::*;
    use crate::api::router;
    use crate::metrics::Metrics;

    #[tokio::test]
    async fn a_connection_that_stays_silent_is_closed_at_the_second_look() {
        let stage = Stage::open("").await;
        stage.cache(7, true);
        let router = router(stage.app.clone());
        let front = Front::new(stage.app.clone(), router, Arc::new(Metrics::new()));
        let (entrance, mut lane) = Lane::new(front);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut clients = Vec::new();
        for number in 1..=2 {
            clients.push(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
            entrance.take(listener.accept().await.unwrap().0.into_std().unwrap()).await;
            let newcomer = lane.newcomers.recv().await.unwrap();
            lane.take(newcomer);
            assert_eq!(entrance.connections(), number);
        }
        lane.close_silent();
        let asking = clients.remove(0);
        asking.writable().await.unwrap();
        asking.try_write(b"GET /lookup/7 HTTP/1.1\r\nhost: s\r\n\r\n").unwrap();
        within(asking.readable()).await.unwrap();
        lane.close_silent();
        let ended = within(lane.tasks.join_next_with_id()).await.unwrap();
        assert!(ended.as_ref().unwrap_err().is_cancelled(), "the one that has said nothing");
        lane.forget(ended);
        assert_eq!(
            (lane.connections.len(), entrance.connections()),
            (1, 1),
            "the one that was answered stays"
        );
        lane.close_silent();
        assert!(within(lane.tasks.join_next()).await.unwrap().unwrap_err().is_cancelled());
    }
}
