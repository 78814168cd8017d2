//! A stand-in for `catalog`, `order` and `frontend` in the sentinel's own tests: it listens where it is
//! configured, says so, and ends on SIGTERM. It sells no books.
//!
//! It is the program whose name it is started under. A file `<node>.does` beside the configuration makes
//! it misbehave: `exit N` ends it at once. Each start leaves a line in `<node>.starts`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use common::api::{NodeState, NodeStatus, Role, ShardStatus, Status};
use common::config::{Address, Config};
use common::{runfile, shutdown};
use protocol::ids::NodeId;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |option: &str| {
        let place = arguments.iter().position(|argument| argument == option);
        place.and_then(|place| arguments.get(place + 1)).cloned().unwrap_or_default()
    };
    let (path, id) = (PathBuf::from(value("--config")), value("--id"));
    let say = |text: &str| drop(writeln!(io::stderr(), "{id}: {text}"));
    say("the stand-in starts");
    if let Some(code) = misbehaviour(&path, &id) {
        say("the stand-in was told to end");
        return ExitCode::from(code);
    }
    match run(&path, &NodeId::from(id.as_str())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn misbehaviour(config: &Path, id: &str) -> Option<u8> {
    let dir = config.parent()?;
    let mut starts =
        OpenOptions::new().create(true).append(true).open(dir.join(format!("{id}.starts"))).ok()?;
    writeln!(starts, "{}", std::process::id()).ok()?;
    fs::read_to_string(dir.join(format!("{id}.does"))).ok()?.trim().strip_prefix("exit ")?.parse().ok()
}

async fn run(path: &Path, id: &NodeId) -> io::Result<()> {
    let config = Config::load(path).map_err(|error| io::Error::other(error.to_string()))?;
    let wanted: Vec<(&str, Address)> = if let Some(node) = config.frontend(id) {
        let node = node.clone();
        vec![("public", node.public), ("internal", node.internal), ("heartbeat", node.heartbeat)]
    } else if let Some(node) = config.catalog(id) {
        vec![("listen", node.listen.clone())]
    } else if let Some(node) = config.order(id) {
        vec![("listen", node.listen.clone())]
    } else {
        return Err(io::Error::other("no such node"));
    };
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for (key, address) in &wanted {
        let listener = TcpListener::bind(address.as_str()).await?;
        addresses.push((*key, listener.local_addr()?));
        listeners.push(listener);
    }
    // Whoever sees the addresses may send SIGTERM: the handler must be there before them.
    let mut stop = JoinSet::new();
    stop.spawn(shutdown::termination());
    tokio::task::yield_now().await;
    runfile::write_addresses(&config, id, &addresses)?;
    let is_front_end = config.frontend(id).is_some();
    let public = listeners.swap_remove(0);
    if is_front_end {
        tokio::select! {
            result = axum::serve(public, router(config)) => result,
            _ = stop.join_next() => Ok(()),
        }
    } else {
        stop.join_next().await;
        Ok(())
    }
}

fn router(config: Config) -> Router {
    let config = std::sync::Arc::new(config);
    let asked = std::sync::Arc::clone(&config);
    Router::new()
        .route("/readyz", get(async || StatusCode::OK))
        .route("/status", get(move || async move { Json(status(&asked).await) }))
}

fn itself(id: &NodeId, address: &Address) -> NodeStatus {
    NodeStatus {
        id: id.as_str().to_owned(),
        role: Role::Frontend,
        state: NodeState::Up,
        address: address.to_string(),
        pid: Some(std::process::id()),
        last_beat_ms: None,
        uptime_s: None,
        version: None,
    }
}

/// A status in which a node is up if its listener answers.
async fn status(config: &Config) -> Status {
    let mut nodes: Vec<NodeStatus> =
        config.frontends.iter().map(|node| itself(&node.id, &node.public)).collect();
    let catalogs = config.catalogs.iter().map(|node| (&node.id, Role::Catalog, &node.listen));
    let orders = config.orders.iter().map(|node| (&node.id, Role::Order, &node.listen));
    for (id, role, listen) in catalogs.chain(orders) {
        let address = runfile::resolve(config, id, "listen", listen);
        let up = TcpStream::connect(address.as_str()).await.is_ok();
        nodes.push(NodeStatus {
            id: id.as_str().to_owned(),
            role,
            state: if up { NodeState::Up } else { NodeState::Down },
            address: address.to_string(),
            pid: None,
            last_beat_ms: None,
            uptime_s: None,
            version: None,
        });
    }
    let shard = ShardStatus {
        shard: 0,
        epoch: 3,
        writer: Some("frontend-1".to_owned()),
        members: vec!["catalog-1".to_owned()],
        commit_index: 41,
        waiting_for: None,
        replicas: Vec::new(),
    };
    Status { shards: vec![shard], nodes, ..Status::default() }
}
