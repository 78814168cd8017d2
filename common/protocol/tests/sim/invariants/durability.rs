//! I1: what was acknowledged is on every member of the stored view, and a commit index names one history.

use protocol::command::Action;
use protocol::entry::Entry;
use protocol::ids::{BookId, Chain, Index};
use protocol::view::View;
use protocol::writer::Committed;

use crate::cluster::FrontId;
use crate::nodes::Node;

/// All that was ever committed, in order.
#[derive(Debug, Default)]
pub(crate) struct History {
    entries: Vec<(Chain, u64, BookId)>,
}

impl History {
    fn last(&self) -> Index {
        Index(self.entries.len() as u64)
    }

    fn at(&self, index: Index) -> Option<&(Chain, u64, BookId)> {
        self.entries.get(usize::try_from(index.0.checked_sub(1)?).ok()?)
    }

    pub(crate) fn key_at(&self, index: Index) -> Option<(u64, BookId)> {
        self.at(index).map(|(_, key, book)| (*key, *book))
    }

    /// Takes in what a front end found committed, and returns what is new of it.
    pub(crate) fn extend(
        &mut self,
        front: FrontId,
        committed: &Committed,
        nodes: &[Node],
        stored: Option<&View>,
    ) -> Vec<(Index, u64, BookId)> {
        let Committed { index, chain, .. } = committed;
        if *index <= self.last() {
            let known = self.at(*index).map_or(Chain::default(), |(chain, ..)| *chain);
            assert_eq!(known, *chain, "I3: front end {front} commits another history at {index}");
            return Vec::new();
        }
        let mut holders = nodes.iter().filter(|node| {
            let tables = &node.disk.tables;
            tables.chain_at(*index) == Some(*chain) && tables.chain_at(self.last()).is_some()
        });
        let holder = holders.next().unwrap_or_else(|| {
            panic!("I1: front end {front} commits {index}, which no replica has; the view is {stored:?}")
        });
        let first = self.last().next();
        let mut fresh = Vec::new();
        for index in first.0..=index.0 {
            let index = Index(index);
            let entry = holder.disk.tables.entry(index).expect("the log reaches from one end to the other");
            let before = self.at(Index(index.0 - 1)).map_or(Chain::default(), |(chain, ..)| *chain);
            assert!(entry.follows(before), "I3: {index} is committed on another history");
            let (key, book) = key_of(entry);
            self.entries.push((entry.chain, key, book));
            fresh.push((index, key, book));
        }
        fresh
    }

    pub(crate) fn is_on_every_member(&self, nodes: &[Node], stored: Option<&View>) {
        let (last, Some(view)) = (self.last(), stored) else { return };
        let chain = self.at(last).map_or(Chain::default(), |(chain, ..)| *chain);
        for node in nodes.iter().filter(|node| view.has(&node.id, node.disk.store)) {
            let theirs = node.disk.tables.chain_at(last);
            assert_eq!(theirs, Some(chain), "I1: the member {} lacks the acknowledged {last}", node.id);
        }
    }

    /// No replica takes for committed what is not.
    pub(crate) fn has_all_that_is_known_committed(&self, nodes: &[Node]) {
        for node in nodes {
            let commit = node.disk.commit;
            assert!(commit <= self.last(), "{} takes {commit} for committed", node.id);
            let chain = self.at(commit).map_or(Chain::default(), |(chain, ..)| *chain);
            assert_eq!(node.disk.tables.chain_at(commit), Some(chain), "{} parts from history", node.id);
        }
    }
}

fn key_of(entry: &Entry) -> (u64, BookId) {
    match entry.command.decode().expect("the clients send commands").action {
        Action::SetPrice { book, cost_cents } => (cost_cents, book),
        other => unreachable!("the clients send no {other:?}"),
    }
}
