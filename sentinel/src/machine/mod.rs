//! Where processes of nodes are: started, found again, signalled and waited for, on this machine or another.
//!
//! The supervisor knows a [`Machine`] and its [`Process`]es, and not how either does its work. `here` holds
//! processes by pidfd. `there` runs scripts over ssh; `attendance` keeps in touch with a machine, and `hosts`
//! has all of them.

pub(crate) mod attendance;
pub(crate) mod here;
pub(crate) mod hosts;
pub(crate) mod ssh;
pub(crate) mod there;

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use common::secret::SecretError;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use self::ssh::SshError;
use crate::node::Node;

/// How long a process may take to end after SIGTERM: longer than a front end may take to drain.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(10);

/// How long a process may take to end after SIGKILL; only one that hangs in the kernel takes longer.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// A process could not be started, signalled or waited for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    /// The program could not be started.
    #[error("cannot start {}", program.display())]
    Start {
        /// Which program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its log or its pid file could not be written.
    #[error("cannot write {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is to be copied to another machine could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot {doing} process {pid}")]
    Process {
        /// What was refused.
        doing: &'static str,
        /// Which process.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It did not end, not even by SIGKILL.
    #[error("process {pid} does not end, not even by SIGKILL")]
    Undying {
        /// Which process.
        pid: i32,
    },
    /// Another machine could not be reached, or could not do it.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// A secret that another machine needs can't be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl MachineError {
    /// Whether it says nothing of the process, for its machine was not reached.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Ssh(SshError::Unreachable { .. } | SshError::Missing))
    }

    /// Whether trying again is of no use.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Ssh(SshError::Unfit { .. }))
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Exit {
    /// By itself, with a code.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// As the child of a supervisor that is gone: only that it ended can be seen.
    Unseen,
}

impl Exit {
    /// From the code that a shell has for its child: 128 and more for signals.
    fn from_shell(code: i32) -> Self {
        if code > 128 { Self::Signal(code - 128) } else { Self::Code(code) }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Unseen => f.write_str("ended unseen"),
        }
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unseen,
        }
    }
}

/// Where a node runs. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Machine {
    /// This machine.
    Here(here::Here),
    /// Another one.
    There(there::There),
}

impl Machine {
    /// Starts a node.
    ///
    /// # Errors
    /// If that is not possible; nothing runs then.
    pub(crate) async fn start(&self, node: &Node) -> Result<Process, MachineError> {
        match self {
            Self::Here(here) => here.start(node).map(|process| Process::Here(Box::new(process))),
            Self::There(there) => there.start(node).await.map(Process::There),
        }
    }

    /// The process of a node, if it lives.
    ///
    /// # Errors
    /// If the machine can't be reached.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Process>, MachineError> {
        match self {
            Self::Here(here) => Ok(here.find(name).map(|process| Process::Here(Box::new(process)))),
            Self::There(there) => Ok(there.find(name).await?.map(Process::There)),
        }
    }

    /// Returns when it can be reached.
    pub(crate) async fn reached(&self) {
        match self {
            Self::Here(_) => {}
            Self::There(there) => there.reached().await,
        }
    }

    /// Forgets the process of a name: it has ended.
    pub(crate) fn forget(&self, name: &str) {
        match self {
            Self::Here(here) => here.forget(name),
            // How it ended stays written down there until the next start.
            Self::There(_) => {}
        }
    }
}

/// What can be said of a living process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Whether it has said where it listens.
    pub(crate) listens: bool,
    /// Why nothing is known of it; then it is taken to live.
    pub(crate) problem: Option<String>,
}

/// A process that lives, or that has not been waited for.
#[derive(Debug)]
pub(crate) enum Process {
    /// On this machine.
    Here(Box<here::Process>),
    /// On another one.
    There(there::Process),
}

impl Process {
    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        match self {
            Self::Here(process) => process.pid(),
            Self::There(process) => process.pid(),
        }
    }

    /// When it was started.
    pub(crate) fn since(&self) -> Instant {
        match self {
            Self::Here(process) => process.since(),
            Self::There(process) => process.since(),
        }
    }

    /// What can be said of it now.
    pub(crate) fn view(&self) -> View {
        match self {
            Self::Here(process) => View { listens: process.listens(), problem: None },
            Self::There(process) => process.view(),
        }
    }

    /// Whether more can change than that it begins to listen or ends.
    pub(crate) fn is_there(&self) -> bool {
        matches!(self, Self::There(_))
    }

    /// Returns when it has ended. May be dropped and asked again.
    pub(crate) async fn ended(&mut self) -> Exit {
        match self {
            Self::Here(process) => process.ended().await,
            Self::There(process) => process.ended().await,
        }
    }

    async fn signal(&self, signal: Signal) -> Result<(), MachineError> {
        match self {
            Self::Here(process) => process.signal(signal),
            Self::There(process) => process.signal(signal).await,
        }
    }

    /// Ends it at once.
    ///
    /// # Errors
    /// If it does not end.
    pub(crate) async fn kill(&mut self) -> Result<Exit, MachineError> {
        self.signal(Signal::KILL).await?;
        match self {
            Self::Here(process) => {
                let pid = process.pid();
                timeout(KILL_GRACE, process.ended()).await.map_err(|_| MachineError::Undying { pid })
            }
            Self::There(process) => process.wait_for_end().await,
        }
    }

    /// Asks it to end, and ends it when the time is over.
    ///
    /// # Errors
    /// If it does not end.
    pub(crate) async fn stop(&mut self, grace: Duration) -> Result<Exit, MachineError> {
        self.signal(Signal::TERM).await?;
        match timeout(grace, self.ended()).await {
            Ok(exit) => Ok(exit),
            Err(_) => {
                tracing::warn!(pid = self.pid(), ?grace, "a process does not end by SIGTERM: SIGKILL");
                self.kill().await
            }
        }
    }
}
