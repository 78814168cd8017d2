//! The load generator: many connections that send a mix of calls and measure how long answers take.
//!
//! Closed loop: each connection sends as soon as it has its answer. Open loop: request `n` is due `n /
//! rate` seconds after the start, whichever connection is free takes it, and its latency counts from
//! when it was due. A store that stalls is so charged for the requests that had to wait meanwhile
//! (leaving them out is known as coordinated omission).
//!
//! It is lean so as to measure the store and not itself: each thread runs its own connections, without
//! retries or checks of contents. The test threads ([`crate::threads`]) check contents.

mod connection;
mod plan;
mod report;
mod timeline;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime;
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;

use self::connection::{Driver, Shared, Target};
use self::plan::Schedule;
use self::report::Recorder;
use crate::error::BuildError;
use crate::random::Random;

pub use self::plan::{Kind, Length, Mix, MixError, Plan};
pub use self::report::{CallReport, Latency, Report};

/// How long after its end a load goes on to send what is overdue; the rest is reported as unsent.
const OVERTIME: Duration = Duration::from_secs(2);
/// The longest sleep of the pacer: how late it notices that it is to stop.
const PACER_NAP_MAX: Duration = Duration::from_millis(20);

/// Why there was no load.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A front end's address is wrong.
    #[error("{0}")]
    Url(#[source] BuildError),
    /// A call of the mix needs books, or topics, and there are none.
    #[error("the store has no books to ask for")]
    NoBooks,
    /// A thread can't be started.
    #[error("can't start a thread")]
    Thread(#[source] std::io::Error),
    /// A thread panicked.
    #[error("a thread of the load panicked")]
    Panicked,
}

/// What others may watch, and say, while a load runs.
#[derive(Debug, Default)]
pub struct Progress {
    answered: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// How many requests were answered so far, whatever the answer.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// How many requests got no answer so far.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Ends the load early; what was measured until then is reported.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Puts the load on. Blocks until it is done, so call it from outside of async code.
///
/// # Errors
/// If it can't begin. What fails later is part of the report.
pub fn run(plan: &Plan, progress: &Arc<Progress>) -> Result<Report, LoadError> {
    let targets = plan.urls.iter().map(|url| Target::new(url, plan)).collect::<Result<Vec<_>, _>>()?;
    let connections = plan.connections.get();
    let shared = Arc::new(Shared {
        targets,
        mix: plan.mix.clone(),
        length: plan.length,
        rate: plan.rate,
        total: plan.total(),
        taken: AtomicU64::new(0),
        due: Semaphore::new(0),
        // The connections and the pacer: the clock starts when all have connected.
        ready: Barrier::new(connections + 1),
        start: OnceLock::new(),
        progress: Arc::clone(progress),
    });
    let threads = plan.threads.get().min(connections);
    let runtimes = (0..=threads).map(|_| new_runtime()).collect::<Result<Vec<_>, _>>()?;
    let (start, recorders) = thread::scope(|scope| {
        let workers: Vec<_> = runtimes
            .iter()
            .skip(1)
            .enumerate()
            .map(|(thread, runtime)| {
                let places = (thread..connections).step_by(threads);
                let shared = &shared;
                scope.spawn(move || runtime.block_on(drive(shared, places, plan.seed)))
            })
            .collect();
        let start = runtimes[0].block_on(async {
            shared.ready.wait().await;
            shared.start()
        });
        if let (Some(rate), Some(total)) = (plan.rate, shared.total) {
            pace(&shared, Schedule { start, rate }, total, connections);
        }
        let joined = workers.into_iter().map(thread::ScopedJoinHandle::join);
        (start, joined.collect::<Result<Vec<Recorder>, _>>())
    });
    let elapsed = start.elapsed();
    let taken = shared.taken.load(Ordering::Relaxed);
    // Who stops a load early wants no more of it.
    let unsent =
        shared.total.filter(|_| !progress.is_stopped()).map_or(0, |total| total.saturating_sub(taken));
    Ok(Report::new(plan, recorders.map_err(|_| LoadError::Panicked)?, elapsed, unsent))
}

fn new_runtime() -> Result<runtime::Runtime, LoadError> {
    runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(LoadError::Thread)
}

/// Runs some of the connections on this thread.
async fn drive(shared: &Arc<Shared>, places: impl Iterator<Item = usize>, seed: u64) -> Recorder {
    // Shared by tasks of one thread only, so this lock is always free.
    let recorder = Arc::new(Mutex::new(Recorder::new()));
    let mut drivers = JoinSet::new();
    for place in places {
        let random = Random::seeded(seed.wrapping_add(u64::try_from(place).unwrap_or_default()));
        let driver = Driver::new(Arc::clone(shared), Arc::clone(&recorder), random, place);
        drivers.spawn(driver.run());
    }
    while let Some(ended) = drivers.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    let mut recorder = recorder.lock();
    std::mem::replace(&mut *recorder, Recorder::new())
}

/// Releases each request when it is due. A thread of its own, because the timers of a runtime tick in
/// whole milliseconds, which is longer than many an answer takes.
fn pace(shared: &Shared, schedule: Schedule, total: u64, connections: usize) {
    let mut released: u64 = 0;
    while released < total && !shared.progress.is_stopped() {
        let due = schedule.due_by(Instant::now()).min(total);
        if due > released {
            shared.due.add_permits(usize::try_from(due - released).unwrap_or(Semaphore::MAX_PERMITS / 2));
            released = due;
        }
        if released < total {
            let nap = schedule.due_at(released).saturating_duration_since(Instant::now());
            thread::park_timeout(nap.min(PACER_NAP_MAX));
        }
    }
    if shared.progress.is_stopped() {
        shared.due.close();
    }
    // One more for each connection, by which it learns that nothing is left.
    shared.due.add_permits(connections);
}

/// The rate and the requests that make a load of this length.
fn total_of(length: Length, rate: Option<NonZeroU32>) -> Option<u64> {
    match (length, rate) {
        (Length::Requests(requests), _) => Some(requests.get()),
        (Length::Time(_), None) => None,
        (Length::Time(time), Some(rate)) => {
            let total = time.as_nanos().saturating_mul(rate.get().into()) / 1_000_000_000;
            Some(u64::try_from(total).unwrap_or(u64::MAX).max(1))
        }
    }
}
