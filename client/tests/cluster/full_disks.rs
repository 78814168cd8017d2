//! Disks without room: under one replica, under both, under the front end's views.
//!
//! The disks are small ones that the test mounts, so it needs the right to mount.

use common::api::Book;
use serde_json::{Value, json};

use crate::harness::{Cluster, Setup, Shopping, audit, book, wait_for};

const COPIES: u64 = 1_000_000;
const PAST_CACHE: (&str, &str) = ("cache-control", "no-cache");

async fn on_small_disks(nodes: &[&str]) -> Cluster {
    let mut cluster = Cluster::prepare(Setup::default()).await;
    for node in nodes {
        cluster.put_on_small_disk(node);
    }
    cluster.start_all().await;
    cluster.level().await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_disk_is_full_is_left_out_until_there_is_room_and_nobody_notices() {
    let cluster = on_small_disks(&["catalog-2"]).await;
    let shopping = Shopping::start(&cluster).await;
    for _ in 0..2 {
        shopping.goes_on(30).await;
        cluster.disk("catalog-2").fill();
        cluster.members_are(&["catalog-1"]).await;
        assert!(cluster.log("frontend-1").contains("the disk is full"), "the operator is told why");
        shopping.goes_on(60).await;
        cluster.disk("catalog-2").make_room();
        cluster.whole().await;
    }
    shopping.goes_on(30).await;
    let receipts = shopping.close().await;
    receipts.nobody_noticed();
    audit(&cluster, &[&receipts], COPIES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_all_disks_full_writes_are_refused_with_the_reason_and_reads_go_on() {
    let mut cluster = on_small_disks(&["catalog-1", "catalog-2"]).await;
    let shopping = Shopping::start(&cluster).await;
    shopping.goes_on(30).await;
    let receipts = shopping.close().await;
    for node in ["catalog-1", "catalog-2"] {
        cluster.disk(node).fill();
    }
    let http = cluster.http();
    // What fits into pages that the files have already may still be sold.
    let mut sold = 0;
    let refused = wait_for("writes are refused", async || {
        let answer = http.post("/buy", &[], &json!({"id": 1})).await;
        if answer.status == 503 {
            Ok(answer)
        } else {
            sold += 1;
            Err(format!("{answer:?}"))
        }
    })
    .await;
    let problem: Value = refused.json();
    assert!(problem["detail"].as_str().unwrap().contains("disk is full"), "{problem}");
    assert!(["not-done", "unknown"].map(Value::from).contains(&problem["outcome"]), "{problem}");
    let ready = http.get("/readyz").await;
    assert!(ready.status == 503 && ready.text.contains("disk is full"), "{ready:?}");
    for id in 2..=8 {
        let read = http.get_with(&format!("/lookup/{id}"), &[PAST_CACHE]).await;
        assert_eq!(read.status, 200, "{read:?}");
    }
    // Crashing in this state loses nothing either.
    cluster.kill("catalog-1");
    cluster.start_node("catalog-1").await;
    for node in ["catalog-1", "catalog-2"] {
        cluster.disk(node).make_room();
    }
    cluster.level().await;
    let client = cluster.client();
    client.buy(book(2), 1).await.unwrap();
    let orders = cluster.orders_of("order-1").await.len();
    let copies: u64 = client.list(None, None).await.unwrap().books.iter().map(|book| book.quantity).sum();
    let bought: u64 = cluster
        .orders_of("order-2")
        .await
        .iter()
        .flat_map(|order| &order.items)
        .map(|item| item.quantity)
        .sum();
    assert_eq!(copies + bought, 8 * COPIES, "each copy is in stock or in one order");
    // Those in doubt may have been sold, once each; nothing else.
    assert!((0..=2).contains(&(orders - receipts.sales.len() - sold - 1)), "{orders} orders, {sold} sold");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_front_end_without_room_for_views_goes_on_and_still_drops_a_dead_replica() {
    let mut cluster = on_small_disks(&["frontend-1"]).await;
    let shopping = Shopping::start(&cluster).await;
    shopping.goes_on(30).await;
    cluster.disk("frontend-1").fill();
    shopping.goes_on(30).await;
    for victim in ["catalog-1", "catalog-2"] {
        cluster.kill(victim);
        shopping.goes_on(30).await;
        cluster.start_node(victim).await;
        cluster.whole().await;
    }
    let receipts = shopping.close().await;
    receipts.nobody_noticed();
    audit(&cluster, &[&receipts], COPIES).await;
    // A front end that begins anew on the full disk finds the newest view.
    cluster.kill("frontend-1");
    cluster.start_node("frontend-1").await;
    cluster.level().await;
    let shown: Book = cluster.http().get_with("/lookup/1", &[PAST_CACHE]).await.json();
    assert!(shown.quantity < COPIES);
}
