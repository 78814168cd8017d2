//! The control channel between verbs and supervisor: HTTP on the loopback interface, open to holders
//! of the cluster secret.
//!
//! | call | does | answer |
//! | --- | --- | --- |
//! | `GET /nodes` | nothing | [`Overview`] |
//! | `POST /nodes/{id}/{action}` | an [`Action`], and waits until it is done | [`NodeReport`] |
//!
//! The supervisor itself is stopped by SIGTERM, which needs no channel.

pub(crate) mod client;
pub(crate) mod server;

use common::api::Role;
use protocol::ids::NodeId;
use serde::{Deserialize, Serialize};

use crate::machine::Exit;

/// What can be asked of the supervisor for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    /// Start it, if it does not run.
    Start,
    /// Stop it, and leave it stopped.
    Stop,
    /// Stop it and start it again.
    Restart,
    /// Kill it, and heal it as if it had died.
    Kill,
    /// Kill it, and leave it down.
    KillForGood,
}

impl Action {
    /// As it stands in the path of a call.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Kill => "kill",
            Self::KillForGood => "kill-for-good",
        }
    }
}

/// The supervisor and what it knows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Overview {
    /// The supervisor's process.
    pub(crate) pid: u32,
    /// Each node, in the order in which they are started.
    pub(crate) nodes: Vec<NodeReport>,
}

/// How a node's process stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeReport {
    /// Its name in the configuration.
    pub(crate) id: NodeId,
    /// What it is.
    pub(crate) role: Role,
    /// What is being done about it.
    pub(crate) state: State,
    /// Its process, if there is one.
    pub(crate) pid: Option<i32>,
    /// How long that has been running.
    pub(crate) uptime_s: Option<u64>,
    /// How many times it was started again because it had died.
    pub(crate) restarts: u32,
    /// How it ended the last time.
    pub(crate) last_exit: Option<Exit>,
    /// What keeps it from running, or from being seen.
    pub(crate) problem: Option<String>,
}

/// What is being done about a node's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// It runs, but has not said yet where it listens.
    Starting,
    /// It runs.
    Running,
    /// It died and is started again after a wait.
    Backoff,
    /// It died too often, or says that its configuration is wrong; it is left down.
    Failed,
    /// It was stopped.
    Stopped,
    /// It was killed and is to stay down.
    StayedDown,
    /// Its machine can't be reached; if it ran there, it is taken to run on.
    Unreachable,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::StayedDown => "stayed-down",
            Self::Unreachable => "unreachable",
        })
    }
}

/// Why an action was not done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// In words.
    pub(crate) detail: String,
}
