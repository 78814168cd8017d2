//! Processes of nodes on this machine.
//!
//! A process is held by a pidfd, which goes on meaning the same process when its number is used again.
//! It is opened before the command line is checked, so that what was checked is what gets the signal.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Instant, SystemTime};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};

use super::{Exit, MachineError};
use crate::layout::{self, Layout};
use crate::node::{self, Node};
use crate::{identity, logs};

/// This machine, for the nodes of one configuration.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    programs: PathBuf,
    config: PathBuf,
    layout: Layout,
}

impl Here {
    /// For programs in a directory, a configuration file (absolute) and the files of its store.
    pub(crate) fn new(programs: PathBuf, config: PathBuf, layout: Layout) -> Self {
        Self { programs, config, layout }
    }

    /// Where the program of a node is.
    pub(crate) fn program(&self, node: &Node) -> PathBuf {
        self.programs.join(node::program(node.role))
    }

    /// Starts a node, and writes down its pid.
    ///
    /// # Errors
    /// If that is not possible; nothing runs then.
    pub(crate) fn start(&self, node: &Node) -> Result<Process, MachineError> {
        let name = node.id.as_str();
        let log = self.layout.log(name);
        let file_error = |path: PathBuf| |source| MachineError::File { path, source };
        // The address of the process before would be taken for that of this one.
        let addr = self.layout.addr(name);
        layout::remove(&addr).map_err(file_error(addr))?;
        let output = logs::open(&log, logs::ROTATE_BYTES).map_err(file_error(log.clone()))?;
        let errors = output.try_clone().map_err(file_error(log))?;

        let program = self.program(node);
        let mut child = Command::new(&program)
            .arg("--config")
            .arg(&self.config)
            .args(["--id", name])
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // A group of its own: a signal to the supervisor's group must not reach it.
            .process_group(0)
            .spawn()
            .map_err(|source| MachineError::Start { program, source })?;

        let recorded = Process::of_child(&mut child).and_then(|handle| {
            let path = self.layout.pid(name);
            let text = handle.pid().to_string();
            layout::write_whole(&path, &text).map_err(file_error(path)).map(|()| handle)
        });
        match recorded {
            Ok(process) => Ok(Process { child: Some(child), addr: self.layout.addr(name), ..process }),
            Err(error) => {
                // A process that no pid file names could never be stopped. It has not been waited for,
                // so it is still there to be killed; an error means that it has already ended.
                drop(child.start_kill());
                Err(error)
            }
        }
    }

    /// The process that the pid file of a name means, if it lives and is that node of this configuration.
    pub(crate) fn find(&self, name: &str) -> Option<Process> {
        let path = self.layout.pid(name);
        let process = Process::open(layout::read_pid(&path)?).ok()?;
        let arguments = identity::arguments(process.pid)?;
        if !identity::is_node(&arguments, &self.config, name) {
            return None;
        }
        let age = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
        let age = age.and_then(|written| SystemTime::now().duration_since(written).ok());
        let since = age.and_then(|age| Instant::now().checked_sub(age)).unwrap_or(process.since);
        Some(Process { since, addr: self.layout.addr(name), ..process })
    }

    /// Forgets the process of a name: it has ended.
    pub(crate) fn forget(&self, name: &str) {
        for path in [self.layout.pid(name), self.layout.addr(name)] {
            if let Err(error) = layout::remove(&path) {
                tracing::warn!(%error, path = %path.display(), "a file of a process that has ended stays");
            }
        }
    }
}

/// A process that lives, or that has not been waited for.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    handle: AsyncFd<OwnedFd>,
    /// None for one that another supervisor started.
    child: Option<Child>,
    since: Instant,
    /// Where it says where it listens.
    addr: PathBuf,
}

impl Process {
    /// Takes hold of a process by its number.
    ///
    /// # Errors
    /// If there is none.
    #[expect(
        deprecated,
        reason = "sound for an OwnedFd, which stays the same descriptor; the successor is unsafe code"
    )]
    pub(crate) fn open(pid: Pid) -> Result<Self, MachineError> {
        let error = |source| MachineError::Process { doing: "open", pid: number(pid), source };
        let handle = pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(io::Error::from).map_err(error)?;
        let handle = AsyncFd::new(handle).map_err(error)?;
        Ok(Self { pid, handle, child: None, since: Instant::now(), addr: PathBuf::new() })
    }

    fn of_child(child: &mut Child) -> Result<Self, MachineError> {
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let gone = || MachineError::Process { doing: "open", pid: 0, source: io::ErrorKind::NotFound.into() };
        Self::open(pid.ok_or_else(gone)?)
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        number(self.pid)
    }

    /// When it was started.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Whether it has said where it listens.
    pub(crate) fn listens(&self) -> bool {
        self.addr.exists()
    }

    /// Returns when it has ended. May be dropped and asked again.
    pub(crate) async fn ended(&mut self) -> Exit {
        if let Some(child) = &mut self.child {
            return child.wait().await.map_or(Exit::Unseen, Exit::from);
        }
        // A pidfd is readable once its process has ended. An error means that the runtime stops, and
        // with it whoever asks.
        drop(self.handle.readable().await);
        Exit::Unseen
    }

    /// Sends it a signal; one that has ended needs none.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), MachineError> {
        match pidfd_send_signal(self.handle.get_ref(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => {
                let (doing, pid) = ("signal", self.pid());
                Err(MachineError::Process { doing, pid, source: errno.into() })
            }
        }
    }
}

fn number(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use common::api::Role;
    use tokio::time::timeout;

    use super::*;
    use crate::machine;

    /// A machine with a shell script in the place of the catalog's program.
    fn machine(dir: &std::path::Path, script: &str) -> (Here, Node) {
        use std::os::unix::fs::PermissionsExt;
        let layout = Layout::new(dir.join("run"), dir.join("logs"));
        layout.make().unwrap();
        let program = dir.join("catalog");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let node = Node { id: "catalog-1".into(), role: Role::Catalog, listeners: Vec::new(), host: None };
        (Here::new(dir.to_owned(), dir.join("config.toml"), layout), node)
    }

    async fn wait_for_log(machine: &Here, text: &str) {
        let path = machine.layout.log("catalog-1");
        let seen = async {
            while !fs::read_to_string(&path).is_ok_and(|log| log.contains(text)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), seen).await.unwrap();
    }

    /// Another test that starts a process at this moment may hold the new program open for writing, until its
    /// child has become that process.
    fn start(machine: &Here, node: &Node) -> Process {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match machine.start(node) {
                Err(MachineError::Start { source, .. })
                    if source.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < deadline => {}
                started => return started.unwrap(),
            }
        }
    }

    #[tokio::test]
    async fn what_was_started_is_found_again_and_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let (machine, node) = machine(dir.path(), "echo up; read forever < $0.fifo");
        // The shell itself must stay, for its command line is what is looked at: it waits on a pipe.
        let fifo = dir.path().join("catalog.fifo");
        assert!(std::process::Command::new("mkfifo").arg(fifo).status().unwrap().success());
        let mut started = start(&machine, &node);
        wait_for_log(&machine, "up").await;
        let mut found = machine.find("catalog-1").unwrap();
        assert_eq!(found.pid(), started.pid());
        assert!(machine.find("catalog-2").is_none());
        found.signal(Signal::KILL).unwrap();
        assert_eq!(started.ended().await, Exit::Signal(9));
        assert_eq!(found.ended().await, Exit::Unseen);
        found.signal(Signal::TERM).unwrap();
        assert!(machine.find("catalog-1").is_none());
    }

    #[tokio::test]
    async fn who_ignores_sigterm_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let (machine, node) = machine(dir.path(), "trap '' TERM; echo up; exec sleep 600");
        let mut process = machine::Process::Here(Box::new(start(&machine, &node)));
        wait_for_log(&machine, "up").await;
        assert_eq!(process.stop(Duration::from_millis(50)).await.unwrap(), Exit::Signal(9));
    }

    #[tokio::test]
    async fn who_heeds_sigterm_keeps_its_exit_code() {
        let dir = tempfile::tempdir().unwrap();
        let (machine, node) = machine(dir.path(), "trap 'kill $!; exit 7' TERM; sleep 600 & echo up; wait");
        let mut process = machine::Process::Here(Box::new(start(&machine, &node)));
        wait_for_log(&machine, "up").await;
        assert_eq!(process.stop(Duration::from_secs(10)).await.unwrap(), Exit::Code(7));
    }

    #[tokio::test]
    async fn a_pid_file_that_names_another_process_names_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (machine, _) = machine(dir.path(), "");
        layout::write_whole(&machine.layout.pid("catalog-1"), &std::process::id().to_string()).unwrap();
        assert!(machine.find("catalog-1").is_none());
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (machine, node) = machine(dir.path(), "");
        fs::remove_file(dir.path().join("catalog")).unwrap();
        let error = machine.start(&node).unwrap_err().to_string();
        assert!(error.ends_with("/catalog"), "{error}");
        assert!(machine.find("catalog-1").is_none());
    }
}
