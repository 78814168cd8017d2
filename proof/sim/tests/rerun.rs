//! What is printed of a seed that fails shows it again.
//!
//! cargo test --profile proof --features mutants -p bookends-sim --test rerun

#![cfg(feature = "mutants")]

use std::process::{Command, Output};

/// How this build of the program is run. The command names it; what stands behind it is given to the program that the
/// tests have built already.
const RUN: &str = "cargo run --profile proof --features mutants -p bookends-sim -- ";

fn run<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bookends-sim")).args(arguments).output().expect("it can be run")
}

/// The line that says which seed fails and why, and the one below it.
fn failure_in(output: &Output) -> (String, Option<String>) {
    assert_eq!(output.status.code(), Some(1), "a seed fails: {output:?}");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = told.lines().collect();
    let first = lines.iter().position(|line| line.starts_with("seed ")).expect("it says which seed fails");
    let command = lines.iter().find_map(|line| line.trim().strip_prefix(RUN));
    (lines[first].to_owned(), command.map(str::to_owned))
}

#[test]
fn a_failure_is_printed_with_the_command_that_shows_it_again() {
    let many = ["--seeds", "40", "--from", "0", "--threads", "1", "--mutant", "AcknowledgeBeforeAll"];
    let (failure, command) = failure_in(&run(many));
    let command = command.unwrap_or_else(|| panic!("no command of this build below: {failure}"));
    let again = run(command.split_whitespace());
    assert_eq!(failure_in(&again).0, failure, "{command}");
    assert!(again.stdout.len() > 1000, "it shows what happened: {command}");
    // The same without what was left out is well: so the command has to say it.
    let whole = command.replace("--mutant AcknowledgeBeforeAll", "");
    assert_eq!(run(whole.split_whitespace()).status.code(), Some(0), "{whole}");
}
