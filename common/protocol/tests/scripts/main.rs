//! Golden scripts of the writer and of a replica: one scenario to a file, named by what it shows.
//!
//! A script says what happens, and the lines behind `---` are what the machine made of it. After a change
//! of behaviour, `UPDATE_GOLDENFILES=1 cargo test -p bookends-protocol --test scripts` writes them anew:
//! read each difference, for it is what the change means.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod disk;
mod logs;
mod replica;
mod show;
mod writer;

use std::path::Path;

/// Runs every script of a folder with a machine of its own, and says which ones failed.
fn run_all<R: goldenscript::Runner>(folder: &str, runner: impl Fn() -> R) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(folder);
    let mut scripts: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts in {}", folder.display());
    for script in scripts {
        let name = script.file_name().unwrap().to_owned();
        goldenscript::run(&mut runner(), &script).unwrap_or_else(|problem| panic!("{name:?}: {problem}"));
    }
}

#[test]
fn writer_scripts() {
    run_all("writer", writer::Runner::new);
}

#[test]
fn replica_scripts() {
    run_all("replica", replica::Runner::new);
}
