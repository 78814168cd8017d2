//! What a write is: a command with its key, and the outcome that is stored under that key.
//!
//! A command is deterministic. It carries all that it needs (ids, times), so that each replica applies
//! it to the same end without a clock or a random number. Every command has a key, and its outcome,
//! refusals included, is stored under it: the same key with the same content changes nothing and
//! returns the first outcome. That is what makes a retry safe.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::catalogue::{Book, NewBook, Order, OrderLine};
use crate::ids::{BookId, OrderId, Timestamp, short_hash};

/// The longest Idempotency-Key that a caller may send, in bytes of visible ASCII.
pub const CALLER_KEY_BYTES_MAX: usize = 255;

/// The name under which a command's outcome is kept.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommandKey(Box<[u8]>);

/// Whose keys they are: the same text from two scopes makes two keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Callers of the public API without a token.
    Public,
    /// Callers with the admin token.
    Admin,
    /// Made by the store for a call that came without a key, or for its own writes.
    Store,
}

impl CommandKey {
    /// A key within a scope.
    #[must_use]
    pub fn new(scope: Scope, key: &[u8]) -> Self {
        let mark = match scope {
            Scope::Public => b'p',
            Scope::Admin => b'a',
            Scope::Store => b's',
        };
        let mut bytes = Vec::with_capacity(key.len() + 1);
        bytes.push(mark);
        bytes.extend_from_slice(key);
        Self(bytes.into())
    }

    /// The key as it is stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for CommandKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// A write, as the log holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Command {
    /// Where its outcome is kept.
    pub key: CommandKey,
    /// When it was asked for, by the clock of whoever made the command.
    pub at: Timestamp,
    /// What is to be done.
    pub action: Action,
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Sell, if there is enough for all lines; else nothing at all.
    Buy {
        /// The name of the sale, if this is the first command under its key.
        order: OrderId,
        /// What is asked for; no book twice.
        lines: Vec<OrderLine>,
    },
    /// Change the stock of a book; a negative amount takes copies away.
    AddStock {
        /// Which book.
        book: BookId,
        /// How many copies more, or fewer.
        amount: i64,
    },
    /// Set the price of a book.
    SetPrice {
        /// Which book.
        book: BookId,
        /// The new price of one copy, in cents.
        cost_cents: u64,
    },
    /// Add a book, or replace the one that has its id.
    PutBook(Box<NewBook>),
    /// Remove a book.
    RemoveBook {
        /// Which book.
        book: BookId,
    },
    /// Add or replace a batch of books.
    Load {
        /// The books; each is handled like a `PutBook`.
        books: Vec<NewBook>,
    },
}

/// A hash of what a command asks for, by which two commands under one key are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub u128);

impl Command {
    /// The fingerprint: without the time and the order id, for a retry may come with others.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let bytes = match &self.action {
            Action::Buy { order: _, lines } => encode(&(0_u8, lines)),
            Action::AddStock { book, amount } => encode(&(1_u8, book, amount)),
            Action::SetPrice { book, cost_cents } => encode(&(2_u8, book, cost_cents)),
            Action::PutBook(book) => encode(&(3_u8, book)),
            Action::RemoveBook { book } => encode(&(4_u8, book)),
            Action::Load { books } => encode(&(5_u8, books)),
        };
        Fingerprint(short_hash(&blake3::hash(&bytes)))
    }
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// The buy was carried out.
    Sold(Order),
    /// The book as the command left it.
    Changed(Book),
    /// The book is new.
    Added(Book),
    /// The book is gone.
    Removed,
    /// So many books were loaded.
    Loaded {
        /// How many.
        books: u32,
    },
    /// Nothing was changed, and why.
    Refused(Refusal),
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// There is no such book.
    NoSuchBook {
        /// The one asked for.
        book: BookId,
    },
    /// There are too few copies.
    OutOfStock {
        /// Of which book.
        book: BookId,
        /// How many were asked for.
        asked: u64,
        /// How many there are.
        available: u64,
    },
    /// There would be more copies than [`crate::catalogue::STOCK_MAX`].
    StockLimit {
        /// Of which book.
        book: BookId,
    },
    /// The key was used before, with other content. The only outcome not stored under its key, for
    /// the first one stands there.
    KeyConflict,
    /// No id is left for a book that came without one.
    NoFreeId,
}

/// The bytes of a value whose encoding can't fail: memory is the only thing that it needs.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("the types of the protocol have no unencodable values")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buy(order: u128, at: u64, quantity: u64) -> Command {
        let lines = vec![OrderLine { book: BookId::try_from(1).unwrap(), quantity }];
        Command {
            key: CommandKey::new(Scope::Public, b"k"),
            at: Timestamp(at),
            action: Action::Buy { order: OrderId(order), lines },
        }
    }

    #[test]
    fn a_retry_with_another_order_id_and_time_has_the_same_fingerprint() {
        assert_eq!(buy(1, 1, 1).fingerprint(), buy(2, 9, 1).fingerprint());
        assert_ne!(buy(1, 1, 1).fingerprint(), buy(1, 1, 2).fingerprint());
    }

    #[test]
    fn a_key_of_one_scope_is_not_that_of_another() {
        assert_ne!(CommandKey::new(Scope::Public, b"k"), CommandKey::new(Scope::Admin, b"k"));
    }
}
