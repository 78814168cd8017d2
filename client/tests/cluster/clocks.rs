//! The time of day jumps: an hour back, under processes that run and under ones that begin.

use std::collections::BTreeSet;

use common::api::Order;

use crate::harness::{Clock, Cluster, Setup, Shopping, audit, book};

const COPIES: u64 = 1_000_000;
const HOUR: i64 = 3_600;

async fn buy(cluster: &Cluster) -> Order {
    cluster.client().buy(book(1), 1).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_an_hour_changes_times_and_nothing_else() {
    let clock = Clock::new();
    let mut cluster = Cluster::prepare(Setup::default()).await;
    cluster.go_by(&clock);
    cluster.start_all().await;
    cluster.level().await;
    let mut orders = vec![buy(&cluster).await];
    let shopping = Shopping::start(&cluster).await;
    shopping.goes_on(30).await;
    for offset in [-HOUR, 0, HOUR, -HOUR] {
        clock.set(offset);
        shopping.goes_on(30).await;
    }
    // A replica comes back into a store whose clock stands behind its own file's times.
    cluster.kill("catalog-2");
    shopping.goes_on(30).await;
    cluster.start_node("catalog-2").await;
    cluster.whole().await;
    let receipts = shopping.close().await;
    receipts.nobody_noticed();
    orders.push(buy(&cluster).await);
    let created: BTreeSet<&str> = orders.iter().map(|order| order.created_at.as_str()).collect();
    assert_eq!(created.first(), Some(&orders[1].created_at.as_str()), "it goes by its clock: {orders:?}");

    // All begin anew, the clock still behind: what was sold last is still listed first.
    cluster.kill_all();
    cluster.start_all().await;
    cluster.level().await;
    for _ in 0..4 {
        let order = buy(&cluster).await;
        let newest = cluster.client().orders(Some(1), None).await.unwrap().orders.remove(0);
        assert_eq!(newest.order_id, order.order_id, "{order:?}");
        orders.push(order);
    }
    let client = cluster.client();
    let bought = u64::try_from(orders.len()).unwrap();
    for order in &orders {
        assert_eq!(client.order(&order.order_id).await.unwrap(), *order);
    }
    let all = receipts.with(orders.iter().map(|order| (vec![line(order)], order.clone())));
    assert_eq!(bought, 6);
    audit(&cluster, &[&all], COPIES).await;
}

fn line(order: &Order) -> protocol::catalogue::OrderLine {
    protocol::catalogue::OrderLine { book: order.items[0].id, quantity: order.items[0].quantity }
}
