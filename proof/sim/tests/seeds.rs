//! Seeds that run with the tests: always the same ones, and some that no run before had.
//!
//! `SIM_SEED=n` runs one and prints what happens in it; `SIM_SEEDS=n` runs that many fresh ones.

#![allow(clippy::print_stdout, reason = "what a seed shows is shown with the test's output")]

use std::sync::Arc;

use parking_lot::Mutex;
use sim::{Lines, Options, Pool, Sight, Summary, fresh_seed, run_one, run_seeds};

/// As in `bookends-sim`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Always the same ones, so that a change that breaks one is seen by whoever makes it.
const FIXED: u64 = 1500;
/// New ones each time, so that more is seen over time. Few, for it is not here that seeds are hunted: that is what
/// `bookends-sim --seeds N` is for.
const FRESH: u64 = 50;
/// How many of the fixed ones may end where only a person can help. They are not looked at at the end, so more would
/// prove less.
const BEYOND_HELP_MAX: u64 = FIXED / 300;

fn run_all(first: u64, count: u64) -> Summary {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let options = Options { first, count, threads, stop_at_first: false };
    let summary = run_seeds(&options, |_| {});
    let failures = &summary.failures;
    for failure in failures {
        println!("seed {} fails: {}\n    {}", failure.seed, failure.problem, failure.command());
    }
    assert!(failures.is_empty(), "{} of {count} seeds from {first} fail", failures.len());
    summary
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

fn trace_of(seed: u64, pool: &mut Pool) -> (String, u64) {
    let text = Arc::new(Mutex::new(String::new()));
    let run = run_one(seed, Lines::Kept(text.clone()), pool);
    let run = run.unwrap_or_else(|failure| panic!("{}{}", text.lock(), failure.problem));
    let text = text.lock().clone();
    (text, run.hash)
}

#[test]
fn one() {
    if let Some(seed) = from_environment("SIM_SEED") {
        println!("{}", trace_of(seed, &mut Pool::default()).0);
    }
}

#[test]
fn fixed_seeds() {
    let Summary { sights, beyond_help, .. } = run_all(0, FIXED);
    let unseen: Vec<Sight> = Sight::ALL.into_iter().filter(|sight| sights.count(*sight) == 0).collect();
    assert!(unseen.is_empty(), "in none of the fixed seeds: {unseen:?}");
    assert!(
        beyond_help <= BEYOND_HELP_MAX,
        "{beyond_help} of {FIXED} seeds end where only a person can help"
    );
}

#[test]
fn fresh_seeds() {
    run_all(fresh_seed(), from_environment("SIM_SEEDS").unwrap_or(FRESH));
}

/// A seed gives the same run each time: with new stores, with used ones, and whether it is traced or not.
#[test]
fn a_seed_decides_everything() {
    let mut used = Pool::default();
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let first = trace_of(seed, &mut Pool::default());
        assert!(first.0.lines().count() > 100, "nothing happens in seed {seed}");
        let again = trace_of(seed, &mut used);
        assert_eq!(first.1, again.1, "seed {seed}");
        assert!(first.0 == again.0, "the traces of seed {seed} differ");
        assert_eq!(
            run_one(seed, Lines::None, &mut used).expect("it was well above").hash,
            first.1,
            "seed {seed}"
        );
        hashes.insert(first.1);
    }
    assert_eq!(hashes.len(), 40, "all seeds give runs of their own");
}
