//! `bookends audit`: it balances while the store is at work, and tells what does not fit.

use rusqlite::Connection;
use serde_json::Value;

use crate::harness::{Cluster, Ran, Setup, Shopping, run};

/// What the command says of a store.
async fn audit(cluster: &Cluster, more: &[&str]) -> (Ran, Value) {
    let (url, token) = (cluster.url(), cluster.token());
    let mut args = vec!["--url", &url, "--token", &token, "--json", "audit"];
    args.extend(more);
    let ran = run("bookends", &args).await;
    let report = serde_json::from_str(&ran.out).unwrap_or_default();
    (ran, report)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_balances_while_the_store_is_at_work() {
    let cluster = Cluster::start(Setup::default()).await;
    let shopping = Shopping::start(&cluster).await;
    let saved = cluster.path("saved.json");
    let saved = saved.to_str().unwrap();
    shopping.goes_on(20).await;
    let (ran, first) = audit(&cluster, &["--save", saved]).await;
    assert_eq!((ran.code, &first["balanced"]), (Some(0), &Value::Bool(true)), "{ran:?}");
    shopping.goes_on(20).await;
    let (ran, second) = audit(&cluster, &["--start", saved]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let count = |report: &Value, name: &str| report[name].as_u64().unwrap();
    assert!(count(&second, "orders") >= count(&first, "orders") + 20, "{first} {second}");
    // Counted from the start that was saved, the stock of then is what was stocked.
    assert_eq!(count(&second, "sold") + count(&second, "left"), count(&second, "stocked"), "{second}");
    assert!(count(&second, "stocked") < count(&first, "stocked"), "{first} {second}");
    shopping.close().await.nobody_noticed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_one_node_lost_is_named() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let client = cluster.client();
    let order = client.buy(crate::harness::book(1), 2).await.unwrap();
    client.buy(crate::harness::book(2), 1).await.unwrap();
    let (ran, _) = audit(&cluster, &[]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    cluster.stop("order-2").await;
    let book = Connection::open(cluster.path("data/order-2/orders.db")).unwrap();
    let id: protocol::ids::OrderId = order.order_id.parse().unwrap();
    assert_eq!(book.execute("DELETE FROM orders WHERE order_id = ?1", [id.0.to_be_bytes()]).unwrap(), 1);
    drop(book);
    cluster.start_node("order-2").await;
    cluster.level().await;
    let (ran, report) = audit(&cluster, &[]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let fault = &report["faults"][0];
    assert_eq!(fault["kind"], "order-missing", "{report}");
    assert_eq!((&fault["node"], &fault["order_id"]), (&"order-2".into(), &order.order_id.into()), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_of_another_store_and_a_file_that_is_none_are_refused() {
    let cluster = Cluster::start(Setup::default()).await;
    let path = cluster.path("start.json");
    for (text, told) in [
        (r#"{"indexes":[1,1],"books":{}}"#, "2 shards"),
        (r#"{"indexes":[1000000],"books":{}}"#, "another store"),
        ("{}", "can't understand"),
    ] {
        std::fs::write(&path, text).unwrap();
        let (ran, _) = audit(&cluster, &["--start", path.to_str().unwrap()]).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains(told), "{ran:?}");
    }
    let http = cluster.http();
    let token = format!("Bearer {}", cluster.token());
    let headers: &[(&str, &str)] = &[("authorization", &token)];
    for path in ["/ledger?shard=1", "/ledger?after=-1", "/orders?node=catalog-1"] {
        assert_eq!(http.get_with(path, headers).await.status, 400, "{path}");
    }
    assert_eq!(http.get("/ledger").await.status, 401);
}
