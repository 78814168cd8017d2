//! Processes of nodes on another machine: programs and files brought there, started, signalled, waited for.
//!
//! A process there has a parent of its own (`keep` in `there.sh`) that writes down how it ended, so neither
//! the end of a connection nor that of the supervisor matters to it. It is known by its number, its start
//! time and the boot of its machine.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::api::Role;
use common::config::Config;
use common::secret::{admin_token, cluster_secret};
use rustix::process::Signal;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use super::attendance::{Found, Identity, Life, Round, Seen};
use super::ssh::{Input, Session, Share, Ssh, SshError, quote};
use super::{Exit, KILL_GRACE, MachineError, View};
use crate::logs::ROTATE_BYTES;
use crate::node::{self, Node};

/// What runs there.
const SCRIPT: &str = include_str!("there.sh");

/// How long a script may take that only looks or signals, connection included.
const SHORT: Duration = Duration::from_secs(20);

/// How long a file may take on its way: a program of some 40 MB over a slow line.
const COPY: Duration = Duration::from_secs(600);

/// A running process whose pid file has vanished is given up after this: a machine's word may be a little
/// older than the process, but not by so much.
const UNTOLD: Duration = Duration::from_secs(5);

/// What is to be done there: the verb of the script, and the values that it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task<'a> {
    /// A function of the script.
    pub(crate) verb: &'a str,
    /// Its variables.
    pub(crate) values: &'a [(&'a str, &'a str)],
}

/// Another machine, for the nodes of one configuration. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct There(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ssh: Ssh,
    programs: PathBuf,
    config: PathBuf,
    data_dir: PathBuf,
    /// What every script there is told first.
    head: String,
    socket: Option<PathBuf>,
    /// Two nodes of a machine need the same files: the second finds what the first has brought.
    bringing: Mutex<()>,
    seen: watch::Receiver<Seen>,
}

/// A file that is needed there.
enum Source {
    File(PathBuf),
    Secret(Vec<u8>),
}

struct Needed {
    name: String,
    mode: &'static str,
    source: Source,
}

impl There {
    /// The machine of a host. What is known of it comes through `seen`.
    pub(crate) fn new(
        host: &str,
        programs: PathBuf,
        config: &Config,
        socket: Option<PathBuf>,
        seen: watch::Receiver<Seen>,
    ) -> Self {
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let store = format!("{}:{}", own.trim(), config.path.display());
        let mut head = String::new();
        let data = config.cluster.data_dir_written.display().to_string();
        for (name, value) in [("dir", &config.ssh.dir), ("data", &data), ("store", &store)] {
            head.push_str(&format!("{name}={}\n", quote(value)));
        }
        Self(Arc::new(Inner {
            ssh: Ssh::new(host.to_owned(), config.ssh.clone()),
            programs,
            config: config.path.clone(),
            data_dir: config.cluster.data_dir.clone(),
            head,
            socket,
            bringing: Mutex::new(()),
            seen,
        }))
    }

    /// Its name in the configuration.
    pub(crate) fn host(&self) -> &str {
        self.0.ssh.host()
    }

    /// How it is reached.
    pub(crate) fn ssh(&self) -> &Ssh {
        &self.0.ssh
    }

    /// The script for a task.
    pub(crate) fn script(&self, task: Task<'_>) -> String {
        let mut text = format!("{}verb={}\n", self.0.head, quote(task.verb));
        for (name, value) in task.values {
            text.push_str(&format!("{name}={}\n", quote(value)));
        }
        text + SCRIPT
    }

    async fn run(&self, task: Task<'_>, input: Input<'_>, limit: Duration) -> Result<String, SshError> {
        let share = self.0.socket.as_deref().map_or(Share::Nothing, Share::Join);
        self.0.ssh.run(share, &self.script(task), input, limit).await
    }

    /// Waits until it has said how its nodes stand.
    ///
    /// # Errors
    /// If it turns out that it can't be reached.
    pub(crate) async fn round(&self) -> Result<Arc<Round>, SshError> {
        let mut seen = self.0.seen.clone();
        let known = seen.wait_for(|seen| !matches!(seen, Seen::NotYet)).await;
        match known.as_deref() {
            Ok(Seen::Round(round)) => Ok(round.clone()),
            Ok(Seen::Lost(error)) => Err(error.clone()),
            Ok(Seen::NotYet) | Err(_) => Err(self.unattended()),
        }
    }

    /// Returns when it is in touch.
    pub(crate) async fn reached(&self) {
        // Without anybody who attends it, it never will be; then the supervisor is ending.
        drop(self.0.seen.clone().wait_for(|seen| matches!(seen, Seen::Round(_))).await);
    }

    fn unattended(&self) -> SshError {
        SshError::Unreachable { host: self.host().to_owned(), why: "nobody is in touch with it".to_owned() }
    }

    /// The process of a node, if it lives.
    ///
    /// # Errors
    /// If the machine can't be reached.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Process>, SshError> {
        let round = self.round().await?;
        Ok(match round.get(name) {
            Some(Found { identity, life: Life::Up { age, .. } }) => {
                let since = Instant::now().checked_sub(*age).unwrap_or_else(Instant::now);
                Some(self.process(name, identity.clone(), since))
            }
            Some(Found { life: Life::Down(_), .. }) | None => None,
        })
    }

    fn process(&self, name: &str, identity: Identity, since: Instant) -> Process {
        Process { machine: self.clone(), name: name.to_owned(), identity, since }
    }

    /// Brings what a node needs and starts it.
    ///
    /// # Errors
    /// If that is not possible; nothing runs then.
    pub(crate) async fn start(&self, node: &Node) -> Result<Process, MachineError> {
        self.bring(node).await?;
        let name = node.id.as_str();
        let rotate = ROTATE_BYTES.to_string();
        let values = [("node", name), ("program", node::program(node.role)), ("rotate", &rotate)];
        let answer = self.run(Task { verb: "start", values: &values }, Input::Nothing, SHORT).await?;
        let words: Vec<&str> = answer.split_whitespace().collect();
        let identity = match &words[..] {
            ["started", pid, start] => {
                pid.parse().ok().map(|pid| Identity { pid, start: (*start).to_owned() })
            }
            _ => None,
        };
        let Some(identity) = identity else {
            let why = if words.is_empty() { format!("{name} does not start") } else { words.join(" ") };
            return Err(SshError::Failed { host: self.host().to_owned(), why }.into());
        };
        Ok(self.process(name, identity, Instant::now()))
    }

    /// Brings those files that are missing there or differ.
    async fn bring(&self, node: &Node) -> Result<(), MachineError> {
        let _one = self.0.bringing.lock().await;
        let needed = self.needed(node)?;
        let names: Vec<&str> = needed.iter().map(|file| file.name.as_str()).collect();
        let values = [("files", &*names.join(" "))];
        let answer = self.run(Task { verb: "compare", values: &values }, Input::Nothing, SHORT).await?;
        self.check_system(&answer)?;
        for file in needed {
            let (digest, size) = file.source.measure().await?;
            if answer.lines().any(|line| line == format!("file {} {digest}", file.name)) {
                continue;
            }
            let size = size.to_string();
            let values = [("file", &*file.name), ("mode", file.mode), ("size", &*size)];
            let input = match &file.source {
                Source::File(path) => Input::File(path),
                Source::Secret(bytes) => Input::Bytes(bytes),
            };
            self.run(Task { verb: "put", values: &values }, input, COPY).await?;
            tracing::info!(node = %node.id, host = self.host(), file = file.name, "copied {}", file.name);
        }
        Ok(())
    }

    fn needed(&self, node: &Node) -> Result<Vec<Needed>, MachineError> {
        let Inner { programs, config, data_dir, .. } = &*self.0;
        let program = node::program(node.role);
        let file =
            |name: &str, mode, path| Needed { name: name.to_owned(), mode, source: Source::File(path) };
        let secret = |name: &str, text: &str| {
            let source = Source::Secret(format!("{text}\n").into_bytes());
            Needed { name: name.to_owned(), mode: "600", source }
        };
        let mut needed = vec![
            file(&format!("bin/{program}"), "755", programs.join(program)),
            file("config.toml", "644", config.clone()),
            secret("cluster.secret", cluster_secret(data_dir)?.expose()),
        ];
        if node.role == Role::Frontend {
            needed.push(secret("admin.token", admin_token(data_dir)?.expose()));
            let catalogue = config.with_file_name("catalogue.csv");
            if catalogue.is_file() {
                needed.push(file("catalogue.csv", "644", catalogue));
            }
        }
        Ok(needed)
    }

    fn check_system(&self, answer: &str) -> Result<(), SshError> {
        let own = rustix::system::uname();
        let own = format!("{} {}", own.sysname().to_string_lossy(), own.machine().to_string_lossy());
        let other = answer.lines().find_map(|line| line.strip_prefix("system ")).unwrap_or("unknown");
        if other == own {
            return Ok(());
        }
        let why = format!("it is {other}, but the programs are for {own}");
        Err(SshError::Unfit { host: self.host().to_owned(), why })
    }

    /// The last lines of a node's log, and then, if that is wanted, each new one as it comes.
    ///
    /// # Errors
    /// If there is no ssh.
    pub(crate) async fn log(&self, name: &str, lines: usize, follow: bool) -> Result<Session, SshError> {
        let lines = lines.to_string();
        let follow = if follow { "yes" } else { "no" };
        let values = [("node", name), ("lines", &*lines), ("follow", follow)];
        self.0.ssh.open(Share::Nothing, &self.script(Task { verb: "show", values: &values })).await
    }

    /// Removes the data and all that was brought there; tells whether there was anything.
    ///
    /// # Errors
    /// If it can't be removed, or is not a store's.
    pub(crate) async fn remove(&self) -> Result<bool, SshError> {
        let answer = self.run(Task { verb: "remove", values: &[] }, Input::Nothing, COPY).await?;
        Ok(answer.contains("removed"))
    }
}

impl Source {
    /// The digest and the length of what is here.
    async fn measure(&self) -> Result<(String, u64), MachineError> {
        match self {
            Self::Secret(bytes) => Ok((hex(&Sha256::digest(bytes)), bytes.len() as u64)),
            Self::File(path) => {
                let place = path.clone();
                let measured = tokio::task::spawn_blocking(move || measure(&place)).await;
                let measured = measured.unwrap_or_else(|error| Err(io::Error::other(error)));
                measured.map_err(|source| MachineError::Read { path: path.clone(), source })
            }
        }
    }
}

fn measure(path: &Path) -> io::Result<(String, u64)> {
    let mut digest = Sha256::new();
    let length = io::copy(&mut File::open(path)?, &mut digest)?;
    Ok((hex(&digest.finalize()), length))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A process on another machine.
#[derive(Debug)]
pub(crate) struct Process {
    machine: There,
    name: String,
    identity: Identity,
    since: Instant,
}

impl Process {
    /// Its number there.
    pub(crate) fn pid(&self) -> i32 {
        self.identity.pid
    }

    /// When it was started.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// What can be said of it now.
    pub(crate) fn view(&self) -> View {
        match &*self.machine.0.seen.borrow() {
            Seen::NotYet => View { listens: false, problem: None },
            Seen::Lost(error) => View { listens: false, problem: Some(error.to_string()) },
            Seen::Round(round) => {
                let found = round.get(&self.name).filter(|found| found.identity == self.identity);
                let listens = found.is_some_and(|found| matches!(found.life, Life::Up { listens: true, .. }));
                View { listens, problem: None }
            }
        }
    }

    /// Returns when its machine says that it has ended. May be dropped and asked again.
    pub(crate) async fn ended(&mut self) -> Exit {
        let mut seen = self.machine.0.seen.clone();
        let mut untold: Option<Instant> = None;
        loop {
            let now = seen.borrow_and_update().clone();
            if let Seen::Round(round) = now {
                match round.get(&self.name) {
                    Some(found) if found.identity == self.identity => match found.life {
                        Life::Up { .. } => untold = None,
                        Life::Down(code) => return code.map_or(Exit::Unseen, Exit::from_shell),
                    },
                    // What was said may be older than the process.
                    Some(_) | None => {
                        let begin = *untold.get_or_insert_with(Instant::now);
                        if begin.elapsed() > UNTOLD {
                            return Exit::Unseen;
                        }
                    }
                }
            }
            if seen.changed().await.is_err() {
                // Nobody is in touch with the machine any more, and nobody will know.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Sends it a signal; one that has ended needs none.
    ///
    /// # Errors
    /// If its machine can't be reached, or refuses.
    pub(crate) async fn signal(&self, signal: Signal) -> Result<(), MachineError> {
        let Identity { pid, start } = &self.identity;
        let process = format!("{pid} {start}");
        let signal = if signal == Signal::KILL { "KILL" } else { "TERM" };
        let values = [("node", &*self.name), ("process", &process), ("signal", signal)];
        self.machine.run(Task { verb: "signal", values: &values }, Input::Nothing, SHORT).await?;
        Ok(())
    }

    /// Waits for its end after SIGKILL.
    ///
    /// # Errors
    /// If its machine does not say so.
    pub(crate) async fn wait_for_end(&mut self) -> Result<Exit, MachineError> {
        let ended = timeout(KILL_GRACE, self.ended()).await;
        ended.map_err(|_| match self.view().problem {
            Some(why) => SshError::Failed { host: self.machine.host().to_owned(), why }.into(),
            None => MachineError::Undying { pid: self.pid() },
        })
    }
}
