//! A node's process, which does not outlive the round.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::layout::program;
use crate::error::ChaosError;

/// What the surroundings must not decide.
const VARIABLES: [&str; 3] = ["BOOKENDS_CONFIG", "BOOKENDS_LOG", "BOOKENDS_LOG_FORMAT"];

/// The secrets that all processes of a round share.
#[derive(Clone, Debug)]
pub(crate) struct Secrets {
    pub(crate) cluster: String,
    pub(crate) admin: String,
}

/// A running node. Dropping it kills it, by its id.
#[derive(Debug)]
pub(crate) struct Process {
    node: &'static str,
    child: Child,
}

impl Process {
    /// Starts a node; what it says goes to the end of its log.
    pub(crate) fn start(
        node: &'static str,
        programs: &Path,
        folder: &Path,
        log: &Path,
        secrets: &Secrets,
    ) -> Result<Self, ChaosError> {
        let file = programs.join(program(node));
        if !file.is_file() {
            return Err(ChaosError::NoProgram(file));
        }
        let output = File::options().create(true).append(true).open(log);
        let output = output.map_err(ChaosError::file("can't write", log))?;
        let errors = output.try_clone().map_err(ChaosError::file("can't write", log))?;
        let mut command = Command::new(file);
        for name in VARIABLES {
            command.env_remove(name);
        }
        let child = command
            .arg("--config")
            .arg(folder.join("config.toml"))
            .args(["--id", node])
            .env("BOOKENDS_CLUSTER_SECRET", &secrets.cluster)
            .env("BOOKENDS_ADMIN_TOKEN", &secrets.admin)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|source| ChaosError::Process { node, what: "started", source })?;
        Ok(Self { node, child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal. The child has not been waited for, so that its id is still its own.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), ChaosError> {
        let failed = |source| ChaosError::Process { node: self.node, what: "signalled", source };
        let pid = Pid::from_raw(self.child.id().cast_signed())
            .ok_or_else(|| failed(std::io::Error::other("it has no id")))?;
        kill_process(pid, signal).map_err(|problem| failed(problem.into()))
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        // An error says that it can't be waited for: there is nothing left of it.
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended before; both leave nothing to do then.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
