//! `kill -9` under load: of each back-end process in turn, of the front end, of all at once.

use crate::harness::{Cluster, Setup, Shopping, audit};

const COPIES: u64 = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_a_back_end_process_is_killed() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let shopping = Shopping::start(&cluster).await;
    shopping.goes_on(30).await;
    for (victim, other) in [("catalog-1", "catalog-2"), ("catalog-2", "catalog-1")] {
        cluster.kill(victim);
        cluster.members_are(&[other]).await;
        shopping.goes_on(60).await;
        cluster.start_node(victim).await;
        cluster.whole().await;
        shopping.goes_on(30).await;
    }
    for victim in ["order-1", "order-2"] {
        cluster.kill(victim);
        shopping.goes_on(60).await;
        cluster.start_node(victim).await;
        cluster.whole().await;
        shopping.goes_on(30).await;
    }
    let receipts = shopping.close().await;
    receipts.nobody_noticed();
    audit(&cluster, &[&receipts], COPIES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_again_and_again_loses_nothing() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let shopping = Shopping::start(&cluster).await;
    for turn in 0..6 {
        shopping.goes_on(10 + turn).await;
        // Not waiting for the other to be a member again would take the last copy away.
        cluster.whole().await;
        let victims: &[&str] =
            if turn % 2 == 0 { &["catalog-1", "order-2"] } else { &["catalog-2", "order-1"] };
        for victim in victims {
            cluster.kill(victim);
        }
        for victim in victims {
            cluster.start_node(victim).await;
        }
    }
    shopping.goes_on(20).await;
    let receipts = shopping.close().await;
    receipts.nobody_noticed();
    audit(&cluster, &[&receipts], COPIES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_front_end_that_is_killed_loses_and_doubles_nothing() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let shopping = Shopping::start(&cluster).await;
    for _ in 0..3 {
        shopping.goes_on(40).await;
        cluster.kill("frontend-1");
        cluster.start_node("frontend-1").await;
    }
    shopping.goes_on(40).await;
    let receipts = shopping.close().await;
    audit(&cluster, &[&receipts], COPIES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_processes_are_killed_at_once_and_everything_acknowledged_is_there() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let shopping = Shopping::start(&cluster).await;
    for _ in 0..3 {
        shopping.goes_on(40).await;
        cluster.kill_all();
        cluster.start_all().await;
    }
    shopping.goes_on(40).await;
    let receipts = shopping.close().await;
    audit(&cluster, &[&receipts], COPIES).await;
}
