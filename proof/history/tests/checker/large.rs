//! Histories as long as those of the chaos rounds and of the simulator: quick enough for both.

use std::time::{Duration, Instant};

use history::{Call, Limits, Recorded, Verdict, check, check_within};

use super::random::Random;
use super::shop::{Plan, forget, history, spoil};

#[test]
fn a_hundred_thousand_calls_are_judged_in_seconds() {
    let plan = Plan { books: 10, calls: 100_000, clients: 60, stock: 1_000_000, lost: 200, prices: 1_000 };
    let history = history(plan, &mut Random::new(1));
    for history in [&history, &forget(&history, |_| true)] {
        let begin = Instant::now();
        let verdict = check(history);
        let took = begin.elapsed();
        println!("100,000 calls of 60 clients on 10 books: {took:?}");
        assert!(verdict.is_good(), "{verdict}");
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
}

#[test]
fn what_is_too_hard_without_the_log_is_easy_with_it() {
    // Two hundred callers on one book at one price: nothing but the log tells which sales came first.
    let plan = Plan { books: 1, calls: 100_000, clients: 200, stock: 10_000_000, lost: 50, prices: 1 };
    // A ledger of stock knows nothing of prices.
    let is_price = |call: &Recorded| matches!(call.call, Call::SetPrice(..));
    let history = forget(&history(plan, &mut Random::new(1)), is_price);
    let begin = Instant::now();
    let verdict = check(&history);
    let took = begin.elapsed();
    println!("100,000 calls of 200 clients on one book, with the log: {took:?}");
    assert!(verdict.is_good(), "{verdict}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    let begin = Instant::now();
    let told = check_within(&forget(&history, |_| true), Limits { steps_max: 1_000_000 });
    println!("without it: {told} after {:?}", begin.elapsed());
    assert!(matches!(told, Verdict::Undecided(_)), "{told}");
}

#[test]
fn a_wrong_answer_among_many_is_found() {
    let plan = Plan { books: 4, calls: 4_000, clients: 40, stock: 1_000, lost: 100, prices: 100 };
    let mut found = 0;
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let right = history(plan, &mut random);
        assert!(check(&right).is_good());
        let verdict = check(&spoil(&forget(&right, |_| true), &mut random));
        assert!(!matches!(verdict, Verdict::Undecided(_)), "seed {seed}");
        found += usize::from(!verdict.is_good());
    }
    // Not every change makes a wrong answer: some answers of versions have room.
    assert!(found >= 8, "{found} of 20");
}

#[test]
fn a_short_history_takes_less_than_a_millisecond() {
    let plan = Plan { books: 5, calls: 400, clients: 8, stock: 50, lost: 20, prices: 100 };
    let histories: Vec<_> = (0..200).map(|seed| history(plan, &mut Random::new(seed))).collect();
    let begin = Instant::now();
    assert!(histories.iter().all(|history| check(history).is_good()));
    let each = begin.elapsed() / 200;
    println!("400 calls of 8 clients on 5 books: {each:?}");
    // Far above what it takes, since other tests run at the same time.
    assert!(each < Duration::from_millis(10), "{each:?}");
}
