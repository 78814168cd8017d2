//! The tables of books: their facts, their stock, the index of words and the count of topics.
//!
//! Every change goes through [`Tables`], which keeps the digest and what follows from the rows level with them.

use std::collections::BTreeSet;

use protocol::catalogue::{Book, Facts, TopicKey};
use protocol::ids::{BookId, Digest, Epoch, Index};
use protocol::message::CacheKey;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::codec::{book_id, number, signed};
use super::digest::{Sign, Sum};
use super::error::{Fault, Step};
use super::shelf::{Shelf, Shelved, Stock, one};

/// The columns of a whole book, in the order that [`BookRow::read`] expects. They come of [`BOOK_TABLES`].
pub(super) const BOOK_COLUMNS: &str =
    "books.id, cost_cents, quantity, version, epoch, books.title, books.topic,
     books.author, books.isbn, books.year, books.description";
/// Where whole books are read: in the order of the first, whatever the planner may think of it.
pub(super) const BOOK_TABLES: &str = "books CROSS JOIN stock ON stock.id = books.id";

/// A book with the epoch of the entry that last changed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BookRow {
    pub(super) book: Book,
    pub(super) epoch: Epoch,
}

/// What of a book is indexed beside its row.
#[derive(PartialEq, Eq)]
struct Indexed<'b> {
    id: BookId,
    title: &'b str,
    author: Option<&'b str>,
    topic: TopicKey,
}

impl<'b> Indexed<'b> {
    fn of(row: &'b BookRow) -> Self {
        let Facts { title, author, .. } = &row.book.facts;
        Self { id: row.book.id, title, author: author.as_deref(), topic: row.topic_key() }
    }
}

impl BookRow {
    /// Reads [`BOOK_COLUMNS`].
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let book = Book {
            id: book_id(row, 0)?,
            cost_cents: number(row, 1)?,
            quantity: number(row, 2)?,
            version: Index(number(row, 3)?),
            facts: Facts {
                title: row.get(5)?,
                topic: row.get(6)?,
                author: row.get(7)?,
                isbn: row.get(8)?,
                year: row.get(9)?,
                description: row.get(10)?,
            },
        };
        Ok(Self { book, epoch: Epoch(number(row, 4)?) })
    }

    pub(super) fn stock(&self) -> Stock {
        let Book { cost_cents, quantity, version, .. } = self.book;
        Stock { cost_cents, quantity, version, epoch: self.epoch }
    }

    pub(super) fn topic_key(&self) -> TopicKey {
        TopicKey::of(&self.book.facts.topic)
    }

    /// Counts a book as the two rows that it is to the digest.
    pub(super) fn count(&self, sign: Sign, topic_key: &str, sum: &mut Sum) {
        sum.count(sign, &(1_u8, self.book.id, &self.book.facts, topic_key));
        sum.count(sign, &self.stock().hashed(self.book.id));
    }
}

/// The tables within a transaction, with the digest that follows their changes.
pub(super) struct Tables<'c> {
    conn: &'c Connection,
    pub(super) sum: Sum,
    shelf: Shelf<'c>,
    /// What a cache must drop: here for what the shelf has changed; what else changes adds its own.
    pub(super) touched: BTreeSet<CacheKey>,
}

impl<'c> Tables<'c> {
    /// The tables as they are, with their digest.
    pub(super) fn new(conn: &'c Connection, digest: Digest) -> Step<Self> {
        Ok(Self { conn, sum: Sum::from(digest), shelf: Shelf::new(conn)?, touched: BTreeSet::new() })
    }

    /// A book of which stock and price may be changed.
    pub(super) fn shelved(&mut self, id: BookId) -> Step<Option<&mut Shelved>> {
        self.shelf.book(id)
    }

    /// Changes stock or price of a book that was read as a whole.
    pub(super) fn restock(&mut self, row: &BookRow, stock: Stock) {
        let book = Shelved::new(row.book.facts.title.clone(), row.topic_key(), row.stock());
        self.shelf.put(row.book.id, book).stock = stock;
    }

    /// Writes what is still in memory alone.
    pub(super) fn settle(&mut self) -> Step<()> {
        let touched = &mut self.touched;
        self.shelf.clear(&mut self.sum, |book, topic| {
            touched.extend([CacheKey::Book(book), CacheKey::Topic(topic), CacheKey::Pages]);
        })
    }

    /// A whole book.
    pub(super) fn book(&mut self, id: BookId) -> Step<Option<BookRow>> {
        self.settle()?;
        book(self.conn, id)
    }

    /// The highest id of a book, or 0.
    pub(super) fn highest_book(&self) -> Step<u64> {
        let mut statement = self.conn.prepare_cached("SELECT ifnull(max(id), 0) FROM books")?;
        Ok(statement.query_row([], |row| number(row, 0))?)
    }

    /// Puts a book in, in place of `old` if that is there.
    pub(super) fn put_book(&mut self, old: Option<&BookRow>, new: &BookRow) -> Step<()> {
        self.settle()?;
        let [facts_sql, stock_sql] = if old.is_some() {
            [
                "UPDATE books SET title = ?2, topic = ?3, author = ?4, isbn = ?5, year = ?6, description = ?7,
                     topic_key = ?8
                 WHERE id = ?1",
                "UPDATE stock SET cost_cents = ?2, quantity = ?3, version = ?4, epoch = ?5 WHERE id = ?1",
            ]
        } else {
            [
                "INSERT INTO books (id, title, topic, author, isbn, year, description, topic_key)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                "INSERT INTO stock (id, cost_cents, quantity, version, epoch) VALUES (?1, ?2, ?3, ?4, ?5)",
            ]
        };
        let (id, facts) = (new.book.id, &new.book.facts);
        let topic_key = new.topic_key();
        let changed = self.conn.prepare_cached(facts_sql)?.execute(params![
            signed(id.get())?,
            facts.title,
            facts.topic,
            facts.author,
            facts.isbn,
            facts.year,
            facts.description,
            topic_key.as_str(),
        ])?;
        one(changed, id)?;
        one(self.conn.prepare_cached(stock_sql)?.execute(new.stock().columns(id)?)?, id)?;
        self.index(old, Some(new))?;
        if let Some(old) = old {
            old.count(Sign::Minus, old.topic_key().as_str(), &mut self.sum);
        }
        new.count(Sign::Plus, topic_key.as_str(), &mut self.sum);
        Ok(())
    }

    /// Takes a book out.
    pub(super) fn remove_book(&mut self, old: &BookRow) -> Step<()> {
        self.settle()?;
        let id = old.book.id;
        for sql in ["DELETE FROM books WHERE id = ?1", "DELETE FROM stock WHERE id = ?1"] {
            one(self.conn.prepare_cached(sql)?.execute([signed(id.get())?])?, id)?;
        }
        self.index(Some(old), None)?;
        old.count(Sign::Minus, old.topic_key().as_str(), &mut self.sum);
        Ok(())
    }

    /// Keeps the index of words and the count of topics level with a change of a book.
    fn index(&mut self, old: Option<&BookRow>, new: Option<&BookRow>) -> Step<()> {
        let [was, is] = [old, new].map(|row| row.map(Indexed::of));
        if was == is {
            return Ok(());
        }
        // FTS5 must be given what the index holds, for it has no copy of it.
        if let Some(was) = &was {
            let mut statement = self.conn.prepare_cached(
                "INSERT INTO books_words (books_words, rowid, title, author, topic_key)
                 VALUES ('delete', ?1, ?2, ?3, ?4)",
            )?;
            statement.execute(params![signed(was.id.get())?, was.title, was.author, was.topic.as_str()])?;
        }
        if let Some(is) = &is {
            let mut statement = self.conn.prepare_cached(
                "INSERT INTO books_words (rowid, title, author, topic_key) VALUES (?1, ?2, ?3, ?4)",
            )?;
            statement.execute(params![signed(is.id.get())?, is.title, is.author, is.topic.as_str()])?;
        }
        let [was, is] = [was, is].map(|indexed| indexed.map(|indexed| indexed.topic));
        if was != is {
            was.map_or(Ok(()), |topic| self.count_less(&topic))?;
            is.map_or(Ok(()), |topic| self.count_more(&topic))?;
        }
        Ok(())
    }

    fn count_more(&self, topic: &TopicKey) -> Step<()> {
        let mut statement = self.conn.prepare_cached(
            "INSERT INTO topics (topic_key, books) VALUES (?1, 1)
             ON CONFLICT (topic_key) DO UPDATE SET books = books + 1",
        )?;
        statement.execute([topic.as_str()])?;
        Ok(())
    }

    fn count_less(&self, topic: &TopicKey) -> Step<()> {
        let mut statement = self
            .conn
            .prepare_cached("UPDATE topics SET books = books - 1 WHERE topic_key = ?1 RETURNING books")?;
        let left = statement.query_row([topic.as_str()], |row| row.get::<_, i64>(0)).optional()?;
        match left {
            Some(1..) => Ok(()),
            Some(_) => {
                let mut statement = self.conn.prepare_cached("DELETE FROM topics WHERE topic_key = ?1")?;
                statement.execute([topic.as_str()])?;
                Ok(())
            }
            None => Err(Fault::corrupt(format!("topic {}", topic.as_str()), "its books are not counted")),
        }
    }
}

/// A whole book.
pub(super) fn book(conn: &Connection, id: BookId) -> Step<Option<BookRow>> {
    let mut statement = conn.prepare_cached(
        "SELECT books.id, cost_cents, quantity, version, epoch, title, topic, author, isbn, year, description
         FROM books CROSS JOIN stock ON stock.id = books.id WHERE books.id = ?1",
    )?;
    Ok(statement.query_row([signed(id.get())?], BookRow::read).optional()?)
}
