//! Books, topics and orders as the shards hold them, and the limits on what they may contain.
//!
//! The limits are checked where a request enters the store; a command that has passed them is applied
//! by every replica without a further opinion. `common::api` has the JSON forms.

use serde::{Deserialize, Serialize};

use crate::ids::{BookId, Index, OrderId, Timestamp};

/// The longest title, in bytes of UTF-8. Long enough for any printed title.
pub const TITLE_BYTES_MAX: usize = 512;
/// The longest topic, in bytes of UTF-8; topics are cache keys, so they stay short.
pub const TOPIC_BYTES_MAX: usize = 128;
/// The longest author line, in bytes of UTF-8.
pub const AUTHOR_BYTES_MAX: usize = 256;
/// The longest ISBN, in bytes: 13 digits with hyphens fit well.
pub const ISBN_BYTES_MAX: usize = 32;
/// The longest description, in bytes of UTF-8; it is part of every answer that shows the book.
pub const DESCRIPTION_BYTES_MAX: usize = 8 * 1024;
/// The highest price, a million in the currency's main unit. With the two limits below, no order's
/// total leaves the integers that JSON holds exactly.
pub const COST_CENTS_MAX: u64 = 100_000_000;
/// The most copies that one line of an order may ask for.
pub const LINE_QUANTITY_MAX: u64 = 1_000_000;
/// The most lines of an order.
pub const ORDER_LINES_MAX: usize = 50;
/// The most copies of one book that the store may hold.
pub const STOCK_MAX: u64 = 1_000_000_000;

/// A book as a shard holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Book {
    /// Its number.
    pub id: BookId,
    /// All that is known of it but stock and price.
    pub facts: Facts,
    /// Price of one copy, in cents.
    pub cost_cents: u64,
    /// Copies in stock.
    pub quantity: u64,
    /// The index of the entry that last changed it: rises with every change.
    pub version: Index,
}

/// What describes a book.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Facts {
    /// Its title, never empty.
    pub title: String,
    /// Its topic as written by whoever added it, never empty.
    pub topic: String,
    /// Who wrote it, where known.
    pub author: Option<String>,
    /// Its ISBN, where known; not checked, for old books have strange ones.
    pub isbn: Option<String>,
    /// The year it appeared, where known.
    pub year: Option<i32>,
    /// A text about it, where there is one.
    pub description: Option<String>,
}

/// A book that is to be added or to replace another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NewBook {
    /// Its number; without one, the shard gives it the next that is free.
    pub id: Option<BookId>,
    /// What describes it.
    pub facts: Facts,
    /// Price of one copy, in cents.
    pub cost_cents: u64,
    /// Copies in stock.
    pub quantity: u64,
}

/// One form for all spellings of a topic: lower case, with single spaces for spaces, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicKey(String);

impl TopicKey {
    /// The key of a topic in any spelling.
    #[must_use]
    pub fn of(topic: &str) -> Self {
        let lower = topic.to_lowercase();
        let words =
            lower.split(|c: char| c.is_whitespace() || c == '-' || c == '_').filter(|w| !w.is_empty());
        let mut key = String::with_capacity(topic.len());
        for word in words {
            if !key.is_empty() {
                key.push(' ');
            }
            key.push_str(word);
        }
        Self(key)
    }

    /// The key that another one gave as text: nothing of it is changed any more.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The key as text; empty if the topic had no word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A line of an order that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OrderLine {
    /// Which book.
    pub book: BookId,
    /// How many copies, at least 1.
    pub quantity: u64,
}

/// A sale: an order that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Order {
    /// Its name.
    pub id: OrderId,
    /// What was sold, in the order of the request.
    pub items: Vec<SoldItem>,
    /// When the order was placed.
    pub at: Timestamp,
}

impl Order {
    /// What the whole order costs, in cents.
    #[must_use]
    pub fn total_cents(&self) -> u64 {
        self.items.iter().map(|item| item.quantity * item.unit_cost_cents).sum()
    }
}

/// A line of a sale.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SoldItem {
    /// Which book.
    pub book: BookId,
    /// Its title when it was sold.
    pub title: String,
    /// How many copies.
    pub quantity: u64,
    /// The price of one copy when it was sold, in cents.
    pub unit_cost_cents: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_a_topic_have_one_key() {
        for spelling in
            ["distributed systems", "Distributed-Systems", "DISTRIBUTED_SYSTEMS", "  distributed   systems "]
        {
            assert_eq!(TopicKey::of(spelling).as_str(), "distributed systems", "{spelling}");
        }
        assert_eq!(TopicKey::of("ÉTÉ").as_str(), "été");
        assert_eq!(TopicKey::of(" -_ ").as_str(), "");
    }
}
