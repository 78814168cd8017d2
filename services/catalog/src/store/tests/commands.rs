//! What each command does, what it refuses, and what a key is good for.

use protocol::call::Query;
use protocol::catalogue::{Book, STOCK_MAX, TopicKey};
use protocol::command::{Action, Outcome, Refusal};
use protocol::ids::{BOOK_ID_MAX, BookId, Epoch, Index, ShardId, StoreId};
use protocol::message::CacheKey;

use super::{Fixture, History, KEEP_ALL, book_id, buy, new_book, put};
use crate::store::MemoryStore;

fn topic(topic: &str) -> CacheKey {
    CacheKey::Topic(TopicKey::of(topic))
}

fn key(id: u64) -> CacheKey {
    CacheKey::Book(book_id(id))
}

fn sorted(mut keys: Vec<CacheKey>) -> Vec<CacheKey> {
    keys.sort();
    keys
}

#[test]
fn a_buy_takes_stock_and_names_title_and_price_of_its_moment() {
    let mut fixture = Fixture::stocked();
    let (outcome, applied) = fixture.apply("k", buy(&[(1, 2), (3, 5)]));
    let Outcome::Sold(order) = outcome else { panic!("{outcome:?}") };
    assert_eq!(order.total_cents(), 7_000);
    let titles: Vec<&str> = order.items.iter().map(|item| item.title.as_str()).collect();
    assert_eq!(titles, ["RPCs for Dummies", "Cooking for the Impatient"]);
    assert_eq!(fixture.book(1).unwrap().quantity, 3);
    assert_eq!(fixture.book(1).unwrap().version, Index(2));
    assert_eq!(fixture.book(3).unwrap().quantity, 0);
    let keys = vec![key(1), key(3), topic("distributed systems"), topic("graduate school"), CacheKey::Pages];
    assert_eq!(applied.touched, sorted(keys));

    fixture.run(put(1, "Another title", "x"));
    let again = fixture.apply("k", buy(&[(1, 2), (3, 5)]));
    assert_eq!(again.0, Outcome::Sold(order));
}

#[test]
fn a_buy_is_for_all_of_its_lines_or_for_none() {
    let mut fixture = Fixture::stocked();
    let refused = |fixture: &mut Fixture, lines: &[(u64, u64)]| {
        let before = fixture.store.standing().digest;
        let entry = fixture.history.add_fresh(buy(lines));
        let applied = fixture.append(vec![entry]);
        assert!(applied.touched.is_empty());
        assert_ne!(fixture.store.standing().digest, before, "the refusal itself is stored");
        for id in 1..=4 {
            assert_eq!(fixture.book(id).unwrap().quantity, 5);
            assert_eq!(fixture.book(id).unwrap().version, Index(1));
        }
        match applied.outcomes.into_iter().next() {
            Some(Outcome::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    };
    let (one, none) = (book_id(1), book_id(9));
    let lacking = |asked, available| Refusal::OutOfStock { book: one, asked, available };
    assert_eq!(refused(&mut fixture, &[(1, 6)]), lacking(6, 5));
    assert_eq!(refused(&mut fixture, &[(2, 1), (1, 6), (9, 1)]), lacking(6, 5));
    assert_eq!(refused(&mut fixture, &[(2, 1), (9, 1), (1, 6)]), Refusal::NoSuchBook { book: none });
    assert_eq!(refused(&mut fixture, &[(1, 3), (1, 3)]), lacking(3, 2));
    assert_eq!(refused(&mut fixture, &[(1, u64::MAX)]), lacking(u64::MAX, 5));
    assert!(fixture.readers.recount().unwrap().is_sound());
}

#[test]
fn stock_stays_within_its_limits() {
    let mut fixture = Fixture::stocked();
    let mut add = |id, amount| fixture.run(Action::AddStock { book: book_id(id), amount });
    let quantity = |outcome| match outcome {
        Outcome::Changed(Book { quantity, .. }) => quantity,
        other => panic!("{other:?}"),
    };
    assert_eq!(quantity(add(1, 3)), 8);
    assert_eq!(quantity(add(1, -8)), 0);
    let lacking = |asked| Outcome::Refused(Refusal::OutOfStock { book: book_id(1), asked, available: 0 });
    assert_eq!(add(1, -1), lacking(1));
    assert_eq!(add(1, i64::MIN), lacking(1 << 63));
    assert_eq!(quantity(add(1, i64::try_from(STOCK_MAX).unwrap())), STOCK_MAX);
    assert_eq!(add(1, 1), Outcome::Refused(Refusal::StockLimit { book: book_id(1) }));
    assert_eq!(add(1, i64::MAX), Outcome::Refused(Refusal::StockLimit { book: book_id(1) }));
    assert_eq!(add(9, 1), Outcome::Refused(Refusal::NoSuchBook { book: book_id(9) }));
}

#[test]
fn a_price_is_set_on_a_book_that_is_there() {
    let mut fixture = Fixture::stocked();
    let (outcome, applied) = fixture.apply("k", Action::SetPrice { book: book_id(4), cost_cents: 0 });
    assert_eq!(outcome, Outcome::Changed(fixture.book(4).unwrap()));
    assert_eq!(fixture.book(4).unwrap().cost_cents, 0);
    assert_eq!(applied.touched, sorted(vec![key(4), topic("spring"), CacheKey::Pages]));
    let absent = fixture.run(Action::SetPrice { book: book_id(9), cost_cents: 1 });
    assert_eq!(absent, Outcome::Refused(Refusal::NoSuchBook { book: book_id(9) }));
}

#[test]
fn books_are_added_replaced_and_removed() {
    let mut fixture = Fixture::stocked();
    let (outcome, applied) = fixture.apply("a", put(9, "New", "Fresh"));
    assert_eq!(outcome, Outcome::Added(fixture.book(9).unwrap()));
    assert_eq!(applied.touched, sorted(vec![key(9), topic("fresh"), CacheKey::Pages, CacheKey::Topics]));

    let (outcome, applied) = fixture.apply("b", put(9, "Newer", "Old_Fresh"));
    assert_eq!(outcome, Outcome::Changed(fixture.book(9).unwrap()));
    let keys = vec![key(9), topic("fresh"), topic("old fresh"), CacheKey::Pages, CacheKey::Topics];
    assert_eq!(applied.touched, sorted(keys));

    let remove = || Action::RemoveBook { book: book_id(9) };
    let (outcome, applied) = fixture.apply("c", remove());
    assert_eq!(outcome, Outcome::Removed);
    assert_eq!(applied.touched, sorted(vec![key(9), topic("old fresh"), CacheKey::Pages, CacheKey::Topics]));
    assert_eq!(fixture.book(9), None);
    let refused = Outcome::Refused(Refusal::NoSuchBook { book: book_id(9) });
    assert_eq!(fixture.run(remove()), refused);
    assert!(fixture.readers.recount().unwrap().is_sound());
}

#[test]
fn a_book_without_an_id_gets_the_next_of_its_shard() {
    for count in [1, 2, 5] {
        let shard = ShardId(count - 1);
        let MemoryStore { mut store, readers } =
            MemoryStore::new(shard, count, KEEP_ALL, StoreId(1)).unwrap();
        let mut history = History::default();
        let books = (0..10).map(|_| new_book(None, "t", "x")).collect();
        let entry = history.add_fresh(Action::Load { books });
        let change = protocol::replica::Change {
            promise: Epoch(1),
            appended_epoch: Epoch(1),
            commit: Index(0),
            entries: vec![entry],
        };
        store.append(&change).unwrap();
        let mine = (1..)
            .filter_map(|id| BookId::try_from(id).ok())
            .filter(|id| ShardId::of_book(*id, count) == shard);
        for id in mine.take(10) {
            let answer = readers.read(&Query::Book(id)).unwrap();
            assert_eq!(answer.version.index, Index(1), "{id} of {count}");
            assert!(matches!(answer.content, protocol::call::Content::Book(Some(_))), "{id} of {count}");
        }
    }
}

#[test]
fn a_load_that_finds_no_free_id_changes_nothing() {
    let mut fixture = Fixture::stocked();
    let books = vec![
        new_book(Some(1), "Replaced", "x"),
        new_book(Some(BOOK_ID_MAX), "The last", "x"),
        new_book(None, "One too many", "x"),
    ];
    let (outcome, applied) = fixture.apply("k", Action::Load { books });
    assert_eq!(outcome, Outcome::Refused(Refusal::NoFreeId));
    assert!(applied.touched.is_empty());
    assert_eq!(fixture.book(1).unwrap().facts.title, "RPCs for Dummies");
    assert_eq!(fixture.book(BOOK_ID_MAX), None);
    fixture.dump();
}

#[test]
fn a_key_has_one_outcome() {
    let mut fixture = Fixture::stocked();
    let (first, _) = fixture.apply("sale", buy(&[(1, 5)]));
    let (refused, _) = fixture.apply("too much", buy(&[(1, 1)]));
    fixture.run(Action::AddStock { book: book_id(1), amount: 5 });
    let digest = fixture.store.standing().digest;

    for (key, action, expected) in [
        ("sale", buy(&[(1, 5)]), first),
        ("too much", buy(&[(1, 1)]), refused),
        ("sale", buy(&[(1, 4)]), Outcome::Refused(Refusal::KeyConflict)),
        ("sale", put(1, "t", "x"), Outcome::Refused(Refusal::KeyConflict)),
    ] {
        let (outcome, applied) = fixture.apply(key, action);
        assert_eq!(outcome, expected);
        assert!(applied.touched.is_empty());
        assert_eq!(fixture.store.standing().digest, digest, "nothing changes, nothing is stored");
    }
    assert_eq!(fixture.book(1).unwrap().quantity, 5);
}

#[test]
fn a_batch_may_hold_a_key_twice_and_touches_each_key_once() {
    let mut fixture = Fixture::stocked();
    let entries: Vec<_> =
        ["a", "a", "b"].iter().map(|key| fixture.history.add(key, buy(&[(1, 1)]))).collect();
    let applied = fixture.append(entries);
    assert_eq!(applied.outcomes[0], applied.outcomes[1]);
    assert_eq!(fixture.book(1).unwrap().quantity, 3);
    assert_eq!(applied.touched, sorted(vec![key(1), topic("distributed systems"), CacheKey::Pages]));
}

#[test]
fn outcomes_are_read_back_as_they_were_given() {
    let mut fixture = Fixture::stocked();
    let entries = vec![
        fixture.history.add("a", buy(&[(1, 1)])),
        fixture.history.add("b", buy(&[(1, 9)])),
        fixture.history.add("a", buy(&[(1, 1)])),
        fixture.history.add("a", buy(&[(1, 2)])),
        fixture.history.add("c", Action::RemoveBook { book: book_id(1) }),
    ];
    let applied = fixture.append(entries);
    assert_eq!(fixture.store.outcomes(Index(2), Index(6)).unwrap(), applied.outcomes);
    assert_eq!(fixture.store.outcomes(Index(3), Index(3)).unwrap(), applied.outcomes[1..2]);
}
