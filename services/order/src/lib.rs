//! An order node: carries out buys, and keeps a book of orders.
//!
//! ```text
//!  front ends ──link──► api ──buys──────► buys ──link──► a front end's internal listener
//!                        │                                  │
//!                        └──looks──► lookup ──► book        │ feeds
//!                                                ▲          ▼
//!                                                └── projection (a thread)
//! ```
//!
//! - [`api`]: what front ends may ask over a link; [`checks`]: what an order must be.
//! - [`buys`]: the buys under way, from their arrival to their answer.
//! - [`frontends`]: the links to the front ends, for buys and for feeds.
//! - [`order_ids`]: the numbers of orders.
//! - [`projection`]: the thread that follows the shards' logs into the book.
//! - [`book`]: the book of orders, an SQLite file; [`lookup`]: reading it, and catching up first.
//!
//! Nothing is on this node's disk alone: a sale stands in its shard's log before anybody hears of it. So
//! order nodes are interchangeable, and one that has lost its book builds it anew.

pub mod api;
pub mod book;
pub mod buys;
pub mod checks;
pub mod frontends;
pub mod lookup;
pub mod order_ids;
pub mod projection;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::config::Config;
use common::exit::with_causes;
use common::heartbeat::Heart;
use common::link::{self, Credentials};
use common::process::Failure;
use common::secret::SecretError;
use common::shutdown::{self, Shutdown};
use common::{clock, runfile};
use protocol::call::Beat;
use protocol::ids::{NodeId, Timestamp};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::api::Desk;
use crate::book::{Book, BookError};
use crate::buys::Buys;
use crate::frontends::FrontEnds;
use crate::lookup::Lookup;
use crate::order_ids::OrderIds;
use crate::projection::{INPUTS_MAX, Input, Places, Projection};

/// How long a node that stops goes on with what is under way.
const DRAIN: Duration = Duration::from_secs(5);
/// A buy may take as long as a writer needs to give up a replica and go on without it, and more.
const WRITES_OF_PATIENCE: u32 = 3;

/// Why a node can't run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration has no such node.
    #[error("{}: there is no [[order]] with the id {id}", path.display())]
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
    /// The book of orders can't be used.
    #[error("the book of orders can't be opened")]
    Book(#[from] BookError),
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
        matches!(self, Self::Unknown { .. } | Self::Book(BookError::OtherCount { .. }))
    }
}

/// A node whose book is open and whose port is bound.
#[derive(Debug)]
pub struct Node {
    frontends: FrontEnds,
    listener: TcpListener,
    projection: Projection,
    inputs: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
    desk: Desk,
    /// Held for as long as the process lives.
    _lock: File,
}

/// The parts of a node that run at the same time, each with its name.
type Parts = JoinSet<&'static str>;

impl Node {
    /// Opens a node's book and binds its port.
    ///
    /// # Errors
    /// If the port is taken, or a file can't be used.
    pub async fn open(config: Config, id: NodeId) -> Result<Self, NodeError> {
        let config = Arc::new(config);
        let unknown = || NodeError::Unknown { id: id.clone(), path: config.path.clone() };
        let address = config.order(&id).ok_or_else(unknown)?.listen.clone();
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
        let shards = config.shards.count;
        let opened = Book::open(&directory, shards.get())?;
        let readers = opened.readers.clone();
        let ids = Arc::new(OrderIds::default());
        for order in readers.page(None, 1)?.0 {
            ids.saw(order.id);
        }
        let (projection, places) = Projection::new(opened, shards.get())?;
        let inputs = mpsc::channel(INPUTS_MAX);
        let buys = Arc::new(Buys::new(config.timeouts.write * WRITES_OF_PATIENCE));
        let lookup = Lookup {
            readers,
            buys: buys.clone(),
            places,
            damage: inputs.0.clone(),
            patience: config.timeouts.read,
        };
        let desk = Desk { shards, ids: ids.clone(), buys, lookup, links: watch::Sender::new(0) };
        let frontends = FrontEnds { config, credentials, ids, me: id };
        Ok(Self { frontends, listener, projection, inputs, desk, _lock: lock })
    }

    /// Serves until shutdown; then what is under way is brought to its end, within a bound.
    ///
    /// # Errors
    /// If a part of it ends before.
    pub async fn run(self, mut shutdown: Shutdown) -> Result<(), NodeError> {
        let Self { frontends, listener, projection, inputs: (sender, inputs), desk, _lock } = self;
        let FrontEnds { config, credentials, me, .. } = &frontends;
        let run_dir = |source| NodeError::File { path: config.run_dir(), source };
        let listen = listener.local_addr().map_err(run_dir)?;
        runfile::write_addresses(config, me, &[("listen", listen)]).map_err(run_dir)?;
        log_start(me, &listen.to_string(), &desk.lookup.places.borrow());
        let (closing, when_closing) = shutdown::channel();
        let (ending, when_ending) = shutdown::channel();
        let mut parts = Parts::new();
        parts.spawn_blocking(move || {
            if let Err(problem) = projection.run(inputs) {
                tracing::error!(problem = %with_causes(&problem), "the book of orders can't go on");
            }
            "book of orders"
        });
        spawn_links(&mut parts, &frontends, &desk, &sender, &when_ending);
        spawn_hearts(&mut parts, &frontends, &desk, &shutdown);
        spawn_listener(&mut parts, listener, credentials.clone(), &desk, when_closing, when_ending.clone());
        let buys = desk.buys.clone();
        parts.spawn(async move {
            buys.expire(when_ending).await;
            "patience of buys"
        });
        drop(sender);
        let result = tokio::select! {
            () = shutdown.wait() => Ok(()),
            Some(ended) = parts.join_next() => {
                // At shutdown, hearts may stop before this loop hears of it.
                if shutdown.is_on() { Ok(()) } else { Err(NodeError::PartEnded(ended.unwrap_or("part that panicked"))) }
            }
        };
        let deadline = Instant::now() + DRAIN;
        if result.is_ok() {
            drain(&desk, &closing, deadline).await;
        }
        ending.fire();
        drop(desk);
        let all_ended = async { while parts.join_next().await.is_some() {} };
        if timeout_at(deadline + DRAIN, all_ended).await.is_err() {
            tracing::warn!("not all parts of the node ended in time");
        }
        result
    }
}

/// Answers what was asked before, and closes the links behind the answers.
async fn drain(desk: &Desk, closing: &shutdown::Trigger, deadline: Instant) {
    let finish = async {
        desk.buys.finish().await;
        closing.fire();
        let mut links = desk.links.subscribe();
        // The sender is held above, so the only end of this wait is that no link is open.
        drop(links.wait_for(|open| *open == 0).await);
    };
    if timeout_at(deadline, finish).await.is_err() {
        tracing::warn!(limit_s = DRAIN.as_secs(), "stopping with calls that are not answered");
    }
}

fn spawn_links(
    parts: &mut Parts,
    frontends: &FrontEnds,
    desk: &Desk,
    inputs: &mpsc::Sender<Input>,
    shutdown: &Shutdown,
) {
    for (rank, frontend) in frontends.config.frontends.iter().cloned().enumerate() {
        let (frontends, buys) = (frontends.clone(), desk.buys.clone());
        let shutdown = shutdown.clone();
        parts.spawn(async move {
            frontends.carry_buys(rank, frontend, buys, shutdown).await;
            "link for buys"
        });
    }
    let (frontends, inputs, shutdown) = (frontends.clone(), inputs.clone(), shutdown.clone());
    parts.spawn(async move {
        frontends.follow(inputs, shutdown).await;
        "link for feeds"
    });
}

fn spawn_listener(
    parts: &mut Parts,
    listener: TcpListener,
    credentials: Arc<Credentials>,
    desk: &Desk,
    closing: Shutdown,
    shutdown: Shutdown,
) {
    let desk = desk.clone();
    let handle = move |connected| api::serve_link(connected, desk.clone(), closing.clone());
    parts.spawn(async move {
        link::serve(listener, credentials, shutdown, handle).await;
        "listener"
    });
}

fn spawn_hearts(parts: &mut Parts, frontends: &FrontEnds, desk: &Desk, shutdown: &Shutdown) {
    let FrontEnds { config, credentials, me, .. } = frontends;
    let started = clock::now();
    for frontend in config.frontends.clone() {
        let heart =
            Heart { me: me.clone(), credentials: credentials.clone(), interval: config.heartbeat.interval };
        let (config, shutdown) = (config.clone(), shutdown.clone());
        // Only what a beat shows: a heart that held more would keep the book open.
        let (links, places) = (desk.links.clone(), desk.lookup.places.clone());
        parts.spawn(async move {
            let address = || runfile::resolve(&config, &frontend.id, "heartbeat", &frontend.heartbeat);
            let now = || beat(&heart.me, started, *links.borrow(), &places.borrow());
            heart.beat(address, now, shutdown).await;
            "heartbeats"
        });
    }
}

fn beat(id: &NodeId, started: Timestamp, connections: u32, places: &Places) -> Beat {
    Beat {
        node: id.clone(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started,
        connections,
        shards: projection::beats(places),
    }
}

fn log_start(id: &NodeId, address: &str, places: &Places) {
    for (shard, place) in places {
        tracing::info!(%shard, index = %place.known.index, chain = %place.known.chain, "the book has the shard's orders up to here");
    }
    tracing::info!(node = %id, address, shards = places.len(), "serving");
}
