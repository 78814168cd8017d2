//! I1: what was acknowledged is on every member of the stored view, and a commit index names one history.

use protocol::entry::Entry;
use protocol::ids::{Chain, Index};
use protocol::view::View;
use protocol::writer::Committed;

use crate::nodes::Node;
use crate::world::FrontId;

/// The chain at each index that was ever committed.
#[derive(Debug, Default)]
pub(crate) struct History {
    chains: Vec<Chain>,
}

impl History {
    fn last(&self) -> Index {
        Index(self.chains.len() as u64)
    }

    fn at(&self, index: Index) -> Chain {
        let place = index.0.checked_sub(1).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.chains.get(place)).copied().unwrap_or_default()
    }

    /// Takes in what a front end found committed, and returns what is new of it.
    pub(crate) fn extend(
        &mut self,
        front: FrontId,
        committed: &Committed,
        nodes: &[Node],
        stored: Option<&View>,
    ) -> Vec<Entry> {
        let Committed { index, chain, .. } = committed;
        let last = self.last();
        if *index <= last {
            assert_eq!(self.at(*index), *chain, "I3: front end {front} commits another history at {index}");
            return Vec::new();
        }
        let holder = nodes.iter().find(|node| node.disk.chain_at(*index) == Some(*chain));
        let holder = holder.unwrap_or_else(|| {
            panic!("I1: front end {front} commits {index}, which no replica has; the view is {stored:?}")
        });
        let mut fresh = Vec::new();
        for index in last.next().0..=index.0 {
            let entry = holder.disk.entry(Index(index)).expect("the log reaches from one end to the other");
            assert!(entry.follows(self.at(self.last())), "I3: {index} is committed on another history");
            self.chains.push(entry.chain);
            fresh.push(entry.clone());
        }
        fresh
    }

    pub(crate) fn is_on_every_member(&self, nodes: &[Node], stored: Option<&View>) {
        let (last, Some(view)) = (self.last(), stored) else { return };
        let chain = self.at(last);
        for node in nodes.iter().filter(|node| node.is_member_of(view)) {
            let theirs = node.disk.chain_at(last);
            assert_eq!(theirs, Some(chain), "I1: the member {} lacks the acknowledged {last}", node.id);
        }
    }

    /// No replica takes for committed what is not.
    pub(crate) fn has_all_that_is_known_committed(&self, nodes: &[Node]) {
        for node in nodes {
            let commit = node.disk.standing().commit;
            assert!(commit <= self.last(), "{} takes {commit} for committed", node.id);
            let theirs = node.disk.chain_at(commit);
            assert_eq!(theirs, Some(self.at(commit)), "I2: {} parts from history", node.id);
        }
    }
}
