//! The load generator: it counts what it sent, goes on after failures, and charges stalls to the store.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use bookends::load::{Kind, Length, LoadError, Plan, Progress, Report, run};

use crate::stand_in::{Fault, StandIn, nobody};

fn plan(urls: Vec<String>, connections: usize, length: Length, rate: u32) -> Plan {
    Plan {
        urls,
        threads: NonZeroUsize::new(2).unwrap(),
        connections: NonZeroUsize::new(connections).unwrap(),
        length,
        mix: "lookup=60,quantity=10,search=10,list=5,topics=5,buy=10".parse().unwrap(),
        rate: NonZeroU32::new(rate),
        seed: 3,
        books: (1..=7).map(|id| id.try_into().unwrap()).collect(),
        topics: vec!["graduate school".into(), "distributed systems".into()],
    }
}

fn requests(count: u64) -> Length {
    Length::Requests(NonZeroU64::new(count).unwrap())
}

async fn put_on(plan: Plan) -> Report {
    tokio::task::spawn_blocking(move || run(&plan, &Arc::new(Progress::default()))).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_closed_loop_makes_its_requests_and_no_more() {
    let store = StandIn::start().await;
    let report = put_on(plan(vec![store.url()], 5, requests(500), 0)).await;
    assert_eq!((report.requests, report.answered, report.failed()), (500, 500, 0), "{:?}", report.errors);
    assert_eq!(store.seen().len(), 500);
    let by_call: u64 = report.calls.values().map(|call| call.answered).sum();
    assert_eq!((by_call, report.calls.len()), (500, Kind::ALL.len()));
    // Copies were sold under keys that differ, and what was sold out is no failure.
    let sold = report.calls[&Kind::Buy].answered - report.out_of_stock;
    assert_eq!(u64::try_from(store.orders()).unwrap(), sold);
    assert!(report.latency.p50_us > 0 && report.latency.max_us >= report.latency.p99_us);
}

#[tokio::test]
async fn an_open_loop_keeps_its_rate() {
    let store = StandIn::start().await;
    let report = put_on(plan(vec![store.url()], 4, Length::Time(Duration::from_millis(500)), 400)).await;
    assert_eq!((report.requests, report.unsent, report.failed()), (200, 0, 0), "{:?}", report.errors);
    assert!(report.seconds >= 0.49, "not ahead of its times: {}", report.seconds);
}

#[tokio::test]
async fn a_stall_is_charged_for_all_who_waited() {
    let store = StandIn::start().await;
    for _ in 0..20 {
        store.then(Fault::Stall(Duration::ZERO));
    }
    store.then(Fault::Stall(Duration::from_millis(1_600)));
    // One connection, so that one stalled request holds up the 40 that become due meanwhile.
    let report = put_on(plan(vec![store.url()], 1, requests(100), 25)).await;
    assert_eq!(report.answered, 100);
    assert!(report.latency.p90_us > 800_000, "{:?}", report.latency);
    assert!(report.latency.p50_us < 1_600_000, "{:?}", report.latency);
    let shortest = report.calls.values().map(|call| call.longest_gap_ms).min();
    assert!(shortest >= Some(1_590), "no call was answered in the stall: {shortest:?}");
}

#[tokio::test]
async fn failures_are_counted_and_the_next_front_end_is_used() {
    let store = StandIn::start().await;
    let report = put_on(plan(vec![nobody().await, store.url()], 4, requests(1_000), 0)).await;
    let connect = report.errors["connect"];
    assert!((1..=4).contains(&connect), "{connect}");
    assert_eq!((report.requests, report.answered), (1_000, 1_000 - connect));

    store.then(Fault::Refuse(503, None)).then(Fault::LoseAnswer);
    let report = put_on(plan(vec![store.url()], 1, requests(10), 0)).await;
    assert_eq!((report.errors["status 503"], report.errors["closed"]), (1, 1));
    assert_eq!((report.requests, report.answered, report.failed()), (10, 9, 2));
}

#[tokio::test]
async fn a_connection_that_is_closed_in_good_order_is_no_failure() {
    let store = StandIn::start().await;
    store.always(Fault::CloseAfter);
    let report = put_on(plan(vec![store.url()], 1, requests(20), 0)).await;
    assert_eq!((report.answered, report.failed()), (20, 0), "{:?}", report.errors);
    assert!(report.reconnects >= 19, "{}", report.reconnects);
}

#[tokio::test]
async fn a_load_on_nobody_ends() {
    let report = put_on(plan(vec![nobody().await], 2, requests(4), 0)).await;
    assert_eq!((report.requests, report.answered, report.errors["connect"]), (4, 0, 4));
    let report = put_on(plan(vec![nobody().await], 1, Length::Time(Duration::from_secs(1)), 0)).await;
    assert!(report.requests > 0 && report.answered == 0 && report.seconds < 5.0);
}

#[tokio::test]
async fn a_load_can_be_stopped() {
    let store = StandIn::start().await;
    let progress = Arc::new(Progress::default());
    for rate in [0, 50] {
        let plan = plan(vec![store.url()], 2, Length::Time(Duration::from_secs(600)), rate);
        let shown = Arc::clone(&progress);
        progress.stop();
        let report = tokio::task::spawn_blocking(move || run(&plan, &shown)).await.unwrap().unwrap();
        assert!(report.seconds < 60.0 && report.failed() == 0);
    }
}

#[test]
fn a_store_without_books_is_refused() {
    let mut plan = plan(vec!["http://127.0.0.1:1".into()], 1, requests(1), 0);
    plan.books.clear();
    let outcome = run(&plan, &Arc::new(Progress::default()));
    assert!(matches!(outcome, Err(LoadError::NoBooks)));
}
