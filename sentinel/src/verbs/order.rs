//! `kill`, `stop`, `start`, `restart`: the supervisor does the work, for the processes are its own.

use super::control;
use crate::console;
use crate::control::{Action, NodeReport};
use crate::failure::Failure;
use crate::store::Store;

/// SIGKILL; the node is started again unless it is to stay down.
///
/// # Errors
/// If there is no such node, nothing runs, or the supervisor refuses.
pub(crate) async fn kill(store: &Store, name: &str, stay_down: bool) -> Result<(), Failure> {
    let action = if stay_down { Action::KillForGood } else { Action::Kill };
    let report = act(store, name, action).await?;
    report_now("killed", &report);
    Ok(())
}

/// SIGTERM, later SIGKILL; the node stays stopped.
///
/// # Errors
/// If there is no such node, nothing runs, or the supervisor refuses.
pub(crate) async fn stop(store: &Store, name: &str) -> Result<(), Failure> {
    report_now("stopped", &act(store, name, Action::Stop).await?);
    Ok(())
}

/// Starts a node, also one that was given up.
///
/// # Errors
/// If there is no such node, nothing runs, or the supervisor refuses.
pub(crate) async fn start(store: &Store, name: &str) -> Result<(), Failure> {
    report_now("started", &act(store, name, Action::Start).await?);
    Ok(())
}

/// Stops a node and starts it again.
///
/// # Errors
/// If there is no such node, nothing runs, or the supervisor refuses.
pub(crate) async fn restart(store: &Store, name: &str) -> Result<(), Failure> {
    report_now("restarted", &act(store, name, Action::Restart).await?);
    Ok(())
}

async fn act(store: &Store, name: &str, action: Action) -> Result<NodeReport, Failure> {
    let node = store.node(name)?;
    let control = control(store).await?.ok_or_else(Failure::not_running)?;
    Ok(control.act(node.id.as_str(), action).await?)
}

fn report_now(done: &str, report: &NodeReport) {
    let NodeReport { id, state, pid, .. } = report;
    let pid = pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
    console::say(&format!("{id}: {done}; now {state}{pid}"));
}
