//! Reads are linearizable: never older than what was acknowledged or shown before they began.

use std::collections::BTreeMap;

use protocol::ids::{BookId, Index};

use crate::clients::{Read, Shown};
use crate::invariants::durability::History;

/// The newest version of a book that anyone has been told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Floor(Index);

#[derive(Debug, Default)]
pub(crate) struct Reads {
    told: BTreeMap<BookId, Index>,
}

impl Reads {
    pub(crate) fn floor(&self, book: BookId) -> Floor {
        Floor(self.told.get(&book).copied().unwrap_or_default())
    }

    pub(crate) fn acknowledged(&mut self, book: BookId, version: Index) {
        let told = self.told.entry(book).or_default();
        *told = version.max(*told);
    }

    pub(crate) fn shown(&mut self, read: &Read, shown: &Shown, history: &History) {
        let Floor(floor) = read.floor;
        match shown {
            Shown::Book { version, cost_cents } => {
                assert!(*version >= floor, "{read:?} shows version {version}, older than {floor}");
                let committed = history.key_at(*version);
                assert_eq!(committed, Some((*cost_cents, read.book)), "{read:?} shows what is not committed");
                self.acknowledged(read.book, *version);
            }
            Shown::Absence { version } => {
                assert_eq!(floor, Index(0), "{read:?} shows an absence at {version} after a write");
            }
            Shown::NotHere => unreachable!("there is nothing to show"),
        }
    }
}
