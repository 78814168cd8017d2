//! `up`: starts the supervisor, which starts the nodes, and waits until the store is ready by asking it.

use std::env;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use common::config::Config;
use common::secret::ADMIN_TOKEN_VARIABLE;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{down, launch};
use crate::console::{self, Progress};
use crate::control::State;
use crate::control::client::Control;
use crate::failure::Failure;
use crate::front_end::{self, Asker};
use crate::layout::SENTINEL;
use crate::logs;
use crate::readiness::{self, Readiness};
use crate::running::{self, Running};
use crate::store::Store;

/// How long the store may take to become ready.
const DEADLINE: Duration = Duration::from_secs(30);

/// How often it is asked.
const LOOK: Duration = Duration::from_millis(100);

/// How many lines of a log are shown when its process fails.
const LOG_LINES: usize = 15;

/// Starts everything and waits until the store is ready.
///
/// # Errors
/// If it runs already, can't be started, or is not ready in time.
pub(crate) async fn run(store: &Store) -> Result<(), Failure> {
    let begin = Instant::now();
    store.check_nodes()?;
    check_not_running(store).await?;
    let supervisor = launch::supervisor(store, None)?;
    match wait_until_ready(store, supervisor).await? {
        Outcome::Ready => {
            console::say(&welcome(store, begin.elapsed()));
            Ok(())
        }
        Outcome::Late(why) => {
            let seconds = DEADLINE.as_secs();
            Err(Failure::Failed(format!(
                "not ready after {seconds} s: {why}; it goes on starting: see `status` and `logs`, or end it by `down`"
            )))
        }
        Outcome::Failed { name, why } => {
            show_log(store, &name).await;
            down::stop_all(store).await?;
            Err(Failure::Failed(format!("{why}; everything is stopped again")))
        }
    }
}

async fn check_not_running(store: &Store) -> Result<(), Failure> {
    match running::look(&store.layout).map_err(Failure::io("cannot see whether the store runs"))? {
        Running::No => Ok(()),
        Running::Starting => Err(Failure::Failed("already running: a sentinel is starting".to_owned())),
        Running::Yes(supervisor) => {
            let pid = supervisor.pid.as_raw_nonzero();
            let overview = Control::new(&supervisor, store.secret()?)?.overview().await;
            let nodes = overview.map(|overview| overview.nodes).unwrap_or_default();
            let stopped = nodes.iter().filter(|node| node.state == State::Stopped);
            let stopped: Vec<&str> = stopped.map(|node| node.id.as_str()).collect();
            let rest = match &stopped[..] {
                [] => String::new(),
                names => format!("; stopped: {} (`start NODE` starts one)", names.join(", ")),
            };
            Err(Failure::Failed(format!("already running: sentinel pid {pid}{rest}")))
        }
    }
}

/// What became of the start.
enum Outcome {
    Ready,
    Late(String),
    Failed { name: String, why: String },
}

async fn wait_until_ready(store: &Store, mut supervisor: Child) -> Result<Outcome, Failure> {
    let progress = Progress::new();
    let asker = Asker::new()?;
    let begin = Instant::now();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut missing = "the sentinel is starting".to_owned();
    while begin.elapsed() < DEADLINE {
        ticks.tick().await;
        progress.show(&format!("starting ({} s): {missing}", begin.elapsed().as_secs()));
        if let Some(status) = supervisor.try_wait().map_err(Failure::io("cannot watch the sentinel"))? {
            // Two starts at one time: the other one won.
            check_not_running(store).await?;
            let why = format!("the sentinel ended ({status})");
            return Ok(Outcome::Failed { name: SENTINEL.to_owned(), why });
        }
        match look(store, &supervisor, &asker).await? {
            Readiness::Ready => return Ok(Outcome::Ready),
            Readiness::Waiting(why) => missing = why,
            Readiness::Hopeless { node, why } => return Ok(Outcome::Failed { name: node, why }),
        }
    }
    Ok(Outcome::Late(missing))
}

async fn look(store: &Store, supervisor: &Child, asker: &Asker) -> Result<Readiness, Failure> {
    let waiting = |why: &str| Ok(Readiness::Waiting(why.to_owned()));
    let found = running::look(&store.layout).map_err(Failure::io("cannot see whether the store runs"))?;
    let Running::Yes(running) = found else { return waiting("the sentinel is starting") };
    if u32::try_from(running.pid.as_raw_nonzero().get()) != Ok(supervisor.id()) {
        return waiting("the sentinel is starting");
    }
    let Ok(overview) = Control::new(&running, store.secret()?)?.overview().await else {
        return waiting("the sentinel does not answer");
    };
    Ok(readiness::look(&overview, &front_end::all(store), asker).await)
}

async fn show_log(store: &Store, name: &str) {
    if store.node(name).is_ok_and(|node| node.host.is_some()) {
        // What could not be had is no more than a missing help.
        drop(super::logs::run(store, Some(name), true).await);
        return;
    }
    let path = store.layout.log(name);
    let lines = logs::last_lines(&path, LOG_LINES);
    console::tell(&format!("the last lines of {}:", path.display()));
    for line in lines {
        console::tell(&format!("  {line}"));
    }
}

fn welcome(store: &Store, took: Duration) -> String {
    let Config { cluster, .. } = &store.config;
    let seconds = took.as_secs_f32();
    let nodes = store.nodes.len();
    let mut lines = vec![format!("{}: {nodes} nodes are ready after {seconds:.1} s", cluster.name)];
    let mut line = |what: &str, value: String| lines.push(format!("  {what:<12} {value}"));
    for front_end in front_end::all(store) {
        line("front end", format!("{}/  (pages on the API: /docs)", front_end.url));
    }
    line("data", cluster.data_dir.display().to_string());
    line("logs", store.config.logs_dir().display().to_string());
    line("admin token", token_place(&cluster.data_dir.join("admin.token")));
    line("next", "./starter.sh status | test | kill NODE | logs | down".to_owned());
    lines.join("\n")
}

fn token_place(file: &Path) -> String {
    match env::var_os(ADMIN_TOKEN_VARIABLE) {
        Some(_) => format!("from {ADMIN_TOKEN_VARIABLE}"),
        None => file.display().to_string(),
    }
}
