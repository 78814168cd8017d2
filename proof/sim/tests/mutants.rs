//! The table of mutants in docs/PROTOCOL.md is true: what it says finds a mutant does find it.
//!
//! cargo test --profile proof --features mutants -p bookends-sim --test mutants

#![cfg(feature = "mutants")]

use std::process::Command;

use protocol::mutant::{Mutant, select};
use sim::{Options, run_seeds};

/// How far the number of seeds that fail may be from the one in the table, as a factor: the simulation changes
/// more often than anybody counts.
const TOLERANCE: u64 = 4;

/// A line of the table.
#[derive(Debug)]
struct Line {
    mutant: Mutant,
    found_by: String,
    /// So many of so many seeds, from 0 on, fail.
    seeds: Option<(u64, u64)>,
}

fn table() -> Vec<Line> {
    let document = include_str!("../../../docs/PROTOCOL.md");
    let section = document.split("\n### Mutants\n").nth(1).expect("there is a section on mutants");
    let section = section.split("\n## ").next().expect("it ends");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _without, found_by, seeds] = cells[..] else { panic!("not four cells: {row}") };
        let mutant = name.trim_matches('`').parse().unwrap_or_else(|problem| panic!("{row}: {problem}"));
        let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("not a number: {row}"));
        let seeds = seeds.split_once(" of ").map(|(some, all)| (number(some), number(all)));
        Line { mutant, found_by: found_by.to_owned(), seeds }
    })
    .collect()
}

fn failures(seeds: u64) -> u64 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let options = Options { first: 0, count: seeds, threads, stop_at_first: false };
    run_seeds(&options, |_| {}).failures.len() as u64
}

/// A test of the protocol's rules, in a process that lacks the safeguard.
fn rule_test_fails(name: &str, mutant: Mutant) -> bool {
    let run = Command::new(env!("CARGO"))
        .args(["test", "--offline", "--profile", "proof", "--features", "mutants", "-p", "bookends-protocol"])
        .args(["--test", "rules", "--", "--exact", name])
        .env("BOOKENDS_MUTANT", mutant.name())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be run");
    let output = String::from_utf8_lossy(&run.stdout);
    assert!(output.contains("running 1 test"), "there is no test {name}: {output}");
    !run.status.success()
}

/// One test, for a safeguard is switched off for the whole process.
#[test]
fn every_mutant_is_found_by_what_the_table_says() {
    let table = table();
    let named: Vec<Mutant> = table.iter().map(|line| line.mutant).collect();
    assert_eq!(named, Mutant::ALL, "the table has each mutant once, in their order");
    select(None);
    assert_eq!(failures(300), 0, "with all safeguards nothing fails");
    let mut untrue = Vec::new();
    for Line { mutant, found_by, seeds } in &table {
        if let Some((some, all)) = *seeds {
            select(Some(*mutant));
            let found = failures(all);
            println!("{}: {found} of {all} seeds fail; the table says {some}", mutant.name());
            let near = found * TOLERANCE >= some && found <= some.max(1) * TOLERANCE;
            if (found == 0) != (some == 0) || !near {
                untrue.push(format!("{}: {found} of {all} seeds fail, not {some}", mutant.name()));
            }
        }
        select(None);
        let mut found = seeds.is_some_and(|(some, _)| some > 0);
        if let Some(name) = found_by.split('`').nth(1) {
            found = true;
            if !rule_test_fails(name, *mutant) {
                untrue.push(format!("{}: the rule test {name} does not find it", mutant.name()));
            }
        }
        if !found {
            untrue.push(format!("{}: nothing finds it", mutant.name()));
        }
    }
    assert!(untrue.is_empty(), "{untrue:#?}");
}
