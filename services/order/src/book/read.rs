//! Reading the book: one order, or a page of them, each from one look at the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use protocol::catalogue::Order;
use protocol::ids::{OrderId, Timestamp};
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};

use super::error::BookError;
use super::schema::{BUSY_WAIT, STATEMENTS_KEPT};
use super::write::unsigned;

/// The most orders of a page, whatever is asked for.
pub const PAGE_ORDERS_MAX: u32 = 1000;
/// How many may read at a time; the others wait for a connection.
const CONNECTIONS_MAX: u32 = 4;
/// How long one waits for a connection.
const CONNECTION_WAIT: Duration = Duration::from_secs(5);

type Pool = r2d2::Pool<SqliteConnectionManager>;

/// The reading end of the book. Cheap to clone. Its calls block: they belong on threads that may.
#[derive(Clone, Debug)]
pub struct Readers {
    path: Arc<Path>,
    flags: OpenFlags,
    pool: Arc<RwLock<Pool>>,
}

impl Readers {
    pub(super) fn open(path: &Path, flags: OpenFlags) -> Result<Self, BookError> {
        let pool = make_pool(path, flags)?;
        Ok(Self { path: path.into(), flags, pool: Arc::new(RwLock::new(pool)) })
    }

    /// Turns to the file that has the name now.
    pub(super) fn reopen(&self) -> Result<(), BookError> {
        let pool = make_pool(&self.path, self.flags)?;
        *self.pool.write() = pool;
        Ok(())
    }

    /// An order, if it is in the book.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn order(&self, id: OrderId) -> Result<Option<Order>, BookError> {
        self.look(|conn| {
            let mut statement =
                conn.prepare_cached("SELECT order_id, created_at, items FROM orders WHERE order_id = ?1")?;
            statement.query_row([id.0.to_be_bytes()], order).optional()
        })
    }

    /// Up to `limit` orders, newest first, of those older than `before`; and whether more follow.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn page(&self, before: Option<OrderId>, limit: u32) -> Result<(Vec<Order>, bool), BookError> {
        let limit = limit.clamp(1, PAGE_ORDERS_MAX);
        let mut found = self.look(|conn| newest(conn, before, limit + 1))?;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = found.len() > wanted;
        found.truncate(wanted);
        Ok((found, more))
    }

    /// Runs a read in one transaction, so that orders and their lines are of one moment.
    pub(super) fn look<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, BookError> {
        let pool = self.pool.read().clone();
        let mut conn =
            pool.get().map_err(|source| BookError::Readers { path: self.path.to_path_buf(), source })?;
        let in_transaction = || {
            let tx = conn.transaction()?;
            read(&tx)
        };
        in_transaction().map_err(|problem| BookError::sqlite(&self.path, problem))
    }
}

fn make_pool(path: &Path, flags: OpenFlags) -> Result<Pool, BookError> {
    let manager = SqliteConnectionManager::file(path).with_flags(flags).with_init(|conn| {
        conn.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        conn.busy_timeout(BUSY_WAIT)
    });
    let pool = r2d2::Pool::builder()
        .max_size(CONNECTIONS_MAX)
        .min_idle(Some(1))
        .connection_timeout(CONNECTION_WAIT)
        .build(manager);
    pool.map_err(|source| BookError::Readers { path: PathBuf::from(path), source })
}

/// The newest orders of those older than `before`.
pub(super) fn newest(conn: &Connection, before: Option<OrderId>, limit: u32) -> rusqlite::Result<Vec<Order>> {
    let before = before.unwrap_or(OrderId(u128::MAX)).0.to_be_bytes();
    let mut statement = conn.prepare_cached(
        "SELECT order_id, created_at, items FROM orders WHERE order_id < ?1 ORDER BY order_id DESC LIMIT ?2",
    )?;
    statement.query_map((before, limit), order)?.collect()
}

/// Reads `order_id, created_at, items`.
fn order(row: &Row<'_>) -> rusqlite::Result<Order> {
    let items = serde_json::from_str(row.get_ref(2)?.as_str()?);
    Ok(Order {
        id: OrderId(u128::from_be_bytes(row.get(0)?)),
        at: Timestamp(unsigned(row.get(1)?)),
        items: items
            .map_err(|problem| rusqlite::Error::FromSqlConversionFailure(2, Type::Text, Box::new(problem)))?,
    })
}
