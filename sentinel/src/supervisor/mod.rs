//! The supervisor: one process per store that starts the nodes, heals them, and stops them.
//!
//! It leads a session of its own, so that closing the terminal does not end the store. One
//! `watcher` task per node owns that node's process; `control::server` passes the orders of the verbs on
//! to them. SIGTERM stops everything: the front ends first, so that they drain while what they need is
//! there. Killed by SIGKILL it leaves the nodes alone, and the next supervisor takes them over.

mod backoff;
pub(crate) mod fleet;
mod watcher;

use std::io;
use std::net::Ipv4Addr;

use common::{shutdown, telemetry};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use self::fleet::Fleet;
use self::watcher::Watcher;
use crate::control::server;
use crate::failure::Failure;
use crate::layout::{self, SENTINEL};
use crate::machine::hosts::Hosts;
use crate::node::{Node, STOP_ORDER};
use crate::running;
use crate::store::Store;

/// Why the supervisor ends.
#[derive(Debug)]
enum End {
    /// It was told to.
    Signal(io::Result<&'static str>),
    /// The control channel broke.
    Control(io::Result<()>),
}

/// Runs the store until SIGTERM; with `only`, this node alone is started at first.
///
/// # Errors
/// If another supervisor runs it, or what it needs can't be had.
pub(crate) async fn run(store: Store, only: Option<&str>) -> Result<(), Failure> {
    let logging = telemetry::init(&store.config.logging, SENTINEL);
    let _lines = logging.map_err(|error| Failure::Failed(format!("cannot begin to log: {error}")))?;
    if let Err(error) = rustix::process::setsid() {
        // It leads a group already, as when it is typed into a shell.
        info!(%error, "the sentinel stays in the session that it was started in");
    }
    store.check_nodes()?;
    let layout = &store.layout;
    layout.make().map_err(Failure::io("cannot make the directories for logs and pids"))?;
    let lock = running::lock(layout).await.map_err(Failure::io("cannot lock the store"))?;
    let Some(lock) = lock else {
        return Err(Failure::Failed("another sentinel runs this store".to_owned()));
    };

    let mut ends = JoinSet::new();
    ends.spawn(async { End::Signal(shutdown::termination().await) });
    let hosts = Hosts::attend(&store);
    let watcher = |node: &Node| {
        let wanted = only.is_none_or(|only| node.id.as_str() == only);
        Watcher::new(node.clone(), hosts.machine_of(node, &store), wanted)
    };
    let (watching, handles): (Vec<_>, Vec<_>) = store.nodes.iter().map(watcher).unzip();
    let fleet = Fleet::new(handles);
    open_control(&store, fleet.clone(), &mut ends).await?;
    // Only now, when nothing can go wrong any more and a signal would be heard: an end before this
    // leaves no nodes behind.
    let mut watchers = JoinSet::new();
    for watcher in watching {
        watchers.spawn(watcher.run());
    }

    let result = wait_for_end(&mut ends, &mut watchers).await;
    finish(&fleet).await;
    drop(fleet);
    while watchers.join_next().await.is_some() {}
    store.here().forget(SENTINEL);
    drop(hosts);
    drop(lock);
    info!("the store is stopped");
    result
}

/// Opens the control channel, and then says where it is: whoever reads that can use it.
async fn open_control(store: &Store, fleet: Fleet, ends: &mut JoinSet<End>) -> Result<(), Failure> {
    let failed = |source| Failure::Io { doing: "cannot open the control channel".to_owned(), source };
    store.here().forget(SENTINEL);
    let router = server::router(fleet, store.secret()?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    ends.spawn(async move { End::Control(axum::serve(listener, router).await) });
    let pid = std::process::id().to_string();
    layout::write_whole(&store.layout.addr(SENTINEL), &address.to_string()).map_err(failed)?;
    layout::write_whole(&store.layout.pid(SENTINEL), &pid).map_err(failed)?;
    let nodes = store.nodes.len();
    info!(%address, nodes, config = %store.config.path.display(), "the sentinel watches {nodes} nodes");
    Ok(())
}

/// Returns when it is time to stop; an error if that was not asked for.
async fn wait_for_end(ends: &mut JoinSet<End>, watchers: &mut JoinSet<()>) -> Result<(), Failure> {
    let why = tokio::select! {
        end = ends.join_next() => match end {
            Some(Ok(End::Signal(Ok(signal)))) => {
                info!("{signal}: stopping the store");
                return Ok(());
            }
            Some(Ok(End::Signal(Err(error)))) => format!("signals can't be received: {error}"),
            Some(Ok(End::Control(result))) => format!("the control channel ended: {result:?}"),
            Some(Err(error)) => format!("a task ended: {error}"),
            None => "no task is left".to_owned(),
        },
        watcher = watchers.join_next() => format!("a watcher ended: {watcher:?}"),
    };
    error!("{why}: stopping the store");
    Err(Failure::Failed(why))
}

/// Stops all nodes, role by role.
async fn finish(fleet: &Fleet) {
    for role in STOP_ORDER {
        let mut stops = JoinSet::new();
        for handle in fleet.of_role(role).cloned() {
            stops.spawn(async move { (handle.finish().await, handle.id) });
        }
        for (result, id) in stops.join_all().await {
            if let Err(problem) = result {
                warn!(node = %id, problem, "{id} could not be stopped");
            }
        }
    }
}
