//! The table of mutants in docs/PROTOCOL.md is true: what it says finds a mutant does find it.
//!
//! cargo test --profile proof --features mutants -p bookends-sim --test mutants -- --nocapture

#![cfg(feature = "mutants")]

use std::ops::RangeInclusive;
use std::time::Instant;

use model::check::{CounterExample, check};
use model::configurations::all;
use protocol::mutant::{Mutant, select};
use sim::{Options, run_seeds};

/// A search is little but small pieces of memory, on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A line of the table.
#[derive(Debug)]
struct Line {
    mutant: Mutant,
    model: Option<ByModel>,
    /// One of these fails at least.
    seeds: Option<RangeInclusive<u64>>,
}

/// How the model finds a mutant: a rule is broken so many steps from the beginning of a configuration, and none is
/// that is nearer.
#[derive(Debug)]
struct ByModel {
    /// The safeguard behind which this one stands: neither is missed there alone, and both together are.
    with: Option<Mutant>,
    configuration: String,
    steps: usize,
}

fn table() -> Vec<Line> {
    let document = include_str!("../../../docs/PROTOCOL.md");
    let section = document.split("\n### Mutants\n").nth(1).expect("there is a section on mutants");
    let section = section.split("\n## ").next().expect("it ends");
    section.lines().filter(|line| line.starts_with("| `")).map(line).collect()
}

fn line(row: &str) -> Line {
    let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    let [name, _without, model, seeds] = cells[..] else { panic!("not four cells: {row}") };
    let said = |cell| Some(cell).filter(|cell| *cell != "–");
    Line { mutant: mutant(name), model: said(model).map(by_model), seeds: said(seeds).map(seed_range) }
}

fn mutant(cell: &str) -> Mutant {
    cell.trim_matches('`').parse().unwrap_or_else(|problem| panic!("{cell}: {problem}"))
}

/// "restart, 2 steps", or "with `NoFencing`: restart, 2 steps".
fn by_model(cell: &str) -> ByModel {
    let (with, found) = match cell.strip_prefix("with ").and_then(|rest| rest.split_once(": ")) {
        Some((with, found)) => (Some(mutant(with)), found),
        None => (None, cell),
    };
    let (configuration, steps) = found.split_once(", ").unwrap_or_else(|| panic!("no steps: {cell}"));
    let steps = steps.trim_end_matches("steps").trim_end_matches("step").trim();
    let steps = steps.parse().unwrap_or_else(|_| panic!("no number of steps: {cell}"));
    ByModel { with, configuration: configuration.to_owned(), steps }
}

/// "0 to 199".
fn seed_range(cell: &str) -> RangeInclusive<u64> {
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("not a number: {cell}"));
    let (from, to) = cell.split_once(" to ").unwrap_or_else(|| panic!("not a range: {cell}"));
    number(from)..=number(to)
}

/// After how many steps the model finds something, without these safeguards.
fn steps_found(by: &ByModel, without: &[Mutant]) -> Option<usize> {
    let configuration = all().into_iter().find(|known| known.name == by.configuration);
    let configuration =
        configuration.unwrap_or_else(|| panic!("there is no configuration {}", by.configuration));
    select(without);
    let broken = check(&configuration, by.steps, |_| {}).broken;
    select(&[]);
    broken.map(|CounterExample { steps, .. }| steps)
}

/// What of a line is not true of the model.
fn untrue_of_model(mutant: Mutant, by: &ByModel) -> Option<String> {
    let found = |without: &[Mutant]| (without.to_vec(), steps_found(by, without));
    let expected: Vec<(Vec<Mutant>, Option<usize>)> = match by.with {
        None => vec![(vec![mutant], Some(by.steps))],
        Some(other) => vec![(vec![mutant], None), (vec![other], None), (vec![mutant, other], Some(by.steps))],
    };
    let others = expected.iter().map(|(without, _)| found(without)).zip(&expected);
    let untrue: Vec<String> = others
        .filter(|(found, expected)| found != *expected)
        .map(|((without, found), (_, expected))| {
            format!("{}: without {without:?} found after {found:?} steps, not {expected:?}", by.configuration)
        })
        .collect();
    (!untrue.is_empty()).then(|| untrue.join("; "))
}

/// Whether one of the seeds fails.
fn a_seed_fails(seeds: &RangeInclusive<u64>, without: &[Mutant]) -> bool {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (first, count) = (*seeds.start(), seeds.end() - seeds.start() + 1);
    select(without);
    let summary = run_seeds(&Options { first, count, threads, stop_at_first: true }, |_| {});
    select(&[]);
    !summary.failures.is_empty()
}

/// One test, for a safeguard is switched off for the whole process.
#[test]
fn every_mutant_is_found_by_what_the_table_says() {
    let table = table();
    let named: Vec<Mutant> = table.iter().map(|line| line.mutant).collect();
    assert_eq!(named, Mutant::ALL, "the table has each mutant once, in their order");
    assert!(!a_seed_fails(&(0..=299), &[]), "with all safeguards nothing fails");
    let mut untrue = Vec::new();
    for Line { mutant, model, seeds } in &table {
        let (name, began) = (mutant.name(), Instant::now());
        if let Some(problem) = model.as_ref().and_then(|by| untrue_of_model(*mutant, by)) {
            untrue.push(format!("{name}: {problem}"));
        }
        let searched = began.elapsed();
        if let Some(seeds) = seeds
            && !a_seed_fails(seeds, &[*mutant])
        {
            untrue.push(format!("{name}: none of the seeds {seeds:?} fails"));
        }
        if model.is_none() && seeds.is_none() {
            untrue.push(format!("{name}: nothing finds it"));
        }
        println!("{name}: {searched:.1?} in the model, {:.1?} in the simulator", began.elapsed() - searched);
    }
    assert!(untrue.is_empty(), "{untrue:#?}");
}
