//! One write, followed to both disks.

use std::path::Path;

use protocol::ids::OrderId;
use rusqlite::{Connection, OpenFlags};

use crate::harness::{Cluster, Setup, book};

/// A replica's stock of a book, and whether its outcomes have an order, read past the store.
fn on_disk(file: &Path, id: u64, order: OrderId) -> (u64, bool) {
    let conn = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let stock = "SELECT quantity FROM stock WHERE id = ?1";
    let quantity: i64 = conn.query_row(stock, [id.cast_signed()], |row| row.get(0)).unwrap();
    let mut outcomes = conn.prepare("SELECT 1 FROM outcomes WHERE instr(rows, ?1) > 0").unwrap();
    (quantity.cast_unsigned(), outcomes.exists([postcard::to_stdvec(&order).unwrap()]).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_is_on_both_disks_before_it_is_acknowledged() {
    let cluster = Cluster::start(Setup::default()).await;
    let client = cluster.client();
    for sold in 1..=5 {
        let order = client.buy(book(3), 2).await.unwrap();
        let id = order.order_id.parse().unwrap();
        for node in ["catalog-1", "catalog-2"] {
            assert_eq!(on_disk(&cluster.shard_file(node), 3, id), (1_000_000 - 2 * sold, true), "{node}");
        }
    }
    let status = cluster.level().await;
    let [first, second] = &status.shards[0].replicas[..] else { panic!("{status:?}") };
    assert!(!first.digest.is_empty() && first.digest == second.digest && first.chain == second.chain);
    // The books and five sales.
    assert_eq!((status.shards[0].commit_index, first.last_index), (6, 6));
    assert_eq!(status.shards[0].members, ["catalog-1", "catalog-2"]);
    assert_eq!(status.shards[0].writer.as_deref(), Some("frontend-1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_spread_over_both_replicas_and_buys_over_both_order_nodes() {
    let cluster = Cluster::start(Setup::default()).await;
    let http = cluster.http();
    let mut served = std::collections::BTreeMap::<String, u32>::new();
    for turn in 0..40 {
        let answer =
            http.get_with(&format!("/lookup/{}", turn % 8 + 1), &[("cache-control", "no-cache")]).await;
        assert!(answer.status.is_success(), "{answer:?}");
        *served.entry(answer.header("x-served-by").to_owned()).or_default() += 1;
        let answer = http.post("/buy", &[], &serde_json::json!({"id": 1})).await;
        assert!(answer.status.is_success(), "{answer:?}");
        *served.entry(answer.header("x-served-by").to_owned()).or_default() += 1;
    }
    assert_eq!(served.keys().collect::<Vec<_>>(), ["catalog-1", "catalog-2", "order-1", "order-2"]);
    assert!(served.values().all(|count| *count >= 10), "{served:?}");
}
