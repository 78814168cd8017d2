//! Paging through a catalogue that changes meanwhile, over all its shards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::api::{Book, BookPage};
use serde_json::json;
use tokio::task::JoinSet;

use super::{setup, shard};
use crate::harness::{Cluster, Http, Setup, catalogue};

/// Every third book stays for good; the others come, go and change topic.
const BOOKS: u64 = 90;
const ROUNDS: usize = 12;
/// So many changes at least are made under the walks.
const CHANGES: u64 = 100;

fn stays(id: u64) -> bool {
    id.is_multiple_of(3)
}

/// Changes books that may change, for as long as it is let.
async fn churn(http: Http, token: String, number: u64, ending: Arc<AtomicBool>, changes: Arc<AtomicU64>) {
    let authorization = format!("Bearer {token}");
    let admin = [("authorization", authorization.as_str())];
    let mut turn = number;
    while !ending.load(Ordering::Relaxed) {
        turn += 1;
        let id = turn * 7 % (BOOKS + 20) + 1;
        let answer = if stays(id) && id <= BOOKS {
            // A book that stays changes as well, but neither its id nor its topic.
            http.post("/update_quantity", &admin, &json!({"id": id, "amount": 1})).await
        } else if turn.is_multiple_of(2) {
            let topic = format!("topic {}", turn % 4);
            let new =
                json!({"id": id, "title": "Book number", "topic": topic, "cost_cents": 1, "quantity": 1});
            http.post("/books", &admin, &new).await
        } else {
            let path = format!("/books/{id}");
            http.send(reqwest::Method::DELETE, &path, &admin, None).await.unwrap()
        };
        assert!(answer.status.is_success() || answer.status == 404, "{answer:?}");
        changes.fetch_add(1, Ordering::Relaxed);
    }
}

/// All pages; their ids must rise from first to last, so that none is shown twice.
async fn walk(http: &Http, path: &str, page_size: u64) -> Vec<u64> {
    let (mut ids, mut token) = (Vec::new(), String::new());
    loop {
        let page: BookPage = http.get(&format!("{path}page_size={page_size}{token}")).await.json();
        ids.extend(page.books.iter().map(|book: &Book| book.id.get()));
        assert!(ids.is_sorted_by(|one, next| one < next), "{path}: {ids:?}");
        let Some(next) = page.next_page_token else { return ids };
        token = format!("&page_token={next}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_book_that_stays_is_skipped_or_shown_twice_while_others_come_and_go() {
    let setup = Setup { catalogue: catalogue(BOOKS, 1_000), ..setup() };
    let cluster = Cluster::start(setup).await;
    let of_shards: BTreeSet<_> = (1..=BOOKS).filter(|id| stays(*id)).map(shard).collect();
    assert_eq!(of_shards.len(), 4, "books that stay are in every shard");
    let (ending, changes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut churning = JoinSet::new();
    for number in [0, 35, 70] {
        churning.spawn(churn(cluster.http(), cluster.token(), number, ending.clone(), changes.clone()));
    }
    let http = cluster.http();
    let mut seen_of_others: BTreeMap<u64, usize> = BTreeMap::new();
    let mut rounds = 0..;
    while let Some(round) = rounds.next()
        && (round < ROUNDS || changes.load(Ordering::Relaxed) < CHANGES)
    {
        let page_size = [1, 3, 7, 20][round % 4];
        for (path, topic) in
            [("/list?", None), ("/search?topic=topic%202&", Some(2)), ("/search?q=number&", None)]
        {
            let ids = walk(&http, path, page_size).await;
            let staying = |id: &u64| stays(*id) && *id <= BOOKS && topic.is_none_or(|topic| id % 4 == topic);
            let expected: Vec<u64> = (1..=BOOKS).filter(staying).collect();
            let shown: Vec<u64> = ids.iter().copied().filter(staying).collect();
            assert_eq!(shown, expected, "{path} in pages of {page_size}: {ids:?}");
            for id in ids.iter().filter(|id| !staying(id)) {
                *seen_of_others.entry(*id).or_default() += 1;
            }
        }
    }
    ending.store(true, Ordering::Relaxed);
    while let Some(ended) = churning.join_next().await {
        ended.unwrap();
    }
    // The others did come and go under the walks: some were there for a part of them only.
    assert!(seen_of_others.values().any(|times| *times < rounds.start), "{seen_of_others:?}");
    cluster.level().await;
}
