//! Safeguards that tests can switch off, one or two at a time, to see that the proofs notice.
//!
//! The switch exists only in builds with the feature `mutants`, which is refused where debug assertions are
//! off, so no release build can have it (`cargo build --profile proof` can). Without the feature
//! [`mutant!`](crate::mutant!) is `false` for the compiler, and what it guards is not there.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("mutants are for proofs only: build them with `--profile proof`, which has debug assertions");

/// Whether a safeguard is switched off: `mutant!(NoFencing)`.
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutant::is_on($crate::mutant::Mutant::$name)
    };
}

macro_rules! mutants {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// A safeguard, named by what happens without it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Mutant {
            $($(#[$doc])+ $name,)+
        }

        impl Mutant {
            /// All of them, in the order of the table in docs/PROTOCOL.md.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }
        }
    };
}

mutants! {
    /// A member is known by its host: a file made anew under an old name passes for it.
    HostsForStores,
    /// A swap whose outcome is unknown is taken for done.
    UnknownSwapTakenForDone,
    /// A view counts before the view store has it.
    SealBeforeSwap,
    /// A new writer appends before the members that are silent have left the view.
    AppendBeforeDrop,
    /// An answer counts whatever epoch it is of.
    AnswerOfAnyEpoch,
    /// A write is acknowledged when one member has it.
    AcknowledgeBeforeAll,
    /// The commit index moves before the keys have left the caches.
    CommitBeforePush,
    /// What a takeover commits leaves the cache as it is.
    TakeoverKeepsCache,
    /// A replica takes what is of an older epoch than its promise.
    NoFencing,
    /// A member that is asked for a promise undoes what it does not know to be committed.
    UndoInTheView,
    /// A replica that was left out levels without having promised the view's epoch.
    UndoBeforePromise,
    /// A replica undoes what the writer that leaves it out may still count.
    UndoWhatCounts,
    /// Undoing leaves the last entry's changes in the tables.
    UndoOneTooFew,
    /// A joiner's answers count without its promise.
    JoinWithoutPromise,
    /// A joiner is let in by its index, whatever its chain.
    JoinByIndexAlone,
    /// A joiner is let in before it is level.
    JoinBeforeLevel,
    /// A replica asks to join before its rows were counted.
    JoinUncounted,
    /// A replica answers reads of older views than it has promised.
    ReadOfAnyEpoch,
    /// A read is released before what it shows is committed.
    ReleaseBeforeCommit,
    /// An answer is cached though a write has overtaken it.
    FillWithoutToken,
    /// A miss joins a request that is older than a write that is done.
    JoinVoidFlights,
    /// A refusal is not stored under its key.
    RefusalNotStored,
    /// A command is carried out though its key was used.
    KeyIgnored,
    /// Sales are fed that are not committed.
    FeedBeyondCommit,
    /// A commit does not wait for the disk.
    NoFsync,
}

impl std::str::FromStr for Mutant {
    type Err = NoSuchMutant;

    fn from_str(name: &str) -> Result<Self, NoSuchMutant> {
        let found = Self::ALL.iter().find(|mutant| mutant.name() == name);
        found.copied().ok_or_else(|| NoSuchMutant(name.to_owned()))
    }
}

/// Text that names no mutant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no mutant `{0}`; docs/PROTOCOL.md has a table of them")]
pub struct NoSuchMutant(String);

/// Whether this safeguard is switched off: never, in this build.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
#[must_use]
pub const fn is_on(_mutant: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use switch::{is_on, select};

#[cfg(feature = "mutants")]
mod switch {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Mutant;

    /// Names a safeguard that a process begins without: those of a round of chaos are started by another one.
    const VARIABLE: &str = "BOOKENDS_MUTANT";

    /// A bit for each safeguard that is off.
    static OFF: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(named().map_or(0, bit)));

    fn named() -> Option<Mutant> {
        let name = std::env::var(VARIABLE).ok()?;
        Some(name.parse().unwrap_or_else(|problem| panic!("{VARIABLE}: {problem}")))
    }

    fn bit(mutant: Mutant) -> u64 {
        1 << mutant as u8
    }

    /// Switches these safeguards of this process off, and all others on.
    pub fn select(mutants: &[Mutant]) {
        OFF.store(mutants.iter().fold(0, |bits, mutant| bits | bit(*mutant)), Ordering::SeqCst);
    }

    /// Whether this safeguard is switched off.
    ///
    /// # Panics
    /// If the environment names one that there is not.
    #[must_use]
    pub fn is_on(mutant: Mutant) -> bool {
        OFF.load(Ordering::Relaxed) & bit(mutant) != 0
    }
}
