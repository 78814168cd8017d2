//! Files that are gone: of a replica, of an order node, of the front end; and a log that is too short.

use std::fs;
use std::path::Path;

use protocol::catalogue::OrderLine;
use rusqlite::{Connection, OpenFlags};
use tokio::task::JoinSet;

use crate::harness::{Cluster, Receipts, Setup, Shopping, audit, book};

const COPIES: u64 = 1_000_000;

/// A database with all that belongs to it.
fn remove(database: &Path) {
    assert!(database.is_file());
    for suffix in ["", "-wal", "-shm"] {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        // After a clean end only the database itself is there.
        drop(fs::remove_file(name));
    }
    assert!(!database.exists());
}

async fn shop(cluster: &Cluster, orders: u64) -> Receipts {
    let shopping = Shopping::start(cluster).await;
    shopping.goes_on(orders).await;
    shopping.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_file_is_gone_comes_back_as_a_new_store() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let shopping = Shopping::start(&cluster).await;
    for (victim, other) in [("catalog-2", "catalog-1"), ("catalog-1", "catalog-2")] {
        shopping.goes_on(40).await;
        cluster.stop(victim).await;
        cluster.members_are(&[other]).await;
        shopping.goes_on(40).await;
        remove(&cluster.shard_file(victim));
        cluster.start_node(victim).await;
        cluster.whole().await;
    }
    let receipts = shopping.close().await;
    receipts.nobody_noticed();
    audit(&cluster, &[&receipts], COPIES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lost_its_file_while_all_was_down_is_no_member_until_it_has_everything() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let receipts = shop(&cluster, 40).await;
    cluster.kill_all();
    remove(&cluster.shard_file("catalog-1"));
    cluster.start_all().await;
    audit(&cluster, &[&receipts], COPIES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_node_that_lost_its_book_builds_it_anew() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let receipts = shop(&cluster, 60).await;
    for victim in ["order-1", "order-2"] {
        cluster.kill(victim);
        remove(&cluster.path("data").join(victim).join("orders.db"));
        cluster.start_node(victim).await;
        cluster.whole().await;
    }
    audit(&cluster, &[&receipts], COPIES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_front_end_that_lost_its_folder_goes_on_from_the_newest_view_of_the_replicas() {
    let mut cluster = Cluster::start(Setup::default()).await;
    // A view that differs from the first one, so that there is an old one to mistake it for.
    cluster.kill("catalog-1");
    cluster.members_are(&["catalog-2"]).await;
    let receipts = shop(&cluster, 30).await;
    cluster.start_node("catalog-1").await;
    let before = cluster.level().await;
    let more = shop(&cluster, 30).await;
    cluster.stop("frontend-1").await;
    fs::remove_dir_all(cluster.path("data/frontend-1")).unwrap();
    cluster.start_node("frontend-1").await;
    let after = cluster.level().await;
    assert!(after.shards[0].epoch > before.shards[0].epoch, "{after:?}");
    assert_eq!(cluster.client().list(None, None).await.unwrap().books.len(), 8);
    audit(&cluster, &[&receipts, &more], COPIES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_missed_more_than_the_log_keeps_takes_a_snapshot() {
    const MISSED: u64 = 2_500;
    let setup = Setup { more: "[log]\nkeep_entries = 1000\n", ..Setup::default() };
    let mut cluster = Cluster::start(setup).await;
    cluster.client().buy(book(1), 1).await.unwrap();
    cluster.kill("catalog-2");
    cluster.members_are(&["catalog-1"]).await;
    let mut buyers = JoinSet::new();
    for _ in 0..25 {
        let client = cluster.client();
        buyers.spawn(async move {
            for _ in 0..MISSED / 25 {
                client.buy_many(&[OrderLine { book: book(2), quantity: 1 }]).await.unwrap();
            }
        });
    }
    while let Some(ended) = buyers.join_next().await {
        ended.unwrap();
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let conn = Connection::open_with_flags(cluster.shard_file("catalog-1"), flags).unwrap();
    let first: i64 = conn.query_row("SELECT min(first) FROM log", [], |row| row.get(0)).unwrap();
    assert!(first > 3, "the log still reaches back to {first}");
    cluster.start_node("catalog-2").await;
    cluster.level().await;
    assert!(cluster.log("catalog-2").contains("a snapshot is installed"));
    // What was copied is good for more than to be compared.
    cluster.kill("catalog-1");
    cluster.members_are(&["catalog-2"]).await;
    let client = cluster.client();
    assert_eq!(client.lookup(book(2)).await.unwrap().quantity, COPIES - MISSED);
    client.buy(book(2), 1).await.unwrap();
    cluster.start_node("catalog-1").await;
    cluster.level().await;
}
