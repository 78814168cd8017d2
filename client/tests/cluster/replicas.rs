//! One write, followed to both disks.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::harness::{Cluster, Setup, book};

/// A replica's stock of a book, and the lines that it has sold, read past the store.
fn on_disk(file: &Path, id: u64) -> (u64, Vec<(String, u64)>) {
    let conn = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let stock = "SELECT quantity FROM books WHERE id = ?1";
    let quantity: i64 = conn.query_row(stock, [id.cast_signed()], |row| row.get(0)).unwrap();
    let mut sales = conn.prepare("SELECT hex(order_id), quantity FROM sales WHERE book_id = ?1").unwrap();
    let rows = sales.query_map([id.cast_signed()], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?))).unwrap();
    let rows = rows.map(|row| row.map(|(order, quantity): (String, i64)| (order, quantity.cast_unsigned())));
    (quantity.cast_unsigned(), rows.collect::<Result<_, _>>().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_is_on_both_disks_before_it_is_acknowledged() {
    let cluster = Cluster::start(Setup::default()).await;
    let client = cluster.client();
    for sold in 1..=5 {
        let order = client.buy(book(3), 2).await.unwrap();
        let id = order.order_id.replace('-', "").to_uppercase();
        for node in ["catalog-1", "catalog-2"] {
            let (quantity, sales) = on_disk(&cluster.shard_file(node), 3);
            assert_eq!(quantity, 1_000_000 - 2 * sold, "{node}");
            assert!(sales.contains(&(id.clone(), 2)), "{node} has not {id} but {sales:?}");
            assert_eq!(u64::try_from(sales.len()).unwrap(), sold, "{node}");
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
