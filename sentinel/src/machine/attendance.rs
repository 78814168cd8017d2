//! Keeping in touch with another machine: one connection, over which a script there tells several times a
//! second how the nodes there stand. Other scripts share the connection.
//!
//! A machine that can't be reached is tried again and again. Nothing is concluded from its silence: a process
//! there is taken to live until the machine itself says otherwise.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::ssh::{Share, Ssh, SshError};
use super::there::Task;

/// The script speaks several times a second; one that is silent for so long is cut off from us.
const SILENCE: Duration = Duration::from_secs(10);

/// The wait before the second attempt in a row to reach a machine; each further one waits twice as long …
const WAIT_FIRST: Duration = Duration::from_millis(250);
/// … up to this: a machine that is back is noticed soon, and one that counts failed logins is not annoyed.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How a node's process on another machine stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Which process.
    pub(crate) identity: Identity,
    /// Whether it lives.
    pub(crate) life: Life,
}

/// A process of another machine: its number, and when it was started, for numbers are used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its number.
    pub(crate) pid: i32,
    /// In ticks since that machine's boot.
    pub(crate) start: String,
}

/// Whether a process lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It does.
    Up {
        /// For how long.
        age: Duration,
        /// Whether it has said where it listens.
        listens: bool,
    },
    /// It has ended, with this code if that is known.
    Down(Option<i32>),
}

/// All nodes of a machine, by name.
pub(crate) type Round = BTreeMap<String, Found>;

/// What is known of a machine.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// Nothing yet.
    NotYet,
    /// It can't be reached, and why.
    Lost(SshError),
    /// What it said last.
    Round(Arc<Round>),
}

/// Stays in touch with a machine for as long as it is polled. `socket` is where its connection is shared.
pub(crate) async fn attend(ssh: Ssh, script: String, socket: Option<PathBuf>, seen: watch::Sender<Seen>) {
    let mut wait = Duration::ZERO;
    loop {
        if let Some(socket) = &socket {
            // What a connection before has left would keep this one from being shared. It may not be there.
            drop(fs::remove_file(socket));
        }
        let share = socket.as_deref().map_or(Share::Nothing, Share::Lead);
        let error = match follow(&ssh, share, &script, &seen).await {
            Ok(()) => {
                SshError::Unreachable { host: ssh.host().to_owned(), why: "the connection ended".into() }
            }
            Err(error) => error,
        };
        let was_reached = matches!(*seen.borrow(), Seen::Round(_));
        let is_new = match &*seen.borrow() {
            Seen::Lost(before) => before.to_string() != error.to_string(),
            Seen::NotYet | Seen::Round(_) => true,
        };
        if is_new {
            warn!(host = ssh.host(), "{error}; it is tried again and again");
        }
        wait = if was_reached { WAIT_FIRST } else { (wait * 2).clamp(WAIT_FIRST, WAIT_MAX) };
        seen.send_replace(Seen::Lost(error));
        sleep(wait).await;
    }
}

async fn follow(
    ssh: &Ssh,
    share: Share<'_>,
    script: &str,
    seen: &watch::Sender<Seen>,
) -> Result<(), SshError> {
    let mut session = ssh.open(share, script).await?;
    let mut round = Round::new();
    loop {
        let silent = || SshError::Unreachable {
            host: ssh.host().to_owned(),
            why: format!("nothing heard for {} s", SILENCE.as_secs()),
        };
        let Some(line) = timeout(SILENCE, session.line()).await.map_err(|_| silent())?? else { break };
        if line != "round" {
            round.extend(parse(&line));
            continue;
        }
        if !matches!(*seen.borrow(), Seen::Round(_)) {
            info!(host = ssh.host(), "{} is reached", ssh.host());
        }
        seen.send_replace(Seen::Round(Arc::new(std::mem::take(&mut round))));
    }
    session.end().await
}

/// What a machine says of one node; nothing if it is not understood.
fn parse(line: &str) -> Option<(String, Found)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [life, name, pid, start, rest @ ..] = &words[..] else { return None };
    let life = match (*life, rest) {
        ("up", [age, listens]) => {
            Life::Up { age: Duration::from_secs(age.parse().ok()?), listens: *listens == "yes" }
        }
        ("down", [code]) => Life::Down(code.parse().ok()),
        _ => return None,
    };
    let identity = Identity { pid: pid.parse().ok()?, start: (*start).to_owned() };
    Some(((*name).to_owned(), Found { identity, life }))
}

/// The script that attends.
pub(crate) const TASK: Task<'static> = Task { verb: "attend", values: &[] };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_says_is_understood_or_nothing() {
        let identity = Identity { pid: 7, start: "99".to_owned() };
        let up = |listens| Life::Up { age: Duration::from_secs(5), listens };
        for (line, expected) in [
            ("up a 7 99 5 yes", Some(up(true))),
            ("up a 7 99 5 no", Some(up(false))),
            ("down a 7 99 137", Some(Life::Down(Some(137)))),
            ("down a 7 99 -", Some(Life::Down(None))),
            ("up a seven 99 5 yes", None),
            ("up a 7 99 yes", None),
            ("sideways a 7 99 -", None),
            ("", None),
        ] {
            let expected = expected.map(|life| ("a".to_owned(), Found { identity: identity.clone(), life }));
            assert_eq!(parse(line), expected, "{line}");
        }
    }
}
