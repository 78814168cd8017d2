//! A node's folder that was put back from an old copy: nothing that was acknowledged is forgotten.

use std::fs;
use std::path::Path;

use common::api::Order;
use protocol::catalogue::OrderLine;
use serde_json::{Value, json};

use crate::harness::{Cluster, Receipts, Setup, Shopping, audit, wait_for};

const COPIES: u64 = 1_000_000;
const PAST_CACHE: (&str, &str) = ("cache-control", "no-cache");
const NODES: [&str; 5] = ["frontend-1", "order-1", "order-2", "catalog-1", "catalog-2"];

async fn shop(cluster: &Cluster, orders: u64) -> Receipts {
    let shopping = Shopping::start(cluster).await;
    shopping.goes_on(orders).await;
    shopping.close().await
}

fn copy_folder(from: &Path, to: &Path) {
    drop(fs::remove_dir_all(to));
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// Stops everything, and leaves the old folder of a node in place of its newer one.
async fn put_back(cluster: &mut Cluster, node: &str, old: &Path) {
    for node in NODES {
        cluster.stop(node).await;
    }
    copy_folder(old, &cluster.path("data").join(node));
}

/// A copy of a stopped node's folder, taken while the store went on.
async fn copy_of(cluster: &mut Cluster, node: &str) -> tempfile::TempDir {
    let old = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for node in NODES {
        cluster.stop(node).await;
    }
    copy_folder(&cluster.path("data").join(node), old.path());
    cluster.start_all().await;
    cluster.level().await;
    old
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_with_an_old_folder_levels_with_the_other() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let first = shop(&cluster, 30).await;
    let old = copy_of(&mut cluster, "catalog-1").await;
    let second = shop(&cluster, 60).await;
    put_back(&mut cluster, "catalog-1", old.path()).await;
    cluster.start_all().await;
    audit(&cluster, &[&first, &second], COPIES).await;
    // Once more while the others run.
    let third = shop(&cluster, 30).await;
    cluster.stop("catalog-1").await;
    copy_folder(old.path(), &cluster.path("data/catalog-1"));
    cluster.start_node("catalog-1").await;
    audit(&cluster, &[&first, &second, &third], COPIES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_folder_alone_is_not_taken_for_the_whole_store() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let first = shop(&cluster, 30).await;
    let old = copy_of(&mut cluster, "catalog-1").await;
    let second = shop(&cluster, 60).await;
    put_back(&mut cluster, "catalog-1", old.path()).await;
    // It still is a member by its store id, and the only one that is there.
    for node in ["frontend-1", "catalog-1", "order-1", "order-2"] {
        cluster.start_node(node).await;
    }
    wait_for("the old copy is suspected", async || {
        let log = cluster.log("frontend-1");
        if log.contains("Behind") { Ok(()) } else { Err("nothing is said of it".to_owned()) }
    })
    .await;
    let http = cluster.http();
    let read = http.get_with("/lookup/1", &[PAST_CACHE]).await;
    assert_eq!(read.status, 503, "{read:?}");
    let write = http.post("/buy", &[("idempotency-key", "in-doubt")], &json!({"id": 1})).await;
    assert_eq!(write.status, 503, "{write:?}");
    // A buy that has waited at an order node is in doubt, and under its key it is done once at the most.
    let problem: Value = write.json();
    assert!(problem["detail"].as_str().unwrap().contains("shard 0 waits for"), "{problem}");
    cluster.start_node("catalog-2").await;
    cluster.level().await;
    let sold = http.post("/buy", &[("idempotency-key", "in-doubt")], &json!({"id": 1})).await;
    let order: Order = sold.json();
    let lines = order.items.iter().map(|item| OrderLine { book: item.id, quantity: item.quantity }).collect();
    let second = second.with(std::iter::once((lines, order)));
    audit(&cluster, &[&first, &second], COPIES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_node_with_an_old_folder_catches_up() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let first = shop(&cluster, 30).await;
    let old = copy_of(&mut cluster, "order-1").await;
    let second = shop(&cluster, 60).await;
    put_back(&mut cluster, "order-1", old.path()).await;
    cluster.start_all().await;
    audit(&cluster, &[&first, &second], COPIES).await;
}
