//! The end of the log as the writer issued it, kept at hand for replicas that are about to join.

use std::collections::VecDeque;

use crate::entry::Entry;
use crate::ids::{Chain, Index};

/// How many entries are kept: several times what a replica may lack when it asks to join.
const ENTRIES_MAX: usize = 8 * 1024;
/// How many bytes of commands are kept; the last batch stays even when it is larger.
const BYTES_MAX: usize = 16 << 20;

/// The entries issued last, and where they begin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Window {
    base: (Index, Chain),
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Window {
    /// An empty window behind an entry.
    pub(super) fn at(index: Index, chain: Chain) -> Self {
        Self { base: (index, chain), ..Self::default() }
    }

    /// The last entry's index and chain.
    pub(super) fn last(&self) -> (Index, Chain) {
        self.entries.back().map_or(self.base, |entry| (entry.index, entry.chain))
    }

    /// Adds a batch, and lets the oldest entries go that are too many.
    pub(super) fn extend(&mut self, batch: &[Entry]) {
        for entry in batch {
            assert_eq!(entry.index, self.last().0.next(), "I2: the log has no gap");
            self.bytes += entry.command.0.len();
            self.entries.push_back(entry.clone());
        }
        while self.entries.len() > batch.len() && (self.entries.len() > ENTRIES_MAX || self.bytes > BYTES_MAX)
        {
            if let Some(entry) = self.entries.pop_front() {
                self.bytes -= entry.command.0.len();
                self.base = (entry.index, entry.chain);
            }
        }
    }

    /// The chain at an index, if the window reaches back to it.
    pub(super) fn chain_at(&self, index: Index) -> Option<Chain> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        let offset = index.0.checked_sub(self.base.0.next().0)?;
        Some(self.entries.get(usize::try_from(offset).ok()?)?.chain)
    }

    /// The entries after an index that the window reaches back to.
    pub(super) fn after(&self, index: Index) -> Vec<Entry> {
        let skip = index.0.saturating_sub(self.base.0.0);
        self.entries.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::entry::EncodedCommand;
    use crate::ids::Epoch;

    fn batch(window: &Window, count: usize) -> Vec<Entry> {
        let (mut index, mut chain) = window.last();
        let command = EncodedCommand(Bytes::from_static(b"command"));
        (0..count)
            .map(|_| {
                index = index.next();
                let entry = Entry::after(chain, index, Epoch(1), command.clone());
                chain = entry.chain;
                entry
            })
            .collect()
    }

    #[test]
    fn it_knows_the_chains_from_its_base_to_its_end() {
        let mut window = Window::at(Index(10), Chain(7));
        let entries = batch(&window, 3);
        window.extend(&entries);
        assert_eq!(window.chain_at(Index(9)), None);
        assert_eq!(window.chain_at(Index(10)), Some(Chain(7)));
        assert_eq!(window.chain_at(Index(13)), Some(entries[2].chain));
        assert_eq!(window.chain_at(Index(14)), None);
        assert_eq!(window.after(Index(11)), entries[1..]);
        assert_eq!(window.after(Index(13)), []);
    }

    #[test]
    fn it_is_bounded_but_keeps_the_last_batch() {
        let mut window = Window::default();
        for _ in 0..3 {
            window.extend(&batch(&window, ENTRIES_MAX / 2));
        }
        assert_eq!(window.entries.len(), ENTRIES_MAX);
        window.extend(&batch(&window, ENTRIES_MAX + 1));
        assert_eq!(window.entries.len(), ENTRIES_MAX + 1);
        assert_eq!(window.chain_at(Index(1)), None);
    }
}
