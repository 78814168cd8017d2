//! A catalog node: one copy of each shard that the configuration gives it.
//!
//! ```text
//!  front ends, peers ──link──► api ──reads──► store::Readers ──► SQLite
//!                               │
//!                               └─messages──► shard (a thread) ──► store::Store ──► SQLite
//!                                               │    ▲
//!                                               ▼    │ pages, snapshots
//!                                            errands ──link──► a peer
//! ```
//!
//! - [`store`]: the SQLite file of a shard: tables, log, snapshots.
//! - [`shard`]: the thread that owns a file's writer and drives the protocol's replica.
//! - [`errands`]: what a replica needs from elsewhere: a peer's log, a snapshot, a recount.
//! - [`pace`]: how fast pages of a log are asked for.
//! - [`api`]: what front ends and peers may ask over a link.
//! - [`upkeep`]: checkpoints and the scrub, in the background.

pub mod api;
pub mod errands;
pub mod pace;
pub mod restore;
pub mod shard;
pub mod store;
pub mod upkeep;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use common::config::Config;
use common::heartbeat::Heart;
use common::link::{self, Credentials};
use common::process::Failure;
use common::secret::SecretError;
use common::shutdown::Shutdown;
use common::{clock, runfile};
use protocol::call::Beat;
use protocol::ids::{NodeId, ShardId, Timestamp};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::shard::{Shard, ShardThread};
use crate::store::{Store, StoreError};

/// Why a node can't run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration has no such node.
    #[error("{}: there is no [[catalog]] with the id {id}", path.display())]
    Unknown {
        /// The id asked for.
        id: NodeId,
        /// The configuration.
        path: PathBuf,
    },
    /// Another process uses the node's data.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The node's folder.
        path: PathBuf,
    },
    /// The node's data can't be used.
    #[error("the store of shard {shard} can't be opened")]
    Store {
        /// Which shard.
        shard: ShardId,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The node's folder holds data of a catalogue that is cut otherwise.
    #[error("`shards.count` can't be changed over existing data")]
    OtherCut {
        /// The file that says so.
        #[source]
        source: StoreError,
    },
    /// The cluster secret can't be had.
    #[error("the cluster secret can't be had")]
    Secret(#[from] SecretError),
    /// The port can't be listened on.
    #[error("{id} can't listen on {address}")]
    Listen {
        /// The node.
        id: NodeId,
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder or file can't be made.
    #[error("{}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A part of the node ended that should run as long as the node.
    #[error("the {0} ended unexpectedly")]
    PartEnded(&'static str),
}

impl Failure for NodeError {
    fn is_wrong_use(&self) -> bool {
        match self {
            Self::Unknown { .. } => true,
            Self::Store { source, .. } | Self::OtherCut { source } => source.is_wrong_use(),
            _ => false,
        }
    }
}

/// A node whose files are open and whose port is bound.
pub struct Node {
    config: Arc<Config>,
    id: NodeId,
    credentials: Arc<Credentials>,
    listener: TcpListener,
    shards: BTreeMap<ShardId, Shard>,
    threads: Vec<ShardThread>,
    errands: Vec<errands::Errands>,
    /// Held for as long as the process lives.
    _lock: File,
}

impl Node {
    /// Opens a node's files and binds its port.
    ///
    /// # Errors
    /// If the port is taken, or a file can't be used.
    pub async fn open(config: Config, id: NodeId) -> Result<Self, NodeError> {
        let config = Arc::new(config);
        let unknown = || NodeError::Unknown { id: id.clone(), path: config.path.clone() };
        let address = config.catalog(&id).ok_or_else(unknown)?.listen.clone();
        let directory = config.node_dir(&id);
        let file_error = |source| NodeError::File { path: directory.clone(), source };
        std::fs::create_dir_all(&directory).map_err(file_error)?;
        let lock = runfile::lock(&directory).map_err(file_error)?;
        let lock = lock.ok_or_else(|| NodeError::InUse { path: directory.clone() })?;
        let credentials = Arc::new(Credentials::of(&config)?);
        let listener = TcpListener::bind(address.as_str()).await.map_err(|source| NodeError::Listen {
            id: id.clone(),
            address: address.to_string(),
            source,
        })?;
        store::check_folder(&directory, config.shards.count.get())
            .map_err(|source| NodeError::OtherCut { source })?;
        let mut shards = BTreeMap::new();
        let mut threads = Vec::new();
        let mut all_errands = Vec::new();
        for shard in config.shards_of(&id) {
            let count = config.shards.count.get();
            let (store, readers) = Store::open(&directory, shard, count, config.log.keep_entries)
                .map_err(|source| NodeError::Store { shard, source })?;
            shard::log_what_is_held(shard, &store, &readers);
            let (handle, thread, errands) = shard::start(shard, id.clone(), store, readers)
                .map_err(|source| NodeError::Store { shard, source })?;
            shards.insert(shard, handle);
            threads.push(thread);
            all_errands.push(errands);
        }
        Ok(Self { config, id, credentials, listener, shards, threads, errands: all_errands, _lock: lock })
    }

    /// Serves until shutdown.
    ///
    /// # Errors
    /// If a part of it ends before.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), NodeError> {
        let Self { config, id, credentials, listener, shards, threads, errands, _lock } = self;
        let listen =
            listener.local_addr().map_err(|source| NodeError::File { path: config.run_dir(), source })?;
        runfile::write_addresses(&config, &id, &[("listen", listen)])
            .map_err(|source| NodeError::File { path: config.run_dir(), source })?;
        tracing::info!(node = %id, address = %listen, shards = shards.len(), "serving");
        let connections = Arc::new(AtomicU32::new(0));
        let shards = Arc::new(shards);
        let mut parts: JoinSet<&'static str> = JoinSet::new();
        for errands in errands {
            let (config, credentials, id, shutdown) =
                (config.clone(), credentials.clone(), id.clone(), shutdown.clone());
            parts.spawn(async move {
                errands.run(config, credentials, id, shutdown).await;
                "errands of a shard"
            });
        }
        for shard in shards.values().cloned() {
            let shutdown = shutdown.clone();
            parts.spawn(async move {
                upkeep::run(shard, shutdown).await;
                "upkeep of a shard"
            });
        }
        for frontend in config.frontends.clone() {
            let heart = Heart {
                me: id.clone(),
                credentials: credentials.clone(),
                interval: config.heartbeat.interval,
            };
            let (shards, connections, shutdown) = (shards.clone(), connections.clone(), shutdown.clone());
            let (id, started) = (id.clone(), clock::now());
            let config = config.clone();
            parts.spawn(async move {
                let address = || runfile::resolve(&config, &frontend.id, "heartbeat", &frontend.heartbeat);
                heart.beat(address, || beat(&id, started, &connections, &shards), shutdown).await;
                "heartbeats"
            });
        }
        {
            let (credentials, shutdown) = (credentials.clone(), shutdown.clone());
            parts.spawn(async move {
                let handle = move |connected| api::serve_link(connected, shards.clone(), connections.clone());
                link::serve(listener, credentials, shutdown, handle).await;
                "listener"
            });
        }
        let mut threads = threads;
        for thread in &mut threads {
            let ended = std::mem::replace(&mut thread.ended, tokio::sync::oneshot::channel().1);
            let mut shutdown = shutdown.clone();
            parts.spawn(async move {
                // However it ends, a node without it must not live on: nobody would notice. At shutdown it
                // is told to end only after the other parts.
                tokio::select! {
                    _ = ended => {}
                    () = shutdown.wait() => {}
                }
                "thread of a shard"
            });
        }
        let mut result = Ok(());
        while let Some(ended) = parts.join_next().await {
            if !shutdown.is_on() && result.is_ok() {
                result = Err(NodeError::PartEnded(ended.unwrap_or("part that panicked")));
                break;
            }
        }
        drop(parts);
        for thread in threads {
            if thread.stop().is_err() && result.is_ok() {
                result = Err(NodeError::PartEnded("thread of a shard"));
            }
        }
        result
    }
}

fn beat(id: &NodeId, started: Timestamp, connections: &AtomicU32, shards: &BTreeMap<ShardId, Shard>) -> Beat {
    Beat {
        node: id.clone(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started,
        connections: connections.load(Ordering::Relaxed),
        shards: shards.values().map(Shard::beat).collect(),
    }
}
