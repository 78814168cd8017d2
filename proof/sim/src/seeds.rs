//! Running seeds: one with its trace, or many on all cores.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use protocol::mutant::{Mutant, is_on};

use crate::plan::Plan;
use crate::pool::Pool;
use crate::sights::Sights;
use crate::trace::{Lines, Trace};
use crate::world::{Run, World};

/// A run in which something was not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What was wrong.
    pub problem: String,
    /// Which safeguards were left out.
    pub mutants: Vec<Mutant>,
}

impl Failure {
    /// The command that shows the run again, in a build that checks as much as this one.
    #[must_use]
    pub fn command(&self) -> String {
        let build = if cfg!(feature = "mutants") {
            "--profile proof --features mutants"
        } else if cfg!(debug_assertions) {
            "--profile proof"
        } else {
            "--release"
        };
        let without: String =
            self.mutants.iter().map(|mutant| format!(" --mutant {}", mutant.name())).collect();
        format!("cargo run {build} -p bookends-sim -- --seed {} --trace{without}", self.seed)
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
    /// What was seen in the others.
    pub sights: Sights,
    /// How many of them ended where only a person can help, and so were not looked at at the end.
    pub beyond_help: u64,
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

/// Runs a seed.
///
/// # Errors
/// If something was not as it must be.
pub fn run_one(seed: u64, lines: Lines, pool: &mut Pool) -> Result<Run, Failure> {
    keep_panics();
    let taken = std::mem::take(pool);
    QUIET.with_borrow_mut(|quiet| *quiet = true);
    let run =
        catch_unwind(AssertUnwindSafe(|| World::new(seed, Plan::of(seed), taken, Trace::new(lines)).run()));
    QUIET.with_borrow_mut(|quiet| *quiet = false);
    match run {
        Ok((run, given_back)) => {
            *pool = given_back;
            Ok(run)
        }
        Err(payload) => {
            let kept = PANIC.with_borrow_mut(Option::take);
            let problem = kept.unwrap_or_else(|| text_of(&*payload));
            let mutants = Mutant::ALL.iter().copied().filter(|mutant| is_on(*mutant)).collect();
            Err(Failure { seed, problem, mutants })
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
                    match run {
                        Ok(run) => {
                            summary.sights.add_all(&run.sights);
                            summary.beyond_help += u64::from(run.beyond_help);
                        }
                        Err(failure) => {
                            stop.store(options.stop_at_first, Ordering::Relaxed);
                            summary.failures.push(failure);
                        }
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
