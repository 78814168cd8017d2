//! What every process of a store does before and after its own work: arguments, configuration, logs,
//! signals, and an exit code that says how it ended.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};
use protocol::ids::NodeId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Builder;

use crate::config::Config;
use crate::exit::complain;
use crate::shutdown::{self, Shutdown};
use crate::telemetry;

/// What a process takes on its command line.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration that all processes of the store share.
    #[arg(long, env = "BOOKENDS_CONFIG")]
    config: Option<PathBuf>,
    /// Which of the configuration's nodes this is.
    #[arg(long)]
    id: String,
}

/// Why a process failed.
pub trait Failure: Error {
    /// Whether it is for whoever wrote the configuration or called the program to mend: then trying again
    /// is of no use.
    fn is_wrong_use(&self) -> bool;
}

/// Runs a process of the store: `serve` opens what it needs and serves until the signal to stop, which
/// comes with SIGTERM or SIGINT. Exit codes: 0 stopped, 1 failed, 2 wrong use or bad configuration.
pub fn run<E: Failure>(
    program: &'static str,
    about: &'static str,
    serve: impl AsyncFnOnce(Config, NodeId, Shutdown) -> Result<(), E>,
) -> ExitCode {
    let arguments = match parse(program, about) {
        Ok(arguments) => arguments,
        Err(problem) => problem.exit(),
    };
    let config = match Config::load(&Config::path_from_env_or(arguments.config)) {
        Ok(config) => config,
        Err(problems) => return complain(program, &problems, 2),
    };
    let lines = match telemetry::init(&config.logging, &arguments.id) {
        Ok(lines) => lines,
        Err(problem) => return complain(program, &problem, 2),
    };
    raise_file_limit();
    // One thread drives a process's tasks, which carry messages to and from its other threads: those that own files,
    // and a front end's lanes. No task ever moves to another core, so none wakes one.
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => return complain(program, &problem, 1),
    };
    let (trigger, shutdown) = shutdown::channel();
    let result = runtime.block_on(async {
        let serving = serve(config, NodeId::from(arguments.id), shutdown);
        tokio::pin!(serving);
        tokio::select! {
            // The handlers stand before the process says that it serves.
            biased;
            signal = shutdown::termination() => match signal {
                Ok(name) => tracing::info!(signal = name, "stopping"),
                Err(problem) => tracing::error!(%problem, "signals can't be waited for; stopping"),
            },
            result = &mut serving => return result,
        }
        trigger.fire();
        serving.await
    });
    match result {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            // What led to it stands before it in the log.
            drop(lines);
            complain(program, &problem, if problem.is_wrong_use() { 2 } else { 1 })
        }
    }
}

/// As many open files as this process may have: the usual limit is meant for programs that still count
/// them in fixed tables.
fn raise_file_limit() {
    let limits = getrlimit(Resource::Nofile);
    if limits.current == limits.maximum {
        return;
    }
    let raised = Rlimit { current: limits.maximum, maximum: limits.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => {
            tracing::debug!(from = ?limits.current, to = ?limits.maximum, "the limit of open files is raised");
        }
        Err(problem) => tracing::warn!(%problem, "the limit of open files can't be raised"),
    }
}

/// How many files and sockets this process may have open; `None` if there is no limit.
#[must_use]
pub fn file_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

fn parse(program: &'static str, about: &'static str) -> Result<Arguments, clap::Error> {
    let example = format!(
        "Example:\n  {program} --config config.toml --id {program}-1\n\n\
         Stops on SIGTERM. Exit codes: 0 stopped, 1 failed, 2 wrong use or bad configuration."
    );
    let command = Arguments::command().name(program).bin_name(program).about(about).after_help(example);
    Arguments::from_arg_matches(&command.try_get_matches()?)
}
