//! The rows of the tables: how they are read and written, and what each one adds to the digest.
//!
//! Every change of a row goes through [`Tables`], which takes the old row's hash from the digest and
//! adds the new one's. A row is hashed as the postcard encoding of a tuple that begins with the number of
//! its kind: field by field with lengths, so no two rows share an encoding. A book counts as two rows,
//! one of its facts and one of its stock, so that a sale doesn't hash the book's description. What follows from
//! the rows, the index of words and the count of topics, changes with them and is not in the digest.

use protocol::catalogue::{Book, Facts, SoldItem, TopicKey};
use protocol::command::{CommandKey, Fingerprint, Outcome};
use protocol::ids::{BookId, Digest, Epoch, Index, OrderId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::error::{Fault, Step};

/// The columns of a whole book, in the order that [`BookRow::read`] expects.
pub(super) const BOOK_COLUMNS: &str =
    "id, cost_cents, quantity, version, epoch, title, topic, author, isbn, year, description";

/// What changes of a book when it is sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stock {
    pub(super) cost_cents: u64,
    pub(super) quantity: u64,
    pub(super) version: Index,
    pub(super) epoch: Epoch,
}

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

/// What a sale needs to know of a book.
#[derive(Debug)]
pub(super) struct Priced {
    pub(super) stock: Stock,
    pub(super) title: String,
    pub(super) topic: TopicKey,
}

/// A line of a sale, as it is stored.
#[derive(Debug)]
pub(super) struct SaleRow {
    pub(super) index: Index,
    pub(super) line: u64,
    pub(super) order: OrderId,
    pub(super) item: SoldItem,
    pub(super) at: Timestamp,
}

/// What became of a command, as it is stored.
#[derive(Debug)]
pub(super) struct OutcomeRow {
    pub(super) fingerprint: Fingerprint,
    pub(super) index: Index,
    pub(super) result: Vec<u8>,
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

    pub(super) fn hashed_facts(&self, topic_key: &str) -> Vec<u8> {
        encode(&(1_u8, self.book.id, &self.book.facts, topic_key))
    }
}

impl Stock {
    pub(super) fn hashed(&self, book: BookId) -> Vec<u8> {
        encode(&(2_u8, book, self))
    }
}

impl SaleRow {
    /// Reads `idx, line, order_id, book_id, title, quantity, unit_cost_cents, at`.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            index: Index(number(row, 0)?),
            line: number(row, 1)?,
            order: OrderId(u128::from_be_bytes(row.get(2)?)),
            item: SoldItem {
                book: book_id(row, 3)?,
                title: row.get(4)?,
                quantity: number(row, 5)?,
                unit_cost_cents: number(row, 6)?,
            },
            at: Timestamp(number(row, 7)?),
        })
    }

    pub(super) fn hashed(&self) -> Vec<u8> {
        encode(&(3_u8, self.index, self.line, self.order, &self.item, self.at))
    }
}

impl OutcomeRow {
    /// Reads `fingerprint, idx, result`, beginning at a column.
    pub(super) fn read(row: &Row<'_>, from: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            fingerprint: Fingerprint(u128::from_be_bytes(row.get(from)?)),
            index: Index(number(row, from + 1)?),
            result: row.get(from + 2)?,
        })
    }

    pub(super) fn hashed(&self, key: &[u8]) -> Vec<u8> {
        encode(&(4_u8, key, self.fingerprint, self.index, &self.result))
    }

    pub(super) fn decode(&self) -> Step<Outcome> {
        postcard::from_bytes(&self.result).map_err(|problem| {
            Fault::corrupt(format!("the outcome of entry {}", self.index), problem.to_string())
        })
    }
}

/// The tables within a transaction, with the digest that follows their changes.
#[derive(Debug)]
pub(super) struct Tables<'c> {
    pub(super) conn: &'c Connection,
    pub(super) digest: Digest,
}

impl Tables<'_> {
    fn swap(&mut self, old: &[u8], new: &[u8]) {
        self.digest = self.digest.minus_row(old).plus_row(new);
    }

    /// A book.
    pub(super) fn book(&self, id: BookId) -> Step<Option<BookRow>> {
        book(self.conn, id)
    }

    /// What a sale of a book needs.
    pub(super) fn priced(&self, id: BookId) -> Step<Option<Priced>> {
        let mut statement = self.conn.prepare_cached(
            "SELECT cost_cents, quantity, version, epoch, title, topic_key FROM books WHERE id = ?1",
        )?;
        let read = |row: &Row<'_>| {
            Ok(Priced {
                stock: Stock {
                    cost_cents: number(row, 0)?,
                    quantity: number(row, 1)?,
                    version: Index(number(row, 2)?),
                    epoch: Epoch(number(row, 3)?),
                },
                title: row.get(4)?,
                topic: TopicKey::of(row.get_ref(5)?.as_str()?),
            })
        };
        Ok(statement.query_row([signed(id.get())?], read).optional()?)
    }

    /// The highest id of a book, or 0.
    pub(super) fn highest_book(&self) -> Step<u64> {
        let mut statement = self.conn.prepare_cached("SELECT ifnull(max(id), 0) FROM books")?;
        Ok(statement.query_row([], |row| number(row, 0))?)
    }

    /// Changes stock or price of a book.
    pub(super) fn set_stock(&mut self, id: BookId, old: Stock, new: Stock) -> Step<()> {
        let mut statement = self.conn.prepare_cached(
            "UPDATE books SET cost_cents = ?2, quantity = ?3, version = ?4, epoch = ?5 WHERE id = ?1",
        )?;
        let changed = statement.execute([
            signed(id.get())?,
            signed(new.cost_cents)?,
            signed(new.quantity)?,
            signed(new.version.0)?,
            signed(new.epoch.0)?,
        ])?;
        one(changed, id)?;
        self.swap(&old.hashed(id), &new.hashed(id));
        Ok(())
    }

    /// Puts a book in, in place of `old` if that is there.
    pub(super) fn put_book(&mut self, old: Option<&BookRow>, new: &BookRow) -> Step<()> {
        let sql = if old.is_some() {
            "UPDATE books SET cost_cents = ?2, quantity = ?3, version = ?4, epoch = ?5, title = ?6,
                 topic = ?7, author = ?8, isbn = ?9, year = ?10, description = ?11, topic_key = ?12
             WHERE id = ?1"
        } else {
            "INSERT INTO books (id, cost_cents, quantity, version, epoch, title, topic, author, isbn, year,
                 description, topic_key)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
        };
        let BookRow { book, epoch } = new;
        let facts = &book.facts;
        let topic_key = new.topic_key();
        let changed = self.conn.prepare_cached(sql)?.execute(params![
            signed(book.id.get())?,
            signed(book.cost_cents)?,
            signed(book.quantity)?,
            signed(book.version.0)?,
            signed(epoch.0)?,
            facts.title,
            facts.topic,
            facts.author,
            facts.isbn,
            facts.year,
            facts.description,
            topic_key.as_str(),
        ])?;
        one(changed, book.id)?;
        self.index(old, Some(new))?;
        if let Some(old) = old {
            self.minus_book(old);
        }
        self.digest = self.digest.plus_row(&new.hashed_facts(topic_key.as_str()));
        self.digest = self.digest.plus_row(&new.stock().hashed(book.id));
        Ok(())
    }

    /// Takes a book out.
    pub(super) fn remove_book(&mut self, old: &BookRow) -> Step<()> {
        let id = old.book.id;
        let changed =
            self.conn.prepare_cached("DELETE FROM books WHERE id = ?1")?.execute([signed(id.get())?])?;
        one(changed, id)?;
        self.index(Some(old), None)?;
        self.minus_book(old);
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

    fn minus_book(&mut self, old: &BookRow) {
        self.digest = self.digest.minus_row(&old.hashed_facts(old.topic_key().as_str()));
        self.digest = self.digest.minus_row(&old.stock().hashed(old.book.id));
    }

    /// Enters a line of a sale.
    pub(super) fn add_sale(&mut self, sale: &SaleRow) -> Step<()> {
        let mut statement = self.conn.prepare_cached(
            "INSERT INTO sales (idx, line, order_id, book_id, title, quantity, unit_cost_cents, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        statement.execute(params![
            signed(sale.index.0)?,
            signed(sale.line)?,
            sale.order.0.to_be_bytes(),
            signed(sale.item.book.get())?,
            sale.item.title,
            signed(sale.item.quantity)?,
            signed(sale.item.unit_cost_cents)?,
            signed(sale.at.0)?,
        ])?;
        self.digest = self.digest.plus_row(&sale.hashed());
        Ok(())
    }

    /// Takes the lines of an entry's sale out.
    pub(super) fn remove_sales(&mut self, index: Index) -> Step<()> {
        let mut statement = self.conn.prepare_cached(
            "DELETE FROM sales WHERE idx = ?1
             RETURNING idx, line, order_id, book_id, title, quantity, unit_cost_cents, at",
        )?;
        for sale in statement.query_map([signed(index.0)?], SaleRow::read)? {
            self.digest = self.digest.minus_row(&sale?.hashed());
        }
        Ok(())
    }

    /// Stores what became of a command.
    pub(super) fn add_outcome(&mut self, key: &CommandKey, row: &OutcomeRow) -> Step<()> {
        self.conn
            .prepare_cached("INSERT INTO outcomes (key, fingerprint, idx, result) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![
                key.as_bytes(),
                row.fingerprint.0.to_be_bytes(),
                signed(row.index.0)?,
                row.result
            ])?;
        self.digest = self.digest.plus_row(&row.hashed(key.as_bytes()));
        Ok(())
    }

    /// Forgets what became of a command.
    pub(super) fn remove_outcome(&mut self, key: &CommandKey) -> Step<()> {
        let mut statement = self
            .conn
            .prepare_cached("DELETE FROM outcomes WHERE key = ?1 RETURNING fingerprint, idx, result")?;
        let row = statement.query_row([key.as_bytes()], |row| OutcomeRow::read(row, 0)).optional()?;
        let row = row.ok_or_else(|| Fault::corrupt(format!("the outcome under {key:?}"), "it is missing"))?;
        self.digest = self.digest.minus_row(&row.hashed(key.as_bytes()));
        Ok(())
    }
}

/// A book.
pub(super) fn book(conn: &Connection, id: BookId) -> Step<Option<BookRow>> {
    let mut statement = conn.prepare_cached(
        "SELECT id, cost_cents, quantity, version, epoch, title, topic, author, isbn, year, description
         FROM books WHERE id = ?1",
    )?;
    Ok(statement.query_row([signed(id.get())?], BookRow::read).optional()?)
}

/// What is stored under a command's key.
pub(super) fn outcome(conn: &Connection, key: &CommandKey) -> Step<Option<OutcomeRow>> {
    let mut statement =
        conn.prepare_cached("SELECT fingerprint, idx, result FROM outcomes WHERE key = ?1")?;
    Ok(statement.query_row([key.as_bytes()], |row| OutcomeRow::read(row, 0)).optional()?)
}

fn one(changed: usize, id: BookId) -> Step<()> {
    if changed == 1 { Ok(()) } else { Err(Fault::corrupt(format!("book {id}"), "it vanished")) }
}

/// A number as SQLite keeps it. Nothing that passed the checks of the API is out of its range.
pub(super) fn signed(number: u64) -> Step<i64> {
    i64::try_from(number).map_err(|_| Fault::corrupt("an entry", format!("{number} can't be stored")))
}

/// A number that is never negative.
pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

fn book_id(row: &Row<'_>, column: usize) -> rusqlite::Result<BookId> {
    let value: i64 = row.get(column)?;
    let id = u64::try_from(value).ok().and_then(|id| BookId::try_from(id).ok());
    id.ok_or(rusqlite::Error::IntegralValueOutOfRange(column, value))
}

/// The bytes of a value whose encoding can't fail: memory is the only thing that it needs.
pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("the store's own types have no unencodable values")
}
