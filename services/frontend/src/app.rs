//! The front end's parts behind HTTP, in one handle.
//!
//! Handlers see this and nothing else of the store: reads (`reads`), writes and orders (`writes`), and
//! what operators ask, which is here.

use std::sync::Arc;
use std::time::Duration;

use common::api::{NodeState, NodeStatus, ReplicaState, ReplicaStatus, Role, ShardStatus, Status};
use common::clock;
use common::config::{Address, Config};
use common::link::Credentials;
use common::runfile;
use common::secret::Secret;
use protocol::call::{Query, WriteFailure};
use protocol::heartbeat::State;
use protocol::ids::{BookId, NodeId};
use tokio::sync::{Semaphore, broadcast};

use crate::cache::Cache;
use crate::catalogs::Catalogs;
use crate::feed::Feeds;
use crate::happenings::{Event, Happenings};
use crate::heartbeats::{Heart, Heartbeats};
use crate::orders::Orders;
use crate::shards::{ShardState, Shards};
use crate::writers::Writers;

pub use crate::render::{BookAnswer, FoundBook, Rendered};

/// The front end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App(Arc<Parts>);

/// What the front end is made of.
#[derive(Debug)]
pub struct Parts {
    /// The configuration.
    pub config: Arc<Config>,
    /// This front end's name.
    pub id: NodeId,
    /// What administrators show.
    pub admin_token: Secret,
    /// What links between processes show.
    pub credentials: Arc<Credentials>,
    /// Places for backups under way.
    pub backups: Arc<Semaphore>,
    /// When the process started.
    pub started: std::time::Instant,
    /// Finished answers.
    pub cache: Arc<Cache>,
    /// What is known of each shard.
    pub shards: Shards,
    /// The shards' writers.
    pub writers: Writers,
    /// The links to catalog nodes.
    pub catalogs: Catalogs,
    /// The links to order nodes.
    pub orders: Orders,
    /// The sales that order nodes follow.
    pub feeds: Feeds,
    /// Who beats.
    pub heartbeats: Heartbeats,
    /// What people see.
    pub happenings: Happenings,
}

/// Whether a read may be answered from the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It may.
    Cached,
    /// The caller asks past it.
    PastCache,
}

/// How the cache served a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheUse {
    /// It had the answer.
    Hit,
    /// It had not.
    Miss {
        /// Whether the answer was stored.
        stored: bool,
        /// Whether another's request brought it.
        collapsed: bool,
    },
    /// It was not asked.
    Bypass,
}

/// An answer, and how the cache served it.
#[derive(Clone, Debug)]
pub struct Served<T> {
    /// The answer.
    pub answer: T,
    /// How it came.
    pub cache: CacheUse,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nobody who may be asked has answered in time.
    #[error("{detail}")]
    Unavailable {
        /// What is missing.
        detail: String,
    },
    /// A write has no outcome.
    #[error(transparent)]
    Write(WriteFailure),
}

impl Failure {
    /// A node answered another question than the one it was asked.
    #[must_use]
    pub fn unexpected(query: &Query) -> Self {
        Self::Unavailable { detail: format!("a replica gave no fitting answer to {query:?}") }
    }
}

impl App {
    /// A front end of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Its parts.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.0
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// This front end's name.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.0.id
    }

    /// Whether a token is the administrators'.
    #[must_use]
    pub fn is_admin(&self, token: &[u8]) -> bool {
        self.0.admin_token.matches(token)
    }

    /// Drops a book from the cache. Whether it was there.
    #[must_use]
    pub fn invalidate(&self, id: BookId) -> bool {
        self.0.cache.drop_book(id)
    }

    /// All happenings from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.happenings.listen()
    }

    /// Whether reads and writes can be served.
    ///
    /// # Errors
    /// What it waits for, in words.
    pub fn readiness(&self) -> Result<(), Vec<String>> {
        let shards = self.0.shards.iter();
        let mut missing: Vec<String> = shards
            .filter_map(|shard| Some(format!("shard {} waits for {}", shard.id, shard.trouble()?)))
            .collect();
        // A link to a process that hangs stays open; its heartbeats stop.
        let sells = |node: &NodeId| {
            self.0.orders.is_connected(node) && self.0.heartbeats.heart(node).state == State::Up
        };
        if !self.config().orders.iter().any(|node| sells(&node.id)) {
            missing.push("no order node is up".to_owned());
        }
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }

    /// How the whole store stands, as far as this front end knows.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            shards: self.0.shards.iter().map(|shard| self.shard_status(shard)).collect(),
            nodes: self.node_statuses(),
            cache: self.0.cache.status(),
        }
    }

    fn shard_status(&self, shard: &ShardState) -> ShardStatus {
        let view = shard.stored_view();
        let members: Vec<String> =
            view.iter().flat_map(|view| view.members.iter().map(|member| member.node.to_string())).collect();
        let commit_index = shard.commit_index().0;
        let replicas = self.config().replicas_of(shard.id).into_iter().map(|node| {
            let heart = self.0.heartbeats.heart(&node.id);
            let said =
                heart.beat.as_ref().and_then(|beat| beat.shards.iter().find(|held| held.shard == shard.id));
            let is_member = view.as_ref().is_some_and(|view| {
                said.and_then(|said| said.store).is_some_and(|store| view.has(&node.id, store))
            });
            let state = match heart.state {
                State::Down => ReplicaState::Down,
                State::Suspect => ReplicaState::Suspect,
                State::Up if is_member => ReplicaState::Member,
                State::Up => ReplicaState::Recovering,
            };
            let last_index = said.map_or(0, |said| said.last.0);
            ReplicaStatus {
                id: node.id.to_string(),
                state,
                epoch: said.map_or(0, |said| said.promise.0),
                last_index,
                chain: said.map(|said| said.chain.to_string()).unwrap_or_default(),
                digest: said.map(|said| said.digest.to_string()).unwrap_or_default(),
                lag: commit_index.saturating_sub(last_index),
            }
        });
        ShardStatus {
            shard: shard.id.0,
            epoch: view.as_ref().map_or(0, |view| view.epoch.0),
            writer: view.as_ref().map(|view| view.writer.to_string()),
            members,
            commit_index,
            waiting_for: shard.trouble(),
            replicas: replicas.collect(),
        }
    }

    fn node_statuses(&self) -> Vec<NodeStatus> {
        let config = self.config();
        let mut nodes = Vec::new();
        for node in &config.frontends {
            nodes.push(self.frontend_status(&node.id, &node.public));
        }
        for node in &config.catalogs {
            nodes.push(self.back_end_status(&node.id, Role::Catalog, &node.listen));
        }
        for node in &config.orders {
            nodes.push(self.back_end_status(&node.id, Role::Order, &node.listen));
        }
        nodes
    }

    /// This front end knows itself best; of others it knows nothing yet.
    fn frontend_status(&self, id: &NodeId, public: &Address) -> NodeStatus {
        let is_me = id == self.id();
        NodeStatus {
            id: id.to_string(),
            role: Role::Frontend,
            state: if is_me { NodeState::Up } else { NodeState::Down },
            address: runfile::resolve(self.config(), id, "public", public).to_string(),
            pid: is_me.then(std::process::id),
            last_beat_ms: is_me.then_some(0),
            uptime_s: is_me.then(|| self.0.started.elapsed().as_secs()),
            version: is_me.then(|| env!("CARGO_PKG_VERSION").to_owned()),
        }
    }

    fn back_end_status(&self, id: &NodeId, role: Role, listen: &Address) -> NodeStatus {
        let Heart { state, silence, beat } = self.0.heartbeats.heart(id);
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        NodeStatus {
            id: id.to_string(),
            role,
            state: match state {
                State::Up => NodeState::Up,
                State::Suspect => NodeState::Suspect,
                State::Down => NodeState::Down,
            },
            address: runfile::resolve(self.config(), id, "listen", listen).to_string(),
            pid: beat.as_ref().map(|beat| beat.pid),
            last_beat_ms: silence.map(milliseconds),
            uptime_s: beat
                .as_ref()
                .filter(|_| state != State::Down)
                .map(|beat| clock::now().0.saturating_sub(beat.started.0) / 1000),
            version: beat.map(|beat| beat.version),
        }
    }
}
