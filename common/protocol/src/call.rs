//! The calls between processes: what travels on each kind of connection.
//!
//! | connection | calls | replies |
//! | --- | --- | --- |
//! | front end or peer to a catalog node | [`CatalogCall`] | [`CatalogReply`] |
//! | front end to an order node | [`OrderCall`] | [`OrderReply`] |
//! | order node to a front end's internal listener | [`InternalCall`] | [`InternalReply`] |
//! | back-end node to a front end's heartbeat listener | [`Beat`] | none |
//!
//! Calls that want an answer carry a [`CallId`] of the caller's making, and answers come in any order.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::catalogue::{Book, Order, OrderLine, TopicKey};
use crate::command::{CommandKey, Outcome};
use crate::entry::{EncodedCommand, Entry};
use crate::ids::{BookId, Chain, Digest, Epoch, Index, NodeId, OrderId, RunId, ShardId, StoreId, Timestamp};
use crate::message::{Said, ToReplica};

/// Ties an answer to its call, within one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(pub u64);

/// Where a call comes from, for logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The `X-Request-Id` of the request that the call serves.
    pub request_id: String,
    /// Its W3C `traceparent`, if it came with one.
    pub traceparent: Option<String>,
}

/// To a catalog node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatalogCall {
    /// A message of the replication protocol; what the replica says comes as it comes.
    Replicate {
        /// Of which shard.
        shard: ShardId,
        /// The message.
        message: ToReplica,
    },
    /// A read.
    Read {
        /// Ties the answer to it.
        call: CallId,
        /// Of which shard.
        shard: ShardId,
        /// Which store is expected: another one under the same name must not answer.
        store: StoreId,
        /// The epoch of the reader's view.
        epoch: Epoch,
        /// What is asked.
        query: Query,
    },
    /// Entries of the log, for a replica that resyncs.
    Pull {
        /// Ties the answer to it.
        call: CallId,
        /// Of which shard.
        shard: ShardId,
        /// The first one wanted is the one after this.
        after: Index,
    },
    /// The whole store, for a replica that is too far behind. Answered in many parts.
    Snapshot {
        /// Ties the answers to it.
        call: CallId,
        /// Of which shard.
        shard: ShardId,
    },
    /// The whole store, for a backup: checked row by row before it is sent, in the parts of a snapshot
    /// behind a [`CatalogReply::BackupBegin`].
    Backup {
        /// Ties the answers to it.
        call: CallId,
        /// Of which shard.
        shard: ShardId,
        /// Which store is expected.
        store: StoreId,
        /// The epoch of the caller's view.
        epoch: Epoch,
    },
}

/// From a catalog node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatalogReply {
    /// What a replica says to its writer.
    Replicate {
        /// Of which shard.
        shard: ShardId,
        /// What it says.
        said: Said,
    },
    /// The answer to a read.
    Read {
        /// Of which call.
        call: CallId,
        /// The answer.
        reply: ReadReply,
    },
    /// The answer to a pull.
    Pulled {
        /// Of which call.
        call: CallId,
        /// The answer.
        page: LogPage,
    },
    /// A part of a snapshot, in order.
    SnapshotPart {
        /// Of which call.
        call: CallId,
        /// The next bytes of the file.
        bytes: Bytes,
    },
    /// The end of a snapshot.
    SnapshotEnd {
        /// Of which call.
        call: CallId,
        /// What the file holds, or why there is none.
        result: Result<SnapshotFacts, String>,
    },
    /// What a backup holds, before its first part.
    BackupBegin {
        /// Of which call.
        call: CallId,
        /// What will come, or why nothing will.
        result: Result<BackupFacts, String>,
    },
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFacts {
    /// Its place in the history, and its digest.
    pub snapshot: SnapshotFacts,
    /// BLAKE3 of the file.
    pub blake3: [u8; 32],
}

/// What a snapshot holds, to check it by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFacts {
    /// The size of the file.
    pub bytes: u64,
    /// The last index in it.
    pub last: Index,
    /// The chain there.
    pub chain: Chain,
    /// The digest of its tables.
    pub digest: Digest,
}

/// A part of a log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LogPage {
    /// Entries without gaps, beginning where it was asked; none if there are none yet.
    Entries {
        /// The entries.
        entries: Vec<Entry>,
        /// The last index of the whole log.
        last: Index,
    },
    /// The log does not reach back so far: a snapshot is needed.
    Gone,
    /// It could not be read.
    Failed(String),
}

/// What can be asked of a shard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Query {
    /// A book.
    Book(BookId),
    /// Books by id.
    Page(PageQuery),
    /// All topics with the number of their books.
    Topics,
    /// Sales in the order of the log.
    Sales {
        /// The first entry wanted is after this index.
        after: Index,
        /// At most so many entries are looked at.
        limit: u32,
    },
    /// The chain at an index, to find out whether a follower knows the same history.
    ChainAt(Index),
    /// What has changed the stock of books, in the order of the log: for an audit.
    Ledger {
        /// The first entry wanted is after this index.
        after: Index,
        /// At most so many entries are looked at.
        limit: u32,
    },
}

/// Which books, and how many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PageQuery {
    /// Only those of this topic.
    pub topic: Option<TopicKey>,
    /// Only those with all of these words in title, author or topic; the last word may be a beginning.
    pub words: Option<String>,
    /// Only those behind this id.
    pub after: Option<BookId>,
    /// At most so many.
    pub limit: u32,
}

/// The answer to a read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadReply {
    /// What was asked for.
    Answer(Answer),
    /// The replica has promised a higher epoch than the reader's: the reader's view is old.
    Sealed {
        /// The promised one.
        promise: Epoch,
    },
    /// The store expected is not here, or it is not fit to be read now.
    NotHere,
    /// It could not be read.
    Failed(String),
}

/// What was read, with the version by which the reader knows when it may be shown (R1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The entry that last changed it; for an absence or several rows, the replica's last entry.
    pub version: Version,
    /// What was read.
    pub content: Content,
}

/// The entry that an answer shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Its index.
    pub index: Index,
    /// The epoch in which it was written.
    pub epoch: Epoch,
}

/// What a read can bring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// The book, if there is one.
    Book(Option<Book>),
    /// A page of books by id.
    Page {
        /// The books.
        books: Vec<Book>,
        /// Whether more follow.
        more: bool,
    },
    /// Topics by their key, each with a spelling and the number of its books.
    Topics(Vec<TopicCount>),
    /// Sales, each with the index of its entry.
    Sales {
        /// The sales.
        sales: Vec<(Index, Order)>,
        /// The stretch of the log that they are from ends here.
        upto: Index,
        /// The chain there, if the log still has it.
        chain: Option<Chain>,
    },
    /// The chain at an index, if the log still has it.
    ChainAt(Option<Chain>),
    /// A part of the ledger.
    Ledger(LedgerPage),
}

/// What has changed the stock of books within a stretch of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerPage {
    /// The changes, each with the index of its entry.
    pub moves: Vec<(Index, StockMove)>,
    /// The stretch ends here.
    pub upto: Index,
    /// The replica's last index when it was read.
    pub last: Index,
    /// Before this index nothing but sales is known: the log has been cut there.
    pub begins: Index,
}

/// A change of a book's stock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StockMove {
    /// Books were sold.
    Sold(Order),
    /// Copies were added, or taken away.
    Added {
        /// Of which book.
        book: BookId,
        /// How many.
        amount: i64,
    },
    /// The book was added or replaced, and has so many copies now.
    Put {
        /// Which book.
        book: BookId,
        /// How many copies.
        quantity: u64,
    },
    /// The book was removed, with all of its copies.
    Removed {
        /// Which book.
        book: BookId,
    },
}

/// A topic and how many books it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicCount {
    /// All spellings as one.
    pub key: TopicKey,
    /// As its first book writes it.
    pub topic: String,
    /// How many books.
    pub books: u64,
}

/// To an order node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderCall {
    /// Sell these books.
    Buy {
        /// Ties the answer to it.
        call: CallId,
        /// Which run of the front end asks.
        run: RunId,
        /// For logs.
        trace: Trace,
        /// The key under which the outcome is kept.
        key: CommandKey,
        /// What is asked for.
        lines: Vec<OrderLine>,
    },
    /// Show an order.
    Order {
        /// Ties the answer to it.
        call: CallId,
        /// For logs.
        trace: Trace,
        /// Which one.
        order: OrderId,
    },
    /// Show orders, newest first.
    Orders {
        /// Ties the answer to it.
        call: CallId,
        /// For logs.
        trace: Trace,
        /// Only those older than this one.
        before: Option<OrderId>,
        /// At most so many.
        limit: u32,
    },
}

/// From an order node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderReply {
    /// What became of a buy.
    Bought {
        /// Of which call.
        call: CallId,
        /// The outcome.
        result: Result<Outcome, WriteFailure>,
    },
    /// An order, if there is one.
    Order {
        /// Of which call.
        call: CallId,
        /// The order; an error if the node can't tell now.
        result: Result<Option<Order>, String>,
    },
    /// A page of orders.
    Orders {
        /// Of which call.
        call: CallId,
        /// The orders and whether more follow; an error if the node can't tell now.
        result: Result<(Vec<Order>, bool), String>,
    },
}

/// The call of a front end that a buy serves. Should it be that very run that commits the buy, it need not wait to
/// be told the outcome by the order node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Which run of which front end.
    pub run: RunId,
    /// Its call to the order node.
    pub call: CallId,
}

/// Why a write has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum WriteFailure {
    /// It was not done and will not be.
    #[error("the write was not done: {0}")]
    NotDone(String),
    /// It may have been done or may yet be: ask again with the same key.
    #[error("whether the write was done is not known: {0}")]
    Unknown(String),
    /// The caller asked for something that can't be.
    #[error("{0}")]
    BadRequest(String),
}

/// From an order node to a front end's internal listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InternalCall {
    /// Have the shard's writer carry out a command.
    Submit {
        /// Ties the answer to it.
        call: CallId,
        /// Who waits for it.
        serves: Served,
        /// For logs.
        trace: Trace,
        /// Whose write it is.
        shard: ShardId,
        /// The command.
        command: EncodedCommand,
    },
    /// Send all sales after a cursor, now and from now on, as they are committed.
    Follow {
        /// Of which shard.
        shard: ShardId,
        /// The last index that the follower has.
        after: Index,
        /// The chain there.
        chain: Chain,
    },
    /// Say up to where a shard is committed.
    CommitIndex {
        /// Ties the answer to it.
        call: CallId,
        /// Of which shard.
        shard: ShardId,
    },
}

/// From a front end's internal listener to an order node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InternalReply {
    /// What became of a command.
    Submitted {
        /// Of which call.
        call: CallId,
        /// The outcome.
        result: Result<Outcome, WriteFailure>,
    },
    /// The command has an outcome, and the call that it serves has been answered with it.
    Answered {
        /// Which call of the order node.
        call: CallId,
    },
    /// The next sales of a shard that is followed.
    Feed(Feed),
    /// The follower's history is not the shard's, or is older than can be compared: it must forget
    /// what it has of the shard and follow again from index 0.
    StartOver {
        /// Of which shard.
        shard: ShardId,
    },
    /// Up to where a shard is committed.
    CommitIndex {
        /// Of which call.
        call: CallId,
        /// The index; an error if it can't be told now.
        result: Result<Index, String>,
    },
}

/// Committed sales in the order of the log, without gaps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    /// Of which shard.
    pub shard: ShardId,
    /// The feed covers the indexes after this one …
    pub after: Index,
    /// … up to this one, which is committed.
    pub upto: Index,
    /// The chain at `upto`; `None` where the feed ends inside a stretch whose chains were not read.
    pub chain: Option<Chain>,
    /// The sales among them.
    pub sales: Vec<(Index, Order)>,
}

/// A heartbeat: who a node is and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Its name in the configuration.
    pub node: NodeId,
    /// Its process.
    pub pid: u32,
    /// The version of the program.
    pub version: String,
    /// When the process started.
    pub started: Timestamp,
    /// Connections open to it.
    pub connections: u32,
    /// What it holds: a catalog node's replicas, an order node's projections.
    pub shards: Vec<ShardBeat>,
}

/// How a node stands in one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardBeat {
    /// The shard.
    pub shard: ShardId,
    /// The file; none for a projection.
    pub store: Option<StoreId>,
    /// The promised epoch.
    pub promise: Epoch,
    /// The last index.
    pub last: Index,
    /// The chain there.
    pub chain: Chain,
    /// The digest of the tables.
    pub digest: Digest,
}
