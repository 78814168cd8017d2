//! A replica that is late for everything, and never late enough to be silent.

use std::time::{Duration, Instant};

use common::api::ReplicaState;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::harness::{Cluster, Setup, book, wait_for};

/// How long it sleeps: less than any timeout of the store. Then it works until the write that waits for it is done.
const ASLEEP: Duration = Duration::from_millis(400);
/// How many buys are looked at together.
const BUYS: u32 = 20;
/// What one of them may take on average when nobody is waited for; with the laggard, each takes its sleep.
const MEAN_MAX: Duration = Duration::from_millis(200);

/// A process that is stopped, and continued when a write has waited for it. Dropping this lets it run.
struct Dozing {
    pid: Pid,
    turns: JoinSet<()>,
}

impl Dozing {
    /// `bought` is told of each buy that is answered.
    fn start(pid: u32, mut bought: watch::Receiver<u32>) -> Self {
        let pid = Pid::from_raw(pid.cast_signed()).unwrap();
        let mut turns = JoinSet::new();
        turns.spawn(async move {
            loop {
                kill_process(pid, Signal::STOP).unwrap();
                tokio::time::sleep(ASLEEP).await;
                bought.mark_unchanged();
                kill_process(pid, Signal::CONT).unwrap();
                bought.changed().await.unwrap();
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

/// Buys until the store does not wait for the laggard.
async fn buys_go_through(cluster: &Cluster, bought: &watch::Sender<u32>) {
    let client = cluster.client();
    wait_for("buys do not wait for it", async || {
        let begin = Instant::now();
        for _ in 0..BUYS {
            client.buy(book(1), 1).await.unwrap();
            bought.send_modify(|count| *count += 1);
        }
        let mean = begin.elapsed() / BUYS;
        if mean < MEAN_MAX { Ok(()) } else { Err(format!("a buy takes {mean:?}")) }
    })
    .await;
}

/// What the front end's log says of replicas that may be dropped.
fn suspicions(cluster: &Cluster) -> Vec<Value> {
    let log = cluster.log("frontend-1");
    let told = log.lines().filter_map(|line| line.split_once("event=\"replica-suspected\" data="));
    told.map(|(_, data)| serde_json::from_str(data).unwrap()).collect()
}

/// Waits until the log tells of more suspicions than `known`, each of them of the laggard for being late. Gives how
/// many there are.
async fn is_told_why(cluster: &Cluster, known: usize) -> usize {
    let late = json!({"node": "catalog-2", "shard": 0, "why": "Late"});
    wait_for("it is told why", async || {
        let told = suspicions(cluster);
        assert!(told.iter().all(|one| *one == late), "{told:?}");
        if told.len() > known { Ok(told.len()) } else { Err(format!("{told:?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_late_for_every_write_is_left_behind_and_comes_back_when_it_is_well() {
    let cluster = Cluster::start(Setup::default()).await;
    let (client, bought) = (cluster.client(), watch::Sender::new(0));
    let dozing = Dozing::start(cluster.pid("catalog-2"), bought.subscribe());
    buys_go_through(&cluster, &bought).await;
    // What an operator sees: who it was, why, and that it is no member. Without buys it would be well.
    let told = is_told_why(&cluster, 0).await;
    let buy = async || {
        client.buy(book(1), 1).await.unwrap();
        bought.send_modify(|count| *count += 1);
    };
    wait_for("it is no member", async || {
        buy().await;
        let status = cluster.status().await?;
        let laggard = status.shards[0].replicas.iter().find(|replica| replica.id == "catalog-2").unwrap();
        if laggard.state == ReplicaState::Member { Err(format!("{status:?}")) } else { Ok(()) }
    })
    .await;

    // It is let in again, is as slow as before, and is left behind again.
    wait_for("it is back", async || {
        buy().await;
        let members = cluster.status().await?.shards[0].members.len();
        if members == 2 { Ok(()) } else { Err(format!("{members} members")) }
    })
    .await;
    buys_go_through(&cluster, &bought).await;
    is_told_why(&cluster, told).await;
    drop(dozing);
    cluster.level().await;
}
