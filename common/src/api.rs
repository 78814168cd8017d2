//! The JSON bodies of the REST API, as server and client both use them.
//!
//! These are the only types that JSON is made from or read into; the protocol's own types travel
//! between processes in another form. Names of fields are part of the contract with callers.

use std::time::{Duration, SystemTime};

use protocol::call::StockMove;
use protocol::catalogue;
use protocol::ids::{BookId, Timestamp};
use serde::{Deserialize, Serialize};

/// A book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// Its number.
    pub id: BookId,
    /// Its title.
    pub title: String,
    /// Its topic.
    pub topic: String,
    /// Who wrote it, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Its ISBN, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isbn: Option<String>,
    /// The year it appeared, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub year: Option<i32>,
    /// A text about it, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Price of one copy, in cents.
    pub cost_cents: u64,
    /// Copies in stock.
    pub quantity: u64,
    /// Rises with every change of the book.
    pub version: u64,
}

impl From<catalogue::Book> for Book {
    fn from(book: catalogue::Book) -> Self {
        let catalogue::Book { id, facts, cost_cents, quantity, version } = book;
        let catalogue::Facts { title, topic, author, isbn, year, description } = facts;
        Self { id, title, topic, author, isbn, year, description, cost_cents, quantity, version: version.0 }
    }
}

/// A book that is to be added or to replace another: the body of `POST /books`, a line of a bulk load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewBook {
    /// Its number; without one, the store chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<BookId>,
    /// Its title.
    pub title: String,
    /// Its topic.
    pub topic: String,
    /// Who wrote it, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Its ISBN, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isbn: Option<String>,
    /// The year it appeared, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub year: Option<i32>,
    /// A text about it, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Price of one copy, in cents.
    pub cost_cents: u64,
    /// Copies in stock.
    pub quantity: u64,
}

/// What is wrong with a field of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct FieldError {
    /// The field's name, such as `items[2].quantity`.
    pub field: String,
    /// What would be right, such as `must be at least 1, found 0`.
    pub problem: String,
}

impl FieldError {
    /// An error of a field.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

impl TryFrom<NewBook> for catalogue::NewBook {
    type Error = FieldError;

    /// Checks every limit of [`protocol::catalogue`].
    fn try_from(book: NewBook) -> Result<Self, FieldError> {
        let NewBook { id, title, topic, author, isbn, year, description, cost_cents, quantity } = book;
        let text = |field: &str, value: String, max: usize| {
            if value.trim().is_empty() {
                return Err(FieldError::new(field, "must not be empty"));
            }
            if value.len() > max {
                let found = value.len();
                return Err(FieldError::new(field, format!("must have at most {max} bytes, found {found}")));
            }
            if value.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
                return Err(FieldError::new(field, "must not hold control characters"));
            }
            Ok(value)
        };
        let optional = |field: &str, value: Option<String>, max: usize| {
            value.filter(|v| !v.trim().is_empty()).map(|v| text(field, v, max)).transpose()
        };
        let number = |field: &str, value: u64, max: u64| {
            if value > max {
                return Err(FieldError::new(field, format!("must be at most {max}, found {value}")));
            }
            Ok(value)
        };
        let topic = text("topic", topic, catalogue::TOPIC_BYTES_MAX)?;
        if catalogue::TopicKey::of(&topic).as_str().is_empty() {
            return Err(FieldError::new("topic", "must hold a word"));
        }
        Ok(Self {
            id,
            facts: catalogue::Facts {
                title: text("title", title, catalogue::TITLE_BYTES_MAX)?,
                topic,
                author: optional("author", author, catalogue::AUTHOR_BYTES_MAX)?,
                isbn: optional("isbn", isbn, catalogue::ISBN_BYTES_MAX)?,
                year,
                description: optional("description", description, catalogue::DESCRIPTION_BYTES_MAX)?,
            },
            cost_cents: number("cost_cents", cost_cents, catalogue::COST_CENTS_MAX)?,
            quantity: number("quantity", quantity, catalogue::STOCK_MAX)?,
        })
    }
}

/// A page of books by id: the answer of `/list` and `/search`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookPage {
    /// The books.
    pub books: Vec<Book>,
    /// What to ask for the next page with; `null` on the last.
    pub next_page_token: Option<String>,
}

/// The stock of a book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantity {
    /// Which book.
    pub id: BookId,
    /// Copies in stock.
    pub quantity: u64,
    /// The book's version.
    pub version: u64,
}

/// All topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topics {
    /// By name.
    pub topics: Vec<Topic>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub topic: String,
    /// How many books it has.
    pub books: u64,
}

/// A sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its name.
    pub order_id: String,
    /// Always `sold`: what is refused makes no order.
    pub status: OrderStatus,
    /// What was sold.
    pub items: Vec<OrderItem>,
    /// What it costs.
    pub total_cents: u64,
    /// When it was placed, RFC 3339 in UTC.
    pub created_at: String,
}

/// The states of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderStatus {
    /// Carried out.
    Sold,
}

/// A line of a sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderItem {
    /// Which book.
    pub id: BookId,
    /// Its title when it was sold.
    pub title: String,
    /// How many copies.
    pub quantity: u64,
    /// The price of one copy when it was sold.
    pub unit_cost_cents: u64,
}

impl From<catalogue::Order> for Order {
    fn from(order: catalogue::Order) -> Self {
        let total_cents = order.total_cents();
        let items = order.items.into_iter().map(|item| OrderItem {
            id: item.book,
            title: item.title,
            quantity: item.quantity,
            unit_cost_cents: item.unit_cost_cents,
        });
        Self {
            order_id: order.id.to_string(),
            status: OrderStatus::Sold,
            items: items.collect(),
            total_cents,
            created_at: rfc3339(order.at),
        }
    }
}

/// A page of orders, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPage {
    /// The orders.
    pub orders: Vec<Order>,
    /// What to ask for the next page with; `null` on the last.
    pub next_page_token: Option<String>,
}

/// The answer of `/ledger`: what has changed the stock of a shard's books, in the order of its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Which shard.
    pub shard: u32,
    /// The changes.
    pub moves: Vec<LedgerMove>,
    /// They are all that happened from where was asked up to this index.
    pub upto: u64,
    /// The last index when this was read: while `upto` is below it, more follows after `upto`.
    pub last: u64,
    /// Before this index nothing but sales is known, for the log has been cut there.
    pub begins: u64,
}

/// A change of stocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerMove {
    /// The index of its entry: the version that it gave to its books.
    pub index: u64,
    /// What it was.
    #[serde(flatten)]
    pub change: StockChange,
}

/// What changes stocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum StockChange {
    /// A sale.
    Sold {
        /// The order.
        order: Order,
    },
    /// Copies were added, or taken away.
    Added {
        /// Of which book.
        id: BookId,
        /// How many.
        amount: i64,
    },
    /// The book was added or replaced, and has so many copies now.
    Put {
        /// Which book.
        id: BookId,
        /// How many copies.
        quantity: u64,
    },
    /// The book was removed, with all of its copies.
    Removed {
        /// Which book.
        id: BookId,
    },
}

impl StockChange {
    /// The order, if it is a sale.
    #[must_use]
    pub fn order(&self) -> Option<&Order> {
        match self {
            Self::Sold { order } => Some(order),
            Self::Added { .. } | Self::Put { .. } | Self::Removed { .. } => None,
        }
    }
}

impl From<StockMove> for StockChange {
    fn from(change: StockMove) -> Self {
        match change {
            StockMove::Sold(order) => Self::Sold { order: order.into() },
            StockMove::Added { book: id, amount } => Self::Added { id, amount },
            StockMove::Put { book: id, quantity } => Self::Put { id, quantity },
            StockMove::Removed { book: id } => Self::Removed { id },
        }
    }
}

/// The answer of `/books/bulk`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkReport {
    /// How many books were added or replaced.
    pub loaded: u64,
    /// The lines that were not, up to [`REJECTED_MAX`].
    pub rejected: Vec<RejectedLine>,
    /// How many more lines were rejected than are listed.
    #[serde(default)]
    pub rejected_more: u64,
}

/// The most rejected lines that a report lists; the others are counted.
pub const REJECTED_MAX: usize = 1000;

impl BulkReport {
    /// Enters a line that was not taken.
    pub fn reject(&mut self, line: u64, reason: String) {
        if self.rejected.len() < REJECTED_MAX {
            self.rejected.push(RejectedLine { line, reason });
        } else {
            self.rejected_more += 1;
        }
    }

    /// How many lines were rejected, listed or not.
    #[must_use]
    pub fn rejections(&self) -> u64 {
        self.rejected_more + self.rejected.len() as u64
    }
}

/// A line of a bulk load that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedLine {
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// The answer of `/invalidate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invalidated {
    /// Which book.
    pub id: BookId,
    /// Whether the cache held it.
    pub dropped: bool,
}

/// The body of every error: RFC 9457.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProblemBody {
    /// `/problems/<name>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of problem it is, in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this request.
    pub detail: String,
    /// What else helps: `field`, `available`, `outcome`, …
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// The answer of `/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Each shard.
    pub shards: Vec<ShardStatus>,
    /// Each process that the front end knows of.
    pub nodes: Vec<NodeStatus>,
    /// The cache of this front end.
    pub cache: CacheStatus,
}

/// How a shard stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Its number.
    pub shard: u32,
    /// The epoch of its view, 0 before the first.
    pub epoch: u64,
    /// The front end that orders its writes.
    pub writer: Option<String>,
    /// The nodes that have every acknowledged write.
    pub members: Vec<String>,
    /// Up to where it is committed.
    pub commit_index: u64,
    /// What keeps it from taking writes, if anything does.
    pub waiting_for: Option<String>,
    /// Its copies.
    pub replicas: Vec<ReplicaStatus>,
}

/// How a copy of a shard stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Its node.
    pub id: String,
    /// What it is to the shard.
    pub state: ReplicaState,
    /// The epoch that it has promised.
    pub epoch: u64,
    /// Its last index.
    pub last_index: u64,
    /// The chain there, in hexadecimal.
    pub chain: String,
    /// The digest of its tables there, in hexadecimal.
    pub digest: String,
    /// How many entries it is behind the shard's commit index.
    pub lag: u64,
}

/// What a copy is to its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplicaState {
    /// It has every acknowledged write and is read.
    Member,
    /// It is up and levels with the members.
    Recovering,
    /// It is silent, and not read.
    Suspect,
    /// It is gone.
    Down,
}

/// How a process stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name in the configuration.
    pub id: String,
    /// What it is.
    pub role: Role,
    /// Whether it lives.
    pub state: NodeState,
    /// Where it listens.
    pub address: String,
    /// Its process, once it has been heard of.
    pub pid: Option<u32>,
    /// How long ago it was heard of.
    pub last_beat_ms: Option<u64>,
    /// How long it has been running.
    pub uptime_s: Option<u64>,
    /// The version of its program.
    pub version: Option<String>,
}

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A front end.
    Frontend,
    /// A catalog node.
    Catalog,
    /// An order node.
    Order,
}

/// Whether a process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// It beats.
    Up,
    /// It is silent for longer than the limit, but its connection stands.
    Suspect,
    /// It has no connection.
    Down,
}

/// How the cache does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheStatus {
    /// Answers that it holds.
    pub entries: u64,
    /// Their size.
    pub bytes: u64,
    /// Requests that it answered.
    pub hits: u64,
    /// Requests that it could not answer.
    pub misses: u64,
    /// Keys that writes made it drop.
    pub invalidations: u64,
    /// Answers that were not stored, for they were overtaken by a write.
    pub voided_fills: u64,
}

/// A time as the API writes it: RFC 3339 in UTC, with milliseconds.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(at.0.min(TIMESTAMP_MAX));
    humantime::format_rfc3339_millis(time).to_string()
}

/// The end of the year 9999: what RFC 3339 can write.
const TIMESTAMP_MAX: u64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(Timestamp(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
        assert_eq!(rfc3339(Timestamp(u64::MAX)), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn what_is_not_known_of_a_book_is_left_out() {
        let text = r#"{"id":1,"title":"t","topic":"x","cost_cents":5,"quantity":2,"version":9}"#;
        let book: Book = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&book).unwrap(), text);
    }

    #[test]
    fn each_limit_of_a_book_has_its_edge() {
        let base = || NewBook {
            id: None,
            title: "t".into(),
            topic: "x".into(),
            author: None,
            isbn: None,
            year: None,
            description: None,
            cost_cents: 1,
            quantity: 1,
        };
        let field = |book: NewBook| catalogue::NewBook::try_from(book).map_err(|e| e.field).err();
        let long = |n: usize| "x".repeat(n);
        let cases: [(NewBook, Option<&str>); 12] = [
            (NewBook { title: long(512), ..base() }, None),
            (NewBook { title: long(513), ..base() }, Some("title")),
            (NewBook { title: " ".into(), ..base() }, Some("title")),
            (NewBook { title: "a\0b".into(), ..base() }, Some("title")),
            (NewBook { topic: long(129), ..base() }, Some("topic")),
            (NewBook { topic: "--".into(), ..base() }, Some("topic")),
            (NewBook { cost_cents: 100_000_000, ..base() }, None),
            (NewBook { cost_cents: 100_000_001, ..base() }, Some("cost_cents")),
            (NewBook { quantity: 1_000_000_000, ..base() }, None),
            (NewBook { quantity: 1_000_000_001, ..base() }, Some("quantity")),
            (NewBook { description: Some(long(8192)), ..base() }, None),
            (NewBook { description: Some(long(8193)), ..base() }, Some("description")),
        ];
        for (book, expected) in cases {
            let title: String = book.title.chars().take(20).collect();
            assert_eq!(field(book).as_deref(), expected, "{title}");
        }
    }
}
