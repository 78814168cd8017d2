//! I3: an epoch has one writer. That nobody appends below a promise, each disk checks for itself.

use std::collections::BTreeMap;

use protocol::ids::Epoch;
use protocol::message::ToReplica;

use crate::world::FrontId;

#[derive(Debug, Default)]
pub(crate) struct Epochs {
    writers: BTreeMap<Epoch, FrontId>,
}

impl Epochs {
    /// A view came into the store. Where the store was lost, an epoch that nobody had heard of comes again.
    pub(crate) fn begins(&mut self, epoch: Epoch, front: FrontId) {
        self.writers.insert(epoch, front);
    }

    pub(crate) fn is_of(&self, epoch: Epoch, front: FrontId) {
        let writer = self.writers.get(&epoch);
        assert_eq!(writer, Some(&front), "I3: {front} changes the members of another's epoch {epoch}");
    }

    pub(crate) fn sent(&self, front: FrontId, message: &ToReplica) {
        if let ToReplica::Append(append) = message {
            let writer = self.writers.get(&append.epoch);
            assert_eq!(writer, Some(&front), "I3: {front} appends in epoch {}", append.epoch);
        }
    }
}
