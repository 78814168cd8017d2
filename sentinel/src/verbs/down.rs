//! `down`: stops everything that was started for this store, and nothing else. Data stays.

use std::collections::BTreeSet;
use std::time::Duration;

use common::api::Role;
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::supervisor;
use crate::console::{self, Progress};
use crate::failure::{Failure, chain};
use crate::machine::here::Process;
use crate::machine::hosts::Hosts;
use crate::machine::{Machine, MachineError, STOP_GRACE};
use crate::node::STOP_ORDER;
use crate::running::Supervisor;
use crate::store::Store;

/// How long a supervisor may take: three roles, one after the other, each with its grace twice (an
/// order before may have begun to wait), and some room.
const SUPERVISOR_GRACE: Duration = Duration::from_secs(75);

/// Stops everything and waits until it is gone.
///
/// # Errors
/// If something can't be stopped.
pub(crate) async fn run(store: &Store) -> Result<(), Failure> {
    console::say(if stop_all(store).await? { "stopped; the data stays" } else { "not running" });
    Ok(())
}

/// Stops the supervisor and all nodes; tells whether there was anything to stop.
///
/// # Errors
/// If something can't be stopped.
pub(crate) async fn stop_all(store: &Store) -> Result<bool, Failure> {
    let progress = Progress::new();
    progress.show("stopping…");
    let supervised = match supervisor(store).await? {
        Some(supervisor) => {
            end_supervisor(&supervisor).await?;
            true
        }
        None => false,
    };
    // Those of a supervisor that was killed, and those that it did not know of.
    let left = stop_left(store).await?;
    Ok(supervised || left)
}

async fn end_supervisor(supervisor: &Supervisor) -> Result<(), Failure> {
    let mut process = Process::open(supervisor.pid)?;
    process.signal(Signal::TERM)?;
    let Ok(_) = timeout(SUPERVISOR_GRACE, process.ended()).await else {
        let pid = process.pid();
        return Err(Failure::Failed(format!("the sentinel (pid {pid}) does not end; see its log")));
    };
    Ok(())
}

async fn stop_left(store: &Store) -> Result<bool, Failure> {
    let hosts = Hosts::attend(store);
    let role_of = |name: &str| store.node(name).ok().map(|node| node.role);
    // A node that the configuration no longer names is stopped with the last ones.
    let turn_of = |name: &str| {
        let role = role_of(name).unwrap_or(Role::Catalog);
        STOP_ORDER.iter().position(|turn| *turn == role)
    };
    // Those with a pid file here, and all that are elsewhere.
    let here = store.layout.names_with_pid().into_iter().map(|name| (name, Machine::Here(store.here())));
    let nodes = store.nodes.iter().filter(|node| node.host.is_some());
    let there = nodes.map(|node| (node.id.as_str().to_owned(), hosts.machine_of(node, store)));
    let places: Vec<(String, Machine)> = here.chain(there).collect();
    let mut problems = BTreeSet::new();
    let mut any = false;
    for turn in 0..STOP_ORDER.len() {
        let mut stops = JoinSet::new();
        for (name, machine) in places.iter().filter(|(name, _)| turn_of(name) == Some(turn)) {
            let (name, machine) = (name.clone(), machine.clone());
            stops.spawn(async move {
                let Some(mut process) = machine.find(&name).await? else { return Ok(false) };
                process.stop(STOP_GRACE).await?;
                machine.forget(&name);
                Ok::<bool, MachineError>(true)
            });
        }
        for result in stops.join_all().await {
            match result {
                Ok(stopped) => any |= stopped,
                Err(error) => drop(problems.insert(chain(&error))),
            }
        }
    }
    if problems.is_empty() {
        return Ok(any);
    }
    let problems: Vec<String> = problems.into_iter().collect();
    Err(Failure::Failed(format!("not everything is stopped: {}", problems.join("; "))))
}
