//! Idempotency keys where a catalogue is cut: a key is looked up in the shard that its write goes to.

use common::api::Order;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{BOOKS, COPIES, pair, setup};
use crate::harness::{Cluster, book};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_write_under_its_key_is_done_once_and_a_basket_over_two_shards_not_at_all() {
    let mut cluster = Cluster::start(setup()).await;
    let (http, client) = (cluster.http(), cluster.client());
    let buyers: JoinSet<Order> = (0..20)
        .map(|_| {
            let http = cluster.http();
            async move {
                let sold = http.post("/buy", &[("idempotency-key", "one")], &json!({"id": 1})).await;
                sold.json::<Order>()
            }
        })
        .collect();
    let orders = buyers.join_all().await;
    assert!(orders.iter().all(|order| order == &orders[0]), "{orders:?}");
    assert_eq!(client.lookup(book(1)).await.unwrap().quantity, COPIES - 1);

    // Refused before anything is done, under any key, however often: no half of it is ever sold.
    let (first, second) = pair(false);
    let basket = json!({"items": [{"id": first}, {"id": second}]});
    for key in ["two", "two", "one"] {
        let refused = http.post("/buy", &[("idempotency-key", key)], &basket).await;
        assert_eq!(refused.status, 400, "{refused:?}");
        let problem: Value = refused.json();
        assert!(problem["detail"].as_str().unwrap().contains("several shards"), "{problem}");
    }
    assert_eq!(client.lookup(book(second)).await.unwrap().quantity, COPIES);

    // A book that is added without an id goes by its key, so its retry finds it; also after a crash.
    let authorization = format!("Bearer {}", cluster.token());
    let new = json!({"title": "Without an id", "topic": "topic 1", "cost_cents": 1, "quantity": 1});
    let mut ids = Vec::new();
    for turn in 0..4 {
        let headers = [("authorization", authorization.as_str()), ("idempotency-key", "added")];
        let added = cluster.http().post("/books", &headers, &new).await;
        assert!(added.status.is_success(), "{added:?}");
        ids.push(added.json::<Value>()["id"].as_u64().unwrap());
        if turn == 1 {
            cluster.kill_all();
            cluster.start_all().await;
            cluster.level().await;
        }
    }
    assert!(ids.iter().all(|id| *id == ids[0] && *id > BOOKS), "{ids:?}");
}
