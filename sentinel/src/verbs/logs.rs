//! `logs`: the last lines of the logs, and then each new one.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::console;
use crate::failure::{Failure, chain};
use crate::layout::SENTINEL;
use crate::logs::Tail;
use crate::machine::hosts::Hosts;
use crate::machine::there::There;
use crate::machine::{Machine, MachineError};
use crate::store::Store;

/// How many lines are shown of what was before.
const LAST_LINES: usize = 20;

/// How often is looked for new lines: at once to the eye, and nothing to the machine.
const LOOK: Duration = Duration::from_millis(200);

/// Shows the log of a node, of the `sentinel`, or of all.
///
/// # Errors
/// If there is no such node, or no log can be read.
pub(crate) async fn run(store: &Store, name: Option<&str>, no_follow: bool) -> Result<(), Failure> {
    let names: Vec<&str> = match name {
        Some(SENTINEL) => vec![SENTINEL],
        Some(name) => vec![store.node(name)?.id.as_str()],
        None => std::iter::once(SENTINEL).chain(store.nodes.iter().map(|node| node.id.as_str())).collect(),
    };
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
    let prefix = |name: &str| if names.len() == 1 { String::new() } else { format!("{name:width$} | ") };
    let hosts = Hosts::unattended(store);
    let mut tails = Vec::new();
    let mut elsewhere = JoinSet::new();
    for name in &names {
        let node = store.nodes.iter().find(|node| node.id.as_str() == *name);
        if let Some(Machine::There(there)) = node.map(|node| hosts.machine_of(node, store)) {
            elsewhere.spawn(relay(there, (*name).to_owned(), prefix(name), !no_follow));
        } else {
            tails.push((prefix(name), Tail::at_last_lines(store.layout.log(name), LAST_LINES)));
        }
    }
    if no_follow {
        show(&mut tails, false).await?;
        return join(&mut elsewhere, names.len()).await;
    }
    tokio::select! {
        result = show(&mut tails, true) => result,
        result = join(&mut elsewhere, names.len()), if !elsewhere.is_empty() && tails.is_empty() => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Shows the log of a node on another machine. If that breaks, the others go on.
async fn relay(there: There, name: String, prefix: String, follow: bool) -> Result<(), MachineError> {
    let work = async {
        let mut session = there.log(&name, LAST_LINES, follow).await?;
        if !follow {
            session.close_input();
        }
        while let Some(line) = session.line().await? {
            if console::write(format!("{prefix}{line}\n").as_bytes()).is_err() {
                return Ok(());
            }
        }
        session.end().await
    };
    let result = work.await.map_err(MachineError::from);
    if let Err(error) = &result {
        console::tell(&format!("{name}: {}", chain(error)));
    }
    result
}

/// Waits for the logs of other machines; a failure is one only if nothing else was to be shown.
async fn join(elsewhere: &mut JoinSet<Result<(), MachineError>>, names: usize) -> Result<(), Failure> {
    while let Some(ended) = elsewhere.join_next().await {
        match ended {
            Ok(Err(_)) if names == 1 => return Err(Failure::Failed("its log can't be shown".to_owned())),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

async fn show(tails: &mut [(String, Tail)], follow: bool) -> Result<(), Failure> {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for (prefix, tail) in &mut *tails {
            let lines = tail.read().map_err(Failure::io("cannot read a log"))?;
            let text: String = lines.iter().flat_map(|line| [prefix.as_str(), line, "\n"]).collect();
            if !text.is_empty() && console::write(text.as_bytes()).is_err() {
                // Nobody reads any more, as with `| head`.
                return Ok(());
            }
        }
        if !follow || !console::is_read() {
            return Ok(());
        }
    }
}
