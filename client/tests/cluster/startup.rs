//! Beginnings and ends: in any order, and without cutting anybody off.

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Cluster, Http, Setup, book, wait_for};

/// What the front end says that it waits for.
async fn waits_for(http: &Http) -> String {
    assert_eq!(http.get("/livez").await.status, 200);
    assert_eq!(http.get("/healthz").await.status, 200);
    let answer = http.get("/readyz").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
    answer.json::<Value>()["detail"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_front_end_that_is_first_says_what_it_waits_for() {
    let mut cluster = Cluster::prepare(Setup::default()).await;
    cluster.start_node("frontend-1").await;
    let http = cluster.http();
    wait_for("it waits for a catalog node", async || {
        let told = waits_for(&http).await;
        if told.contains("catalog-1") && told.contains("order node") { Ok(()) } else { Err(told) }
    })
    .await;
    let read = http.get("/lookup/1").await;
    assert_eq!(read.status, 503, "{read:?}");
    let write = http.post("/buy", &[], &json!({"id": 1})).await;
    assert_eq!(write.status, 503, "{write:?}");
    assert_eq!(write.json::<Value>()["outcome"], "not-done", "{write:?}");

    // One catalog node alone can't know whether the other has more.
    cluster.start_node("catalog-1").await;
    cluster.start_node("order-1").await;
    wait_for("it waits for the other catalog node alone", async || {
        let told = waits_for(&http).await;
        let others = told.contains("order node") || told.contains("catalog-1");
        if told.contains("catalog-2") && !others { Ok(()) } else { Err(told) }
    })
    .await;
    cluster.start_all().await;
    cluster.level().await;
    assert_eq!(http.get("/lookup/1").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn back_end_nodes_that_are_first_wait_for_the_front_end() {
    let mut cluster = Cluster::prepare(Setup::default()).await;
    for node in ["order-1", "catalog-2", "order-2", "catalog-1", "frontend-1"] {
        cluster.start_node(node).await;
    }
    cluster.level().await;
    cluster.client().buy(book(1), 1).await.unwrap();
    // The books are loaded once, not at each start.
    for node in ["frontend-1", "order-1", "order-2", "catalog-1", "catalog-2"] {
        cluster.stop(node).await;
    }
    cluster.start_all().await;
    let status = cluster.level().await;
    assert_eq!(status.shards[0].commit_index, 2);
    assert_eq!(cluster.client().lookup(book(1)).await.unwrap().quantity, 999_999);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_front_end_that_stops_finishes_what_is_under_way() {
    let setup = Setup {
        more: "[logging]\nlevel = \"info,frontend=debug\"\n[timeouts]\nwrite_ms = 4000\n",
        ..Setup::default()
    };
    let mut cluster = Cluster::start(setup).await;
    let (http, url) = (cluster.http(), cluster.url());
    assert_eq!(http.get("/lookup/1").await.status, 200);
    // With both replicas asleep the buys hang for as long as this test wants.
    for node in ["catalog-1", "catalog-2"] {
        cluster.signal(node, Signal::STOP);
    }
    let mut buyers = JoinSet::new();
    for _ in 0..8 {
        let http = Http::new(url.clone());
        buyers.spawn(async move { http.post("/buy", &[], &json!({"id": 1})).await });
    }
    wait_for("the buys have reached the writer", async || {
        let count = cluster.log("frontend-1").lines().filter(|line| line.contains("submitted")).count();
        if count >= 8 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    cluster.signal("frontend-1", Signal::TERM);
    wait_for("nobody new is let in", async || {
        let late = Http::new(url.clone());
        match late.send(reqwest::Method::GET, "/livez", &[], None).await {
            Ok(answer) => Err(format!("{answer:?}")),
            Err(_) => Ok(()),
        }
    })
    .await;
    for node in ["catalog-1", "catalog-2"] {
        cluster.signal(node, Signal::CONT);
    }
    for answer in buyers.join_all().await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let status = cluster.wait_for_end("frontend-1").await;
    assert!(status.success(), "{status}");
    cluster.start_node("frontend-1").await;
    cluster.level().await;
    assert_eq!(cluster.client().lookup(book(1)).await.unwrap().quantity, 1_000_000 - 8);
}
