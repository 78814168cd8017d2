//! Where an audit may begin: the stock of each book at an index of each shard, kept in a file.

use std::collections::BTreeMap;

use protocol::ids::BookId;
use serde::{Deserialize, Serialize};

use super::evidence::ShardLedger;

/// What an earlier audit found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// For each shard, the index at which the books had these stocks.
    pub indexes: Vec<u64>,
    /// The stock of each book.
    pub books: BTreeMap<BookId, u64>,
}

/// Why a start is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The numbers of shards differ.
    #[error("the start is of a store with {start} shards, this one has {store}")]
    Shards {
        /// The start's.
        start: usize,
        /// The store's.
        store: usize,
    },
    /// The log has been cut since.
    #[error(
        "the start ends at index {start} of shard {shard}, of which the log begins at {begins}: what \
             was delivered in between is not known any more"
    )]
    TooOld {
        /// Of which shard.
        shard: usize,
        /// Where the start ends.
        start: u64,
        /// Where the log begins.
        begins: u64,
    },
    /// The store ends before it.
    #[error(
        "the start ends at index {start} of shard {shard}, which has only come to {end}: it is of \
             another store, or this one has gone back in time"
    )]
    Ahead {
        /// Of which shard.
        shard: usize,
        /// Where the start ends.
        start: u64,
        /// Where the shard ends.
        end: u64,
    },
}

impl Start {
    /// Whether the ledgers go on where it ends.
    pub(super) fn check(&self, ledgers: &[ShardLedger]) -> Result<(), StartError> {
        if self.indexes.len() != ledgers.len() {
            return Err(StartError::Shards { start: self.indexes.len(), store: ledgers.len() });
        }
        for ((shard, start), ledger) in self.indexes.iter().copied().enumerate().zip(ledgers) {
            let ShardLedger { begins, end, .. } = *ledger;
            if begins > start + 1 {
                return Err(StartError::TooOld { shard, start, begins });
            }
            if start > end {
                return Err(StartError::Ahead { shard, start, end });
            }
        }
        Ok(())
    }
}
