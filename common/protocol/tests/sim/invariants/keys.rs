//! What was acknowledged is never lost nor done twice, what was not done never happens, and whoever asks
//! again with the same key is told the same.

use std::collections::{BTreeMap, BTreeSet};

use protocol::command::Outcome;
use protocol::ids::{BookId, Index};

use crate::disk::Tables;

#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// Where each key was committed first, and for which book.
    committed: BTreeMap<u64, (Index, BookId)>,
    /// Keys of writes whose callers know that they may have been done.
    possible: BTreeSet<u64>,
    /// Keys of writes that were not done, and were not asked for again.
    given_up: BTreeSet<u64>,
}

impl Keys {
    pub(crate) fn committed(&mut self, index: Index, key: u64, book: BookId) {
        self.committed.entry(key).or_insert((index, book));
        assert!(!self.given_up.contains(&key), "{key} is committed at {index}, its caller told: not done");
    }

    pub(crate) fn submitted(&mut self, key: u64) {
        assert!(!self.given_up.contains(&key), "a test that gives up and asks again");
    }

    /// Returns where it was done.
    pub(crate) fn acknowledged(&mut self, key: u64, outcome: &Outcome) -> Index {
        self.possible.insert(key);
        let Some((index, _)) = self.committed.get(&key) else {
            panic!("{key} is acknowledged and not committed")
        };
        let Outcome::Changed(book) = outcome else { panic!("{key} came to {outcome:?}") };
        assert_eq!((book.version, book.cost_cents), (*index, key), "the outcome of {key} is another's");
        *index
    }

    pub(crate) fn unknown(&mut self, key: u64) {
        self.possible.insert(key);
    }

    pub(crate) fn given_up(&mut self, key: u64) {
        if !self.possible.contains(&key) {
            assert!(!self.committed.contains_key(&key), "{key} is committed, its caller told: not done");
            self.given_up.insert(key);
        }
    }

    /// Each book was changed once by each key.
    pub(crate) fn look_at_the_end(&self, tables: &Tables) {
        let mut changes: BTreeMap<BookId, u64> = BTreeMap::new();
        for (_, book) in self.committed.values() {
            *changes.entry(*book).or_default() += 1;
        }
        let done: BTreeMap<BookId, u64> =
            tables.books.iter().map(|(book, content)| (*book, content.quantity)).collect();
        assert_eq!(done, changes, "commands were lost or applied twice");
    }
}
