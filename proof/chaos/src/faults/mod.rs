//! What is done to the store, one fault or two at a time, and that it heals.

mod act;
mod choose;
mod damage;

use std::fmt;
use std::time::Duration;

use crate::proxy::Rule;
use crate::store::layout::{CATALOGS, CLIENTS, FRONTEND, Link};

pub(crate) use self::act::{Aftermath, strike};
pub(crate) use self::choose::Deck;

/// The kinds of faults, as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Kill,
    KillAll,
    Freeze,
    Cut,
    Delay,
    Loss,
    FullDisk,
    Flips,
    Truncation,
    OldCopy,
    Removal,
}

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
    /// A cut, a delay or a loss.
    pub(crate) kind: Kind,
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
    Removal,
}

impl Kind {
    /// Whether a file is harmed.
    fn is_harm(self) -> bool {
        match self {
            Self::Flips | Self::Truncation | Self::OldCopy | Self::Removal => true,
            Self::Kill
            | Self::KillAll
            | Self::Freeze
            | Self::Cut
            | Self::Delay
            | Self::Loss
            | Self::FullDisk => false,
        }
    }
}

impl Fault {
    /// Which kind it is of.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Kill(..) => Kind::Kill,
            Self::KillAll => Kind::KillAll,
            Self::Freeze(..) => Kind::Freeze,
            Self::Ways(Ways { kind, .. }) => *kind,
            Self::FullDisk(..) => Kind::FullDisk,
            Self::Damage(_, Harm::Flips(_)) => Kind::Flips,
            Self::Damage(_, Harm::Truncation(_)) => Kind::Truncation,
            Self::Damage(_, Harm::OldCopy) => Kind::OldCopy,
            Self::Damage(_, Harm::Removal) => Kind::Removal,
        }
    }

    /// Whether it is something with a node that callers' reads may need: with itself, or with the ways to it.
    fn touches(&self, node: &str) -> bool {
        match self {
            Self::Kill(nodes, _) => nodes.contains(&node),
            Self::KillAll => true,
            Self::Freeze(touched, _) | Self::FullDisk(touched, _) | Self::Damage(touched, _) => {
                *touched == node
            }
            Self::Ways(ways) => ways.links.iter().any(|link| {
                let other = if link.from == node { link.to } else { link.from };
                (link.from == node || link.to == node) && [FRONTEND, CLIENTS].contains(&other)
            }),
        }
    }
}

/// Whether every read must be answered all the same: if the front end and one catalog node are well, and the ways
/// between them and to the callers are.
pub(crate) fn leave_reads_alone(faults: &[Fault]) -> bool {
    let is_touched = |node: &str| faults.iter().any(|fault| fault.touches(node));
    let is_cut_off = faults.iter().any(|fault| match fault {
        Fault::Kill(..) | Fault::KillAll | Fault::Freeze(..) | Fault::FullDisk(..) | Fault::Damage(..) => {
            fault.touches(FRONTEND)
        }
        Fault::Ways(_) => fault.touches(CLIENTS),
    });
    !is_cut_off && !CATALOGS.iter().all(|node| is_touched(node))
}

/// Several of a kind.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kills",
            Self::KillAll => "kills of all",
            Self::Freeze => "freezes",
            Self::Cut => "cuts",
            Self::Delay => "delays",
            Self::Loss => "losses",
            Self::FullDisk => "full disks",
            Self::Flips => "files with flipped bits",
            Self::Truncation => "files cut off",
            Self::OldCopy => "old copies",
            Self::Removal => "files removed",
        })
    }
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
                Harm::Removal => write!(f, "remove what {node} keeps"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::{LINKS, ORDERS};

    fn ways(which: impl Fn(&Link) -> bool) -> Fault {
        let links = LINKS.into_iter().filter(which).collect();
        Fault::Ways(Ways {
            kind: Kind::Cut,
            what: String::new(),
            links,
            rule: Rule::default(),
            time: Duration::ZERO,
        })
    }

    #[test]
    fn reads_are_answered_as_long_as_one_way_is_left() {
        let kill = |nodes: &[&'static str]| Fault::Kill(nodes.to_vec(), Duration::ZERO);
        let of = |node| ways(move |link| link.from == node || link.to == node);
        for faults in [
            vec![kill(&[CATALOGS[0], ORDERS[0]])],
            vec![of(CATALOGS[1])],
            vec![ways(|link| link.to == CATALOGS[1]), kill(&[CATALOGS[1]])],
            vec![ways(|link| link.from == CATALOGS[0] && link.to == CATALOGS[1]), kill(&[CATALOGS[0]])],
            vec![of(ORDERS[0]), Fault::Freeze(CATALOGS[1], Duration::ZERO)],
        ] {
            assert!(leave_reads_alone(&faults), "{faults:?}");
        }
        for faults in [
            vec![kill(&[FRONTEND])],
            vec![Fault::KillAll],
            vec![of(FRONTEND)],
            vec![ways(|link| link.from == CLIENTS)],
            vec![of(CATALOGS[0]), Fault::FullDisk(CATALOGS[1], Duration::ZERO)],
            vec![ways(|link| link.from == FRONTEND)],
        ] {
            assert!(!leave_reads_alone(&faults), "{faults:?}");
        }
    }
}
