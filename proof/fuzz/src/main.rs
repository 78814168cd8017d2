//! Writes inputs that a fuzzer begins with: of each target some that it must accept.

#![expect(clippy::print_stderr, reason = "this is what a program is for")]

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use fuzz::TARGETS;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// How many of each target. A fuzzer keeps those that show it something new.
const EACH: usize = 200;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: bookends-fuzz FOLDER   (writes inputs to begin with to FOLDER/TARGET)");
        return ExitCode::from(2);
    };
    match write_all(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {}: {problem}", Path::new(&folder).display());
            ExitCode::FAILURE
        }
    }
}

fn write_all(folder: &Path) -> io::Result<()> {
    for target in TARGETS {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder)?;
        let mut runner = TestRunner::deterministic();
        let valid = (target.valid)();
        for number in 0..EACH {
            let drawn =
                valid.new_tree(&mut runner).map_err(|problem| io::Error::other(problem.to_string()))?;
            fs::write(folder.join(format!("valid-{number}")), drawn.current())?;
        }
    }
    Ok(())
}
