//! I3: an epoch has one view and one writer. That nobody appends below a promise, each disk checks for itself.

use std::collections::BTreeMap;

use protocol::ids::Epoch;
use protocol::message::ToReplica;
use protocol::view::View;

use crate::nodes::Node;
use crate::world::FrontId;

#[derive(Debug, Default)]
pub(crate) struct Epochs {
    begun: BTreeMap<Epoch, (FrontId, View)>,
}

impl Epochs {
    /// A view comes into the store. The same one may come again where the store was lost: from the front end that did
    /// not know how its swap had ended, or from another process of it that surveys, as long as no replica was told.
    pub(crate) fn begins(&mut self, front: FrontId, view: &View, nodes: &[Node]) {
        let Some((writer, before)) = self.begun.insert(view.epoch, (front, view.clone())) else { return };
        assert_eq!(before, *view, "I3: an epoch has two views");
        let told = nodes.iter().any(|node| node.disk.standing().promise >= view.epoch);
        assert!(writer == front || !told, "I3: {front} begins epoch {}, which was {writer}'s", view.epoch);
    }

    pub(crate) fn is_of(&self, epoch: Epoch, front: FrontId) {
        let writer = self.begun.get(&epoch).map(|(writer, _)| writer);
        assert_eq!(writer, Some(&front), "I3: {front} changes the members of another's epoch {epoch}");
    }

    pub(crate) fn sent(&self, front: FrontId, message: &ToReplica) {
        if let ToReplica::Append(append) = message {
            let writer = self.begun.get(&append.epoch).map(|(writer, _)| writer);
            assert_eq!(writer, Some(&front), "I3: {front} appends in epoch {}", append.epoch);
        }
    }

    /// A view is on a replica's disk.
    pub(crate) fn is_told(&self, view: &View) {
        let stored = self.begun.get(&view.epoch).map(|(_, stored)| stored);
        assert_eq!(stored, Some(view), "I3: a replica was told another view of its epoch");
    }
}
