//! A process that the test has started, and that does not outlive it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};

use super::programs::{clean, program};
use super::wait_for;

/// A node's process. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a node, with further variables in its environment; what it says goes to the end of its log.
    pub(crate) fn start(node: &str, config: &Path, log: PathBuf, more: &[(&str, PathBuf)]) -> Self {
        let (kind, _) = node.split_once('-').unwrap();
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = clean(&program(kind));
        command.envs(more.iter().map(|(name, value)| (name, value)));
        command.arg("--config").arg(config).args(["--id", node]);
        command.stdout(output.try_clone().unwrap()).stderr(output);
        Self { child: command.spawn().unwrap(), log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// `kill -9`, and it is gone when this returns.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let log = self.log.display().to_string();
        wait_for("the process ends", async || self.ended().ok_or(format!("it runs, see {log}"))).await
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended, or have been killed, before; both leave nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The end of a file.
pub(crate) fn last_lines(path: &Path, count: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
