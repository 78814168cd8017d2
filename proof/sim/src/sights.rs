//! What is seen in runs: a fault that never does anything, and a judge that is never asked, prove nothing. The tests
//! look whether each of these is seen.
//!
//! A fault is seen where it does something (a step that fails, not a disk that is said to fail), and what the store
//! does about it is a sight of its own.

/// Each sight is named once, so that none can be missing from those that are demanded.
macro_rules! sights {
    ($($(#[doc = $text:literal])+ $name:ident,)+) => {
        /// Something that some runs must come to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Sight {
            $($(#[doc = $text])+ $name,)+
        }

        impl Sight {
            /// All of them.
            pub const ALL: [Self; [$(stringify!($name)),+].len()] = [$(Self::$name),+];
        }
    };
}

sights! {
    // Processes.

    /// A replica's process ended, and the step that its disk was at was not done.
    StepLost,
    /// The step was done, and nobody heard of it.
    StepUnheard,
    /// What a replica was to do waited, for its process was frozen.
    ReplicaFrozen,
    /// The same of an order node.
    OrderNodeFrozen,
    /// The same of a front end.
    FrontFrozen,
    /// A front end's process ended.
    FrontKilled,
    /// All processes of the cluster ended at once.
    PowerLost,
    /// Two processes' clocks show times a twentieth apart.
    ClocksApart,
    /// A fault was struck at a delicate moment.
    Ambushed,

    // Disks.

    /// A step took long.
    StepSlow,
    /// A step failed: the disk was full.
    StepFailed,
    /// The writer heard that a replica can't write.
    FailureTold,
    /// A member of the view lost its disk, and has a new one.
    MemberReplaced,
    /// A replica with a new disk became a member.
    ReplacementJoined,
    /// A row was changed from outside so that the rows do not give the digest any more.
    RowSpoilt,
    /// A replica that counted its rows found that.
    SpoiltRowCounted,
    /// The writer saw that members with the same log have other tables.
    DigestsDiffered,
    /// A member was suspected because of its rows.
    UnsoundSuspected,

    // The view store.

    /// The view store was lost, and the front end lives on.
    ViewStoreLost,
    /// It was lost with the disk and the process of the front end.
    FrontDiskLost,
    /// A view was made of what the replicas know, though there had been others.
    ViewSurveyed,
    /// The view store took long.
    ViewStoreSlow,
    /// It could not be read.
    ViewUnread,
    /// A swap happened, and the front end was not told so.
    SwapUnknownDone,
    /// A swap did not happen, and the front end was not told so.
    SwapUnknownNotDone,
    /// A swap found another view in the store than it expected.
    SwapLost,

    // Connections between front ends and replicas.

    /// A message was lost by chance.
    MessageLost,
    /// It was lost because nothing passes this way, while the other way is open.
    CutOneWay,
    /// It was lost because nothing passes either way.
    CutBothWays,
    /// It was held up until a stall ended.
    MessageStalled,
    /// It took longer than is usual in its run.
    MessageDelayed,
    /// It arrived before one that was sent earlier.
    MessageOvertook,
    /// It arrived once more.
    MessageRepeated,
    /// It was lost with its connection.
    MessageBroken,
    /// It arrived though its connection had broken.
    MessageLingered,
    /// A connection was refused, or led nowhere.
    ConnectionRefused,
    /// A replica could not reach another one.
    ReplicasCut,
    /// What a replica asked another one for did not come.
    PullLost,

    // What the store does about all that.

    /// A front end took an office that another had had, which is gone.
    OfficeInherited,
    /// It took the office of one that still runs.
    OfficeTaken,
    /// A writer lost its office.
    SteppedDown,
    /// Members lacked the end of the longest log at a takeover, and it was fetched for them.
    TakeoverLevelled,
    /// A member was dropped.
    MemberDropped,
    /// A replica became a member again.
    MemberJoined,
    /// A replica undid entries.
    Undone,
    /// A replica got entries from another one's log.
    LogPulled,
    /// The other one's log did not reach back so far.
    LogGone,
    /// A replica installed another one's copy.
    SnapshotInstalled,
    /// A read was refused by a replica that had promised a newer view.
    ReadSealed,

    // Callers.

    /// A write was refused because its key was used for something else.
    KeyRefused,
    /// A write was asked for again though its outcome had been told, and that was told once more.
    RetryAnswered,
    /// A caller was told that its write may have been done.
    OutcomeUnknown,
    /// One was told that it was not, and let it be.
    WriteGivenUp,

    // Order nodes.

    /// What a front end and an order node said to each other was lost.
    OrderMessageLost,
    /// It was held up until a stall ended.
    OrderMessageStalled,
    /// It came once more, late.
    OrderMessageRepeated,
    /// A loss of power took orders out of a book that had been entered.
    OrdersUnsynced,
    /// A book was lost with its disk.
    OrderBookLost,
    /// An order node was told that what it has followed is not what there was.
    OrdersStartedOver,

    // Judges.

    /// A front end was judged by what all others had told, on a day when others compete with it.
    ReadAmongFronts,
    /// One that had lost its place was judged by what it had committed or shown itself.
    ReadOfDisplaced,
    /// A read was judged after a row of a replica had been changed from outside.
    ReadBesideSpoiltRow,
    /// The second judge knew which book was put without an id.
    NamelessPutTold,
    /// It never came to know.
    NamelessPutUntold,
}

/// How often each was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sights([u64; Sight::ALL.len()]);

impl Default for Sights {
    fn default() -> Self {
        Self([0; Sight::ALL.len()])
    }
}

impl Sights {
    pub(crate) fn add(&mut self, sight: Sight) {
        self.0[sight as usize] += 1;
    }

    pub(crate) fn add_all(&mut self, others: &Self) {
        self.0.iter_mut().zip(others.0).for_each(|(count, more)| *count += more);
    }

    /// How often it was seen.
    #[must_use]
    pub fn count(&self, sight: Sight) -> u64 {
        self.0[sight as usize]
    }
}
