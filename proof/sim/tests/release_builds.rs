//! Safeguards can be switched off in builds for proofs only.

use std::process::Command;

/// The features of the protocol's crate in a build of the whole workspace, as it is released and tested.
#[test]
fn no_build_of_the_workspace_has_mutants() {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--workspace",
            "--edges",
            "all",
            "--prefix",
            "none",
            "--format",
            "{p} [{f}]",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be run");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("text");
    let of_protocol: Vec<&str> = tree.lines().filter(|line| line.starts_with("bookends-protocol ")).collect();
    assert!(!of_protocol.is_empty(), "{tree}");
    let with_mutants: Vec<&str> = tree.lines().filter(|line| line.contains("mutants")).collect();
    assert!(with_mutants.is_empty(), "{with_mutants:?}");
}

/// And a build without debug assertions that asks for them is refused.
#[test]
fn mutants_are_refused_without_debug_assertions() {
    let is_refused = |feature: bool, assertions: &str| {
        let scratch = tempfile::tempdir().expect("there is room for a folder");
        let mut compiler = Command::new("rustc");
        if feature {
            compiler.args(["--cfg", "feature=\"mutants\""]);
        }
        // By itself the file lacks what its crate depends on; what matters is whether it is refused as such.
        let compiled = compiler
            .args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata"])
            .args(["-C", &format!("debug-assertions={assertions}")])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../common/protocol/src/mutant.rs"))
            .current_dir(scratch.path())
            .output()
            .expect("rustc can be run");
        String::from_utf8_lossy(&compiled.stderr).contains("mutants are for proofs only")
    };
    assert!(is_refused(true, "off"));
    assert!(!is_refused(true, "on"));
    assert!(!is_refused(false, "off"));
}
