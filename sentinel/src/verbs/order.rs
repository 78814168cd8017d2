//! `kill`, `stop`, `start`, `restart`: the supervisor does the work, for the processes are its own.

use std::process::Child;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{control, launch};
use crate::console;
use crate::control::{Action, NodeReport};
use crate::failure::Failure;
use crate::layout::SENTINEL;
use crate::running::{self, Running};
use crate::store::Store;

/// How long a supervisor may take until it can be spoken to.
const SUPERVISOR_START: Duration = Duration::from_secs(10);

/// How often is looked.
const LOOK: Duration = Duration::from_millis(20);

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

/// Starts a node, also one that was given up; where nothing runs, it is started alone.
///
/// # Errors
/// If there is no such node, it can't be started, or the supervisor refuses.
pub(crate) async fn start(store: &Store, name: &str) -> Result<(), Failure> {
    let node = store.node(name)?;
    if control(store).await?.is_none() {
        store.check_nodes()?;
        let supervisor = launch::supervisor(store, Some(node))?;
        wait_for_supervisor(store, supervisor).await?;
    }
    let report = act(store, name, Action::Start).await?;
    report_now("started", &report);
    match report.problem {
        Some(problem) if report.pid.is_none() => Err(Failure::Failed(format!("{name}: {problem}"))),
        Some(_) | None => Ok(()),
    }
}

/// Waits until a supervisor that was just started can be spoken to.
async fn wait_for_supervisor(store: &Store, mut supervisor: Child) -> Result<(), Failure> {
    let deadline = Instant::now() + SUPERVISOR_START;
    loop {
        let found = running::look(&store.layout).map_err(Failure::io("cannot see whether the store runs"))?;
        // It may be that of another call at the same time, which is as good.
        if matches!(found, Running::Yes(_)) {
            return Ok(());
        }
        let ended = supervisor.try_wait().map_err(Failure::io("cannot watch the sentinel"))?;
        if let Some(status) = ended.filter(|_| found == Running::No) {
            let log = store.layout.log(SENTINEL);
            return Err(Failure::Failed(format!("the sentinel ended ({status}); see {}", log.display())));
        }
        if Instant::now() >= deadline {
            return Err(Failure::Failed("the sentinel does not answer".to_owned()));
        }
        sleep(LOOK).await;
    }
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
