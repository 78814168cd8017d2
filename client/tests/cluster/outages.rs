//! Too much is gone: the store says so, shows nothing old, and goes on by itself when it can.

use common::api::Book;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, Http, Setup, Shopping, audit, book, wait_for};

const COPIES: u64 = 1_000_000;

async fn past_cache(http: &Http, id: u64) -> Answer {
    http.get_with(&format!("/lookup/{id}"), &[("cache-control", "no-cache")]).await
}

/// 503, with a time to come back and a word on the write.
fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
    assert_eq!(answer.json::<Value>()["type"], "/problems/unavailable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_member_is_waited_for_and_an_old_copy_is_not_promoted() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let client = cluster.client();
    client.buy(book(1), 1).await.unwrap();
    cluster.kill("catalog-1");
    cluster.members_are(&["catalog-2"]).await;
    for _ in 0..5 {
        client.buy(book(1), 1).await.unwrap();
    }
    // The only copy that has those five goes, and the old one comes.
    cluster.kill("catalog-2");
    cluster.start_node("catalog-1").await;
    let http = cluster.http();
    wait_for("the front end waits for catalog-2", async || {
        let answer = http.get("/readyz").await;
        if answer.status == 503 && answer.text.contains("catalog-2") { Ok(()) } else { Err(answer.text) }
    })
    .await;
    assert_unavailable(&past_cache(&http, 1).await);
    let write = http.post("/buy", &[], &json!({"id": 1})).await;
    assert_unavailable(&write);
    assert!(
        ["not-done", "unknown"].map(Value::from).contains(&write.json::<Value>()["outcome"]),
        "{write:?}"
    );
    // Nor does a front end that begins anew take it for the newest.
    cluster.kill("frontend-1");
    cluster.start_node("frontend-1").await;
    let http = cluster.http();
    assert_unavailable(&past_cache(&http, 1).await);

    cluster.start_node("catalog-2").await;
    cluster.level().await;
    let shown: Book = past_cache(&http, 1).await.json();
    let sold = COPIES - shown.quantity;
    // What was answered with 503 may have been done after all.
    let orders = cluster.orders_of("order-1").await.len();
    assert!(
        (6..=7).contains(&sold) && usize::try_from(sold).unwrap() == orders,
        "{sold} sold, {orders} orders"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_order_nodes_all_but_orders_goes_on() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let order = cluster.client().buy(book(1), 1).await.unwrap();
    cluster.kill("order-1");
    cluster.kill("order-2");
    let (http, client) = (cluster.http(), cluster.client());
    wait_for("the front end misses the order nodes", async || {
        let answer = http.get("/readyz").await;
        if answer.status == 503 && answer.text.contains("order node") { Ok(()) } else { Err(answer.text) }
    })
    .await;
    assert_eq!(past_cache(&http, 1).await.status, 200);
    assert_eq!(client.add_stock(book(1), 3).await.unwrap().quantity, COPIES + 2);
    let write = http.post("/buy", &[("idempotency-key", "late")], &json!({"id": 1})).await;
    assert_unavailable(&write);
    assert_eq!(write.json::<Value>()["outcome"], "not-done", "{write:?}");
    assert_unavailable(&http.get(&format!("/orders/{}", order.order_id)).await);
    cluster.start_all().await;
    cluster.level().await;
    assert_eq!(client.order(&order.order_id).await.unwrap(), order);
    assert_eq!(http.post("/buy", &[("idempotency-key", "late")], &json!({"id": 1})).await.status, 200);
    assert_eq!(client.lookup(book(1)).await.unwrap().quantity, COPIES + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_replicas_sleep_and_wake_and_nothing_is_lost() {
    let cluster = Cluster::start(Setup::default()).await;
    let shopping = Shopping::start(&cluster).await;
    shopping.goes_on(30).await;
    for node in ["catalog-1", "catalog-2"] {
        cluster.signal(node, Signal::STOP);
    }
    wait_for("no replica is up", async || {
        let status = cluster.status().await?;
        let up = status.shards[0].replicas.iter().any(|r| r.state == common::api::ReplicaState::Member);
        let answer = past_cache(&cluster.http(), 2).await;
        if up || answer.status != 503 { Err(format!("{status:?} {answer:?}")) } else { Ok(()) }
    })
    .await;
    for node in ["catalog-2", "catalog-1"] {
        cluster.signal(node, Signal::CONT);
    }
    cluster.whole().await;
    shopping.goes_on(30).await;
    let receipts = shopping.close().await;
    audit(&cluster, &[&receipts], COPIES).await;
}
