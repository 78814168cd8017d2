//! Snapshots: copied while writes go on, checked, installed.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use protocol::call::SnapshotFacts;
use protocol::command::Action;
use protocol::ids::{Digest, Epoch, Index, ShardId, StoreId};

use super::{Fixture, KEEP_ALL, Random, book_id, buy, install, new_book, put, view};
use crate::store::MemoryStore;
use crate::store::{Store, StoreError};

/// Ends the loop of another thread, also when the test fails before that.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A store with something in each table.
fn source() -> Fixture {
    let mut source = Fixture::stocked();
    for id in 1..=30 {
        source.run(put(id, "Some title with words", "topic one"));
        source.run(buy(&[(id, 2)]));
    }
    source.run(buy(&[(1, 99)]));
    source.store.set_commit(Index(40));
    source.store.promise(Epoch(3), Some(&view(3))).unwrap();
    source
}

#[test]
fn a_snapshot_makes_another_store_equal_but_for_its_own() {
    for mut target in [Fixture::stocked(), Fixture::new(), Fixture::in_memory()] {
        let source = source();
        target.store.promise(Epoch(9), Some(&view(8))).unwrap();
        let own = target.store.standing();
        let copy = source.readers.scratch_file().unwrap();
        let facts = source.readers.snapshot_to(copy.path()).unwrap();
        assert_eq!(facts.bytes, fs::metadata(copy.path()).unwrap().len());
        assert_eq!((facts.last, facts.chain), source.history.last());
        install(&mut target.store, &target.readers, copy.path(), &facts, Index(50)).unwrap();

        assert_eq!(target.dump(), source.dump());
        let now = target.store.standing();
        assert_eq!((now.store, now.promise, &now.view), (own.store, own.promise, &own.view));
        assert_eq!((now.last, now.digest), (facts.last, facts.digest));
        assert_eq!(now.commit, Index(50));

        // It goes on from there, and words are found.
        target.history = source.history.clone();
        target.run(put(77, "Zebra", "animals"));
        target.run(Action::RemoveBook { book: book_id(2) });
        assert_eq!(target.page(None, Some("zebra"), None, 9), (vec![77], false));
        assert_eq!(target.page(None, Some("title"), None, 2), (vec![1, 3], true));
        target.undo_to(facts.last);
        assert_eq!(target.dump(), source.dump());
        // What came with the snapshot can't be undone any more.
        let gone = target.store.undo_to(Index(60));
        assert!(matches!(gone, Err(StoreError::UndoGone { .. })), "{gone:?}");
    }
}

#[test]
fn an_installed_snapshot_is_there_after_a_restart() {
    let source = source();
    let mut target = Fixture::new();
    let copy = source.readers.scratch_file().unwrap();
    let facts = source.readers.snapshot_to(copy.path()).unwrap();
    install(&mut target.store, &target.readers, copy.path(), &facts, Index(0)).unwrap();
    let (standing, dump) = (target.store.standing(), target.dump());
    assert_eq!(standing.commit, Index(40), "as the source knew it");
    let Fixture { store, readers, directory: Some(directory), .. } = target else { panic!("it has a file") };
    drop((store, readers));
    let (store, readers) = Store::open(directory.path(), ShardId(0), 1, KEEP_ALL).unwrap();
    assert_eq!(store.standing(), standing);
    assert_eq!(super::dump(&store.conn), dump);
    assert!(readers.recount().unwrap().is_sound());
}

#[test]
fn a_copy_made_under_writes_is_one_state() {
    let mut source = source();
    let mut digests = BTreeMap::from([(source.store.standing().last, source.store.standing().digest)]);
    let readers = source.readers.clone();
    let stop = AtomicBool::new(false);
    let copies = std::thread::scope(|scope| {
        let stopping = Stop(&stop);
        let copier = scope.spawn(|| {
            let mut copies = Vec::new();
            while !stop.load(Ordering::Acquire) || copies.len() < 3 {
                let copy = readers.scratch_file().unwrap();
                let facts = readers.snapshot_to(copy.path()).unwrap();
                copies.push((copy, facts));
            }
            copies
        });
        for round in 0..200 {
            source.run(if round % 10 == 0 { put(round + 1, "Title", "x") } else { buy(&[(round, 1)]) });
            digests.insert(source.store.standing().last, source.store.standing().digest);
        }
        drop(stopping);
        copier.join().unwrap()
    });
    let middle = copies.iter().filter(|(_, facts)| facts.last < source.store.standing().last).count();
    assert!(middle > 0, "no copy was made during the writes");
    for (copy, facts) in copies.iter().step_by(copies.len().div_ceil(10)) {
        assert_eq!(facts.digest, digests[&facts.last]);
        let mut target = Fixture::in_memory();
        install(&mut target.store, &target.readers, copy.path(), facts, Index(0)).unwrap();
        target.dump();
    }
}

#[test]
fn readers_go_on_through_an_install() {
    let source = source();
    let mut target = Fixture::stocked();
    let copy = source.readers.scratch_file().unwrap();
    let facts = source.readers.snapshot_to(copy.path()).unwrap();
    let readers = target.readers.clone();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopping = Stop(&stop);
        let reader = scope.spawn(|| {
            let mut states = Vec::new();
            while !stop.load(Ordering::Acquire) {
                states.push(readers.recount().unwrap());
                readers.read(&protocol::call::Query::Topics).unwrap();
            }
            states
        });
        install(&mut target.store, &target.readers, copy.path(), &facts, Index(0)).unwrap();
        drop(stopping);
        for state in reader.join().unwrap() {
            assert!(state.is_sound() && [Index(1), facts.last].contains(&state.index), "{state:?}");
        }
    });
}

#[test]
fn a_snapshot_must_be_what_its_facts_say() {
    let source = source();
    let copy = source.readers.scratch_file().unwrap();
    let facts = source.readers.snapshot_to(copy.path()).unwrap();
    let wrong: [SnapshotFacts; 4] = [
        SnapshotFacts { bytes: facts.bytes + 1, ..facts.clone() },
        SnapshotFacts { last: Index(5), ..facts.clone() },
        SnapshotFacts { chain: Default::default(), ..facts.clone() },
        SnapshotFacts { digest: Digest(1), ..facts.clone() },
    ];
    let mut target = Fixture::stocked();
    let before = target.dump();
    for facts in &wrong {
        let problem = install(&mut target.store, &target.readers, copy.path(), facts, Index(0)).unwrap_err();
        assert!(matches!(problem, StoreError::BadSnapshot { .. }), "{problem:?}");
        assert_eq!(target.dump(), before);
    }
}

#[test]
fn a_snapshot_never_undoes_a_commit() {
    let mut source = Fixture::stocked();
    let copy = source.readers.scratch_file().unwrap();
    let facts = source.readers.snapshot_to(copy.path()).unwrap();
    source.run(buy(&[(1, 1)]));
    source.store.set_commit(Index(2));
    let problem = install(&mut source.store, &source.readers, copy.path(), &facts, Index(0)).unwrap_err();
    assert!(matches!(problem, StoreError::BadSnapshot { .. }), "{problem:?}");
    assert_eq!(source.store.standing().last, Index(2));
}

#[test]
fn a_snapshot_of_another_shard_is_refused() {
    let source = source();
    let copy = source.readers.scratch_file().unwrap();
    let facts = source.readers.snapshot_to(copy.path()).unwrap();
    for (shard, count) in [(1, 1), (0, 2)] {
        let MemoryStore { mut store, readers } =
            MemoryStore::new(ShardId(shard), count, 9, StoreId(1)).unwrap();
        let problem = install(&mut store, &readers, copy.path(), &facts, Index(0)).unwrap_err();
        assert!(matches!(problem, StoreError::OtherShard { .. }), "{problem:?}");
    }
}

#[test]
fn damage_is_refused_or_without_effect() {
    let mut source = source();
    source.run(Action::Load { books: vec![new_book(Some(400), "Needle in the file", "needles")] });
    let copy = source.readers.scratch_file().unwrap();
    let facts = source.readers.snapshot_to(copy.path()).unwrap();
    let whole = fs::read(copy.path()).unwrap();
    let expected = source.dump();
    let needle = whole.windows(6).position(|window| window == b"Needle").unwrap();
    let mut random = Random(0x2545_f491);
    let length = u64::try_from(whole.len()).unwrap();
    let places = (0..300).map(|_| usize::try_from(random.below(length)).unwrap());
    let mut refused = 0;
    for place in [needle].into_iter().chain(0..100).chain(places) {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 8);
        let damaged = source.readers.scratch_file().unwrap();
        fs::write(damaged.path(), bytes).unwrap();
        let mut target = Fixture::in_memory();
        // A connection that is open already must understand what is put in place below it.
        assert!(target.readers.recount().unwrap().is_sound());
        match install(&mut target.store, &target.readers, damaged.path(), &facts, Index(0)) {
            Ok(()) => assert!(target.dump() == expected && place != needle, "a flip at {place} went through"),
            Err(_) => {
                refused += 1;
                assert_eq!(target.store.standing().last, Index(0));
            }
        }
    }
    assert!(refused > 50, "{refused}");
}
