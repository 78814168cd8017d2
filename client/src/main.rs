//! The command line `bookends`.

mod cli;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::CliError;
use crate::cli::args::Args;

#[tokio::main]
async fn main() -> ExitCode {
    match cli::run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done when stderr is gone as well; the exit code still tells.
            drop(writeln!(std::io::stderr(), "bookends: {}", line(&error)));
            ExitCode::from(error.exit_code())
        }
    }
}

/// The error and, where there is one, its root cause: what lies between only repeats them.
fn line(error: &CliError) -> String {
    let mut root: Option<&dyn Error> = None;
    let mut next = error.source();
    while let Some(cause) = next {
        root = Some(cause);
        next = cause.source();
    }
    match root.map(ToString::to_string) {
        Some(cause) if !error.to_string().contains(&cause) => format!("{error}: {cause}"),
        Some(_) | None => error.to_string(),
    }
}
