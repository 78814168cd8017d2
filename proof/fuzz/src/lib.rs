//! Every parser of foreign bytes, and what must hold whatever it is given.
//!
//! A target feeds bytes to the parser that the store itself uses, and asserts: it comes back without a panic, and
//! what it accepts is within the limits that the rest relies on and reads the same when it is written again. The
//! same function is called by three: by property tests, with random bytes and with valid inputs that are changed
//! a little; by the replay of what was once found (`regressions/`); and by cargo-fuzz, as long as one likes
//! (`run.sh`).
//!
//! Each target is a module with `check`, and with `valid`: inputs that must be accepted. They show that the
//! target reaches its parser, and they are what a fuzzer begins with.

pub mod bodies;
mod books;
pub mod commands;
pub mod configs;
pub mod csv;
pub mod frames;
pub mod handshakes;
pub mod histories;
pub mod manifests;
pub mod ndjson;
pub mod queries;
pub mod requests;
pub mod snapshots;
pub mod tokens;
pub mod values;
pub mod views;
pub mod words;

use proptest::strategy::BoxedStrategy;

/// What a parser made of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It took them for what they are.
    Accepted,
    /// It said that they are no such thing.
    Refused,
}

impl Verdict {
    /// That of a parser which says it by whether it has found something.
    #[must_use]
    pub fn of(accepted: bool) -> Self {
        if accepted { Self::Accepted } else { Self::Refused }
    }
}

/// A parser and what must hold of it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its module, its fuzzer and its folder of regressions.
    pub name: &'static str,
    /// Feeds it, and panics if something does not hold.
    pub check: fn(&[u8]) -> Verdict,
    /// Inputs that it must accept.
    pub valid: fn() -> BoxedStrategy<Vec<u8>>,
}

/// Hands the names of all targets to a macro. The one list that there is.
#[macro_export]
macro_rules! with_targets {
    ($macro:ident) => {
        $macro! {
            bodies commands configs csv frames handshakes histories manifests ndjson queries requests snapshots
            tokens views words
        }
    };
}

macro_rules! list {
    ($($target:ident)*) => {
        /// All targets.
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($target), check: $target::check, valid: $target::valid }),*];
    };
}
with_targets!(list);
