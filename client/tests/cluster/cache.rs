//! The cache: it serves what it has, and never what a write has overtaken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::api::{Book, BookPage, Invalidated, Topics};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Cluster, Http, Setup, book};

const WRITES: u64 = 150;

/// Changes one book again and again, and looks at it after each change, through other connections and
/// while others keep it in the cache.
async fn change_and_look(cluster_url: String, token: String, id: u64) {
    let authorization = format!("Bearer {token}");
    let (writer, reader) = (Http::new(cluster_url.clone()), Http::new(cluster_url));
    let admin = [("authorization", authorization.as_str())];
    for turn in 1..=WRITES {
        let answer = match turn % 3 {
            0 => writer.post("/update_cost", &admin, &json!({"id": id, "cost_cents": turn})).await,
            1 => writer.post("/update_quantity", &admin, &json!({"id": id, "amount": 7})).await,
            _ => writer.post("/buy", &[], &json!({"id": id, "quantity": 2})).await,
        };
        assert_eq!(answer.status, 200, "{answer:?}");
        let shown: Book = reader.get(&format!("/lookup/{id}")).await.json();
        let (cost, stock) = (turn / 3 * 3, turn.div_ceil(3) * 7 - (turn + 1) / 3 * 2);
        assert_eq!(shown.quantity, 1_000_000 + stock, "after change {turn} of {id}");
        assert_eq!(shown.cost_cents, if cost == 0 { 100 + id } else { cost }, "after change {turn} of {id}");
        if turn % 3 == 0 {
            let found: BookPage = reader.get(&format!("/search?q=number%20{id}")).await.json();
            assert!(found.books.contains(&shown), "after change {turn}: {found:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_after_an_acknowledged_write_shows_it() {
    let cluster = Cluster::start(Setup::default()).await;
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for id in 1..=4 {
        let (http, done) = (cluster.http(), done.clone());
        readers.spawn(async move {
            while !done.load(Ordering::SeqCst) {
                assert_eq!(http.get(&format!("/lookup/{id}")).await.status, 200);
                assert_eq!(http.get(&format!("/search?q=number%20{id}")).await.status, 200);
            }
        });
    }
    let mut writers = JoinSet::new();
    for id in 1..=4 {
        writers.spawn(change_and_look(cluster.url(), cluster.token(), id));
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    while let Some(ended) = readers.join_next().await {
        ended.unwrap();
    }
    let cache = cluster.status().await.unwrap().cache;
    assert!(cache.hits > 0 && cache.misses > 0 && cache.invalidations > 0, "{cache:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_says_what_it_did() {
    let cluster = Cluster::start(Setup::default()).await;
    let http = cluster.http();
    let status = async |headers: &[(&str, &str)]| {
        http.get_with("/lookup/6", headers).await.header("cache-status").to_owned()
    };
    let (hit, miss) = ("bookends; hit", "bookends; fwd=miss; stored");
    assert_eq!(status(&[]).await, miss);
    assert_eq!(status(&[]).await, hit);
    assert_eq!(status(&[("cache-control", "no-cache")]).await, "bookends; fwd=request");
    let authorization = format!("Bearer {}", cluster.token());
    let admin = [("authorization", authorization.as_str())];
    for dropped in [true, false] {
        let answer = http.post("/invalidate", &admin, &json!({"id": 6})).await;
        assert_eq!(answer.json::<Invalidated>(), Invalidated { id: book(6), dropped });
    }
    assert_eq!(status(&[]).await, miss);
    cluster.client().buy(book(6), 1).await.unwrap();
    assert_eq!(status(&[]).await, miss, "a sale drops the book");
    assert_eq!(status(&[]).await, hit);
    cluster.client().buy(book(5), 1).await.unwrap();
    assert_eq!(status(&[]).await, hit, "a sale of another leaves it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absences_pages_and_topics_are_dropped_when_they_change() {
    let cluster = Cluster::start(Setup::default()).await;
    let (http, client) = (cluster.http(), cluster.client());
    assert_eq!(http.get("/lookup/99").await.status, 404);
    assert_eq!(http.get("/lookup/99").await.header("cache-status"), "bookends; hit");
    let count = async || {
        let listed: BookPage = http.get("/list").await.json();
        let found: BookPage = http.get("/search/rare%20finds").await.json();
        let topics: Topics = http.get("/topics").await.json();
        (listed.books.len(), found.books.len(), topics.topics.len())
    };
    assert_eq!(count().await, (8, 0, 4));
    assert_eq!(count().await, (8, 0, 4));
    let authorization = format!("Bearer {}", cluster.token());
    let admin = [("authorization", authorization.as_str())];
    let body = json!({"id": 99, "title": "A find", "topic": "rare finds", "cost_cents": 1, "quantity": 1});
    assert_eq!(http.post("/books", &admin, &body).await.status, 201);
    assert_eq!(http.get("/lookup/99").await.status, 200);
    assert_eq!(count().await, (9, 1, 5));
    client.buy(book(99), 1).await.unwrap();
    let found: BookPage = http.get("/search/Rare-Finds").await.json();
    assert_eq!(found.books[0].quantity, 0);
    let answer = http.send(Method::DELETE, "/books/99", &admin, None).await.unwrap();
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(http.get("/lookup/99").await.status, 404);
    assert_eq!(count().await, (8, 0, 4));
}
