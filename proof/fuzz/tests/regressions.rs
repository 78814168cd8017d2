//! What was once found is tried again, and every target has all that belongs to it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fuzz::TARGETS;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What is in a folder, in the order of names. Where nothing was found there is none.
fn files(folder: &Path) -> Vec<PathBuf> {
    if !folder.exists() {
        return Vec::new();
    }
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    files.sort();
    files
}

/// The names of what is in a folder, without this ending.
fn names(folder: &Path, ending: &str) -> BTreeSet<String> {
    let files = files(folder);
    let names = files.iter().filter_map(|file| file.file_name());
    names.map(|name| name.to_string_lossy().trim_end_matches(ending).to_owned()).collect()
}

#[test]
fn what_was_found_is_found_no_more() {
    for target in TARGETS {
        for file in files(&here().join("regressions").join(target.name)) {
            // Shown if the next line does not come back.
            println!("{}", file.display());
            (target.check)(&fs::read(&file).unwrap());
        }
    }
}

#[test]
fn every_target_has_a_fuzzer_and_nothing_else_has() {
    let expected: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names(&here().join("fuzz/fuzz_targets"), ".rs"), expected);
    let regressions = names(&here().join("regressions"), "");
    assert!(!regressions.is_empty() && regressions.is_subset(&expected), "{regressions:?}");
    let dictionaries = names(&here().join("fuzz/dictionaries"), ".dict");
    assert!(dictionaries.is_subset(&expected), "{dictionaries:?}");
    let manifest = fs::read_to_string(here().join("fuzz/Cargo.toml")).unwrap();
    for name in &expected {
        assert!(
            manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n")),
            "{name}"
        );
        let fuzzer = fs::read_to_string(here().join(format!("fuzz/fuzz_targets/{name}.rs"))).unwrap();
        assert!(fuzzer.contains(&format!("fuzz::{name}::check(bytes)")), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), expected.len());
}
