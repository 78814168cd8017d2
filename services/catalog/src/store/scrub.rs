//! The scrub: the digest counted anew from the rows, and the chain followed through the log.

use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use protocol::ids::{Digest, Index};
use rusqlite::Connection;

use super::books::{BOOK_COLUMNS, BOOK_TABLES, BookRow};
use super::digest::{Sign, Sum};
use super::error::{Fault, Step};
use super::meta::Meta;
use super::read::Readers;
use super::snapshot::check_log;
use super::{StoreError, keys, outcomes};

/// After so many rows a scrub rests.
const ROWS_AT_A_TIME: u32 = 1024;
/// And no longer than this, also if the process was stopped meanwhile.
const REST_MAX: Duration = Duration::from_millis(10);

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
    /// Whether the index of keys has those of the outcomes.
    pub keys_fit: bool,
}

impl Recount {
    /// Whether the rows are what the changes made of them.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.kept == self.counted && self.topics_fit && self.keys_fit
    }
}

/// How rows are gone through: in one go, or with rests as long as the work.
#[derive(Debug)]
pub(super) struct Gait {
    /// How many rows until the next rest, and since when.
    before_rest: Option<(u32, Instant)>,
}

impl Gait {
    pub(super) fn brisk() -> Self {
        Self { before_rest: None }
    }

    fn restful() -> Self {
        Self { before_rest: Some((ROWS_AT_A_TIME, Instant::now())) }
    }

    /// A row is done.
    #[expect(clippy::disallowed_methods, reason = "a rest is for a time, whatever happens meanwhile")]
    pub(super) fn step(&mut self) {
        let Some((left, since)) = &mut self.before_rest else { return };
        *left -= 1;
        if *left == 0 {
            thread::sleep(since.elapsed().min(REST_MAX));
            *self = Self::restful();
        }
    }
}

impl Readers {
    /// Counts the digest anew from all rows, in one read transaction. Takes seconds for a million rows,
    /// and holds the write-ahead log back for as long.
    ///
    /// # Errors
    /// If the database can't be read, or its log is not what it was: nobody could level by it.
    pub fn recount(&self) -> Result<Recount, StoreError> {
        self.look(|conn| recount(conn, Gait::brisk()))
    }

    /// A recount that no write waits for: half of its time it rests, for those who are served meanwhile.
    ///
    /// # Errors
    /// Those of [`Readers::recount`].
    pub fn scrub(&self) -> Result<Recount, StoreError> {
        self.look(|conn| recount(conn, Gait::restful()))
    }
}

/// Counts within the transaction of a connection.
pub(super) fn recount(conn: &Connection, mut gait: Gait) -> Step<Recount> {
    let meta = Meta::load(conn)?;
    check_log(conn, &meta, &mut gait)?;
    let standing = meta.standing;
    let mut sum = Sum::default();
    let mut books = conn.prepare_cached(&format!("SELECT {BOOK_COLUMNS}, topic_key FROM {BOOK_TABLES}"))?;
    let mut rows = books.query([])?;
    let mut whole = 0;
    while let Some(row) = rows.next()? {
        let book = BookRow::read(row)?;
        book.count(Sign::Plus, row.get_ref(11)?.as_str().map_err(rusqlite::Error::from)?, &mut sum);
        whole += 1;
        gait.step();
    }
    // A half of a book is in no row that is read.
    for table in ["books", "stock"] {
        let halves: i64 = conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
        if halves != whole {
            return Err(Fault::corrupt(table, format!("it has {halves} rows for {whole} books")));
        }
    }
    let mut settled = Sum::default();
    outcomes::each_above(conn, Index(0), |row| {
        row.count(&row.decode()?, Sign::Plus, &mut sum);
        let hash = keys::hash(row.key.0);
        if keys::is_settled(hash, row.index, standing.last) {
            settled.plus(&(hash, row.index));
        }
        gait.step();
        Ok(ControlFlow::Continue(()))
    })?;
    let mut keys = conn.prepare_cached("SELECT hash, idx FROM keys")?;
    for key in keys.query_map([], keys::read)? {
        settled.minus(&key?);
        gait.step();
    }
    Ok(Recount {
        index: standing.last,
        kept: standing.digest,
        counted: sum.digest,
        topics_fit: topics_fit(conn)?,
        keys_fit: settled.digest == Digest::default(),
    })
}

fn topics_fit(conn: &Connection) -> Step<bool> {
    let differ = "SELECT EXISTS (SELECT * FROM (SELECT topic_key, count(*) FROM books GROUP BY topic_key
                                 EXCEPT SELECT topic_key, books FROM topics))
                      OR (SELECT count(*) FROM topics) <> (SELECT count(DISTINCT topic_key) FROM books)";
    Ok(!conn.prepare_cached(differ)?.query_row([], |row| row.get::<_, bool>(0))?)
}
