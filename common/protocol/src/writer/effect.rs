//! What a writer asks of its driver, and what it has to tell.

use crate::call::WriteFailure;
use crate::catalogue::Order;
use crate::command::Outcome;
use crate::ids::{Chain, Epoch, Index, NodeId, ShardId};
use crate::message::{ToReplica, Touched};
use crate::view::View;
use crate::writer::Why;

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<T> {
    /// Send this to a replica; lost if there is no connection.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: ToReplica,
    },
    /// Send this to a replica as well, but without hurry: nobody waits for it, so it may go with what is sent next.
    Tell {
        /// To whom.
        to: NodeId,
        /// What.
        message: ToReplica,
    },
    /// Read the view from the view store and call `view_read`.
    ReadView,
    /// Put this view into the view store if the one there has the expected epoch (0: if there is none),
    /// and call `swapped`.
    Swap {
        /// The epoch of the view that is replaced.
        expected: Epoch,
        /// The new view.
        view: View,
    },
    /// Drop these keys from every cache, and when they are gone call `invalidated` with the index.
    Invalidate {
        /// The last index of the batch.
        upto: Index,
        /// What must go.
        touched: Touched,
    },
    /// Read by this view from now on, or not at all; every fill under way is void. `fresh` says that a
    /// new term begins, for which the cache starts empty.
    Read {
        /// The view.
        view: Option<View>,
        /// Whether it is the first of a term.
        fresh: bool,
    },
    /// Send this member no more reads: it is about to be dropped.
    StopReading(NodeId),
    /// The shard is committed up to here.
    Commit(Committed),
    /// A caller's write is over.
    Complete {
        /// Which caller's.
        ticket: T,
        /// What became of it.
        result: Result<Outcome, WriteFailure>,
    },
    /// Something that people should see.
    Happening(Happening),
}

/// What became committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// What was committed before.
    pub after: Index,
    /// What is committed now.
    pub index: Index,
    /// The chain there.
    pub chain: Chain,
    /// The sales in between, in order. A repeated buy brings its first sale again, under another index.
    /// `None` where a new writer found entries that it has not seen the outcomes of.
    pub sales: Option<Vec<(Index, Order)>>,
}

/// How a swap of the view ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwapResult {
    /// The new view is in the store, durably.
    Swapped,
    /// Another view was there than the one expected.
    Lost,
    /// It may be there or not: the store must be read back before anything else.
    Unknown,
}

/// What a person should know of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A view came into force.
    ViewChanged {
        /// The view.
        view: View,
    },
    /// This front end is the shard's writer now, and takes writes.
    TookOffice {
        /// Of which shard.
        shard: ShardId,
        /// The epoch.
        epoch: Epoch,
        /// Up to where the log is committed.
        commit: Index,
    },
    /// It is no longer.
    SteppedDown {
        /// Of which shard.
        shard: ShardId,
        /// Why.
        why: String,
    },
    /// A member is suspected.
    Suspected {
        /// Of which shard.
        shard: ShardId,
        /// The member.
        node: NodeId,
        /// Why.
        why: Why,
    },
    /// A replica outside the view was told to level with a member.
    ResyncStarted {
        /// Of which shard.
        shard: ShardId,
        /// The replica.
        node: NodeId,
        /// The member.
        source: NodeId,
    },
    /// A replica has levelled and gets every batch; it will be a member in a moment.
    Joining {
        /// Of which shard.
        shard: ShardId,
        /// The replica.
        node: NodeId,
    },
    /// A replica has become a member again.
    ResyncDone {
        /// Of which shard.
        shard: ShardId,
        /// The replica.
        node: NodeId,
        /// The epoch of the view that has it.
        epoch: Epoch,
    },
    /// Members had the same log but other tables.
    MembersDiffer {
        /// Of which shard.
        shard: ShardId,
        /// At which index.
        index: Index,
    },
    /// A replica's store can't write.
    ReplicaFailed {
        /// Of which shard.
        shard: ShardId,
        /// The replica.
        node: NodeId,
        /// What it said.
        problem: String,
    },
    /// The shard takes no more writes until an operator has looked.
    Halted {
        /// Of which shard.
        shard: ShardId,
        /// Why.
        problem: String,
    },
}
