//! Which seeds are run.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::cluster::World;
use crate::faults::Plan;

/// Always the same ones, so that a change that breaks one is seen by whoever makes it.
const FIXED: u64 = 200;
/// New ones each time, so that more is seen over time.
const FRESH: u64 = 20;

fn run(seed: u64, verbose: bool) {
    World::new(seed, Plan::of(seed), verbose).run();
}

fn run_all(seeds: impl IntoIterator<Item = u64>) {
    let failed: Vec<u64> = seeds
        .into_iter()
        .filter(|seed| catch_unwind(AssertUnwindSafe(|| run(*seed, false))).is_err())
        .inspect(|seed| {
            println!("seed {seed} fails: SIM_SEED={seed} cargo test -p bookends-protocol --test sim one")
        })
        .collect();
    assert!(failed.is_empty(), "seeds {failed:?} fail");
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// Seeds that once found something. They mean it only as long as the simulation draws its numbers in this
/// order; golden scripts show each of these by itself.
const FOUND: [(u64, &str); 6] = [
    (1, "what a full disk had refused was never asked for again"),
    (33, "a replica that came back while the only member was suspected was never told to level"),
    (43, "a page that could not be written counted as pulled, and the replica halted"),
    (46, "a survey went by what replicas had said long before"),
    (117, "a replica halted for it had what the writer had sent, and its source not yet"),
    (657_206_019_183_322, "a late message of an earlier writer drew a replica's requests to join to itself"),
];

#[test]
fn found_seeds() {
    for (seed, what) in FOUND {
        println!("seed {seed}: {what}");
        run(seed, false);
    }
}

/// A seed that no run before had.
#[expect(clippy::disallowed_methods, reason = "a fresh seed has to come from somewhere, and is printed")]
fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    u64::from(now.subsec_nanos()) << 20 ^ now.as_secs()
}

/// The seed of `SIM_SEED`, with all that happens in it.
#[test]
fn one() {
    if let Some(seed) = from_environment("SIM_SEED") {
        run(seed, true);
    }
}

#[test]
fn fixed_seeds() {
    run_all(0..FIXED);
}

#[test]
fn fresh_seeds() {
    let first = fresh_seed();
    let count = from_environment("SIM_SEEDS").unwrap_or(FRESH);
    run_all((0..count).map(|offset| first.wrapping_add(offset)));
}
