//! `logs`: the last lines of the logs, and then each new one.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::console;
use crate::failure::Failure;
use crate::layout::SENTINEL;
use crate::logs::Tail;
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
    let tail = |name: &&str| (prefix(name), Tail::at_last_lines(store.layout.log(name), LAST_LINES));
    let mut tails: Vec<_> = names.iter().map(tail).collect();
    tokio::select! {
        result = show(&mut tails, !no_follow) => result,
        _ = tokio::signal::ctrl_c(), if !no_follow => Ok(()),
    }
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
