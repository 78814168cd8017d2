//! Why a verb did not do what it was asked for, and the exit code that says so.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use common::config::ConfigError;
use common::secret::SecretError;

use crate::control::client::ControlError;
use crate::machine::MachineError;

/// What ends a verb early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration can't be read or is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The caller asked for what can't be asked.
    #[error("{0}")]
    WrongUse(String),
    /// It was tried and did not work.
    #[error("{0}")]
    Failed(String),
    /// The operating system refused something.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The supervisor refused, or could not be asked.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A process could not be started, signalled or waited for.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A secret can't be read or made.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl Failure {
    /// For `map_err`: what was being done when the error came.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// Nothing of the store runs.
    pub(crate) fn not_running() -> Self {
        Self::Failed("the store is not running; `up` starts it".to_owned())
    }

    /// 2 for wrong use and bad configuration, 1 for all else.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::WrongUse(_) => ExitCode::from(2),
            Self::Failed(_) | Self::Io { .. } | Self::Control(_) | Self::Machine(_) | Self::Secret(_) => {
                ExitCode::from(1)
            }
        }
    }

    /// The failure and its causes in one text.
    pub(crate) fn chain(&self) -> String {
        chain(self)
    }
}

/// An error and its causes in one text.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
