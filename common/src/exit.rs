//! How a process that can't go on says why.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

/// An error with its causes, in one line.
#[must_use]
pub fn with_causes(problem: &dyn Error) -> String {
    let mut text = problem.to_string();
    let mut cause = problem.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

/// Prints why a process can't go on, with all causes, and gives its exit code.
pub fn complain(program: &str, problem: &dyn Error, code: u8) -> ExitCode {
    // Where standard error is closed, nobody reads it.
    drop(writeln!(io::stderr(), "{program}: {}", with_causes(problem)));
    ExitCode::from(code)
}
