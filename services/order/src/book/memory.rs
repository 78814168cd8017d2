//! Books in memory, for simulations: the same tables over SQLite's memory instead of a file; and what a loss of power
//! leaves of a book, whose commits do not wait for the disk.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use rusqlite::backup::Backup;

use super::{Book, BookError, Opened, Readers, schema};

/// A book as it was at some time.
#[derive(Debug)]
pub struct Image(Connection);

impl Book {
    /// A book in memory, for simulations: the same tables, nothing durable.
    ///
    /// # Errors
    /// If SQLite has no memory.
    pub fn in_memory(shards: u32) -> Result<Opened, BookError> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("file:/bookends-orders-{number}?vfs=memdb"));
        let conn = schema::open_in_memory(&path)?;
        let readers = Readers::open(&path, schema::MEMORY_FLAGS)?;
        Ok(Opened { book: Self { conn, path, shards }, readers })
    }

    /// Puts the book back to what it was: what came after had not reached the disk.
    ///
    /// # Errors
    /// If SQLite has no memory.
    pub fn go_back_to(&mut self, image: &Image) -> Result<(), BookError> {
        copy(&image.0, &mut self.conn).map_err(|problem| BookError::sqlite(&self.path, problem))
    }
}

impl Readers {
    /// Keeps the book as it is now.
    ///
    /// # Errors
    /// If SQLite has no memory.
    pub fn image(&self) -> Result<Image, BookError> {
        self.look(|conn| {
            let mut image = Connection::open_in_memory()?;
            copy(conn, &mut image)?;
            Ok(Image(image))
        })
    }
}

fn copy(from: &Connection, to: &mut Connection) -> rusqlite::Result<()> {
    Backup::new(from, to)?.step(-1).map(drop)
}
