//! Stores in memory, for simulations: the same tables and rules over SQLite's memory instead of a file.
//!
//! What a simulation does to a store besides using it is here as well: it ends without warning, loses
//! what was not synced, gets a row changed behind its back, and begins anew as another store, which costs a
//! small part of what a new database costs.

use std::sync::atomic::{AtomicU64, Ordering};

use protocol::ids::{BookId, ShardId, StoreId};
use rusqlite::{Connection, TransactionBehavior};

use super::codec::signed;
use super::error::{Step, StoreError};
use super::meta::{Meta, Part};
use super::read::Readers;
use super::schema::{self, Place};
use super::{Store, snapshot};

/// `PRAGMA synchronous` at its setting `full`: each commit waits for the disk.
const SYNCHRONOUS_FULL: i64 = 2;

/// A store without a file.
#[derive(Debug)]
pub struct MemoryStore {
    /// The writing end.
    pub store: Store,
    /// The reading end.
    pub readers: Readers,
}

/// A store as it was at some time.
#[derive(Debug)]
pub struct Image(Connection);

impl MemoryStore {
    /// An empty store.
    ///
    /// # Errors
    /// If SQLite has no memory.
    pub fn new(shard: ShardId, shard_count: u32, keep_entries: u64, id: StoreId) -> Result<Self, StoreError> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let place = Place::Memory(format!("file:/bookends-{number}?vfs=memdb"));
        let mut conn = place.connect()?;
        let part = Part { shard, count: shard_count };
        let fill = |conn: &mut Connection| -> Step<_> {
            schema::fill(conn, part, id)?;
            Store::look(conn)
        };
        let found = fill(&mut conn).map_err(|fault| fault.at(place.path()))?;
        let (store, readers) = Store::over(conn, place, found, keep_entries);
        Ok(Self { store, readers })
    }

    /// Empties the store and gives it another id: the same as a new one, at less cost.
    ///
    /// # Errors
    /// If SQLite has no memory.
    pub fn begin_anew(&mut self, keep_entries: u64, id: StoreId) -> Result<(), StoreError> {
        let store = &mut self.store;
        store.keep_entries = keep_entries.max(1);
        let mut empty = || -> Step<()> {
            let before = store.meta.end();
            let tx = store.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for table in ["books", "stock", "topics", "outcomes", "keys", "log"] {
                tx.prepare_cached(&format!("DELETE FROM {table}"))?.execute([])?;
            }
            tx.prepare_cached("INSERT INTO books_words (books_words) VALUES ('delete-all')")?.execute([])?;
            Meta::new(id, store.meta.part).save(&tx, before)?;
            Ok(tx.commit()?)
        };
        let emptied = empty();
        self.store.named(emptied)?;
        self.restart()
    }

    /// What a process finds that opens the store after another one has ended: what was committed to the
    /// database, and nothing of what was in that one's memory.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        let looked = self.store.look_again();
        self.store.named(looked)
    }

    /// Whether each commit waits for the disk, so that a loss of power takes nothing that was committed.
    ///
    /// # Errors
    /// If SQLite does not say.
    pub fn syncs_each_commit(&self) -> Result<bool, StoreError> {
        let conn = &self.store.conn;
        let synchronous = conn.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0));
        Ok(self.store.named(synchronous.map_err(Into::into))? >= SYNCHRONOUS_FULL)
    }

    /// Keeps the store as it is now.
    ///
    /// # Errors
    /// If SQLite has no memory.
    pub fn image(&self) -> Result<Image, StoreError> {
        let copy = || -> Step<Image> {
            let mut image = Connection::open_in_memory()?;
            snapshot::copy_pages(&self.store.conn, &mut image)?;
            Ok(Image(image))
        };
        self.store.named(copy())
    }

    /// Puts the store back to what it was: what came after had not reached the disk.
    ///
    /// # Errors
    /// If SQLite has no memory.
    pub fn go_back_to(&mut self, image: &Image) -> Result<(), StoreError> {
        let copied = snapshot::copy_pages(&image.0, &mut self.store.conn);
        self.store.named(copied)?;
        self.restart()
    }

    /// Changes a book's stock behind the digest's back, as a broken disk or a stranger would. Only a write of
    /// just that book meets it.
    ///
    /// # Errors
    /// If the database can't be written.
    pub fn spoil_book(&mut self, id: BookId) -> Result<(), StoreError> {
        let spoil = || -> Step<()> {
            let id = signed(id.get())?;
            self.store.conn.execute("UPDATE stock SET quantity = quantity + 1 WHERE id = ?1", [id])?;
            Ok(())
        };
        self.store.named(spoil())
    }
}
