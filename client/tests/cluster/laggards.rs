//! A replica that is late for everything, and never late enough to be silent.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;

use crate::harness::{Cluster, Setup, book, wait_for};

/// It sleeps for so long, which is less than any timeout of the store, and then works for so long.
const ASLEEP: Duration = Duration::from_millis(300);
const AWAKE: Duration = Duration::from_millis(10);
/// How many buys are looked at together.
const BUYS: u32 = 20;
/// What one of them may take on average when nobody is waited for; with the laggard it is some 100 ms, though
/// a few go through quickly whenever it is awake.
const MEAN_MAX: Duration = Duration::from_millis(40);
/// How long the laggard is looked at once the store has got rid of it.
const WATCHED: Duration = Duration::from_secs(6);

/// A process that is stopped and continued by turns. Dropping this lets it run.
struct Dozing {
    pid: Pid,
    turns: JoinSet<()>,
}

impl Dozing {
    fn start(pid: u32) -> Self {
        let pid = Pid::from_raw(pid.cast_signed()).unwrap();
        let mut turns = JoinSet::new();
        turns.spawn(async move {
            loop {
                kill_process(pid, Signal::STOP).unwrap();
                tokio::time::sleep(ASLEEP).await;
                kill_process(pid, Signal::CONT).unwrap();
                tokio::time::sleep(AWAKE).await;
            }
        });
        Self { pid, turns }
    }
}

impl Drop for Dozing {
    fn drop(&mut self) {
        self.turns.abort_all();
        kill_process(self.pid, Signal::CONT).unwrap();
    }
}

async fn mean_of_buys(cluster: &Cluster) -> Duration {
    let client = cluster.client();
    let begin = Instant::now();
    for _ in 0..BUYS {
        client.buy(book(1), 1).await.unwrap();
    }
    begin.elapsed() / BUYS
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_late_for_every_write_is_left_behind_and_comes_back_when_it_is_well() {
    let cluster = Cluster::start(Setup::default()).await;
    let dozing = Dozing::start(cluster.pid("catalog-2"));
    wait_for("buys do not wait for it", async || {
        let mean = mean_of_buys(&cluster).await;
        if mean < MEAN_MAX { Ok(()) } else { Err(format!("a buy takes {mean:?}")) }
    })
    .await;
    // Nor later: it must not come back at once, and again and again.
    let (begin, mut slow, mut looks) = (Instant::now(), Vec::new(), 0);
    while begin.elapsed() < WATCHED {
        let mean = mean_of_buys(&cluster).await;
        looks += 1;
        if mean >= MEAN_MAX {
            slow.push(mean);
        }
    }
    assert!(slow.len() * 4 <= looks, "{} of {looks} rounds were slow: {slow:?}", slow.len());
    drop(dozing);
    cluster.level().await;
}
