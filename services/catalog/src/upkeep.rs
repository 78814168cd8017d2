//! Work on a shard's file that no request waits for: checkpoints of the write-ahead log, and the scrub.

use std::time::Duration;

use common::exit::with_causes;
use common::shutdown::Shutdown;
use protocol::ids::ShardId;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::shard::{Input, Shard};
use crate::store::{Readers, Recount, StoreError};

/// How often the write-ahead log is moved into the file. Often enough that it stays small under load,
/// and that a start has little to replay.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// How often the digest is counted anew from the rows, to find what a disk has spoilt. For the first time it is
/// counted at once: what was spoilt while the node was down must not be shown for long, and a replica that has to
/// level joins the view only when its rows are known to be sound.
const SCRUB_EVERY: Duration = Duration::from_secs(3600);
/// How long after a count that came to nothing the next one begins.
const SCRUB_AGAIN: Duration = Duration::from_secs(1);

/// Looks after a shard's file until shutdown.
pub async fn run(shard: Shard, mut shutdown: Shutdown) {
    tokio::select! {
        () = checkpoints(&shard) => {}
        () = scrubs(&shard) => {}
        () = shutdown.wait() => {}
    }
}

async fn checkpoints(shard: &Shard) {
    let mut due = interval(CHECKPOINT_EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        let readers = shard.readers.clone();
        match tokio::task::spawn_blocking(move || readers.checkpoint()).await {
            Ok(Ok(_)) => {}
            Ok(Err(problem)) => {
                tracing::warn!(shard = %shard.id, problem = %with_causes(&problem), "no checkpoint; trying again");
            }
            Err(problem) => tracing::error!(shard = %shard.id, %problem, "the checkpoint failed"),
        }
    }
}

async fn scrubs(shard: &Shard) {
    loop {
        let installs = shard.installs();
        let sound = count(shard.id, shard.readers.clone(), Readers::scrub).await;
        let came_to_something = sound.is_ok();
        let told = shard.send(Input::Counted { asked: None, installs, sound });
        tokio::time::sleep(if told && came_to_something { SCRUB_EVERY } else { SCRUB_AGAIN }).await;
    }
}

/// Whether the rows give the digest that is kept, off the runtime; or why nothing can be said of that.
pub(crate) async fn count(
    shard: ShardId,
    readers: Readers,
    recount: fn(&Readers) -> Result<Recount, StoreError>,
) -> Result<bool, String> {
    let began = Instant::now();
    let found = tokio::task::spawn_blocking(move || recount(&readers)).await;
    let took = began.elapsed();
    match found {
        Ok(Ok(recount)) => {
            let Recount { index, kept, counted, .. } = recount;
            if recount.is_sound() {
                tracing::info!(%shard, %index, ?took, "the rows are as their digest says");
            } else {
                tracing::error!(%shard, %index, %kept, %counted, "the rows are not as their digest says");
            }
            Ok(recount.is_sound())
        }
        Ok(Err(problem)) => {
            let is_damage = problem.is_damage();
            let problem = with_causes(&problem);
            tracing::error!(%shard, %problem, "the rows can't be read");
            if is_damage { Ok(false) } else { Err(problem) }
        }
        Err(problem) => Err(problem.to_string()),
    }
}
