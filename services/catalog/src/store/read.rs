//! Reads: answers to queries, each with the version by which its reader knows when it may be shown.
//!
//! A look is one read transaction on a connection of the pool. It is opened by its first query, after
//! the calls that it serves arrived, and all of them see the same state.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use protocol::call::{Answer, Content, PageQuery, Query, TopicCount, Version};
use protocol::catalogue::{Book, Order, TopicKey};
use protocol::ids::{BookId, Index};
use protocol::mutant;
use r2d2::{Pool, PooledConnection};
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, ToSql, Transaction};

use super::books::{self, BOOK_COLUMNS, BOOK_TABLES, BookRow};
use super::codec::{number, signed};
use super::error::{Step, StoreError};
use super::log::{self, LogSlice, Range};
use super::meta::{Meta, Part};
use super::schema::{Place, set_up_reader};
use super::{ledger, outcomes, search};

/// Connections per shard: more readers than cores only wait for each other.
const CONNECTIONS_MAX: u32 = 8;
/// How long a reader waits for a connection before it says that the store is busy.
const CONNECTION_WAIT: Duration = Duration::from_secs(2);

/// Reads a store, from any thread.
#[derive(Clone)]
pub struct Readers {
    pool: Pool<SqliteConnectionManager>,
    pub(super) place: Place,
    pub(super) part: Part,
    /// For checkpoints, which a connection that only reads can't do; opened when first needed.
    pub(super) checkpointer: Arc<Mutex<Option<Connection>>>,
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers")
            .field("place", &self.place)
            .field("part", &self.part)
            .finish_non_exhaustive()
    }
}

impl Readers {
    /// Readers of a store that exists.
    pub(super) fn new(place: Place, part: Part) -> Self {
        let manager = SqliteConnectionManager::file(place.path())
            .with_flags(place.read_flags())
            .with_init(set_up_reader);
        // Checking a connection on each use would cost as much as a lookup: a file does not hang up.
        let pool = Pool::builder()
            .max_size(CONNECTIONS_MAX)
            .min_idle(Some(0))
            .test_on_check_out(false)
            .connection_timeout(CONNECTION_WAIT)
            .build_unchecked(manager);
        Self { pool, place, part, checkpointer: Arc::default() }
    }

    /// The answer to a query.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn read(&self, query: &Query) -> Result<Answer, StoreError> {
        self.look(|conn| answer(conn, query))
    }

    /// The answers to queries, all from one state of the store.
    pub fn read_many(&self, queries: &[Query]) -> Vec<Result<Answer, StoreError>> {
        let path = self.place.path();
        let answers = self.look(|conn| {
            Ok(queries.iter().map(|query| answer(conn, query).map_err(|fault| fault.at(path))).collect())
        });
        answers.unwrap_or_else(|problem| {
            let others = (1..queries.len()).map(|_| Err(StoreError::Busy { path: path.to_owned() }));
            let first = (!queries.is_empty()).then_some(Err(problem));
            first.into_iter().chain(others).collect()
        })
    }

    /// Entries of the log after an index, up to another or to its end; at least one if there is one.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn entries(
        &self,
        after: Index,
        upto: Option<Index>,
        max_entries: usize,
        max_bytes: usize,
    ) -> Result<LogSlice, StoreError> {
        self.look(|conn| log::slice(conn, Range { after, upto, max_entries, max_bytes }))
    }

    /// Does something within one read transaction.
    pub(super) fn look<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Step<T>) -> Result<T, StoreError> {
        let conn = self.connection()?;
        let look = || -> Step<T> { work(&conn.unchecked_transaction()?) };
        look().map_err(|fault| fault.at(self.place.path()))
    }

    pub(super) fn connection(&self) -> Result<PooledConnection<SqliteConnectionManager>, StoreError> {
        self.pool.get().map_err(|_| StoreError::Busy { path: self.place.path().to_owned() })
    }
}

fn answer(conn: &Connection, query: &Query) -> Step<Answer> {
    let content = match query {
        Query::Book(id) => return book(conn, *id),
        Query::Sales { after, limit } => return sales(conn, *after, *limit),
        Query::Page(page) => page_of_books(conn, page)?,
        Query::Ledger { after, limit } => Content::Ledger(ledger::page(conn, *after, *limit)?),
        Query::Topics => topics(conn)?,
        Query::ChainAt(index) => Content::ChainAt(log::mark(conn, *index)?.map(|(_epoch, chain)| chain)),
    };
    Ok(Answer { version: Meta::load(conn)?.version(), content })
}

fn book(conn: &Connection, id: BookId) -> Step<Answer> {
    let (version, book) = match books::book(conn, id)? {
        Some(BookRow { book, epoch }) => (Version { index: book.version, epoch }, Some(book)),
        None => (Meta::load(conn)?.version(), None),
    };
    Ok(Answer { version, content: Content::Book(book) })
}

fn page_of_books(conn: &Connection, page: &PageQuery) -> Step<Content> {
    let PageQuery { topic, words, after, limit } = page;
    let after = signed(after.map_or(0, BookId::get))?;
    // One more than asked for tells whether there is one more.
    let limit = i64::from(*limit) + 1;
    let found = "books_words AS words CROSS JOIN books ON books.id = words.rowid
         CROSS JOIN stock ON stock.id = books.id";
    let books = match (words, topic) {
        (None, None) => {
            let filter = "books.id > ?1 ORDER BY books.id LIMIT ?2";
            select(conn, BOOK_TABLES, filter, &[&after, &limit])
        }
        (None, Some(topic)) => {
            let filter = "books.topic_key = ?3 AND books.id > ?1 ORDER BY books.id LIMIT ?2";
            select(conn, BOOK_TABLES, filter, &[&after, &limit, &topic.as_str()])
        }
        (Some(words), topic) => match (search::query(words, topic.as_ref()), topic) {
            (None, _) => Ok(Vec::new()),
            (Some(words), None) => {
                let filter = "books_words MATCH ?3 AND words.rowid > ?1 ORDER BY words.rowid LIMIT ?2";
                select(conn, found, filter, &[&after, &limit, &words])
            }
            (Some(words), Some(topic)) => {
                let filter = "books_words MATCH ?3 AND words.rowid > ?1 AND books.topic_key = ?4
                     ORDER BY words.rowid LIMIT ?2";
                select(conn, found, filter, &[&after, &limit, &words, &topic.as_str()])
            }
        },
    };
    let mut books = books?;
    let wanted = usize::try_from(limit - 1).unwrap_or(usize::MAX);
    let more = books.len() > wanted;
    books.truncate(wanted);
    Ok(Content::Page { books, more })
}

fn select(conn: &Connection, tables: &str, filter: &str, values: &[&dyn ToSql]) -> Step<Vec<Book>> {
    let sql = format!("SELECT {BOOK_COLUMNS} FROM {tables} WHERE {filter}");
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(values, |row| BookRow::read(row).map(|row| row.book))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn topics(conn: &Connection) -> Step<Content> {
    let mut statement = conn.prepare_cached(
        "SELECT topic_key,
                (SELECT topic FROM books WHERE books.topic_key = topics.topic_key ORDER BY id LIMIT 1),
                books
         FROM topics ORDER BY topic_key",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(TopicCount { key: TopicKey::stored(row.get(0)?), topic: row.get(1)?, books: number(row, 2)? })
    })?;
    Ok(Content::Topics(rows.collect::<rusqlite::Result<_>>()?))
}

fn sales(conn: &Connection, after: Index, limit: u32) -> Step<Answer> {
    let meta = Meta::load(conn)?;
    let (last, chain) = meta.end();
    let upto = Index(after.0.saturating_add(limit.max(1).into())).min(last);
    let mut sales: Vec<(Index, Order)> = Vec::new();
    outcomes::each_above(conn, after, |row| {
        if row.index > upto {
            return Ok(ControlFlow::Break(()));
        }
        sales.extend(row.sale()?.map(|order| (row.index, order)));
        Ok(ControlFlow::Continue(()))
    })?;
    let chain = if upto == last { Some(chain) } else { log::mark(conn, upto)?.map(|(_epoch, chain)| chain) };
    let content = Content::Sales { sales, upto, chain };
    let version = if mutant!(FeedBeyondCommit) { Version::default() } else { meta.version() };
    Ok(Answer { version, content })
}
