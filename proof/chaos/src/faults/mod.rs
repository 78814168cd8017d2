//! What is done to the store, one fault or two at a time, and that it heals.

mod act;
mod choose;
mod damage;

use std::fmt;
use std::time::Duration;

use crate::proxy::Rule;
use crate::store::layout::Link;

pub(crate) use self::act::{Aftermath, strike};
pub(crate) use self::choose::choose;

/// A fault with all that it depends on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// `kill -9`, and started again after a while.
    Kill(Vec<&'static str>, Duration),
    /// `kill -9` of all processes at once.
    KillAll,
    /// SIGSTOP, and SIGCONT after a while.
    Freeze(&'static str, Duration),
    /// Something on the ways between processes, for a while.
    Ways(Ways),
    /// A full disk, for a while.
    FullDisk(&'static str, Duration),
    /// A node is killed, its files are harmed, it is started again.
    Damage(&'static str, Harm),
}

/// A fault of the network.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ways {
    /// In words, such as `cut frontend-1 > catalog-1`.
    pub(crate) what: String,
    /// Which ways.
    pub(crate) links: Vec<Link>,
    /// What holds on them.
    pub(crate) rule: Rule,
    /// How long.
    pub(crate) time: Duration,
}

/// What may happen to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// Some bits are flipped; the number decides which.
    Flips(u64),
    /// The end is cut off; the number decides how much.
    Truncation(u64),
    /// An older copy takes its place.
    OldCopy,
    /// It is gone.
    Loss,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(nodes, time) => write!(f, "kill -9 {}, down {time:.1?}", nodes.join(", ")),
            Self::KillAll => write!(f, "kill -9 of all"),
            Self::Freeze(node, time) => write!(f, "freeze {node} {time:.1?}"),
            Self::Ways(Ways { what, time, .. }) => write!(f, "{what} {time:.1?}"),
            Self::FullDisk(node, time) => write!(f, "full disk of {node} {time:.1?}"),
            Self::Damage(node, harm) => match harm {
                Harm::Flips(_) => write!(f, "flip bits in the file of {node}"),
                Harm::Truncation(_) => write!(f, "cut off the file of {node}"),
                Harm::OldCopy => write!(f, "an old copy as the file of {node}"),
                Harm::Loss => write!(f, "remove what {node} keeps"),
            },
        }
    }
}
