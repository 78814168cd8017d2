//! The front end: REST, cache, balancing, and the writer of every shard.
//!
//! ```text
//!  clients ──HTTP──► server ──► api ──► app ──► reads ──► cache ──► catalogs ──link──► catalog nodes
//!                                        │                             ▲
//!                                        ├────► writes ──► orders ──link──► order nodes
//!                                        │        │                    │          │
//!  order nodes ──link──► internal ───────┼────────┴──► writers ────────┘ ◄────────┘
//!                                        │                │
//!  all nodes ──link──► heartbeats ───────┘            view_store
//! ```
//!
//! - `server`, `api`, `limits`, `metrics`: HTTP. They see [`app::App`] and nothing behind it.
//! - `reads`, `cache`, `render`: what is asked, from where it is answered, in which form it is kept.
//! - `writers`, `view_store`: the drivers of the protocol's writers. `shards`: what they publish.
//! - `catalogs`, `orders`: the links to the back-end nodes. `heartbeats`: who is there.
//! - `internal`, `feed`: what order nodes ask and follow.
//! - `seed`: the first books. `happenings`: what people see.

pub mod api;
pub mod app;
pub mod backup;
pub mod cache;
pub mod catalogs;
pub mod feed;
pub mod happenings;
pub mod heartbeats;
pub mod internal;
pub mod limits;
pub mod metrics;
pub mod orders;
pub mod reads;
pub mod render;
pub mod seed;
pub mod server;
pub mod shards;
pub mod view_store;
pub mod writers;
pub mod writes;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::config::{Address, Config};
use common::exit::with_causes;
use common::link::{self, Credentials};
use common::process::Failure;
use common::runfile;
use common::secret::{self, SecretError};
use common::shutdown::{self, Shutdown};
use protocol::ids::{Index, NodeId, ShardId};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::app::{App, Parts};
use crate::backup::BACKUPS_MAX;
use crate::cache::Cache;
use crate::catalogs::Catalogs;
use crate::feed::Feeds;
use crate::happenings::Happenings;
use crate::heartbeats::{Heartbeats, Told};
use crate::orders::Orders;
use crate::seed::{Seed, SeedError};
use crate::shards::Shards;
use crate::view_store::ViewStore;
use crate::writers::{ShardEvent, Surroundings, Writers};

/// How often it is noted how far the shards are committed: so much of what was acknowledged last may be
/// missing from an old copy of a replica's file without this being noticed, should nobody else know better.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// Why a front end can't run.
#[derive(Debug, thiserror::Error)]
pub enum FrontendError {
    /// The configuration has no such front end.
    #[error("{}: there is no [[frontend]] with the id {id}", path.display())]
    Unknown {
        /// The id asked for.
        id: NodeId,
        /// The configuration.
        path: PathBuf,
    },
    /// The configuration has more front ends than this version can run.
    #[error("{}: several front ends can't share a store yet: keep one [[frontend]]", path.display())]
    Several {
        /// The configuration.
        path: PathBuf,
    },
    /// Another process uses the front end's data.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The front end's folder.
        path: PathBuf,
    },
    /// A secret can't be had.
    #[error("a secret can't be had")]
    Secret(#[from] SecretError),
    /// The first books are refused.
    #[error("the first books are refused")]
    Seed(#[from] SeedError),
    /// A port can't be listened on.
    #[error("{id} can't listen on {address}, its {listener} address")]
    Listen {
        /// The front end.
        id: NodeId,
        /// Which of its listeners.
        listener: &'static str,
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
    /// A view can't be read.
    #[error("the view of shard {shard} can't be read: {problem}")]
    View {
        /// Of which shard.
        shard: ShardId,
        /// Why.
        problem: String,
    },
    /// A part of the front end ended that should run as long as it does.
    #[error("the {0} ended unexpectedly")]
    PartEnded(&'static str),
}

impl Failure for FrontendError {
    fn is_wrong_use(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::Several { .. } | Self::Seed(_))
    }
}

/// A front end whose ports are bound.
pub struct Frontend {
    app: App,
    view_store: ViewStore,
    events: BTreeMap<ShardId, mpsc::Receiver<ShardEvent>>,
    seed: Seed,
    public: TcpListener,
    internal: TcpListener,
    heartbeat: TcpListener,
    /// Held for as long as the process lives: the view store is this process's alone.
    _lock: File,
}

impl Frontend {
    /// Locks the front end's folder, reads what is there, and binds its ports.
    ///
    /// # Errors
    /// If a port is taken, a file can't be used, or the first books are wrong.
    pub async fn open(config: Config, id: NodeId) -> Result<Self, FrontendError> {
        let config = Arc::new(config);
        let unknown = || FrontendError::Unknown { id: id.clone(), path: config.path.clone() };
        let node = config.frontend(&id).ok_or_else(unknown)?.clone();
        if config.frontends.len() > 1 {
            // Each would keep views and a cache of its own, and they would take the shards from each other.
            return Err(FrontendError::Several { path: config.path.clone() });
        }
        let folder = config.node_dir(&id);
        let file_error = |source| FrontendError::File { path: folder.clone(), source };
        std::fs::create_dir_all(&folder).map_err(file_error)?;
        let lock = runfile::lock(&folder).map_err(file_error)?;
        let lock = lock.ok_or_else(|| FrontendError::InUse { path: folder.clone() })?;
        let credentials = Arc::new(Credentials::of(&config)?);
        let admin_token = secret::admin_token(&config.cluster.data_dir)?;
        let view_store = ViewStore::new(&folder);
        // Also a store that has a view may have stopped before its first books were loaded.
        let seed = match seed::read(&config) {
            Err(problem) if any_view(&config, &view_store).await? => {
                tracing::warn!(problem = %with_causes(&problem), "the first books can't be read; a store that has begun needs none");
                Seed::new()
            }
            read => read?,
        };
        let public = bind(&id, "public", &node.public).await?;
        let internal = bind(&id, "internal", &node.internal).await?;
        let heartbeat = bind(&id, "heartbeat", &node.heartbeat).await?;
        let (writers, events) = Writers::new(config.shard_ids());
        let shards = Shards::new(config.shard_ids(), config.balancing.policy);
        let (catalogs, orders) = (Catalogs::new(&config), Orders::new(&config));
        let happenings = Happenings::default();
        let told = Told {
            shards: shards.clone(),
            writers: writers.clone(),
            catalogs: catalogs.clone(),
            orders: orders.clone(),
            happenings: happenings.clone(),
        };
        let app = App::new(Parts {
            heartbeats: Heartbeats::new(config.clone(), told),
            cache: Arc::new(Cache::new(config.cache)),
            feeds: Feeds::new(config.shard_ids()),
            started: Instant::now(),
            config,
            id,
            admin_token,
            credentials,
            backups: Arc::new(Semaphore::new(BACKUPS_MAX)),
            shards,
            writers,
            catalogs,
            orders,
            happenings,
        });
        Ok(Self { app, view_store, events, seed, public, internal, heartbeat, _lock: lock })
    }

    /// Serves until shutdown.
    ///
    /// # Errors
    /// If a part of it ends before.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), FrontendError> {
        let Self { app, view_store, events, seed, public, internal, heartbeat, _lock } = self;
        write_addresses(&app, &public, &internal, &heartbeat)?;
        let mut parts: JoinSet<&'static str> = JoinSet::new();
        // What is under way is served through these as well, so they end after it.
        let (ending, when_ending) = shutdown::channel();
        let notes = Notes { view_store: view_store.clone() };
        {
            let (app, notes, shutdown) = (app.clone(), notes.clone(), when_ending.clone());
            parts.spawn(async move {
                notes.keep(&app, shutdown).await;
                "notes of commit indexes"
            });
        }
        run_writers(&app, view_store, events, &mut parts);
        keep_links(&app, &mut parts);
        let credentials = app.parts().credentials.clone();
        {
            let (credentials, shutdown, app) = (credentials.clone(), when_ending.clone(), app.clone());
            parts.spawn(async move {
                let handle = move |connected| internal::serve_link(connected, app.clone());
                link::serve(internal, credentials, shutdown, handle).await;
                "internal listener"
            });
        }
        {
            let (shutdown, hearts) = (when_ending.clone(), app.parts().heartbeats.clone());
            parts.spawn(async move {
                let handle = move |connected| hearts.clone().serve_link(connected);
                link::serve(heartbeat, credentials, shutdown, handle).await;
                "heartbeat listener"
            });
        }
        {
            let (shutdown, hearts) = (when_ending.clone(), app.parts().heartbeats.clone());
            parts.spawn(async move {
                hearts.watch(shutdown).await;
                "watch over heartbeats"
            });
        }
        let mut seeding = JoinSet::new();
        seeding.spawn(seed::load(app.clone(), seed));
        let metrics = Arc::new(metrics::Metrics::new());
        let serving = server::serve(public, app.clone(), metrics, shutdown.clone());
        tokio::pin!(serving);
        let ended = tokio::select! {
            () = &mut serving => "public listener",
            Some(ended) = parts.join_next() => ended.unwrap_or("part that panicked"),
        };
        if !shutdown.is_on() {
            return Err(FrontendError::PartEnded(ended));
        }
        if ended != "public listener" {
            // What is under way drains; the writers stop only when this returns.
            serving.await;
        }
        ending.fire();
        notes.note(&app).await;
        Ok(())
    }
}

/// Notes beside each view how far its shard is committed.
#[derive(Clone)]
struct Notes {
    view_store: ViewStore,
}

impl Notes {
    async fn keep(&self, app: &App, mut shutdown: Shutdown) {
        let mut turn = tokio::time::interval(NOTE_EVERY);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut noted = BTreeMap::new();
        loop {
            tokio::select! {
                _ = turn.tick() => {}
                () = shutdown.wait() => return,
            }
            let now = commits(app);
            if now != noted {
                self.note(app).await;
                noted = now;
            }
        }
    }

    async fn note(&self, app: &App) {
        for (shard, index) in commits(app) {
            self.view_store.note_commit(shard, index).await;
        }
    }
}

/// Up to where the shards are committed, those of which nothing is known left out.
fn commits(app: &App) -> BTreeMap<ShardId, Index> {
    let all = app.parts().shards.iter().map(|shard| (shard.id, shard.commit_index()));
    all.filter(|(_, index)| *index > Index(0)).collect()
}

async fn any_view(config: &Config, view_store: &ViewStore) -> Result<bool, FrontendError> {
    for shard in config.shard_ids() {
        let view = view_store.read(shard).await.map_err(|problem| FrontendError::View { shard, problem })?;
        if view.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn bind(id: &NodeId, listener: &'static str, address: &Address) -> Result<TcpListener, FrontendError> {
    TcpListener::bind(address.as_str()).await.map_err(|source| FrontendError::Listen {
        id: id.clone(),
        listener,
        address: address.to_string(),
        source,
    })
}

fn write_addresses(
    app: &App,
    public: &TcpListener,
    internal: &TcpListener,
    heartbeat: &TcpListener,
) -> Result<(), FrontendError> {
    let path = runfile::addresses_path(app.config(), app.id());
    let written = || {
        let (public, internal, heartbeat) =
            (public.local_addr()?, internal.local_addr()?, heartbeat.local_addr()?);
        tracing::info!(node = %app.id(), %public, %internal, %heartbeat, "serving");
        let addresses = [("public", public), ("internal", internal), ("heartbeat", heartbeat)];
        runfile::write_addresses(app.config(), app.id(), &addresses)
    };
    written().map_err(|source| FrontendError::File { path, source })
}

/// The writers' tasks end with the process, not with the signal to stop: what is under way is drained
/// through them.
fn run_writers(
    app: &App,
    view_store: ViewStore,
    events: BTreeMap<ShardId, mpsc::Receiver<ShardEvent>>,
    parts: &mut JoinSet<&'static str>,
) {
    for (shard, events) in events {
        let around = Surroundings {
            catalogs: app.parts().catalogs.clone(),
            view_store: view_store.clone(),
            shards: app.parts().shards.clone(),
            cache: app.parts().cache.clone(),
            feeds: app.parts().feeds.clone(),
            happenings: app.parts().happenings.clone(),
        };
        let (me, config) = (app.id().clone(), app.parts().config.clone());
        parts.spawn(async move {
            writers::run(shard, me, config, events, around).await;
            "writer of a shard"
        });
    }
}

fn keep_links(app: &App, parts: &mut JoinSet<&'static str>) {
    for node in app.config().catalogs.iter().map(|node| node.id.clone()) {
        let app = app.clone();
        parts.spawn(async move {
            let parts = app.parts();
            parts.catalogs.keep(&node, &parts.config, &parts.credentials, &parts.id, &parts.writers).await;
            "link to a catalog node"
        });
    }
    for node in app.config().orders.iter().map(|node| node.id.clone()) {
        let app = app.clone();
        parts.spawn(async move {
            let parts = app.parts();
            parts.orders.keep(&node, &parts.config, &parts.credentials, &parts.id).await;
            "link to an order node"
        });
    }
}
