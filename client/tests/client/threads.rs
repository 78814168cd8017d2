//! The test threads: content with a store that is right, and not with any that is wrong.

use std::num::{NonZeroU64, NonZeroUsize};

use bookends::threads::{Plan, Summary, run};
use bookends::{Client, Token};

use crate::stand_in::{Bug, Fault, StandIn, TOKEN};

async fn tested(store: &StandIn, threads: usize, token: Option<&str>) -> Summary {
    let client = Client::builder().url(store.url()).token(token.map(Token::new)).build().unwrap();
    let plan = Plan {
        threads: NonZeroUsize::new(threads).unwrap(),
        requests: NonZeroU64::new(200).unwrap(),
        seed: 5,
    };
    run(&client, plan).await.unwrap()
}

#[tokio::test]
async fn a_right_store_passes() {
    let store = StandIn::start().await;
    let summary = tested(&store, 4, None).await;
    assert!(summary.is_good(), "{:?}", summary.total.faults);
    assert_eq!(summary.threads.len(), 4);
    assert!(summary.threads.iter().all(|thread| thread.calls >= 200));
    // Each order is placed twice under its key, and sold once.
    assert_eq!(usize::try_from(summary.total.orders).unwrap(), store.orders());
    assert!(summary.total.orders > 20);
}

#[tokio::test]
async fn a_book_that_sells_out_is_no_fault_and_is_restocked_with_a_token() {
    let store = StandIn::start().await;
    let mut summary = tested(&store, 2, None).await;
    while summary.total.out_of_stock == 0 {
        summary = tested(&store, 8, None).await;
        assert!(summary.is_good(), "{:?}", summary.total.faults);
    }
    let restocked = tested(&store, 8, Some(TOKEN)).await;
    assert!(restocked.is_good(), "{:?}", restocked.total.faults);
    assert!(restocked.total.out_of_stock > 0);
    assert!(store.seen().iter().any(|seen| seen.path == "/update_quantity"));
}

#[tokio::test]
async fn passing_failures_are_hidden_by_retries() {
    let store = StandIn::start().await;
    for _ in 0..5 {
        store.then(Fault::LoseAnswer).then(Fault::Refuse(503, None));
    }
    let summary = tested(&store, 2, None).await;
    assert!(summary.is_good(), "{:?}", summary.total.faults);
    assert_eq!(summary.retries, 10);
}

#[tokio::test]
async fn each_kind_of_wrong_answer_is_found() {
    for bug in [
        Bug::SellsTwice,
        Bug::WrongTotal,
        Bug::KeepsStock,
        Bug::WrongBook,
        Bug::FindsAll,
        Bug::FindsNone,
        Bug::InventsBooks,
        Bug::SellsAir,
        Bug::WrongOrder,
        Bug::VersionsFall,
    ] {
        let store = StandIn::start().await;
        store.with_bug(bug);
        let summary = tested(&store, 1, None).await;
        assert!(summary.total.wrong > 0, "{bug:?}: {:?}", summary.total);
    }
}

#[tokio::test]
async fn calls_without_an_answer_are_told() {
    let store = StandIn::start().await;
    let client = Client::builder().url(store.url()).build().unwrap();
    for _ in 0..3 {
        // The first is for the list before the threads begin.
        store.then(Fault::Stall(std::time::Duration::ZERO));
        store.then(Fault::Refuse(500, None));
    }
    let plan = Plan { threads: NonZeroUsize::MIN, requests: NonZeroU64::new(20).unwrap(), seed: 1 };
    let summary = run(&client, plan).await.unwrap();
    assert_eq!((summary.total.failed, summary.total.wrong), (3, 0), "{:?}", summary.total.faults);
    assert!(!summary.is_good());
}
