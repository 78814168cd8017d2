//! The heartbeat listener: who beats, who has stopped, and who has to know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::config::Config;
use common::link::{self, Connected, Opened};
use common::shutdown::Shutdown;
use parking_lot::Mutex;
use protocol::call::Beat;
use protocol::heartbeat::{Change, ConnectionId, Monitor, Options, State};
use protocol::ids::NodeId;
use tokio::sync::Notify;

use crate::catalogs::Catalogs;
use crate::happenings::Happenings;
use crate::orders::Orders;
use crate::shards::Shards;
use crate::writers::{ShardEvent, Writers};

/// How long the watch sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// The hearts of all back-end nodes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Heartbeats(Arc<Hearts>);

#[derive(Debug)]
struct Hearts {
    config: Arc<Config>,
    monitor: Mutex<Monitor>,
    beats: Mutex<BTreeMap<NodeId, Beat>>,
    connections: AtomicU64,
    /// The next time to look has changed.
    moved: Notify,
    told: Told,
}

/// Who has to know when a heart stops or beats again.
#[derive(Clone, Debug)]
pub struct Told {
    /// Reads avoid the silent.
    pub shards: Shards,
    /// Writers suspect them.
    pub writers: Writers,
    /// A beat may mean that a link can be opened.
    pub catalogs: Catalogs,
    /// The same.
    pub orders: Orders,
    /// People see it.
    pub happenings: Happenings,
}

/// What is known of a node's heart.
#[derive(Clone, Debug)]
pub struct Heart {
    /// Whether it beats.
    pub state: State,
    /// How long ago it was heard.
    pub silence: Option<Duration>,
    /// What it last said.
    pub beat: Option<Beat>,
}

impl Heartbeats {
    /// The back-end nodes of a configuration, none heard of yet.
    #[must_use]
    pub fn new(config: Arc<Config>, told: Told) -> Self {
        let options = Options {
            interval: config.heartbeat.interval,
            missed_limit: config.heartbeat.missed_limit.get(),
        };
        let catalogs = config.catalogs.iter().map(|node| node.id.clone());
        let nodes: Vec<NodeId> = catalogs.chain(config.orders.iter().map(|node| node.id.clone())).collect();
        Self(Arc::new(Hearts {
            config,
            monitor: Mutex::new(Monitor::new(options, nodes)),
            beats: Mutex::default(),
            connections: AtomicU64::new(0),
            moved: Notify::new(),
            told,
        }))
    }

    /// What is known of a node's heart.
    #[must_use]
    pub fn heart(&self, node: &NodeId) -> Heart {
        let monitor = self.0.monitor.lock();
        let silence = monitor.last_heard(node).map(|heard| heard.elapsed());
        let state = monitor.state(node);
        drop(monitor);
        Heart { state, silence, beat: self.0.beats.lock().get(node).cloned() }
    }

    /// Listens to a node's heart until its connection closes.
    pub async fn serve_link(self, connected: Connected) {
        let Opened { sender: _sender, mut receiver, flush } = link::open::<(), Beat>(connected);
        let id = ConnectionId(self.0.connections.fetch_add(1, Ordering::Relaxed));
        let mut node: Option<NodeId> = None;
        let listening = async {
            while let Ok(beat) = receiver.recv().await {
                let name = beat.node.clone();
                if self.0.config.catalog(&name).is_none() && self.0.config.order(&name).is_none() {
                    tracing::warn!(node = %name, "a heartbeat of a node that is not in the configuration");
                    return;
                }
                if node.is_none() {
                    self.0.monitor.lock().connected(&name, id);
                    node = Some(name);
                }
                self.hear(id, beat).await;
            }
        };
        tokio::select! {
            () = listening => {}
            () = flush.run() => {}
        }
        if let Some(node) = node {
            let change = self.0.monitor.lock().closed(&node, id);
            self.spread(change).await;
        }
    }

    async fn hear(&self, connection: ConnectionId, beat: Beat) {
        let node = beat.node.clone();
        let change = self.0.monitor.lock().heard(Instant::now(), &node, connection);
        self.0.beats.lock().insert(node.clone(), beat);
        if change.is_some() {
            self.0.moved.notify_one();
        }
        self.0.told.catalogs.poke(&node);
        self.0.told.orders.poke(&node);
        self.spread(change).await;
    }

    /// Watches for silence until shutdown.
    pub async fn watch(self, mut shutdown: Shutdown) {
        loop {
            let deadline = self.0.monitor.lock().deadline().unwrap_or_else(|| Instant::now() + IDLE);
            tokio::select! {
                () = tokio::time::sleep_until(deadline.into()) => {}
                () = self.0.moved.notified() => {}
                () = shutdown.wait() => return,
            }
            if Instant::now() > deadline + self.0.config.heartbeat.interval {
                // This process has hung itself: what has arrived meanwhile is heard before anyone is judged.
                tokio::time::sleep(self.0.config.heartbeat.interval).await;
            }
            let changes = self.0.monitor.lock().tick(Instant::now());
            self.spread(changes).await;
        }
    }

    async fn spread(&self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            let told = &self.0.told;
            told.happenings.node(&change);
            told.shards.set_node_state(&change.node, change.to);
            if change.to == State::Suspect {
                for shard in self.0.config.shards_of(&change.node) {
                    told.writers.tell(shard, ShardEvent::Silent(change.node.clone())).await;
                }
            }
        }
    }
}
