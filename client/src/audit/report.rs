//! What an audit says: the sums, and everything that does not fit.

use protocol::ids::BookId;
use serde::Serialize;

use super::start::Start;

/// What an audit has found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// How many books were listed.
    pub books: u64,
    /// How many orders the ledger has.
    pub orders: u64,
    /// Copies that came in, less those that were taken away other than by a sale; of proven books.
    pub stocked: u64,
    /// Copies sold since then.
    pub sold: u64,
    /// Copies left. What was sold and what is left is what was stocked.
    pub left: u64,
    /// Books of which neither the log nor the start says how they began, so that their stock proves nothing.
    pub unproven: Vec<BookId>,
    /// What does not fit.
    pub faults: Vec<Fault>,
    /// Where a later audit may begin.
    #[serde(skip)]
    pub end: Option<Start>,
}

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Fault {
    /// A book has another stock than its ledger comes to; `null` stands for no book.
    Stock {
        /// Which book.
        id: BookId,
        /// In which version; of a book that is not listed, the end of the ledger.
        version: u64,
        /// By the ledger.
        expected: Option<u64>,
        /// As listed.
        found: Option<u64>,
    },
    /// More copies were sold or taken than there were.
    Oversold {
        /// Of which book.
        id: BookId,
        /// By which entry.
        index: u64,
    },
    /// An order was sold twice.
    SoldTwice {
        /// Which order.
        order_id: String,
    },
    /// A node lacks an order.
    OrderMissing {
        /// Which node.
        node: String,
        /// Which order.
        order_id: String,
    },
    /// A node lists an order twice.
    OrderTwice {
        /// Which node.
        node: String,
        /// Which order.
        order_id: String,
    },
    /// A node has an order that was never sold.
    OrderUnknown {
        /// Which node.
        node: String,
        /// Which order.
        order_id: String,
    },
    /// A node has an order otherwise than it was sold.
    OrderDiffers {
        /// Which node.
        node: String,
        /// Which order.
        order_id: String,
    },
    /// Two replicas at one place have other content.
    Replicas {
        /// Of which shard.
        shard: u32,
        /// At which index.
        index: u64,
        /// Which nodes.
        nodes: [String; 2],
    },
}

impl Report {
    /// Whether everything fits.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.faults.is_empty()
    }
}
