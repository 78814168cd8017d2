//! The log: slices, retention, promises, and that nothing is lost without a clean end.

use protocol::ids::{Chain, Epoch, Index, ShardId};
use protocol::replica::Change;
use tempfile::TempDir;

use super::{Fixture, buy, view};
use crate::store::{LogSlice, Store, StoreError};

fn indexes(slice: LogSlice) -> Option<(Vec<u64>, u64)> {
    match slice {
        LogSlice::Entries { entries, last } => {
            Some((entries.iter().map(|entry| entry.index.0).collect(), last.0))
        }
        LogSlice::Gone => None,
    }
}

#[test]
fn slices_of_the_log_have_no_gaps() {
    let mut fixture = Fixture::stocked();
    for _ in 0..5 {
        fixture.run(buy(&[(1, 1)]));
    }
    let slice = |after, upto: Option<u64>, entries, bytes| {
        let from_store = fixture.store.entries(Index(after), upto.map(Index), entries, bytes).unwrap();
        let from_readers = fixture.readers.entries(Index(after), upto.map(Index), entries, bytes).unwrap();
        assert_eq!(from_store, from_readers);
        indexes(from_store)
    };
    let all = usize::MAX;
    assert_eq!(slice(0, None, all, all), Some((vec![1, 2, 3, 4, 5, 6], 6)));
    assert_eq!(slice(2, Some(4), all, all), Some((vec![3, 4], 6)));
    assert_eq!(slice(2, Some(99), 2, all), Some((vec![3, 4], 6)));
    assert_eq!(slice(2, None, all, 0), Some((vec![3], 6)));
    assert_eq!(slice(2, None, 0, all), Some((vec![3], 6)));
    assert_eq!(slice(6, None, all, all), Some((vec![], 6)));
    assert_eq!(slice(9, Some(3), all, all), Some((vec![], 6)));
    assert_eq!(fixture.store.all_entries(Index(0), Index(6)).unwrap(), fixture.history.entries);
    let chains: Vec<(Index, Chain)> = fixture.history.entries.iter().map(|e| (e.index, e.chain)).collect();
    assert_eq!(fixture.store.tail(Index(0)).unwrap(), chains);
    assert_eq!(fixture.store.tail(Index(5)).unwrap(), chains[4..]);
}

#[test]
fn the_log_is_cut_below_the_commit_index_alone() {
    let mut fixture = Fixture::keeping(3);
    fixture.stock();
    for _ in 0..9 {
        let entry = fixture.history.add_fresh(buy(&[(1, 1)]));
        fixture.append_knowing(vec![entry], Index(2));
    }
    assert_eq!(fixture.store.tail(Index(0)).unwrap().len(), 10, "nothing is committed that far");

    let entry = fixture.history.add_fresh(buy(&[(1, 1)]));
    fixture.append_knowing(vec![entry], Index(8));
    let left: Vec<u64> = fixture.store.tail(Index(0)).unwrap().iter().map(|(index, _)| index.0).collect();
    assert_eq!(left, [6, 7, 8, 9, 10, 11], "3 at and below the commit index, all above");
    assert_eq!(indexes(fixture.readers.entries(Index(4), None, 9, 9).unwrap()), None);
    assert_eq!(indexes(fixture.readers.entries(Index(5), None, 1, 9).unwrap()), Some((vec![6], 11)));
    assert!(fixture.store.all_entries(Index(4), Index(7)).is_err());

    fixture.undo_to(Index(8));
    assert_eq!(fixture.store.standing().last, Index(8));
}

#[test]
fn with_nothing_to_keep_undo_still_ends_on_a_known_chain() {
    let mut fixture = Fixture::keeping(0);
    fixture.stock();
    for commit in 1..=4 {
        let entry = fixture.history.add_fresh(buy(&[(1, 1)]));
        fixture.append_knowing(vec![entry], Index(commit));
    }
    assert_eq!(fixture.store.tail(Index(0)).unwrap().first().unwrap().0, Index(4));
    let chain = fixture.history.entries[3].chain;
    fixture.undo_to(Index(4));
    assert_eq!((fixture.store.standing().last, fixture.store.standing().chain), (Index(4), chain));
}

#[test]
fn a_long_backlog_goes_over_several_batches() {
    let mut fixture = Fixture::keeping(1);
    fixture.stock();
    let entries = (0..10_000).map(|_| fixture.history.add_fresh(buy(&[(9, 1)]))).collect();
    fixture.append(entries);
    let mut left = fixture.store.tail(Index(0)).unwrap().len();
    assert_eq!(left, 10_001);
    for expected in [4096, 4096, 1808] {
        fixture.append_knowing(Vec::new(), Index(10_001));
        let now = fixture.store.tail(Index(0)).unwrap().len();
        // It goes by pieces, and the last one stays.
        assert!((expected - 400..=expected + 400).contains(&(left - now)), "{left} to {now}");
        left = now;
    }
    assert!((1..400).contains(&left), "{left}");
}

#[test]
fn a_long_log_is_cut_by_many_entries_at_once() {
    let mut fixture = Fixture::in_memory();
    fixture.store.keep_entries = 800;
    fixture.stock();
    let mut cuts = Vec::new();
    let mut first = Index(1);
    for _ in 0..1_200 {
        let entry = fixture.history.add_fresh(buy(&[(9, 1)]));
        let commit = entry.index;
        fixture.append_knowing(vec![entry], commit);
        let now = fixture.store.first;
        if now > first {
            cuts.push(now.0 - first.0);
            first = now;
        }
        assert!(fixture.store.standing().last.0 - first.0 < 900);
    }
    assert_eq!(cuts, [100; 4], "an eighth of what is kept");
    let kept = fixture.store.tail(Index(0)).unwrap();
    assert_eq!((kept.first().unwrap().0, kept.len()), (first, 801));
}

/// The files as a crash leaves them: copied while the store is open.
fn crash(directory: &TempDir) -> TempDir {
    let after = TempDir::new().unwrap();
    for suffix in ["", "-wal"] {
        let name = format!("shard-0.db{suffix}");
        std::fs::copy(directory.path().join(&name), after.path().join(&name)).unwrap();
    }
    after
}

#[test]
fn what_was_done_is_there_after_a_crash() {
    let mut fixture = Fixture::stocked();
    fixture.store.promise(Epoch(4), Some(&view(4))).unwrap();
    let entry = fixture.history.add_fresh(buy(&[(1, 1)]));
    let change =
        Change { promise: Epoch(6), appended_epoch: Epoch(5), commit: Index(2), entries: vec![entry] };
    fixture.store.append(&change).unwrap();
    fixture.store.promise(Epoch(5), Some(&view(3))).unwrap();
    let (standing, dump) = (fixture.store.standing(), fixture.dump());
    assert_eq!((standing.promise, standing.commit), (Epoch(6), Index(2)));
    assert_eq!(standing.view, Some(view(4)));

    let after = crash(fixture.directory.as_ref().unwrap());
    let (store, _) = Store::open(after.path(), ShardId(0), 1, 9).unwrap();
    assert_eq!(store.standing(), standing);
    assert_eq!(store.appended_epoch(), Epoch(5));
    assert_eq!(super::dump(&store.conn), dump);
}

#[test]
fn a_commit_index_is_kept_with_the_next_change_and_never_falls() {
    let mut fixture = Fixture::stocked();
    fixture.store.set_commit(Index(99));
    assert_eq!(fixture.store.standing().commit, Index(1));
    fixture.store.set_commit(Index(0));
    assert_eq!(fixture.store.standing().commit, Index(1));
    fixture.store.promise(Epoch(2), None).unwrap();
    let after = crash(fixture.directory.as_ref().unwrap());
    let (store, _) = Store::open(after.path(), ShardId(0), 1, 9).unwrap();
    assert_eq!(store.standing().commit, Index(1));
}

#[test]
fn an_append_lowers_no_promise_and_commits_nothing_that_is_not_there() {
    let mut fixture = Fixture::stocked();
    fixture.store.promise(Epoch(7), None).unwrap();
    let change = |commit| Change { promise: Epoch(2), appended_epoch: Epoch(2), commit, entries: vec![] };
    fixture.store.append(&change(Index(99))).unwrap();
    fixture.store.append(&change(Index(0))).unwrap();
    let standing = fixture.store.standing();
    assert_eq!((standing.promise, standing.commit), (Epoch(7), Index(1)));
}

#[test]
fn a_full_disk_is_told_apart_and_changes_nothing() {
    let mut fixture = Fixture::stocked();
    let dump = fixture.dump();
    let pages: i64 = fixture.store.conn.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    let limit = |fixture: &Fixture, pages: i64| {
        fixture.store.conn.pragma_update(None, "max_page_count", pages).unwrap();
    };
    limit(&fixture, pages);
    let entries: Vec<_> = (0..500).map(|_| fixture.history.add_fresh(buy(&[(9, 1)]))).collect();
    let change = Change { promise: Epoch(9), appended_epoch: Epoch(9), commit: Index(0), entries };
    let full = fixture.store.append(&change).unwrap_err();
    assert!(full.is_disk_full(), "{full:?}");
    assert!(matches!(full, StoreError::Full { .. }));
    assert_eq!(fixture.dump(), dump);
    limit(&fixture, 1 << 20);
    assert_eq!(fixture.store.append(&change).unwrap().outcomes.len(), 500);
}

#[test]
fn the_write_ahead_log_stays_short() {
    let mut fixture = Fixture::stocked();
    let wal = fixture.store.path().with_extension("db-wal");
    fixture.store.wal.bytes_max = 100_000;
    let mut longest = 0;
    for _ in 0..300 {
        fixture.run(buy(&[(9, 1)]));
        fixture.store.keep_short();
        longest = longest.max(std::fs::metadata(&wal).unwrap().len());
    }
    assert!((100_000..=150_000).contains(&longest), "one write beyond, and then from the front: {longest}");

    fixture.store.wal.bytes_max = u64::MAX;
    fixture.run(buy(&[(9, 1)]));
    let done = fixture.readers.checkpoint().unwrap();
    assert!(done.pages > 0 && done.pages == done.moved, "{done:?}");
    fixture.dump();
}
