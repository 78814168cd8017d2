//! Idempotency: what is asked for twice under one key is done once.

use std::collections::BTreeSet;

use common::api::{Book, Order};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Answer, Cluster, Setup, book};

async fn buy(cluster: &Cluster, key: &str, body: &Value) -> Answer {
    cluster.http().post("/buy", &[("idempotency-key", key)], body).await
}

/// Asks until both order nodes have answered; all answers must be the same.
async fn of_both_nodes(cluster: &Cluster, key: &str, body: &Value) -> Order {
    let mut nodes = BTreeSet::new();
    let mut orders = Vec::new();
    for _ in 0..20 {
        let answer = buy(cluster, key, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        nodes.insert(answer.header("x-served-by").to_owned());
        orders.push(answer.json::<Order>());
    }
    assert_eq!(nodes, BTreeSet::from(["order-1".to_owned(), "order-2".to_owned()]));
    assert!(orders.windows(2).all(|pair| pair[0] == pair[1]), "{orders:?}");
    orders.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_gives_its_first_outcome_from_any_node_and_after_any_crash() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let body = json!({"id": 1, "quantity": 3});
    let order = of_both_nodes(&cluster, "key-1", &body).await;
    let refused = json!({"id": 2, "quantity": 1_000_000});
    buy(&cluster, "all-but-one", &json!({"id": 2, "quantity": 999_999})).await;
    let answer = buy(&cluster, "refused", &refused).await;
    assert_eq!(answer.status, 409, "{answer:?}");

    cluster.kill_all();
    cluster.start_all().await;
    cluster.level().await;
    assert_eq!(of_both_nodes(&cluster, "key-1", &body).await, order);
    // A refusal is an outcome as well, even where the stock would now allow the sale.
    cluster.client().add_stock(book(2), 5_000_000).await.unwrap();
    let again = buy(&cluster, "refused", &refused).await;
    assert_eq!((again.status.as_u16(), again.text), (409, answer.text));

    for other in [json!({"id": 1, "quantity": 4}), json!({"id": 3, "quantity": 3})] {
        let answer = buy(&cluster, "key-1", &other).await;
        assert_eq!(answer.status, 422, "{answer:?}");
        assert_eq!(answer.json::<Value>()["type"], "/problems/idempotency-conflict");
    }
    let client = cluster.client();
    assert_eq!(client.lookup(book(1)).await.unwrap().quantity, 999_997);
    assert_eq!(client.lookup(book(3)).await.unwrap().quantity, 1_000_000);
    assert_eq!(client.orders(None, None).await.unwrap().orders.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_use_one_key_at_one_time_get_one_sale() {
    let cluster = Cluster::start(Setup::default()).await;
    for round in 0..5 {
        let mut callers = JoinSet::new();
        for _ in 0..20 {
            let http = cluster.http();
            callers.spawn(async move {
                let key = format!("round-{round}");
                http.post("/buy", &[("idempotency-key", key.as_str())], &json!({"id": 4})).await
            });
        }
        let answers = callers.join_all().await;
        let orders: BTreeSet<String> = answers.iter().map(|answer| answer.json::<Order>().order_id).collect();
        assert_eq!(orders.len(), 1, "{answers:?}");
    }
    assert_eq!(cluster.client().lookup(book(4)).await.unwrap().quantity, 1_000_000 - 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_writes_of_administrators_repeat_as_well() {
    let cluster = Cluster::start(Setup::default()).await;
    let (http, authorization) = (cluster.http(), format!("Bearer {}", cluster.token()));
    let headers = [("authorization", authorization.as_str()), ("idempotency-key", "stock")];
    let first = http.post("/update_quantity", &headers, &json!({"id": 5, "amount": 10})).await;
    let again = http.post("/update_quantity", &headers, &json!({"id": 5, "amount": 10})).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (200, 200), "{first:?} {again:?}");
    assert_eq!(first.json::<Book>(), again.json::<Book>());
    let other = http.post("/update_quantity", &headers, &json!({"id": 5, "amount": 11})).await;
    assert_eq!(other.status, 422, "{other:?}");
    // A key of an administrator is none of the public's.
    let sold = buy(&cluster, "stock", &json!({"id": 5})).await;
    assert_eq!(sold.status, 200, "{sold:?}");
    assert_eq!(cluster.client().lookup(book(5)).await.unwrap().quantity, 1_000_009);
}
