//! The tables, version by version: what a file of an earlier one becomes, in one transaction.

use bytes::Bytes;
use protocol::command::{CommandKey, Fingerprint};
use protocol::entry::{EncodedCommand, Entry};
use protocol::ids::{Chain, Epoch, Index};
use rusqlite::{Connection, Row, TransactionBehavior};

use super::codec::{Raw, number};
use super::error::{Fault, Step};
use super::outcomes::OutcomeRow;
use super::undo::UndoStep;
use super::{keys, log, outcomes};

/// The steps from an empty file to today's; step `n` leads to version `n + 1`. Steps are only ever added.
const MIGRATIONS: &[fn(&Connection) -> Step<()>] = &[
    |conn| Ok(conn.execute_batch(VERSION_1)?),
    |conn| Ok(conn.execute_batch(VERSION_2)?),
    to_version_3,
    |conn| Ok(conn.execute_batch(VERSION_4)?),
];

/// The small columns of `books` stand before the long ones: what a buy needs is at the front of its row.
/// `books_words` needs no column sizes, for nothing is ranked. Its triggers are gone since version 2.
pub(super) const VERSION_1: &str = "
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    store BLOB,
    shard INTEGER NOT NULL,
    shard_count INTEGER NOT NULL,
    promise INTEGER NOT NULL,
    appended_epoch INTEGER NOT NULL,
    view BLOB,
    last INTEGER NOT NULL,
    last_epoch INTEGER NOT NULL,
    chain BLOB NOT NULL,
    commit_index INTEGER NOT NULL,
    digest BLOB NOT NULL,
    checksum BLOB NOT NULL
) STRICT;

CREATE TABLE books (
    id INTEGER PRIMARY KEY,
    cost_cents INTEGER NOT NULL,
    quantity INTEGER NOT NULL,
    version INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    title TEXT NOT NULL,
    topic TEXT NOT NULL,
    topic_key TEXT NOT NULL,
    author TEXT,
    isbn TEXT,
    year INTEGER,
    description TEXT
) STRICT;
CREATE INDEX books_by_topic ON books (topic_key, id);

CREATE VIRTUAL TABLE books_words USING fts5 (
    title, author, topic_key,
    content = 'books', content_rowid = 'id', columnsize = 0,
    tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2 3 4 5'
);
CREATE TRIGGER books_words_added AFTER INSERT ON books BEGIN
    INSERT INTO books_words (rowid, title, author, topic_key)
    VALUES (new.id, new.title, new.author, new.topic_key);
END;
CREATE TRIGGER books_words_removed AFTER DELETE ON books BEGIN
    INSERT INTO books_words (books_words, rowid, title, author, topic_key)
    VALUES ('delete', old.id, old.title, old.author, old.topic_key);
END;
CREATE TRIGGER books_words_changed AFTER UPDATE OF title, author, topic_key ON books BEGIN
    INSERT INTO books_words (books_words, rowid, title, author, topic_key)
    VALUES ('delete', old.id, old.title, old.author, old.topic_key);
    INSERT INTO books_words (rowid, title, author, topic_key)
    VALUES (new.id, new.title, new.author, new.topic_key);
END;

CREATE TABLE sales (
    idx INTEGER NOT NULL,
    line INTEGER NOT NULL,
    order_id BLOB NOT NULL,
    book_id INTEGER NOT NULL,
    title TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    unit_cost_cents INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (idx, line)
) STRICT, WITHOUT ROWID;

CREATE TABLE outcomes (
    key BLOB PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    idx INTEGER NOT NULL,
    result BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE log (
    idx INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    command BLOB NOT NULL,
    chain BLOB NOT NULL,
    undo BLOB
) STRICT;
";

/// The triggers go, and `rows` keeps the index of words by statements of its own: a statement that fires a
/// trigger has a savepoint, and FTS5 writes all it has gathered at each, so that every book of a batch became a
/// segment that had to be merged. Segments are merged by eights instead of by fours: a bulk load rewrites the
/// index less often, and a search looks into a few more of them. The books of each topic are counted as they
/// change.
pub(super) const VERSION_2: &str = "
DROP TRIGGER books_words_added;
DROP TRIGGER books_words_removed;
DROP TRIGGER books_words_changed;

CREATE TABLE topics (
    topic_key TEXT PRIMARY KEY,
    books INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO topics SELECT topic_key, count(*) FROM books GROUP BY topic_key;

INSERT INTO books_words (books_words, rank) VALUES ('automerge', 8);
";

/// Stock has a table of its own, so that a sale rewrites pages with nothing else on them. Outcomes and log are
/// stored by the piece, and a sale only once, as the outcome that it is.
const VERSION_3: &str = "
CREATE TABLE stock (
    id INTEGER PRIMARY KEY,
    cost_cents INTEGER NOT NULL,
    quantity INTEGER NOT NULL,
    version INTEGER NOT NULL,
    epoch INTEGER NOT NULL
) STRICT;
INSERT INTO stock SELECT id, cost_cents, quantity, version, epoch FROM books ORDER BY id;

DROP INDEX books_by_topic;
ALTER TABLE books RENAME TO books_2;
CREATE TABLE books (
    id INTEGER PRIMARY KEY,
    title TEXT NOT NULL,
    topic TEXT NOT NULL,
    topic_key TEXT NOT NULL,
    author TEXT,
    isbn TEXT,
    year INTEGER,
    description TEXT
) STRICT;
INSERT INTO books SELECT id, title, topic, topic_key, author, isbn, year, description FROM books_2 ORDER BY id;
DROP TABLE books_2;
CREATE INDEX books_by_topic ON books (topic_key, id);

ALTER TABLE outcomes RENAME TO outcomes_2;
CREATE TABLE outcomes (
    first INTEGER PRIMARY KEY,
    rows BLOB NOT NULL
) STRICT;
CREATE TABLE keys (
    hash INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    PRIMARY KEY (hash, idx)
) STRICT, WITHOUT ROWID;

ALTER TABLE log RENAME TO log_2;
CREATE TABLE log (
    first INTEGER PRIMARY KEY,
    last INTEGER NOT NULL,
    entries BLOB NOT NULL,
    undo BLOB
) STRICT;
";

/// Segments of the index of words are merged by sixteens: a bulk load rewrites the index less often still, and a search
/// takes no longer for looking into a few more of them.
const VERSION_4: &str = "INSERT INTO books_words (books_words, rank) VALUES ('automerge', 16);";

/// How many keys are put in order at once.
const KEYS_SORTED: usize = 1 << 20;

fn to_version_3(conn: &Connection) -> Step<()> {
    conn.execute_batch(VERSION_3)?;
    outcomes_to_version_3(conn)?;
    log_to_version_3(conn)?;
    Ok(conn.execute_batch("DROP TABLE outcomes_2; DROP TABLE log_2; DROP TABLE sales;")?)
}

fn outcomes_to_version_3(conn: &Connection) -> Step<()> {
    let last: Option<i64> = conn.query_row("SELECT max(last) FROM meta", [], |row| row.get(0))?;
    let last = Index(last.unwrap_or(0).unsigned_abs());
    let mut statement = conn.prepare("SELECT idx, key, fingerprint, result FROM outcomes_2 ORDER BY idx")?;
    let mut rows = statement.query([])?;
    let mut piece = outcomes::Piece::default();
    let mut settled = Vec::new();
    while let Some(row) = rows.next()? {
        let blob = |column| row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from);
        let (index, key, result) = (Index(number(row, 0)?), blob(1)?, blob(3)?);
        let fingerprint = Fingerprint(u128::from_be_bytes(row.get(2)?));
        piece.add(&OutcomeRow { index, key: Raw(key), fingerprint, result: Raw(result) }, conn)?;
        let hash = keys::hash(key);
        if keys::is_settled(hash, index, last) {
            settled.push((hash, index));
        }
        if settled.len() == KEYS_SORTED {
            insert_sorted(conn, &mut settled)?;
        }
    }
    piece.write(conn)?;
    insert_sorted(conn, &mut settled)
}

fn insert_sorted(conn: &Connection, settled: &mut Vec<(u64, Index)>) -> Step<()> {
    settled.sort_unstable();
    settled.drain(..).try_for_each(|(hash, index)| keys::insert(conn, hash, index))
}

fn log_to_version_3(conn: &Connection) -> Step<()> {
    let mut statement = conn.prepare("SELECT idx, epoch, command, chain, undo FROM log_2 ORDER BY idx")?;
    let mut rows = statement.query([])?;
    let mut piece = log::Piece::new();
    while let Some(row) = rows.next()? {
        let entry = entry_of_version_2(row)?;
        let undo: Option<Vec<u8>> = row.get(4)?;
        // With the key first, which is in the entry as well.
        let undo = undo.map(|bytes| postcard::from_bytes::<(Option<CommandKey>, Vec<UndoStep>)>(&bytes));
        let undo = undo.transpose().map_err(|problem| {
            Fault::corrupt(format!("the undo data of entry {}", entry.index), problem.to_string())
        })?;
        piece.add(&entry, undo.as_ref().map(|(_, steps)| &**steps), conn)?;
    }
    piece.write(conn)
}

fn entry_of_version_2(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        index: Index(number(row, 0)?),
        epoch: Epoch(number(row, 1)?),
        command: EncodedCommand(Bytes::from(row.get::<_, Vec<u8>>(2)?)),
        chain: Chain(u128::from_be_bytes(row.get(3)?)),
    })
}

/// Brings the tables to today's version, in one transaction.
pub(super) fn migrate(conn: &mut Connection) -> Step<()> {
    let from = usize::try_from(version(conn)?).unwrap_or(0);
    let steps = MIGRATIONS.get(from..).unwrap_or_default();
    if steps.is_empty() {
        return Ok(());
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in steps {
        step(&tx)?;
    }
    tx.pragma_update(None, "user_version", version_known())?;
    tx.commit()?;
    Ok(())
}

/// The version of the tables in a file.
pub(super) fn version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// The newest version of the tables that this program knows.
pub(super) fn version_known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}
