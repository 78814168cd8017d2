//! I3: an epoch has one view and one writer. That nobody appends below a promise, each disk checks for itself.

use std::collections::BTreeMap;

use protocol::ids::Epoch;
use protocol::message::ToReplica;
use protocol::view::View;

use crate::nodes::Node;
use crate::world::FrontId;

#[derive(Debug, Default)]
pub(crate) struct Epochs {
    /// One view each, but where an epoch begins again: see [`Epochs::begins`].
    begun: BTreeMap<Epoch, Vec<(FrontId, View)>>,
}

impl Epochs {
    /// A view comes into the store. The epoch of one before may come again where the store was lost: the same view,
    /// from the front end that did not know how its swap had ended; or whatever a survey finds, as long as no disk that
    /// is left has promised the epoch. In such a one nothing was acknowledged, for that takes the promise of all members.
    pub(crate) fn begins(&mut self, front: FrontId, view: &View, nodes: &[Node]) {
        let begun = self.begun.entry(view.epoch).or_default();
        let this = (front, view.clone());
        if begun.contains(&this) {
            return;
        }
        let told = nodes.iter().any(|node| node.disk.standing().promise >= view.epoch);
        assert!(
            begun.is_empty() || !told,
            "I3: {this:?} begins after {begun:?}, which a replica has promised"
        );
        begun.push(this);
    }

    pub(crate) fn is_of(&self, epoch: Epoch, front: FrontId) {
        assert!(self.has(epoch, front), "I3: {front} changes the members of another's epoch {epoch}");
    }

    pub(crate) fn sent(&self, front: FrontId, message: &ToReplica) {
        if let ToReplica::Append(append) = message {
            assert!(self.has(append.epoch, front), "I3: {front} appends in epoch {}", append.epoch);
        }
    }

    /// A view is on a replica's disk.
    pub(crate) fn is_told(&self, view: &View) {
        let known = self.of(view.epoch).iter().any(|(_, begun)| begun == view);
        assert!(known, "I3: a replica was told another view of its epoch");
    }

    fn has(&self, epoch: Epoch, front: FrontId) -> bool {
        self.of(epoch).iter().any(|(writer, _)| *writer == front)
    }

    fn of(&self, epoch: Epoch) -> &[(FrontId, View)] {
        self.begun.get(&epoch).map_or(&[], Vec::as_slice)
    }
}
