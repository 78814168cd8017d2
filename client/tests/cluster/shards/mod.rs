//! A catalogue that is cut into four parts, each on some of four nodes.

mod keys;
mod losses;
mod pages;

use common::api::{Book, BookPage, Order};
use protocol::ids::ShardId;
use serde_json::{Value, json};

use crate::harness::{Cluster, Http, Setup, Shopping, audit, book, catalogue};

const SHARDS: u32 = 4;
const BOOKS: u64 = 40;
const COPIES: u64 = 1_000;

fn setup() -> Setup {
    Setup {
        catalogs: 4,
        more: "[shards]\ncount = 4\ncopies = 2\n",
        catalogue: catalogue(BOOKS, COPIES),
        ..Setup::default()
    }
}

fn shard(id: u64) -> ShardId {
    ShardId::of_book(book(id), SHARDS)
}

/// Two books of the first book's shard or of different ones.
fn pair(same: bool) -> (u64, u64) {
    let other = (2..=BOOKS).find(|id| (shard(*id) == shard(1)) == same);
    (1, other.unwrap())
}

/// All pages of a call, and how many there were.
async fn pages(http: &Http, path: &str) -> (Vec<Book>, usize) {
    let (mut all, mut count, mut token) = (Vec::new(), 0, String::new());
    loop {
        let page: BookPage = http.get(&format!("{path}page_size=7{token}")).await.json();
        assert!(page.books.len() <= 7);
        all.extend(page.books);
        count += 1;
        let Some(next) = page.next_page_token else { return (all, count) };
        token = format!("&page_token={next}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_shards_look_like_one_store() {
    let mut cluster = Cluster::start(setup()).await;
    let (http, client) = (cluster.http(), cluster.client());
    assert_eq!(cluster.status().await.unwrap().shards.len(), 4);
    assert!((0..SHARDS).all(|number| (1..=BOOKS).any(|id| shard(id) == ShardId(number))));

    let (listed, count) = pages(&http, "/list?").await;
    assert_eq!(listed.iter().map(|book| book.id.get()).collect::<Vec<_>>(), (1..=BOOKS).collect::<Vec<_>>());
    assert_eq!(count, 6);
    let (found, count) = pages(&http, "/search?topic=topic%201&").await;
    let expected: Vec<u64> = (1..=BOOKS).filter(|id| id % 4 == 1).collect();
    assert_eq!(found.iter().map(|book| book.id.get()).collect::<Vec<_>>(), expected);
    assert_eq!(count, 2);
    assert!(client.topics().await.unwrap().iter().all(|topic| topic.books == BOOKS / 4));
    for id in 1..=BOOKS {
        assert_eq!(client.lookup(book(id)).await.unwrap().title, format!("Book number {id}"));
    }

    let items =
        |(first, second): (u64, u64)| json!({"items": [{"id": first}, {"id": second, "quantity": 2}]});
    let sold = http.post("/buy", &[], &items(pair(true))).await;
    assert_eq!(sold.status, 200, "{sold:?}");
    let refused = http.post("/buy", &[], &items(pair(false))).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    let problem: Value = refused.json();
    assert_eq!(problem["type"], "/problems/bad-request");
    assert!(problem["detail"].as_str().unwrap().contains("shard"), "{problem}");
    for id in 1..=BOOKS {
        client.buy(book(id), 1).await.unwrap();
    }
    for node in ["order-1", "order-2"] {
        let orders = cluster.orders_of(node).await;
        assert_eq!(orders.len(), 41, "{node}");
    }
    let (first, second) = pair(true);
    assert_eq!(client.lookup(book(first)).await.unwrap().quantity, COPIES - 2);
    assert_eq!(client.lookup(book(second)).await.unwrap().quantity, COPIES - 3);

    cluster.kill("catalog-3");
    for id in 1..=BOOKS {
        let answer = http.get_with(&format!("/lookup/{id}"), &[("cache-control", "no-cache")]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        client.buy(book(id), 1).await.unwrap();
    }
    cluster.start_node("catalog-3").await;
    cluster.level().await;
    let order: Order = sold.json();
    assert_eq!(client.order(&order.order_id).await.unwrap(), order);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_shards_lose_a_node_and_nobody_notices() {
    // More copies than shoppers can buy.
    let copies = COPIES * 100;
    let mut cluster = Cluster::start(Setup { catalogue: catalogue(BOOKS, copies), ..setup() }).await;
    let shopping = Shopping::start(&cluster).await;
    for node in ["catalog-1", "catalog-2"] {
        shopping.goes_on(30).await;
        cluster.kill(node);
        shopping.goes_on(30).await;
        cluster.start_node(node).await;
        cluster.whole().await;
    }
    let receipts = shopping.close().await;
    receipts.nobody_noticed();
    audit(&cluster, &[&receipts], copies).await;
}
