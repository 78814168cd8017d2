//! Running seeds: one with its trace, or many on all cores.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::plan::Plan;
use crate::pool::Pool;
use crate::trace::{Lines, Trace};
use crate::world::World;

/// A run in which something was not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What was wrong.
    pub problem: String,
}

impl Failure {
    /// The command that shows the run again.
    #[must_use]
    pub fn command(&self) -> String {
        format!("cargo run --release -p bookends-sim -- --seed {} --trace", self.seed)
    }
}

/// Which seeds are run, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The first one.
    pub first: u64,
    /// How many, one after the other.
    pub count: u64,
    /// On how many threads.
    pub threads: usize,
    /// Whether the first failure ends it all.
    pub stop_at_first: bool,
}

/// What became of many runs.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// How many were run.
    pub runs: u64,
    /// Those that failed, by seed.
    pub failures: Vec<Failure>,
}

thread_local! {
    /// Where a panic of this thread was, and what it said.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static QUIET: RefCell<bool> = const { RefCell::new(false) };
}

/// Keeps what runs panic with, instead of having it printed; other threads' panics go their usual way.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.with_borrow(|quiet| *quiet) {
                return usual(info);
            }
            let place = info.location().map(|place| format!("{}:{}", place.file(), place.line()));
            let text = text_of(info.payload());
            PANIC.with_borrow_mut(|kept| *kept = Some(format!("{text} ({})", place.unwrap_or_default())));
        }));
    });
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

/// Runs a seed. Returns the number by which the run is recognised.
///
/// # Errors
/// If something was not as it must be.
pub fn run_one(seed: u64, lines: Lines, pool: &mut Pool) -> Result<u64, Failure> {
    keep_panics();
    let taken = std::mem::take(pool);
    QUIET.with_borrow_mut(|quiet| *quiet = true);
    let run =
        catch_unwind(AssertUnwindSafe(|| World::new(seed, Plan::of(seed), taken, Trace::new(lines)).run()));
    QUIET.with_borrow_mut(|quiet| *quiet = false);
    match run {
        Ok((hash, given_back)) => {
            *pool = given_back;
            Ok(hash)
        }
        Err(payload) => {
            let kept = PANIC.with_borrow_mut(Option::take);
            Err(Failure { seed, problem: kept.unwrap_or_else(|| text_of(&*payload)) })
        }
    }
}

/// Runs seeds on some threads; `progress` hears of each that is done.
pub fn run_seeds(options: &Options, progress: impl Fn(u64) + Sync) -> Summary {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let summary = Arc::new(Mutex::new(Summary::default()));
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                let mut pool = Pool::default();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= options.count || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let run = run_one(options.first.wrapping_add(number), Lines::None, &mut pool);
                    let mut summary = summary.lock();
                    summary.runs += 1;
                    if let Err(failure) = run {
                        stop.store(options.stop_at_first, Ordering::Relaxed);
                        summary.failures.push(failure);
                    }
                    drop(summary);
                    progress(1);
                }
            });
        }
    });
    let mut summary = std::mem::take(&mut *summary.lock());
    summary.failures.sort_by_key(|failure| failure.seed);
    summary
}

/// A seed that no run before had.
#[must_use]
pub fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) << 20 ^ now.as_secs()
}
