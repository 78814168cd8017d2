//! What the writer of a shard and its replicas say to each other.
//!
//! | message | from | to | answered by |
//! | --- | --- | --- | --- |
//! | [`ToReplica::Append`] | writer | members, joiners | `Appended`, `Refused`, `Failed` |
//! | [`ToReplica::Seal`] | writer | members | `Sealed`, `Refused`, `Failed` |
//! | [`ToReplica::Recover`] | writer | replicas outside the view | in time: `Join` |
//! | [`ToReplica::Fetch`] | new writer | the member with the longest log | `Fetched` |
//! | [`ToReplica::Recount`] | writer | members, when they differ | `Recounted` |
//! | [`ToReplica::Report`] | front end | any replica | `Standing` |
//!
//! Messages may be lost, repeated and late; nothing here relies on their order, except that the
//! messages on one connection arrive in the order they were sent.

use serde::{Deserialize, Serialize};

use crate::catalogue::TopicKey;
use crate::command::Outcome;
use crate::entry::Entry;
use crate::ids::{BookId, Chain, Digest, Epoch, Index, NodeId, StoreId};
use crate::view::View;

/// From a writer to a replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ToReplica {
    /// Take these entries.
    Append(Append),
    /// Promise this view's epoch: take nothing of an older one.
    Seal(View),
    /// You are not in this view: level with its members.
    Recover(Recover),
    /// Send the entries after one index up to another, so that the other members can be levelled.
    Fetch {
        /// The writer's epoch.
        epoch: Epoch,
        /// The first one wanted is the one after this.
        after: Index,
        /// The last one wanted.
        upto: Index,
    },
    /// Count your digest anew from the rows.
    Recount {
        /// The writer's epoch.
        epoch: Epoch,
    },
    /// Say how you stand.
    Report,
}

/// A batch of entries, or none: then it carries the commit index alone and asks for a sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Append {
    /// The writer's epoch.
    pub epoch: Epoch,
    /// The index before the first entry.
    pub before: Index,
    /// The chain at that index.
    pub chain_before: Chain,
    /// What the writer knows to be committed.
    pub commit: Index,
    /// The entries, without gaps.
    pub entries: Vec<Entry>,
}

impl Append {
    /// The index of the last entry, or the one before where there are none.
    #[must_use]
    pub fn last(&self) -> Index {
        self.entries.last().map_or(self.before, |entry| entry.index)
    }

    /// Makes this append and one that follows at once a single one.
    ///
    /// # Errors
    /// Gives the other one back if it does not follow.
    pub fn join(&mut self, next: Self) -> Result<(), Self> {
        let end =
            self.entries.last().map_or((self.before, self.chain_before), |last| (last.index, last.chain));
        if end != (next.before, next.chain_before) || self.epoch != next.epoch {
            return Err(next);
        }
        self.commit = self.commit.max(next.commit);
        self.entries.extend(next.entries);
        Ok(())
    }
}

/// An order to a replica outside the view to level with a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Recover {
    /// The view that leaves the replica out.
    pub view: View,
    /// The member whose log it shall pull.
    pub source: NodeId,
    /// What the writer knows to be committed.
    pub commit: Index,
    /// Whether it must begin with a snapshot, for its own tables are known to be wrong.
    pub afresh: bool,
}

/// From a replica to a writer, always with the store that speaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Said {
    /// Which store says it: an answer of another file under the same name must not count.
    pub store: StoreId,
    /// What it says.
    pub reply: Reply,
}

/// What a replica says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reply {
    /// How it stands.
    Standing(Standing),
    /// It has all entries of an append, durably.
    Appended(Appended),
    /// It has promised an epoch, durably.
    Sealed(Sealed),
    /// It did not take what it was sent.
    Refused(Refused),
    /// It is nearly level and asks to become a member.
    Join {
        /// The epoch of the view that left it out.
        epoch: Epoch,
        /// Its last index.
        last: Index,
        /// The chain there.
        chain: Chain,
    },
    /// The entries that were fetched.
    Fetched {
        /// The epoch of the call.
        epoch: Epoch,
        /// The entries that were asked for, all of them and without gaps.
        entries: Vec<Entry>,
    },
    /// Its digest, counted anew.
    Recounted {
        /// The epoch of the call.
        epoch: Epoch,
        /// Whether the rows gave the digest that it keeps.
        sound: bool,
    },
    /// Its store could not do it: a full or broken disk.
    Failed {
        /// The epoch of the call.
        epoch: Epoch,
        /// What went wrong, for the log.
        problem: String,
    },
}

/// How a replica stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Standing {
    /// Its file.
    pub store: StoreId,
    /// The epoch below which it takes nothing.
    pub promise: Epoch,
    /// Its last index, 0 for an empty log.
    pub last: Index,
    /// The chain there.
    pub chain: Chain,
    /// The digest of its tables.
    pub digest: Digest,
    /// The highest index that it knows to be committed.
    pub commit: Index,
    /// The newest view that it was told.
    pub view: Option<View>,
}

/// A positive answer to an append.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Appended {
    /// The epoch of the append. An answer of another epoch counts for nothing.
    pub epoch: Epoch,
    /// The replica's last index: that of the append, or a later one if the append came late and again.
    pub last: Index,
    /// The chain there.
    pub chain: Chain,
    /// The digest of the tables there.
    pub digest: Digest,
    /// One for each entry of the append; none if it came late and again.
    pub outcomes: Vec<Outcome>,
    /// What a cache must drop before the entries count as committed.
    pub touched: Touched,
}

/// What a batch of entries changes, as caches see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Touched {
    /// These keys, each once.
    Keys(Vec<CacheKey>),
    /// More than is known: the batch was applied earlier, and its keys were not kept.
    Everything,
}

/// What answers are cached by, and what a write makes stale.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CacheKey {
    /// A book, or its absence.
    Book(BookId),
    /// All pages of a topic's books.
    Topic(TopicKey),
    /// All pages of lists and of searches by words.
    Pages,
    /// The topics with their counts.
    Topics,
}

/// A positive answer to a seal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sealed {
    /// The epoch that is now promised.
    pub epoch: Epoch,
    /// The replica's last index.
    pub last: Index,
    /// The chain there.
    pub chain: Chain,
    /// The highest index that it knows to be committed.
    pub commit: Index,
}

/// Why a replica did not take what it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refused {
    /// It has promised a higher epoch.
    SealedBy {
        /// The epoch of the call.
        epoch: Epoch,
        /// The one that is promised.
        promise: Epoch,
    },
    /// The append starts beyond its log.
    Gap {
        /// The epoch of the call.
        epoch: Epoch,
        /// The last index that it has.
        have: Index,
    },
    /// The append does not fit on the history that it has.
    Conflict {
        /// The epoch of the call.
        epoch: Epoch,
        /// Where the two part.
        at: Index,
    },
}
