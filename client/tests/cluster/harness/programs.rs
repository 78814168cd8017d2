//! The programs under test: those that were built beside this one.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::LIMIT;

/// What the tests' own surroundings must not decide.
const VARIABLES: [&str; 5] = [
    "BOOKENDS_CONFIG",
    "BOOKENDS_CLUSTER_SECRET",
    "BOOKENDS_ADMIN_TOKEN",
    "BOOKENDS_LOG",
    "BOOKENDS_LOG_FORMAT",
];

/// A program of the workspace, of the same profile as the test.
pub(crate) fn program(name: &str) -> PathBuf {
    let bookends = Path::new(env!("CARGO_BIN_EXE_bookends"));
    let program = bookends.with_file_name(name);
    let profile =
        if bookends.components().any(|part| part.as_os_str() == "release") { " --release" } else { "" };
    assert!(
        program.is_file(),
        "{} is missing; build it: cargo build --workspace --bins{profile}",
        program.display()
    );
    program
}

/// A command that is told nothing by the environment.
pub(crate) fn clean(program: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// What a program that ended has left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a program to its end; one that does not end is killed, and that is a failure.
pub(crate) async fn run(name: &str, args: &[&str]) -> Ran {
    run_program(&program(name), args).await
}

/// As [`run`], for a program at another place.
pub(crate) async fn run_program(program: &Path, args: &[&str]) -> Ran {
    run_within(LIMIT, program, args).await
}

/// As [`run_program`], for what may take long.
pub(crate) async fn run_within(limit: Duration, program: &Path, args: &[&str]) -> Ran {
    let name = program.display();
    let mut command = Command::from(clean(program));
    command.args(args).kill_on_drop(true);
    let output = timeout(limit, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{name} {args:?} does not end")).unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
