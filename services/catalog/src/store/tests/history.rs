//! Undo, the digest, and that history alone makes the tables: single commands and random sequences.

use std::collections::BTreeMap;

use protocol::command::Action;
use protocol::entry::Entry;
use protocol::ids::{BOOK_ID_MAX, Epoch, Index};
use protocol::replica::Change;

use super::{Fixture, Random, book_id, buy, new_book, put};
use crate::store::StoreError;

#[test]
fn each_command_is_undone_without_a_trace() {
    let actions = [
        buy(&[(1, 1), (3, 2)]),
        buy(&[(1, 99)]),
        Action::AddStock { book: book_id(1), amount: -2 },
        Action::AddStock { book: book_id(8), amount: 1 },
        Action::SetPrice { book: book_id(2), cost_cents: 7 },
        put(1, "Replaced", "another topic"),
        put(8, "Added", "new topic"),
        Action::PutBook(Box::new(new_book(None, "Added without an id", "spring"))),
        Action::RemoveBook { book: book_id(3) },
        Action::Load {
            books: vec![
                new_book(Some(1), "One", "x"),
                new_book(Some(1), "Two", "y"),
                new_book(None, "Three", "z"),
            ],
        },
        Action::Load {
            books: vec![
                new_book(Some(1), "One", "x"),
                new_book(Some(BOOK_ID_MAX), "Last", "x"),
                new_book(None, "No id left", "x"),
            ],
        },
        buy(&[(1, 1), (2, 99)]),
    ];
    let mut fixture = Fixture::stocked();
    for action in actions {
        let before = fixture.dump();
        let (outcome, _) = fixture.apply("k", action.clone());
        assert_ne!(fixture.dump(), before, "{action:?}");
        fixture.apply("k", action.clone());
        fixture.apply("k", put(77, "conflict", "x"));
        fixture.undo_to(Index(1));
        assert_eq!(fixture.dump(), before, "{action:?}");
        let (again, _) = fixture.apply("k", action.clone());
        assert_eq!(without_time(&format!("{again:?}")), without_time(&format!("{outcome:?}")));
        fixture.undo_to(Index(1));
    }
}

fn without_time(outcome: &str) -> String {
    outcome.split("Timestamp(").map(|part| part.split_once(')').map_or(part, |(_, rest)| rest)).collect()
}

#[test]
fn what_is_committed_is_never_undone() {
    let mut fixture = Fixture::stocked();
    for _ in 0..4 {
        fixture.run(buy(&[(1, 1)]));
    }
    fixture.store.set_commit(Index(3));
    let before = fixture.dump();
    let refused = fixture.store.undo_to(Index(2));
    assert!(
        matches!(refused, Err(StoreError::UndoRefused { to: Index(2), commit: Index(3) })),
        "{refused:?}"
    );
    assert_eq!(fixture.dump(), before);
    fixture.undo_to(Index(3));
    assert_eq!(fixture.store.standing().last, Index(3));
    fixture.undo_to(Index(3));
}

#[test]
fn undo_says_when_what_it_needs_is_gone() {
    let mut fixture = Fixture::stocked();
    fixture.run(buy(&[(1, 1)]));
    fixture.run(buy(&[(1, 1)]));
    fixture.store.conn.execute("UPDATE log SET undo = NULL WHERE first = 2", []).unwrap();
    let before = fixture.dump();
    let gone = fixture.store.undo_to(Index(1));
    assert!(matches!(gone, Err(StoreError::UndoGone { index: Index(2) })), "{gone:?}");
    assert_eq!(fixture.dump(), before);
}

fn random_action(random: &mut Random) -> Action {
    let book = book_id(1 + random.below(12));
    match random.below(12) {
        0..=4 => {
            let lines = 1 + random.below(3);
            let line = |_| (1 + random.below(12), 1 + random.below(4));
            buy(&(0..lines).map(line).collect::<Vec<_>>())
        }
        5 | 6 => Action::AddStock { book, amount: i64::try_from(random.below(9)).unwrap() - 4 },
        7 => Action::SetPrice { book, cost_cents: random.below(5_000) },
        8 => Action::RemoveBook { book },
        9 => Action::Load { books: (0..random.below(4)).map(|_| random_book(random)).collect() },
        _ => Action::PutBook(Box::new(random_book(random))),
    }
}

fn random_book(random: &mut Random) -> protocol::catalogue::NewBook {
    let topics = ["Distributed Systems", "distributed-systems", "spring", "GRADUATE_school"];
    let words = ["cooking", "rpc", "été", "theory"];
    let topic = topics[usize::try_from(random.below(4)).unwrap()];
    let title = words[usize::try_from(random.below(4)).unwrap()];
    let id = (random.below(4) > 0).then(|| 1 + random.below(12));
    new_book(id, title, topic)
}

fn random_entries(fixture: &mut Fixture, random: &mut Random) -> Vec<Entry> {
    let mut entries = Vec::new();
    for _ in 0..=random.below(8) {
        let action = random_action(random);
        entries.push(if random.below(8) == 0 {
            fixture.history.add(&format!("shared-{}", random.below(5)), action)
        } else {
            fixture.history.add_fresh(action)
        });
    }
    entries
}

#[test]
fn random_histories_are_undone_step_by_step() {
    for seed in 1..=8 {
        let mut random = Random(seed * 0x9e37_79b9);
        let mut fixture = Fixture::in_memory();
        let mut states = BTreeMap::from([(0, fixture.dump())]);
        for _ in 0..60 {
            if random.below(3) == 0 {
                let seen: Vec<u64> = states.keys().copied().collect();
                let to = seen[usize::try_from(random.below(u64::try_from(seen.len()).unwrap())).unwrap()];
                fixture.undo_to(Index(to));
                states.retain(|index, _| *index <= to);
                assert_eq!(fixture.dump(), states[&to], "seed {seed}, back at {to}");
            } else {
                let entries = random_entries(&mut fixture, &mut random);
                fixture.append(entries);
                states.insert(fixture.store.standing().last.0, fixture.dump());
            }
        }
    }
}

#[test]
fn equal_histories_make_equal_stores() {
    for seed in 1..=4 {
        let mut random = Random(seed * 0x517c_c1b7);
        let mut one = Fixture::new();
        let mut outcomes = Vec::new();
        for round in 0..50 {
            let entries = random_entries(&mut one, &mut random);
            outcomes.extend(one.append(entries).outcomes);
            if round % 7 == 6 {
                let to = Index(one.store.standing().last.0 - random.below(5));
                one.undo_to(to);
                outcomes.truncate(usize::try_from(to.0).unwrap());
            }
        }
        // The other gets what is left in batches of other sizes, and never undoes.
        let mut other = Fixture::in_memory();
        let mut others = Vec::new();
        for entries in one.history.entries.chunks(17) {
            others.extend(other.append(entries.to_vec()).outcomes);
        }
        assert_eq!(outcomes, others, "seed {seed}");
        assert_eq!(one.dump(), other.dump(), "seed {seed}");
        assert_eq!(one.store.standing().digest, other.store.standing().digest);
    }
}

#[test]
fn an_entry_that_does_not_follow_changes_nothing() {
    let mut fixture = Fixture::stocked();
    let before = fixture.dump();
    fixture.history.add_fresh(buy(&[(1, 1)]));
    let ahead = fixture.history.add_fresh(buy(&[(1, 1)]));
    let change =
        Change { promise: Epoch(9), appended_epoch: Epoch(9), commit: Index(0), entries: vec![ahead] };
    let refused = fixture.store.append(&change);
    assert!(matches!(refused, Err(StoreError::Corrupt { .. })), "{refused:?}");
    assert_eq!(fixture.dump(), before);
    assert_eq!(fixture.store.standing().promise, Epoch(1));
}

#[test]
fn a_recount_finds_a_changed_row_in_each_table() {
    for damage in [
        "UPDATE stock SET quantity = quantity + 1 WHERE id = 1",
        "UPDATE stock SET epoch = 9 WHERE id = 1",
        "UPDATE books SET description = 'x' WHERE id = 1",
        "UPDATE books SET topic_key = 'x' WHERE id = 1",
        "DELETE FROM outcomes",
        "DELETE FROM outcomes WHERE first = 2",
        "UPDATE outcomes SET rows = x'00'",
        // The last byte of a sale's moment; a byte of a title; a byte of a key.
        "UPDATE outcomes SET rows = CAST(substr(rows, 1, length(rows) - 1) || x'01' AS BLOB) WHERE first = 2",
        "UPDATE outcomes SET rows = CAST(replace(rows, 'RPCs', 'RPC?') AS BLOB) WHERE first = 2",
        "UPDATE outcomes SET rows = CAST(replace(rows, 'key-', 'Key-') AS BLOB) WHERE first = 2",
        "INSERT INTO keys VALUES (1, 2)",
        "UPDATE topics SET books = books + 1",
        "DELETE FROM stock WHERE id = 1",
        "INSERT INTO stock VALUES (99, 1, 1, 1, 1)",
        "DELETE FROM books WHERE id = 1",
    ] {
        let mut fixture = Fixture::stocked();
        fixture.run(buy(&[(1, 1)]));
        assert!(fixture.readers.recount().unwrap().is_sound());
        assert!(fixture.store.conn.execute(damage, []).unwrap() > 0);
        match fixture.readers.recount() {
            Ok(recount) => assert!(!recount.is_sound(), "{damage}"),
            Err(problem) => assert!(problem.is_damage(), "{damage}: {problem}"),
        }
    }
}

#[test]
fn a_recount_finds_a_changed_entry_of_the_log() {
    for damage in [
        "UPDATE log SET entries = x'00' WHERE first = 1",
        "UPDATE log SET entries = (SELECT entries FROM log WHERE first = 3) WHERE first = 2",
        "UPDATE log SET last = last + 1 WHERE first = 2",
        "DELETE FROM log WHERE first = 2",
    ] {
        let fixture = three_pieces();
        assert!(fixture.store.conn.execute(damage, []).unwrap() > 0);
        let found = fixture.readers.recount();
        assert!(matches!(found, Err(StoreError::Corrupt { .. })), "{damage}: {found:?}");
    }
    for at in 0..piece(&three_pieces()).len() {
        let fixture = three_pieces();
        let mut bytes = piece(&fixture);
        bytes[at] ^= 0x10;
        fixture.store.conn.execute("UPDATE log SET entries = ?1 WHERE first = 2", [bytes]).unwrap();
        let found = fixture.readers.recount();
        assert!(matches!(found, Err(StoreError::Corrupt { .. })), "byte {at}: {found:?}");
    }
}

fn three_pieces() -> Fixture {
    let mut fixture = Fixture::stocked();
    fixture.run(buy(&[(1, 1)]));
    fixture.run(buy(&[(1, 1)]));
    assert!(fixture.readers.recount().unwrap().is_sound());
    fixture
}

fn piece(fixture: &Fixture) -> Vec<u8> {
    fixture.store.conn.query_row("SELECT entries FROM log WHERE first = 2", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_scrub_that_rests_finds_what_a_recount_finds() {
    let mut fixture = Fixture::new();
    let books = (1..=2500).map(|id| new_book(Some(id), "One of many", "rests")).collect();
    fixture.run(Action::Load { books });
    let found = fixture.readers.scrub().unwrap();
    assert!(found.is_sound());
    assert_eq!(found, fixture.readers.recount().unwrap());
}
