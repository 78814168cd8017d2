//! `starter.sh`: what it does before it hands over. Cargo is a script that only writes down how it was called.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::stage::Stage;

/// The tools that the script itself needs; cargo and a compiler are none of them.
const TOOLS: [&str; 8] = ["bash", "dirname", "readlink", "cat", "find", "touch", "sh", "sleep"];

/// A stage with built programs in `target/release` and a path with nothing but the tools.
fn stage() -> Stage {
    let stage = Stage::new();
    fs::create_dir_all(stage.path("target/release")).unwrap();
    fs::create_dir(stage.path("bin")).unwrap();
    for program in ["sentinel", "catalog", "order", "frontend", "bookends"] {
        fs::hard_link(stage.path(program), stage.path("target/release").join(program)).unwrap();
    }
    for tool in TOOLS {
        let found =
            ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(tool)).into_iter().find(|at| at.exists());
        symlink(found.unwrap(), stage.path("bin").join(tool)).unwrap();
    }
    stage
}

fn with_cargo(stage: &Stage, result: u8) {
    stage.script(
        "bin/cargo",
        &format!("echo \"$PWD: $*\" >> '{}'; exit {result}", stage.path("built").display()),
    );
    stage.script("bin/cc", "exit 1");
}

fn starter(stage: &Stage, args: &[&str]) -> Output {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../starter.sh"))
        .args(args)
        .current_dir(stage.path("."))
        .env_clear()
        .env("PATH", stage.path("bin"))
        .env("HOME", "/nonexistent")
        .env("CARGO_TARGET_DIR", "target")
        .env("BOOKENDS_CONFIG", "config.toml")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn it_builds_and_hands_over() {
    let stage = stage();
    with_cargo(&stage, 0);
    let up = starter(&stage, &[]);
    assert_eq!(up.status.code(), Some(0), "{up:?}");
    assert!(text(&up.stdout).contains("4 nodes are ready"), "{up:?}");
    assert!(starter(&stage, &["status"]).status.success());
    let built = stage.read("built");
    assert_eq!(built.lines().count(), 1, "{built}");
    assert!(built.ends_with(": build --release --locked --bins\n"), "{built}");
    assert_eq!(starter(&stage, &["up"]).status.code(), Some(1));
    assert!(stage.read("built").ends_with(" --bins --quiet\n"));
    assert!(starter(&stage, &["down"]).status.success());
}

#[test]
fn a_failed_build_starts_nothing() {
    let stage = stage();
    with_cargo(&stage, 101);
    assert_eq!(starter(&stage, &["up"]).status.code(), Some(1));
    assert_eq!(stage.processes(), []);
}

#[test]
fn a_wrong_verb_is_wrong_use_and_builds_nothing() {
    let stage = stage();
    with_cargo(&stage, 0);
    for verb in ["begin", "watch", ""] {
        let ran = starter(&stage, &[verb]);
        assert_eq!(ran.status.code(), Some(2), "{verb}");
        assert!(text(&ran.stderr).contains("Usage: "), "{verb}");
    }
    let help = starter(&stage, &["--help"]);
    assert!(help.status.success() && text(&help.stdout).contains("Examples:"));
    assert!(!stage.path("built").exists());
}

#[test]
fn what_is_missing_is_named_unless_the_programs_are_there() {
    let stage = stage();
    let ran = starter(&stage, &["down"]);
    assert!(ran.status.success(), "{ran:?}");
    fs::remove_file(stage.path("target/release/order")).unwrap();
    let ran = starter(&stage, &["up"]);
    assert_eq!((ran.status.code(), text(&ran.stderr).lines().count()), (Some(1), 1), "{ran:?}");
    for hint in ["rustup", "apt-get install build-essential"] {
        assert!(text(&ran.stderr).contains(hint), "{ran:?}");
    }
}
