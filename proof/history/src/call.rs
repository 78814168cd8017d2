//! What is asked of a store, and what it answers, as far as a book's price, stock and version go.

use std::fmt;

use protocol::catalogue::OrderLine;
use protocol::ids::{BookId, Index};
use serde::{Deserialize, Serialize};

/// What an answer shows of a book that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seen {
    /// The price of one copy; `None` where the answer does not tell, as that of `/quantity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_cents: Option<u64>,
    /// Copies in stock.
    pub quantity: u64,
    /// The entry that last changed the book.
    pub version: Index,
}

/// Price and stock of a book that is put into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NewRow {
    /// Which book.
    pub book: BookId,
    /// The price of one copy.
    pub cost_cents: u64,
    /// Copies in stock.
    pub quantity: u64,
}

/// A call. All attempts under one key are one call, from the first sending to the last answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// Look up one book, or its stock.
    Look(BookId),
    /// A page of a list or a search.
    Page,
    /// Buy, all lines or none; no book twice.
    Buy(Vec<OrderLine>),
    /// Change the stock by so many copies.
    AddStock(BookId, i64),
    /// Set the price, in cents.
    SetPrice(BookId, u64),
    /// Add or replace a book.
    Put(NewRow),
    /// Add or replace several books, as one write.
    Load(Vec<NewRow>),
    /// Remove a book.
    Remove(BookId),
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The book, as a look found it or as a change left it.
    Book(Seen),
    /// The book is new, and this is it.
    Added(Seen),
    /// The books of a page.
    Books(Vec<(BookId, Seen)>),
    /// There is no such book. A sale names the one that it means.
    Absent(BookId),
    /// Sold; the price of one copy for each line of the call, in its order.
    Sold(Vec<u64>),
    /// Too few copies: of which book, and how many there are.
    OutOfStock(BookId, u64),
    /// There would be more copies than a store may hold.
    StockLimit(BookId),
    /// Carried out, and nothing is shown: of a removal or a load.
    Done,
    /// It was certainly not carried out, and never will be.
    NotDone,
    /// Nothing is known: it may happen at any later time, or never.
    Unknown,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} copies", self.quantity)?;
        if let Some(cost) = self.cost_cents {
            write!(f, " at {cost}")?;
        }
        write!(f, " in version {}", self.version)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look(book) => write!(f, "look at book {book}"),
            Self::Page => write!(f, "a page of books"),
            Self::Buy(lines) => {
                write!(f, "buy")?;
                lines.iter().try_for_each(|line| write!(f, " {} of book {}", line.quantity, line.book))
            }
            Self::AddStock(book, amount) => write!(f, "add {amount} copies to book {book}"),
            Self::SetPrice(book, cost) => write!(f, "set the price of book {book} to {cost}"),
            Self::Put(NewRow { book, cost_cents, quantity }) => {
                write!(f, "put book {book} with {quantity} copies at {cost_cents}")
            }
            Self::Load(rows) => write!(f, "load {} books", rows.len()),
            Self::Remove(book) => write!(f, "remove book {book}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Book(seen) => write!(f, "{seen}"),
            Self::Added(seen) => write!(f, "new, {seen}"),
            Self::Books(books) => write!(f, "{} books", books.len()),
            Self::Absent(book) => write!(f, "there is no book {book}"),
            Self::Sold(prices) => write!(f, "sold at {prices:?}"),
            Self::OutOfStock(book, available) => write!(f, "book {book} has only {available} copies"),
            Self::StockLimit(book) => write!(f, "book {book} would have too many copies"),
            Self::Done => write!(f, "done"),
            Self::NotDone => write!(f, "not done"),
            Self::Unknown => write!(f, "unknown"),
        }
    }
}
