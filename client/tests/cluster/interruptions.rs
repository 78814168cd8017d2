//! A resync that is broken off again and again, by the death of either side.

use common::api::Order;
use protocol::catalogue::OrderLine;
use tokio::task::JoinSet;

use crate::harness::{Cluster, Setup, book};

const COPIES: u64 = 1_000_000;
const TURNS: u64 = 16;

/// So many buys, some at a time.
async fn buy(cluster: &Cluster, count: u64) -> Vec<Order> {
    let mut buyers = JoinSet::new();
    for number in 0..20 {
        let client = cluster.client();
        buyers.spawn(async move {
            let mut orders = Vec::new();
            for _ in 0..count / 20 {
                let line = OrderLine { book: book(1 + number % 8), quantity: 1 };
                orders.push(client.buy_many(&[line]).await.unwrap());
            }
            orders
        });
    }
    buyers.join_all().await.into_iter().flatten().collect()
}

/// Catalog-2 misses much and comes back; in each turn it, or its source, is killed a little later.
async fn interrupted(more: &'static str, missed: u64) {
    let mut cluster = Cluster::start(Setup { more, ..Setup::default() }).await;
    cluster.kill("catalog-2");
    cluster.members_are(&["catalog-1"]).await;
    let mut orders = buy(&cluster, missed).await;
    let mut begun = 0;
    for turn in 0..TURNS {
        cluster.start_node("catalog-2").await;
        // Later from turn to turn: from before its first word to after its last step.
        tokio::time::sleep(std::time::Duration::from_millis(turn * 7)).await;
        let victims: &[&str] = match turn % 4 {
            0 | 1 => &["catalog-2"],
            2 => &["catalog-1", "catalog-2"],
            _ => &["frontend-1", "catalog-2"],
        };
        for victim in victims {
            cluster.kill(victim);
        }
        for victim in victims.iter().filter(|victim| **victim != "catalog-2") {
            cluster.start_node(victim).await;
        }
        begun += u64::from(cluster.log("catalog-2").contains("resync started"));
        // Where both died, the last one may have been the only member for a moment, and is needed.
        if turn % 4 != 2 {
            orders.extend(buy(&cluster, 20).await);
        }
    }
    assert!(begun > 0, "no resync was ever interrupted");
    cluster.start_node("catalog-2").await;
    let status = cluster.level().await;
    let [one, other] = &status.shards[0].replicas[..] else { panic!("{status:?}") };
    assert_eq!((one.last_index, &one.digest), (other.last_index, &other.digest));
    cluster.kill("catalog-1");
    cluster.members_are(&["catalog-2"]).await;
    let client = cluster.client();
    let mut copies = 0;
    for id in 1..=8 {
        copies += client.lookup(book(id)).await.unwrap().quantity;
    }
    assert_eq!(copies + u64::try_from(orders.len()).unwrap(), 8 * COPIES);
    let listed = cluster.orders_of("order-1").await;
    assert_eq!(listed.len(), orders.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resync_by_the_log_that_is_interrupted_again_and_again_comes_to_its_end() {
    interrupted("", 3_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resync_by_snapshot_that_is_interrupted_again_and_again_comes_to_its_end() {
    interrupted("[log]\nkeep_entries = 1000\n", 3_000).await;
}
