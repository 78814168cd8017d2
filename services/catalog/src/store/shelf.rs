//! The books whose stock or price a batch changes: each is read once and written once, however often it is sold.
//!
//! Facts and stock are tables of their own. A sale rewrites a few pages that hold many stocks each, and never a
//! description.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use protocol::catalogue::TopicKey;
use protocol::ids::{BookId, Epoch, Index};
use rusqlite::{CachedStatement, Connection};
use serde::{Deserialize, Serialize};

use super::codec::{number, signed};
use super::digest::Sum;
use super::error::{Fault, Step};

/// What changes of a book when it is sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stock {
    pub(super) cost_cents: u64,
    pub(super) quantity: u64,
    pub(super) version: Index,
    pub(super) epoch: Epoch,
}

impl Stock {
    /// As it is hashed.
    pub(super) fn hashed(&self, book: BookId) -> impl Serialize {
        (2_u8, book, *self)
    }

    /// The values of a row, as [`super::books`] and this file have them in their statements.
    pub(super) fn columns(&self, book: BookId) -> Step<[i64; 5]> {
        Ok([
            signed(book.get())?,
            signed(self.cost_cents)?,
            signed(self.quantity)?,
            signed(self.version.0)?,
            signed(self.epoch.0)?,
        ])
    }
}

/// A book as a sale sees it.
#[derive(Debug)]
pub(super) struct Shelved {
    pub(super) title: String,
    pub(super) topic: TopicKey,
    /// What the table has.
    stored: Stock,
    /// What it is going to have.
    pub(super) stock: Stock,
}

impl Shelved {
    pub(super) fn new(title: String, topic: TopicKey, stock: Stock) -> Self {
        Self { title, topic, stored: stock, stock }
    }
}

/// The books in use.
pub(super) struct Shelf<'c> {
    books: BTreeMap<BookId, Shelved>,
    read: CachedStatement<'c>,
    write: CachedStatement<'c>,
}

impl<'c> Shelf<'c> {
    pub(super) fn new(conn: &'c Connection) -> Step<Self> {
        let read = conn.prepare_cached(
            "SELECT cost_cents, quantity, version, epoch, title, topic_key
             FROM stock CROSS JOIN books ON books.id = stock.id WHERE stock.id = ?1",
        )?;
        let write = conn.prepare_cached(
            "UPDATE stock SET cost_cents = ?2, quantity = ?3, version = ?4, epoch = ?5 WHERE id = ?1",
        )?;
        Ok(Self { books: BTreeMap::new(), read, write })
    }

    /// A book, if there is one with this id.
    pub(super) fn book(&mut self, id: BookId) -> Step<Option<&mut Shelved>> {
        match self.books.entry(id) {
            Entry::Occupied(place) => Ok(Some(place.into_mut())),
            Entry::Vacant(place) => Ok(read(&mut self.read, id)?.map(|book| place.insert(book))),
        }
    }

    /// Puts a book in that was read by other means.
    pub(super) fn put(&mut self, id: BookId, book: Shelved) -> &mut Shelved {
        self.books.entry(id).or_insert(book)
    }

    /// Writes what has changed, and forgets all books. `changed` is told of each that has.
    pub(super) fn clear(&mut self, sum: &mut Sum, mut changed: impl FnMut(BookId, TopicKey)) -> Step<()> {
        for (id, book) in std::mem::take(&mut self.books) {
            let Shelved { title: _, topic, stored, stock } = book;
            if stored == stock {
                continue;
            }
            let written = self.write.execute(stock.columns(id)?)?;
            one(written, id)?;
            sum.minus(&stored.hashed(id));
            sum.plus(&stock.hashed(id));
            changed(id, topic);
        }
        Ok(())
    }
}

fn read(statement: &mut CachedStatement<'_>, id: BookId) -> Step<Option<Shelved>> {
    let mut rows = statement.query([signed(id.get())?])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let stock = Stock {
        cost_cents: number(row, 0)?,
        quantity: number(row, 1)?,
        version: Index(number(row, 2)?),
        epoch: Epoch(number(row, 3)?),
    };
    Ok(Some(Shelved::new(row.get(4)?, TopicKey::stored(row.get(5)?), stock)))
}

/// A statement that was to change one row has done so.
pub(super) fn one(changed: usize, id: BookId) -> Step<()> {
    if changed == 1 { Ok(()) } else { Err(Fault::corrupt(format!("book {id}"), "it vanished")) }
}
