//! A store in a directory of its own: the real sentinel beside stand-ins for the programs that it starts.
//! Whatever the test does, dropping the stage leaves no process behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a test waits for what must happen.
const DEADLINE: Duration = Duration::from_secs(20);

/// Whether the sentinel says that a node starts, or already that it runs.
pub(crate) fn is_started(said: &str) -> bool {
    said.contains("now starting, pid ") || said.contains("now running, pid ")
}

pub(crate) struct Stage {
    dir: TempDir,
}

/// What a verb left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Stage {
    /// A front end, two catalogs and an order node, all on port 0.
    pub(crate) fn new() -> Self {
        Self::at("127.0.0.1:0")
    }

    /// The same with a front end that clients find here.
    pub(crate) fn at(public: &str) -> Self {
        Self::with_config(&format!(
            r#"
            [cluster]
            name = "staged"
            data_dir = "data"
            [[frontend]]
            id = "frontend-1"
            public = "{public}"
            internal = "127.0.0.1:0"
            heartbeat = "127.0.0.1:0"
            [[catalog]]
            id = "catalog-1"
            listen = "127.0.0.1:0"
            [[catalog]]
            id = "catalog-2"
            listen = "127.0.0.1:0"
            [[order]]
            id = "order-1"
            listen = "127.0.0.1:0"
            "#,
        ))
    }

    pub(crate) fn with_config(config: &str) -> Self {
        // In the build's own directory, so that the programs can be linked instead of copied.
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let sentinel = Path::new(env!("CARGO_BIN_EXE_sentinel"));
        let stand_in = sentinel.parent().unwrap().join("examples/stand_in");
        assert!(stand_in.is_file(), "build the stand-in first: cargo build --example stand_in");
        for (from, name) in
            [(sentinel, "sentinel"), (&stand_in, "catalog"), (&stand_in, "order"), (&stand_in, "frontend")]
        {
            let to = dir.path().join(name);
            fs::hard_link(from, &to).or_else(|_| fs::copy(from, &to).map(drop)).unwrap();
        }
        let stage = Self { dir };
        stage.script("bookends", r#"echo "$@" > "$(dirname "$0")/bookends.args"; exit 7"#);
        stage.write("config.toml", config);
        stage
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn script(&self, name: &str, text: &str) {
        self.write(name, &format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a verb to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().unwrap();
        Ran {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a verb that must succeed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}\n{}", self.read("data/logs/sentinel.log"));
        ran.out
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.path("sentinel"));
        command.args(args).arg("--config").arg(self.path("config.toml")).stdin(Stdio::null());
        for name in ["BOOKENDS_CONFIG", "BOOKENDS_CLUSTER_SECRET", "BOOKENDS_ADMIN_TOKEN"] {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn pid(&self, name: &str) -> Option<Pid> {
        Pid::from_raw(self.read(&format!("data/run/{name}.pid")).parse().ok()?)
    }

    pub(crate) fn signal(&self, name: &str, signal: Signal) {
        kill_process(self.pid(name).unwrap(), signal).unwrap();
    }

    /// The row of a node in the table of `status`.
    pub(crate) fn row(&self, node: &str) -> String {
        let table = self.ok(&["status"]);
        let row = table.lines().find(|line| line.starts_with(&format!("{node} ")));
        row.unwrap_or_else(|| panic!("{node} is missing in:\n{table}")).to_owned()
    }

    /// Waits until the condition holds.
    pub(crate) fn wait(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !holds(self) {
            let log = || self.read("data/logs/sentinel.log");
            assert!(begin.elapsed() < DEADLINE, "{what} did not happen; the sentinel's log:\n{}", log());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// All processes whose command line names this directory.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let mine = self.dir.path().as_os_str().as_encoded_bytes();
        let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
        pids.filter(|pid| {
            let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
            line.windows(mine.len()).any(|part| part == mine)
        })
        .collect()
    }
}

/// Ends a process; one that has ended by itself is as good.
fn end(pid: Pid) {
    assert!(matches!(kill_process(pid, Signal::KILL), Ok(()) | Err(Errno::SRCH)));
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The sentinel first, or it would start again what is killed.
        if let Some(pid) = self.pid("sentinel").filter(|pid| self.processes().contains(pid)) {
            end(pid);
        }
        let begin = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() || begin.elapsed() > DEADLINE {
                return;
            }
            for pid in left {
                end(pid);
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}
