//! The file itself: how it is made, recognised and brought up to date, and how a bad one is set aside.
//!
//! A file is looked at through a read-only connection first: a newer one is refused before a byte of it
//! could change. Whatever is no book of orders counts as damaged; setting it aside loses nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::BookError;

/// What marks an SQLite file as a book of orders, in its header: the letters `BkOr`.
const APPLICATION_ID: i64 = 0x426b_4f72;

/// The steps from an empty file to today's; step `n` leads to version `n + 1`. Steps are only ever added.
const MIGRATIONS: &[&str] = &[VERSION_1, VERSION_2, VERSION_3];

/// Order ids are UUIDs of version 7, stored with the highest byte first: the key is the order of time, so
/// new orders go to the end of both trees and the newest are found there.
///
/// A cursor is an index whose chain is known.
const VERSION_1: &str = "
CREATE TABLE orders (
    order_id BLOB PRIMARY KEY,
    shard INTEGER NOT NULL,
    idx INTEGER,
    created_at INTEGER NOT NULL,
    total_cents INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE lines (
    order_id BLOB NOT NULL,
    line INTEGER NOT NULL,
    book_id INTEGER NOT NULL,
    title TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    unit_cost_cents INTEGER NOT NULL,
    PRIMARY KEY (order_id, line)
) STRICT, WITHOUT ROWID;

CREATE TABLE cursors (
    shard INTEGER PRIMARY KEY,
    idx INTEGER NOT NULL,
    chain BLOB NOT NULL
) STRICT;
";

/// An order is one row, with its items as JSON: one step into one tree for each order. What was there is
/// fetched anew from the shards.
const VERSION_2: &str = "
DROP TABLE orders;
DROP TABLE lines;
DELETE FROM cursors;
CREATE TABLE orders (
    order_id BLOB PRIMARY KEY,
    shard INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    total_cents INTEGER NOT NULL,
    items TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// The book says of how many shards it is. One of an earlier version says so with its next change.
const VERSION_3: &str = "
CREATE TABLE cut (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    shards INTEGER NOT NULL
) STRICT;
";

/// The first version that has the table `cut`.
const CUT_SINCE: i64 = 3;

/// Fails if a table or a column is missing, without reading a row.
const PROBES: [&str; 3] = [
    "SELECT order_id, shard, idx, created_at, total_cents, items FROM orders LIMIT 0",
    "SELECT shard, idx, chain FROM cursors LIMIT 0",
    "SELECT one, shards FROM cut LIMIT 0",
];

/// How long a connection waits for another one: in WAL mode only for moments of recovery and close.
pub(super) const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Statements kept prepared per connection: more than there are in this program.
pub(super) const STATEMENTS_KEPT: usize = 32;

/// The flags of a connection that may not write.
pub(super) const READ_FLAGS: OpenFlags =
    OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);
/// The flags of all connections to a book in memory, which is found by its URI.
pub(super) const MEMORY_FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE
    .union(OpenFlags::SQLITE_OPEN_CREATE)
    .union(OpenFlags::SQLITE_OPEN_URI)
    .union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// Makes a book in memory.
pub(super) fn open_in_memory(uri: &Path) -> Result<Connection, BookError> {
    let open = || {
        let mut conn = Connection::open_with_flags(uri, MEMORY_FLAGS)?;
        prepare(&mut conn)?;
        Ok(conn)
    };
    open().map_err(|problem| BookError::sqlite(uri, problem))
}

/// Opens the file for writing, for a catalogue of so many shards; makes it if there is none.
pub(super) fn open(path: &Path, shards: u32) -> Result<Connection, BookError> {
    if path.try_exists().map_err(|problem| BookError::file(path, problem))? {
        inspect(path, shards)?;
    }
    let sqlite = |problem| BookError::sqlite(path, problem);
    let mut conn = Connection::open(path).map_err(sqlite)?;
    prepare(&mut conn).map_err(sqlite)?;
    for probe in PROBES {
        conn.prepare(probe).map_err(|problem| BookError::damaged(path, problem.to_string()))?;
    }
    Ok(conn)
}

fn prepare(conn: &mut Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY_WAIT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    conn.pragma_update(None, "journal_mode", "WAL")?;
    // Nothing here is the only copy of anything: what a power cut takes from the end is fed again from
    // the shards' logs, so no commit waits for the disk. The file stays whole in any case.
    conn.pragma_update(None, "synchronous", "NORMAL")?;
    migrate(conn)
}

/// Brings the tables to today's version, in one transaction.
fn migrate(conn: &mut Connection) -> rusqlite::Result<()> {
    let from = usize::try_from(number(conn, "user_version")?).unwrap_or(0);
    let steps = MIGRATIONS.get(from..).unwrap_or_default();
    if steps.is_empty() {
        return Ok(());
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in steps {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", version_known())?;
    tx.commit()
}

/// Refuses a file that this program may not write, without changing it.
fn inspect(path: &Path, shards: u32) -> Result<(), BookError> {
    let look = || -> rusqlite::Result<(Connection, i64, i64, i64)> {
        let conn = Connection::open_with_flags(path, READ_FLAGS)?;
        conn.busy_timeout(BUSY_WAIT)?;
        let tables = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let (application, version) = (number(&conn, "application_id")?, number(&conn, "user_version")?);
        Ok((conn, application, version, tables))
    };
    let (conn, application, version, tables) = look().map_err(|problem| BookError::sqlite(path, problem))?;
    if application == 0 && version == 0 && tables == 0 {
        return Ok(());
    }
    if application != APPLICATION_ID {
        return Err(BookError::damaged(path, "it is another program's SQLite file"));
    }
    let known = version_known();
    if version > known {
        return Err(BookError::TooNew { path: path.to_owned(), found: version, known });
    }
    check_count(path, &conn, version, shards)
}

/// Whether a book is of so many shards. One that has nothing is of any number, and one of an earlier version, which does
/// not say it, of any that all its cursors fit in.
fn check_count(path: &Path, conn: &Connection, version: i64, wanted: u32) -> Result<(), BookError> {
    let one = |sql| -> Result<Option<u32>, BookError> {
        // A table that is missing is damage.
        let mut statement =
            conn.prepare(sql).map_err(|problem| BookError::damaged(path, problem.to_string()))?;
        statement.query_row([], |row| row.get(0)).map_err(|problem| BookError::sqlite(path, problem))
    };
    let noted = if version < CUT_SINCE { None } else { one("SELECT max(shards) FROM cut")? };
    let reached = one("SELECT max(shard) + 1 FROM cursors")?.unwrap_or(0);
    if let Some(noted) = noted
        && noted < reached.max(1)
    {
        return Err(BookError::damaged(
            path,
            format!("it is of {noted} shards, and has orders of {reached}"),
        ));
    }
    let found = noted.unwrap_or(reached);
    if found > wanted || noted.is_some_and(|noted| noted != wanted) {
        return Err(BookError::OtherCount { path: path.to_owned(), found, wanted });
    }
    Ok(())
}

fn number(conn: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    conn.pragma_query_value(None, pragma, |row| row.get(0))
}

/// The newest version of the tables that this program knows.
pub(super) fn version_known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Renames a file with all that belongs to it, so that somebody may look at it later. Returns its new
/// name.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, BookError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let aside = beside(path, &format!(".damaged-{}", since.as_millis()));
    // The file itself goes first: a log without its file is worth nothing, a file without its log may
    // still be read.
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) = (beside(path, suffix), beside(&aside, suffix));
        match fs::rename(&from, to) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => {
                return Err(BookError::file(&from, problem));
            }
            _ => {}
        }
    }
    Ok(aside)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
