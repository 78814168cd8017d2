//! Work on a shard's file that no request waits for: checkpoints of the write-ahead log, and the scrub.

use std::time::Duration;

use common::exit::with_causes;
use common::shutdown::Shutdown;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use crate::shard::{Input, Shard};

/// How often the write-ahead log is moved into the file. Often enough that it stays small under load,
/// and that a start has little to replay.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// When the digest is counted anew from the rows for the first time: what was spoilt while the node was
/// down must not be shown for long, and a node that has just come has more urgent things to do.
const SCRUB_FIRST: Duration = Duration::from_secs(1);
/// How often it is counted from then on, to find what a disk has spoilt meanwhile.
const SCRUB_EVERY: Duration = Duration::from_secs(3600);

/// Looks after a shard's file until shutdown.
pub async fn run(shard: Shard, mut shutdown: Shutdown) {
    let mut checkpoints = interval(CHECKPOINT_EVERY);
    let mut scrubs = interval_at(Instant::now() + SCRUB_FIRST, SCRUB_EVERY);
    checkpoints.set_missed_tick_behavior(MissedTickBehavior::Delay);
    scrubs.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = checkpoints.tick() => checkpoint(&shard).await,
            _ = scrubs.tick() => scrub(&shard).await,
            () = shutdown.wait() => return,
        }
    }
}

async fn checkpoint(shard: &Shard) {
    let readers = shard.readers.clone();
    match tokio::task::spawn_blocking(move || readers.checkpoint()).await {
        Ok(Ok(_)) => {}
        Ok(Err(problem)) => {
            tracing::warn!(shard = %shard.id, problem = %with_causes(&problem), "no checkpoint; trying again");
        }
        Err(problem) => tracing::error!(shard = %shard.id, %problem, "the checkpoint failed"),
    }
}

async fn scrub(shard: &Shard) {
    let readers = shard.readers.clone();
    match tokio::task::spawn_blocking(move || readers.recount()).await {
        Ok(Ok(recount)) if recount.is_sound() => {
            tracing::info!(shard = %shard.id, index = %recount.index, "scrub: the rows are as their digest says");
        }
        Ok(Ok(recount)) => {
            tracing::error!(shard = %shard.id, index = %recount.index, kept = %recount.kept, counted = %recount.counted, "scrub: the rows are not as their digest says");
            shard.send(Input::Recounted { epoch: None, sound: Ok(false) });
        }
        Ok(Err(problem)) => {
            tracing::error!(shard = %shard.id, problem = %with_causes(&problem), "scrub: the rows can't be read");
            if problem.is_damage() {
                shard.send(Input::Recounted { epoch: None, sound: Ok(false) });
            }
        }
        Err(problem) => tracing::error!(shard = %shard.id, %problem, "the scrub failed"),
    }
}
