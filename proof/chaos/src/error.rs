//! Why a round could not be held. What a round finds is no error: it is in its report.

use std::io;
use std::path::PathBuf;

/// Why a round ended without a verdict.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    /// A program of the store is not there.
    #[error("{} is missing; build it: cargo build --release --workspace --bins", .0.display())]
    NoProgram(PathBuf),
    /// A file or a folder can't be used.
    #[error("{what} {}", path.display())]
    File {
        /// What was tried, such as `can't write`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A process can't be started or spoken to.
    #[error("{node} can't be {what}")]
    Process {
        /// Which node.
        node: &'static str,
        /// What was tried, such as `started`.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A proxy can't listen.
    #[error("the way from {from} to {to} can't be opened")]
    Proxy {
        /// Who calls.
        from: &'static str,
        /// Who is called.
        to: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The store never became ready.
    #[error("the store is not ready: {0}")]
    NotReady(String),
    /// A client can't be made or a call of it failed where no fault was at work.
    #[error("a call without a fault failed: {0}")]
    Call(String),
}

impl ChaosError {
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
