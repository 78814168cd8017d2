//! The book of orders: an SQLite file with the sales of all shards.
//!
//! It is a projection of the shards' logs and can be built anew from them at any time; that is why its
//! commits don't wait for the disk, and why a damaged or deleted file costs no order. Orders are entered by
//! their ids, and the cursors move along the log, so none is counted twice.
//!
//! One [`Book`] writes, in one thread; any number of [`Readers`] read, off the async runtime. What is to
//! be written is decided by [`crate::projection`].

mod error;
mod memory;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use protocol::catalogue::Order;
use protocol::ids::{Chain, Index, ShardId};
use rusqlite::{Connection, TransactionBehavior};

pub use error::BookError;
pub use memory::Image;
pub use read::{PAGE_ORDERS_MAX, Readers};

/// The database's name within the node's folder.
pub const FILE: &str = "orders.db";

/// A place in a shard's log whose chain is known, so that the shard can tell whether it is its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The last index that the book has.
    pub index: Index,
    /// The chain there.
    pub chain: Chain,
}

/// A change of the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The next sales of a shard's log. An order that is there already stays as it is.
    Sales {
        /// The shard.
        shard: ShardId,
        /// The sales with the indexes of their entries.
        sales: Vec<(Index, Order)>,
    },
    /// Everything of the shard's log up to here is in the book.
    Advance {
        /// The shard.
        shard: ShardId,
        /// Up to where.
        cursor: Cursor,
    },
    /// What the book has of the shard is not its history: all of it goes, the cursor as well.
    Forget {
        /// The shard.
        shard: ShardId,
    },
}

/// The writing end.
#[derive(Debug)]
pub struct Book {
    conn: Connection,
    path: PathBuf,
    shards: u32,
}

/// A book, opened.
#[derive(Debug)]
pub struct Opened {
    /// The writing end.
    pub book: Book,
    /// The reading end.
    pub readers: Readers,
}

impl Book {
    /// Opens the book in a folder, for a catalogue of so many shards; makes it if there is none. A damaged
    /// one is set aside and an empty one made in its place.
    ///
    /// # Errors
    /// If the file is of a newer version or of another number of shards, or can't be used.
    pub fn open(directory: &Path, shards: u32) -> Result<Opened, BookError> {
        let path = directory.join(FILE);
        let book = match Self::open_as_it_is(&path, shards) {
            Err(problem) if problem.is_damage() => Self::begin_anew(&path, shards, &problem)?,
            other => other?,
        };
        let readers = Readers::open(&path, schema::READ_FLAGS)?;
        Ok(Opened { book, readers })
    }

    /// Sets a book aside that turned out to be damaged, and begins an empty one. `readers` see the new one
    /// from then on.
    ///
    /// # Errors
    /// If the file can't be renamed, or no new one can be made.
    pub fn replace(&mut self, readers: &Readers, damage: &BookError) -> Result<(), BookError> {
        let sqlite = |problem| BookError::sqlite(&self.path, problem);
        // Closed before the file is renamed: SQLite does not want its files moved while it uses them.
        self.conn = Connection::open_in_memory().map_err(sqlite)?;
        let book = Self::begin_anew(&self.path, self.shards, damage)?;
        readers.reopen()?;
        *self = book;
        Ok(())
    }

    fn begin_anew(path: &Path, shards: u32, damage: &BookError) -> Result<Self, BookError> {
        let aside = schema::set_aside(path)?;
        tracing::error!(problem = %damage, aside = %aside.display(), "the book of orders is built anew");
        Self::open_as_it_is(path, shards)
    }

    fn open_as_it_is(path: &Path, shards: u32) -> Result<Self, BookError> {
        let book = Self { conn: schema::open(path, shards)?, path: path.to_owned(), shards };
        // What every start asks for.
        book.cursors()?;
        read::newest(&book.conn, None, 1).map_err(|problem| BookError::sqlite(path, problem))?;
        Ok(book)
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Up to where the book has each shard's log; none for a shard of which it has nothing.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn cursors(&self) -> Result<BTreeMap<ShardId, Cursor>, BookError> {
        write::cursors(&self.conn).map_err(|problem| BookError::sqlite(&self.path, problem))
    }

    /// Carries out changes in their order, all of them or none.
    ///
    /// # Errors
    /// If the file can't be written; then it is as it was.
    pub fn write(&mut self, changes: &[Change]) -> Result<(), BookError> {
        let mut carry_out = || -> rusqlite::Result<()> {
            let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            write::note_count(&tx, self.shards)?;
            for change in changes {
                write::carry_out(&tx, change)?;
            }
            tx.commit()
        };
        carry_out().map_err(|problem| BookError::sqlite(&self.path, problem))
    }
}
