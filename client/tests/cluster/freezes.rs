//! SIGSTOP: a process that is there and says nothing, and wakes up in another time.

use std::time::{Duration, Instant};

use common::api::NodeState;
use rustix::process::Signal;

use crate::harness::{Cluster, Setup, Shopping, audit, wait_for};

const COPIES: u64 = 1_000_000;
/// Longer than each timeout of the store: reads and writes 1 s, heartbeats 1 s, a buy 3 s.
const LONGER_THAN_ALL: Duration = Duration::from_secs(4);

/// Waits until the node is silent, and the store has gone on without it for longer than all timeouts.
async fn freeze(cluster: &Cluster, shopping: &Shopping, node: &str) {
    cluster.signal(node, Signal::STOP);
    let begin = Instant::now();
    wait_for(&format!("{node} is no longer up"), async || {
        let status = cluster.status().await?;
        let found = status.nodes.iter().find(|known| known.id == node).unwrap();
        if found.state == NodeState::Up { Err(format!("{found:?}")) } else { Ok(()) }
    })
    .await;
    while begin.elapsed() < LONGER_THAN_ALL {
        shopping.goes_on(10).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_sleeps_is_left_out_and_shows_nothing_old_when_it_wakes() {
    let cluster = Cluster::start(Setup::default()).await;
    let shopping = Shopping::start(&cluster).await;
    shopping.goes_on(30).await;
    for (victim, other) in [("catalog-2", "catalog-1"), ("catalog-1", "catalog-2")] {
        freeze(&cluster, &shopping, victim).await;
        cluster.members_are(&[other]).await;
        cluster.signal(victim, Signal::CONT);
        shopping.goes_on(60).await;
        cluster.whole().await;
        shopping.goes_on(30).await;
    }
    let receipts = shopping.close().await;
    receipts.nobody_noticed();
    audit(&cluster, &[&receipts], COPIES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_node_that_sleeps_is_passed_over() {
    let cluster = Cluster::start(Setup::default()).await;
    let shopping = Shopping::start(&cluster).await;
    shopping.goes_on(30).await;
    freeze(&cluster, &shopping, "order-1").await;
    cluster.signal("order-1", Signal::CONT);
    shopping.goes_on(30).await;
    cluster.whole().await;
    let receipts = shopping.close().await;
    receipts.nobody_noticed();
    audit(&cluster, &[&receipts], COPIES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_order_nodes_all_sleep_is_not_ready() {
    let cluster = Cluster::start(Setup::default()).await;
    let http = cluster.http();
    let nodes = ["order-1", "order-2"];
    for (signal, expected) in [(Signal::STOP, 503), (Signal::CONT, 200)] {
        for node in nodes {
            cluster.signal(node, signal);
        }
        let answer = wait_for(&format!("/readyz says {expected}"), async || {
            let answer = http.get("/readyz").await;
            if answer.status == expected { Ok(answer) } else { Err(format!("{answer:?}")) }
        })
        .await;
        assert_eq!(expected == 503, answer.text.contains("no order node is up"), "{answer:?}");
    }
}
