//! The protocol does no I/O and knows no runtime: its dependencies are the proof.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

use std::process::Command;

use serde_json::Value;

/// What would open a socket, a file or a runtime.
const BANNED: [&str; 9] =
    ["tokio", "axum", "rusqlite", "reqwest", "hyper", "r2d2", "mio", "async-std", "bookends-common"];

#[test]
fn the_protocol_depends_on_no_runtime_and_no_io() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let protocol = packages.iter().find(|package| package["name"] == "bookends-protocol").unwrap();
    let normal = protocol["dependencies"].as_array().unwrap().iter().filter(|of| of["kind"].is_null());
    let names: Vec<&str> = normal.map(|of| of["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"serde"), "what is looked at is the list of dependencies: {names:?}");
    for name in names {
        assert!(!BANNED.iter().any(|banned| name.starts_with(banned)), "the protocol depends on {name}");
    }
}
