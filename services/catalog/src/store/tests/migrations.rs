//! Files of earlier versions.

use std::ops::ControlFlow;
use std::path::Path;

use protocol::call::{Content, Query, StockMove};
use protocol::command::{Action, CommandKey, Outcome, Refusal};
use protocol::ids::{Digest, Epoch, Index, OrderId, ShardId};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{Fixture, History, KEEP_ALL, book_id, buy, put};
use crate::store::migrations::{VERSION_1, VERSION_2};
use crate::store::schema::APPLICATION_ID;
use crate::store::{Store, log, migrations, outcomes, schema};

/// The rows of a file that a program of version 2 has written.
const ROWS_OF_VERSION_2: &str = include_str!("version-2.sql");
/// The digest that they have.
const DIGEST: Digest = Digest(39_460_015_592_872_109_515_411_932_085_111_025_116);
/// The last entry, and what was known to be committed.
const LAST: Index = Index(35);
const COMMIT: Index = Index(23);

/// An empty file of version 2.
fn empty(directory: &Path) -> Connection {
    let conn = Connection::open(directory.join("shard-0.db")).unwrap();
    conn.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    conn.execute_batch(VERSION_1).unwrap();
    conn.execute_batch(VERSION_2).unwrap();
    conn.pragma_update(None, "user_version", 2).unwrap();
    conn
}

fn of_version_2(directory: &Path) -> Connection {
    let conn = empty(directory);
    conn.execute_batch(ROWS_OF_VERSION_2).unwrap();
    conn.execute("INSERT INTO books_words (books_words) VALUES ('rebuild')", []).unwrap();
    conn
}

fn open(directory: TempDir) -> Fixture {
    let (store, readers) = Store::open(directory.path(), ShardId(0), 1, KEEP_ALL).unwrap();
    Fixture { store, readers, history: History::default(), directory: Some(directory) }
}

/// A store that goes on with a history that is not known in full.
fn go_on(fixture: &Fixture) -> History {
    let begins = fixture.store.first;
    History {
        entries: fixture.store.all_entries(Index(begins.0 - 1), fixture.store.standing().last).unwrap(),
        made: 1_000,
    }
}

#[test]
fn a_file_of_version_2_is_brought_up_to_date_when_it_is_opened() {
    let directory = TempDir::new().unwrap();
    let conn = of_version_2(directory.path());
    // What the old program would have said.
    let read = |sql: &str, columns: usize| -> Vec<Vec<rusqlite::types::Value>> {
        let mut statement = conn.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect());
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    };
    let sales =
        read("SELECT idx, line, order_id, book_id, title, quantity, unit_cost_cents, at FROM sales", 8);
    let results = read("SELECT idx, key, fingerprint, result FROM outcomes ORDER BY idx", 4);
    let chains = read("SELECT idx, chain FROM log ORDER BY idx", 2);
    assert_eq!((sales.len(), results.len(), chains.len()), (24, 31, 24));
    drop(conn);

    let fixture = open(directory);
    let standing = fixture.store.standing();
    assert_eq!((standing.last, standing.commit, standing.digest), (LAST, COMMIT, DIGEST));
    assert_eq!((standing.promise, standing.view.map(|view| view.epoch)), (Epoch(9), Some(Epoch(9))));
    // The digest is that of the rows as they are now.
    fixture.dump();
    let Content::Sales { sales: orders, upto: LAST, chain: Some(_) } =
        fixture.read(&Query::Sales { after: Index(0), limit: 100 }).content
    else {
        panic!("it has its sales")
    };
    let number = |number: u64| rusqlite::types::Value::Integer(number.cast_signed());
    let lines = orders.iter().flat_map(|(index, order)| {
        order.items.iter().zip(0..).map(move |(item, line)| {
            vec![
                number(index.0),
                number(line),
                rusqlite::types::Value::Blob(order.id.0.to_be_bytes().to_vec()),
                number(item.book.get()),
                rusqlite::types::Value::Text(item.title.clone()),
                number(item.quantity),
                number(item.unit_cost_cents),
                number(order.at.0),
            ]
        })
    });
    assert_eq!(lines.collect::<Vec<_>>(), sales);
    let mut stored = Vec::new();
    let read = outcomes::each_above(&fixture.store.conn, Index(0), |row| {
        stored.push(vec![
            number(row.index.0),
            rusqlite::types::Value::Blob(row.key.0.to_vec()),
            rusqlite::types::Value::Blob(row.fingerprint.0.to_be_bytes().to_vec()),
            rusqlite::types::Value::Blob(row.result.0.to_vec()),
        ]);
        Ok(ControlFlow::Continue(()))
    });
    read.unwrap();
    assert_eq!(stored, results);
    let tail = fixture.store.tail(Index(0)).unwrap();
    let tail = tail.iter().map(|(index, chain)| {
        vec![number(index.0), rusqlite::types::Value::Blob(chain.0.to_be_bytes().to_vec())]
    });
    assert_eq!(tail.collect::<Vec<_>>(), chains);
    // The tables are those of a new file, or a snapshot of the one would not be taken by the other.
    let new = Fixture::new();
    assert_eq!(schema::tables(&fixture.store.conn).unwrap(), schema::tables(&new.store.conn).unwrap());
}

#[test]
fn what_a_file_of_version_2_knew_is_known_and_can_be_undone() {
    let directory = TempDir::new().unwrap();
    of_version_2(directory.path());
    let mut fixture = open(directory);
    fixture.history = go_on(&fixture);
    let order = |order, quantity| Action::Buy {
        order: OrderId(order),
        lines: [(7, quantity), (1, 1)]
            .map(|(id, quantity)| protocol::catalogue::OrderLine { book: book_id(id), quantity })
            .to_vec(),
    };
    let (again, _) = fixture.apply("first", order(1, 2));
    let Outcome::Sold(sold) = again else { panic!("{again:?}") };
    assert_eq!(sold.id, OrderId(0x01a1_fc87_d8a6_75dc_a110_c91c_000f_8f98));
    assert_eq!(sold.items[0].title, "L'\u{e9}t\u{e9} \u{e0} l'ombre");
    let (other, _) = fixture.apply("first", order(1, 3));
    assert_eq!(other, Outcome::Refused(Refusal::KeyConflict));
    assert_eq!(fixture.page(None, Some("ombre"), None, 9), (vec![7], false));
    let Content::Ledger(ledger) = fixture.read(&Query::Ledger { after: Index(0), limit: 100 }).content else {
        panic!("it has a ledger")
    };
    assert!(ledger.moves.iter().any(|(index, change)| {
        (index.0, change) == (34, &StockMove::Put { book: book_id(12), quantity: 5 })
    }));

    // Back to what came with a snapshot, and the same way again.
    fixture.store.undo_to(COMMIT).unwrap();
    fixture.dump();
    let undone: Vec<_> =
        fixture.history.entries.iter().filter(|entry| entry.index > COMMIT).cloned().collect();
    let (old, new) = undone.split_at(usize::try_from(LAST.0 - COMMIT.0).unwrap());
    fixture.append(old.to_vec());
    assert_eq!(fixture.store.standing().digest, DIGEST);
    fixture.append(new.to_vec());
    fixture.history.add_fresh(put(9, "heron", "birds"));
    fixture.dump();
}

#[test]
fn a_file_of_version_1_is_brought_up_to_date_when_it_is_opened() {
    let directory = TempDir::new().unwrap();
    let conn = of_version_2(directory.path());
    let begin = VERSION_1.find("CREATE TRIGGER books_words_added").unwrap();
    let end = VERSION_1.find("CREATE TABLE sales").unwrap();
    conn.execute_batch("DROP TABLE topics").unwrap();
    conn.execute_batch(&VERSION_1[begin..end]).unwrap();
    conn.pragma_update(None, "user_version", 1).unwrap();
    drop(conn);
    let mut fixture = open(directory);
    assert_eq!(fixture.store.standing().digest, DIGEST);
    fixture.history = go_on(&fixture);
    // A trigger that was left would index these words twice, and find their book after it is gone.
    fixture.run(put(9, "zebra", "graduate school"));
    fixture.run(put(9, "heron", "graduate school"));
    let find = |words| fixture.page(None, Some(words), None, 9).0;
    assert_eq!((find("zebra"), find("heron")), (vec![], vec![9]));
    fixture.dump();
}

/// Puts what a store holds into an empty file of version 2.
fn go_back(conn: &Connection, old: &Connection) {
    let insert = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        old.prepare_cached(sql).unwrap().execute(values).unwrap();
    };
    outcomes::each_above(conn, Index(0), |row| {
        let fingerprint = row.fingerprint.0.to_be_bytes();
        let index = row.index.0.cast_signed();
        insert(
            "INSERT INTO outcomes VALUES (?1, ?2, ?3, ?4)",
            &[&row.key.0, &fingerprint, &index, &row.result.0],
        );
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    let undo = log::undo_above(conn, Index(0)).unwrap();
    let mut undo = undo.into_iter();
    log::each_above(conn, Index(0), |entry| {
        let steps = undo.next().map(|(_, steps)| (Option::<CommandKey>::None, steps));
        insert(
            "INSERT INTO log VALUES (?1, ?2, ?3, ?4, ?5)",
            &[
                &entry.index.0.cast_signed(),
                &entry.epoch.0.cast_signed(),
                &entry.command.0.as_ref(),
                &entry.chain.0.to_be_bytes(),
                &postcard::to_stdvec(&steps.unwrap()).unwrap(),
            ],
        );
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
}

#[test]
fn the_keys_of_a_long_log_are_where_a_new_file_has_them() {
    let mut long = Fixture::in_memory();
    let entries: Vec<_> = (0..5_000).map(|_| long.history.add_fresh(buy(&[(9, 1)]))).collect();
    for entries in entries.chunks(300) {
        long.append(entries.to_vec());
    }
    let directory = TempDir::new().unwrap();
    let old = empty(directory.path());
    old.execute_batch("BEGIN").unwrap();
    go_back(&long.store.conn, &old);
    long.store.meta.create(&old).unwrap();
    old.execute_batch("COMMIT").unwrap();
    drop(old);
    let migrated = open(directory);
    assert_eq!(migrated.dump(), long.dump());
    assert_eq!(migrations::version(&migrated.store.conn).unwrap(), migrations::version_known());
}
