//! The scrub: the digest counted anew from the rows, and the chain followed through the log.

use protocol::ids::{Digest, Index};
use rusqlite::Connection;

use super::error::{Step, StoreError};
use super::meta::Meta;
use super::read::Readers;
use super::rows::{BookRow, OutcomeRow, SaleRow};
use super::snapshot::check_log;

/// What a recount found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recount {
    /// The last entry at that moment.
    pub index: Index,
    /// The digest that the changes led to.
    pub kept: Digest,
    /// The digest of the rows as they are.
    pub counted: Digest,
    /// Whether the topics are counted as the books have them.
    pub topics_fit: bool,
}

impl Recount {
    /// Whether the rows are what the changes made of them.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.kept == self.counted && self.topics_fit
    }
}

impl Readers {
    /// Counts the digest anew from all rows, in one read transaction. Takes seconds for a million rows,
    /// and holds the write-ahead log back for as long.
    ///
    /// # Errors
    /// If the database can't be read, or its log is not what it was: nobody could level by it.
    pub fn recount(&self) -> Result<Recount, StoreError> {
        self.look(|conn| recount(conn))
    }
}

/// Counts within the transaction of a connection.
pub(super) fn recount(conn: &Connection) -> Step<Recount> {
    let meta = Meta::load(conn)?;
    check_log(conn, &meta)?;
    let mut counted = Digest::default();
    let mut books = conn.prepare(
        "SELECT id, cost_cents, quantity, version, epoch, title, topic, author, isbn, year, description,
                topic_key
         FROM books",
    )?;
    let mut rows = books.query([])?;
    while let Some(row) = rows.next()? {
        let book = BookRow::read(row)?;
        counted = counted.plus_row(&book.hashed_facts(row.get_ref(11)?.as_str().map_err(not_text)?));
        counted = counted.plus_row(&book.stock().hashed(book.book.id));
    }
    let mut sales =
        conn.prepare("SELECT idx, line, order_id, book_id, title, quantity, unit_cost_cents, at FROM sales")?;
    let mut rows = sales.query([])?;
    while let Some(row) = rows.next()? {
        counted = counted.plus_row(&SaleRow::read(row)?.hashed());
    }
    let mut outcomes = conn.prepare("SELECT key, fingerprint, idx, result FROM outcomes")?;
    let mut rows = outcomes.query([])?;
    while let Some(row) = rows.next()? {
        let key: Vec<u8> = row.get(0)?;
        counted = counted.plus_row(&OutcomeRow::read(row, 1)?.hashed(&key));
    }
    let topics_fit = topics_fit(conn)?;
    Ok(Recount { index: meta.standing.last, kept: meta.standing.digest, counted, topics_fit })
}

fn topics_fit(conn: &Connection) -> Step<bool> {
    let differ = "SELECT EXISTS (SELECT * FROM (SELECT topic_key, count(*) FROM books GROUP BY topic_key
                                 EXCEPT SELECT topic_key, books FROM topics))
                      OR (SELECT count(*) FROM topics) <> (SELECT count(DISTINCT topic_key) FROM books)";
    Ok(!conn.query_row(differ, [], |row| row.get::<_, bool>(0))?)
}

fn not_text(problem: rusqlite::types::FromSqlError) -> rusqlite::Error {
    problem.into()
}
