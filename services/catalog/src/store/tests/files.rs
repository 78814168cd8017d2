//! The file: what is taken, what is refused and left as it is, what is made anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use protocol::ids::{Epoch, Index, ShardId, StoreId};
use protocol::replica::Change;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{Fixture, History, buy, put, view};
use crate::store::{Readers, Store, StoreError, check_folder};

fn open(directory: &Path) -> Result<(Store, Readers), StoreError> {
    Store::open(directory, ShardId(0), 1, 9)
}

/// Each file of the store with its bytes, but the lock and SQLite's shared memory. Looking through SQLite leaves an
/// empty write-ahead log behind.
fn bytes(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| {
            !path.to_string_lossy().ends_with(".lock") && !path.to_string_lossy().ends_with("-shm")
        })
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .filter(|(path, bytes)| !bytes.is_empty() || !path.to_string_lossy().ends_with("-wal"))
        .collect();
    files.sort();
    files
}

fn refused_untouched(directory: &Path) -> StoreError {
    let before = bytes(directory);
    let problem = open(directory).unwrap_err();
    assert!(bytes(directory) == before, "{problem} changed a file");
    problem
}

#[test]
fn a_store_keeps_its_id_and_a_new_file_has_a_new_one() {
    let directory = TempDir::new().unwrap();
    let nested = directory.path().join("catalog-1");
    let first = open(&nested).unwrap().0.standing();
    assert_ne!(first.store, StoreId(0));
    assert_eq!(open(&nested).unwrap().0.standing(), first);
    let other = Store::open(&nested, ShardId(3), 4, 9).unwrap().0.standing();
    assert_ne!(other.store, first.store);
    assert!(nested.join("shard-3.db").exists());
}

#[test]
fn a_deleted_file_does_not_come_back_from_its_log() {
    let directory = TempDir::new().unwrap();
    let crashed = TempDir::new().unwrap();
    let (store, readers) = open(directory.path()).unwrap();
    let old = store.standing().store;
    let mut fixture = Fixture { store, readers, history: Default::default(), directory: None };
    fixture.run(put(1, "t", "x"));
    for suffix in ["-wal", "-shm"] {
        let name = format!("shard-0.db{suffix}");
        fs::copy(directory.path().join(&name), crashed.path().join(&name)).unwrap();
    }
    fs::write(crashed.path().join("shard-0.db.new"), "half made").unwrap();
    fs::write(crashed.path().join("shard-0.db.copy-1"), "half copied").unwrap();
    let (store, readers) = open(crashed.path()).unwrap();
    assert_ne!(store.standing().store, old);
    assert_eq!(store.standing().last, Index(0));
    assert!(!crashed.path().join("shard-0.db.new").exists());
    assert!(!crashed.path().join("shard-0.db.copy-1").exists());
    let mut fixture = Fixture { store, readers, history: Default::default(), directory: None };
    assert_eq!(fixture.book(1), None);
    fixture.run(put(1, "t", "x"));
    fixture.dump();
}

#[test]
fn a_newer_file_is_refused_and_left_as_it_is() {
    let directory = TempDir::new().unwrap();
    drop(open(directory.path()).unwrap());
    let path = directory.path().join("shard-0.db");
    let conn = Connection::open(&path).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();

    // As a crash leaves it, the change still in the write-ahead log alone.
    let crashed = TempDir::new().unwrap();
    for name in ["shard-0.db", "shard-0.db-wal"] {
        fs::copy(directory.path().join(name), crashed.path().join(name)).unwrap();
    }
    assert_eq!(fs::read(crashed.path().join("shard-0.db")).unwrap()[60..64], 4_u32.to_be_bytes());
    drop(conn);
    for directory in [directory, crashed] {
        let problem = refused_untouched(directory.path());
        assert!(matches!(problem, StoreError::TooNew { found: 99, known: 4, .. }), "{problem:?}");
    }
}

#[test]
fn a_foreign_file_is_refused_and_left_as_it_is() {
    let another = TempDir::new().unwrap();
    let conn = Connection::open(another.path().join("x.db")).unwrap();
    conn.execute_batch("CREATE TABLE meta (one INTEGER); INSERT INTO meta VALUES (1);").unwrap();
    drop(conn);
    let database = fs::read(another.path().join("x.db")).unwrap();
    for content in [&b""[..], b"hello", b"SQLite format 3\0", &[0xff; 4096], &database] {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("shard-0.db"), content).unwrap();
        let problem = refused_untouched(directory.path());
        assert!(matches!(problem, StoreError::Foreign { .. }), "{problem:?}");
    }
}

/// Makes a shard's file that has promised something, and nothing else.
fn make_used(directory: &Path, shard: ShardId, shard_count: u32) {
    let (mut store, _) = Store::open(directory, shard, shard_count, 9).unwrap();
    store.promise(Epoch(1), None).unwrap();
}

#[test]
fn a_file_of_another_shard_is_refused() {
    let directory = TempDir::new().unwrap();
    make_used(directory.path(), ShardId(0), 1);
    let problem = Store::open(directory.path(), ShardId(0), 2, 9).unwrap_err();
    assert_eq!(
        problem.to_string(),
        format!(
            "{}: it holds shard 0 of 1, but shard 0 of 2 is configured",
            directory.path().join("shard-0.db").display()
        )
    );
    fs::copy(directory.path().join("shard-0.db"), directory.path().join("shard-1.db")).unwrap();
    let problem = Store::open(directory.path(), ShardId(1), 1, 9).unwrap_err();
    assert!(matches!(problem, StoreError::OtherShard { .. }), "{problem:?}");
}

#[test]
fn a_damaged_file_is_set_aside_and_a_new_one_made() {
    for damage in [
        "UPDATE meta SET promise = promise + 1",
        "UPDATE meta SET store = zeroblob(16)",
        "UPDATE meta SET commit_index = 1",
        "UPDATE meta SET view = x'00'",
        "DELETE FROM meta",
        "DROP TABLE meta",
        "ALTER TABLE stock RENAME COLUMN cost_cents TO cost",
    ] {
        let directory = TempDir::new().unwrap();
        let old = open(directory.path()).unwrap().0.standing();
        let conn = Connection::open(directory.path().join("shard-0.db")).unwrap();
        conn.execute(damage, []).unwrap();
        drop(conn);
        let new = open(directory.path()).unwrap().0.standing();
        assert_ne!(new.store, old.store, "{damage}");
        assert_eq!((new.last, new.promise), (Index(0), Epoch(0)), "{damage}");
        let aside = |path: &PathBuf| path.to_string_lossy().contains("shard-0.db.damaged-");
        assert!(bytes(directory.path()).iter().any(|(path, _)| aside(path)), "{damage}");
    }
}

#[test]
fn a_file_to_which_somebody_has_added_something_is_refused_and_named() {
    let directory = TempDir::new().unwrap();
    drop(open(directory.path()).unwrap());
    let conn = Connection::open(directory.path().join("shard-0.db")).unwrap();
    conn.execute("CREATE INDEX by_year ON books (year)", []).unwrap();
    drop(conn);
    let file = || fs::read(directory.path().join("shard-0.db")).unwrap();
    let before = file();
    let problem = open(directory.path()).unwrap_err();
    assert!(file() == before, "the file is left as it is");
    assert!(matches!(&problem, StoreError::Added { name, .. } if name == "by_year"), "{problem:?}");
    assert!(problem.is_wrong_use() && !problem.is_damage());
}

/// A column that has another name is in no row, so no digest would show it.
#[test]
fn a_file_is_set_aside_if_a_letter_of_its_tables_has_changed() {
    // With the highest bit it is no letter at all.
    for (word, bit) in [
        ("cost_cents INTEGER", 0x02),
        ("commit_index INTEGER", 0x02),
        ("entries BLOB NOT NULL", 0x02),
        ("entries BLOB NOT NULL", 0x80),
    ] {
        let directory = TempDir::new().unwrap();
        let old = open(directory.path()).unwrap().0.standing().store;
        let path = directory.path().join("shard-0.db");
        let mut bytes = fs::read(&path).unwrap();
        let places: Vec<usize> =
            (0..bytes.len()).filter(|at| bytes[*at..].starts_with(word.as_bytes())).collect();
        assert!(!places.is_empty(), "{word}");
        places.into_iter().for_each(|at| bytes[at] ^= bit);
        fs::write(&path, bytes).unwrap();
        let new = open(directory.path()).unwrap().0.standing().store;
        assert_ne!(new, old, "{word}");
    }
}

#[test]
fn a_truncated_file_is_set_aside() {
    let directory = TempDir::new().unwrap();
    drop(open(directory.path()).unwrap());
    let path = directory.path().join("shard-0.db");
    let whole = fs::read(&path).unwrap();
    let old = open(directory.path()).unwrap().0.standing().store;
    for length in [100, 512, 4096, 5000, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        for suffix in ["-wal", "-shm"] {
            drop(fs::remove_file(directory.path().join(format!("shard-0.db{suffix}"))));
        }
        let new = open(directory.path()).unwrap().0.standing().store;
        assert_ne!(new, old, "cut at {length}");
    }
}

#[test]
fn another_count_is_refused_also_by_a_node_that_is_given_none_of_the_shards_it_holds() {
    let directory = TempDir::new().unwrap();
    make_used(directory.path(), ShardId(2), 4);
    check_folder(directory.path(), 4).unwrap();
    let problem = check_folder(directory.path(), 2).unwrap_err();
    let told = "it holds shard 2 of 4, but `shards.count` is 2; set it back";
    assert!(problem.is_wrong_use() && problem.to_string().ends_with(told), "{problem}");
}

#[test]
fn a_file_of_another_count_that_was_never_used_is_no_obstacle() {
    let directory = TempDir::new().unwrap();
    let mut ids = BTreeSet::new();
    // Opened anew under its own count it stays; under another it makes room, also on the way back.
    for (count, made) in [(4, 1), (4, 1), (2, 2), (4, 3)] {
        check_folder(directory.path(), count).unwrap();
        let standing = Store::open(directory.path(), ShardId(1), count, 9).unwrap().0.standing();
        ids.insert(standing.store.0);
        assert_eq!(ids.len(), made, "{count}");
        assert_eq!((standing.last, standing.promise), (Index(0), Epoch(0)));
    }
    // A count that is right again with the files of the wrong one left over, of shards that the node is not given.
    check_folder(directory.path(), 1).unwrap();
    drop(open(directory.path()).unwrap());
    check_folder(directory.path(), 1).unwrap();
    // Another shard of the same count is a file in the wrong place, whatever it holds.
    fs::copy(directory.path().join("shard-0.db"), directory.path().join("shard-3.db")).unwrap();
    let problem = Store::open(directory.path(), ShardId(3), 1, 9).unwrap_err();
    assert!(matches!(problem, StoreError::OtherShard { .. }), "{problem:?}");
}

#[test]
fn a_file_of_another_count_that_said_anything_is_refused_and_left_as_it_is() {
    let change =
        |promise, appended_epoch, entries| Change { promise, appended_epoch, commit: Index(0), entries };
    let entry = || History::default().add_fresh(put(1, "t", "x"));
    type Use<'u> = &'u dyn Fn(&mut Store);
    let uses: [(&str, Use<'_>); 5] = [
        ("a promise", &|store| store.promise(Epoch(1), None).unwrap()),
        ("a view", &|store| store.promise(Epoch(0), Some(&view(1))).unwrap()),
        ("an empty append", &|store| drop(store.append(&change(Epoch(0), Epoch(1), Vec::new())).unwrap())),
        ("an entry", &|store| drop(store.append(&change(Epoch(0), Epoch(0), vec![entry()])).unwrap())),
        ("a promise, all else undone", &|store| {
            drop(store.append(&change(Epoch(1), Epoch(0), vec![entry()])).unwrap());
            store.undo_to(Index(0)).unwrap();
        }),
    ];
    for (name, make_use) in uses {
        let directory = TempDir::new().unwrap();
        let crashed = TempDir::new().unwrap();
        let (mut store, readers) = Store::open(directory.path(), ShardId(0), 2, 9).unwrap();
        make_use(&mut store);
        // As a crash leaves it, what was done still in the write-ahead log alone.
        for file in ["shard-0.db", "shard-0.db-wal"] {
            fs::copy(directory.path().join(file), crashed.path().join(file)).unwrap();
        }
        drop((store, readers));
        for directory in [&directory, &crashed] {
            let before = bytes(directory.path());
            let problem = check_folder(directory.path(), 1).unwrap_err();
            assert!(matches!(problem, StoreError::OtherCount { found_count: 2, .. }), "{name}: {problem:?}");
            assert!(bytes(directory.path()) == before, "{name}");
            let problem = refused_untouched(directory.path());
            assert!(matches!(problem, StoreError::OtherShard { .. }), "{name}: {problem:?}");
            drop(Store::open(directory.path(), ShardId(0), 2, 9).unwrap());
        }
    }
}

#[test]
fn a_commit_is_synced_and_readers_are_not_held_up_by_it() {
    let directory = TempDir::new().unwrap();
    let (store, _) = open(directory.path()).unwrap();
    let setting = |name: &str| -> String {
        let value = store.conn.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
        match value.unwrap() {
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((setting("synchronous").as_str(), setting("journal_mode").as_str()), ("2", "wal"));
    assert_eq!(setting("wal_autocheckpoint"), "0");
}

#[test]
fn a_store_has_one_owner() {
    let directory = TempDir::new().unwrap();
    let (store, _) = open(directory.path()).unwrap();
    let problem = open(directory.path()).unwrap_err();
    assert!(matches!(problem, StoreError::Busy { .. }), "{problem:?}");
    drop(store);
    drop(open(directory.path()).unwrap());
}

#[test]
fn a_write_past_the_owner_is_noticed() {
    let mut fixture = Fixture::stocked();
    let conn = Connection::open(fixture.store.path()).unwrap();
    conn.execute("UPDATE meta SET last = last + 1", []).unwrap();
    let entry = fixture.history.add_fresh(buy(&[(1, 1)]));
    let change =
        Change { promise: Epoch(1), appended_epoch: Epoch(1), commit: Index(0), entries: vec![entry] };
    let problem = fixture.store.append(&change).unwrap_err();
    assert!(matches!(problem, StoreError::Corrupt { .. }), "{problem:?}");
}
