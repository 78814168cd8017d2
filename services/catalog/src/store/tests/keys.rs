//! Keys, in a log so long that they go into the table.

use protocol::command::{Action, CommandKey, Outcome, Refusal, Scope};
use protocol::entry::Entry;
use protocol::ids::{Index, ShardId};

use super::{Fixture, History, KEEP_ALL, Random, buy};
use crate::store::{Store, keys};

/// A refusal, which costs little.
fn refused() -> Action {
    buy(&[(9, 1)])
}

fn is_repetition(number: u64) -> bool {
    number % 50 == 49 && number / 2 % 50 != 49
}

/// A log with some repetitions.
fn history(entries: u64) -> History {
    let mut history = History::default();
    for number in 0..entries {
        let used = if is_repetition(number) { number / 2 } else { number };
        history.add(&format!("key-{used}"), refused());
    }
    history
}

fn keys_in_table(fixture: &Fixture) -> u64 {
    let count = "SELECT count(*) FROM keys";
    fixture.store.conn.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned()
}

/// Appends entries in batches of a size.
fn append(fixture: &mut Fixture, entries: &[Entry], batch: usize) {
    for entries in entries.chunks(batch) {
        fixture.append(entries.to_vec());
    }
}

#[test]
fn a_key_is_known_wherever_it_is_kept() {
    const ENTRIES: u64 = 3_000;
    let mut fixture = Fixture::new();
    fixture.history = history(ENTRIES);
    let entries = fixture.history.entries.clone();
    append(&mut fixture, &entries, 70);
    // Two of 64 slices have had their turn.
    let settled = keys_in_table(&fixture);
    assert!((10..200).contains(&settled), "{settled}");
    let used: Vec<u64> = (0..ENTRIES).filter(|number| !is_repetition(*number)).collect();
    assert_eq!(fixture.store.keys.count() + settled, u64::try_from(used.len()).unwrap());
    for reopened in [false, true] {
        if reopened {
            let Fixture { store, readers, history, directory: Some(directory) } = fixture else { panic!() };
            drop((store, readers));
            let (store, readers) = Store::open(directory.path(), ShardId(0), 1, KEEP_ALL).unwrap();
            fixture = Fixture { store, readers, history, directory: Some(directory) };
        }
        let again = used.iter().map(|number| fixture.history.add(&format!("key-{number}"), buy(&[(9, 2)])));
        let again = again.collect();
        let outcomes = fixture.append(again).outcomes;
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Refused(Refusal::KeyConflict)));
        fixture.undo_to(Index(ENTRIES));
    }
    fixture.dump();
}

#[test]
fn batches_and_undoing_leave_no_trace_in_the_table() {
    let history = history(5_000);
    let mut whole = Fixture::in_memory();
    let mut states = Vec::new();
    for entries in history.entries.chunks(500) {
        append(&mut whole, entries, 500);
        states.push(whole.dump());
    }
    let mut random = Random(0x9e37_79b9);
    let mut other = Fixture::in_memory();
    let mut at = 0;
    while at < states.len() {
        // On by one part or more, in batches of any size, and sometimes back.
        let to = (at + 1 + usize::try_from(random.below(4)).unwrap()).min(states.len());
        let batch = 1 + usize::try_from(random.below(1_500)).unwrap();
        append(&mut other, &history.entries[at * 500..to * 500], batch);
        assert_eq!(other.dump(), states[to - 1]);
        at = to;
        if random.below(2) == 0 {
            at = 1 + usize::try_from(random.below(u64::try_from(at).unwrap())).unwrap();
            other.store.undo_to(Index(u64::try_from(at).unwrap() * 500)).unwrap();
            assert_eq!(other.dump(), states[at - 1]);
        }
    }
}

#[test]
fn a_key_is_not_taken_for_another_one_with_its_hash() {
    let mut fixture = Fixture::stocked();
    fixture.apply("one", buy(&[(1, 1)]));
    let other = CommandKey::new(Scope::Public, b"other");
    keys::insert(&fixture.store.conn, keys::hash(other.as_bytes()), Index(2)).unwrap();
    let (outcome, _) = fixture.apply("other", buy(&[(1, 2)]));
    assert!(matches!(outcome, Outcome::Sold(_)), "{outcome:?}");
    let (again, _) = fixture.apply("other", buy(&[(1, 2)]));
    assert_eq!(again, outcome);
}
