//! What must hold at all times, whatever happens: a file for each invariant.

mod durability;
mod epochs;
mod keys;
mod logs;
mod reads;
mod views;

use protocol::command::Outcome;
use protocol::ids::BookId;
use protocol::message::ToReplica;
use protocol::view::View;
use protocol::writer::Committed;

use crate::clients::{Read, Shown};
use crate::cluster::FrontId;
use crate::disk::Tables;
use crate::nodes::Node;

pub(crate) use reads::Floor;

/// Sees everything, and panics when something is not as it must be.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    history: durability::History,
    epochs: epochs::Epochs,
    keys: keys::Keys,
    reads: reads::Reads,
    /// Whether nothing goes wrong in this run.
    pub(crate) is_quiet: bool,
}

impl Oracle {
    /// After each event.
    pub(crate) fn look_at(&self, nodes: &[Node], stored: Option<&View>) {
        self.history.is_on_every_member(nodes, stored);
        self.history.has_all_that_is_known_committed(nodes);
        logs::are_prefixes(nodes, stored);
    }

    pub(crate) fn committed(
        &mut self,
        front: FrontId,
        committed: &Committed,
        nodes: &[Node],
        stored: Option<&View>,
    ) {
        for (index, key, book) in self.history.extend(front, committed, nodes, stored) {
            self.keys.committed(index, key, book);
        }
    }

    pub(crate) fn sent(&self, front: FrontId, message: &ToReplica) {
        self.epochs.sent(front, message);
    }

    pub(crate) fn view_stored(&mut self, front: FrontId, old: Option<&View>, new: &View) {
        views::may_follow(old, new, self.is_quiet);
        if let Some(old) = old
            && old.members != new.members
        {
            self.epochs.is_of(old.epoch, front);
        }
        self.epochs.begins(new.epoch, front);
    }

    pub(crate) fn submitted(&mut self, key: u64) {
        self.keys.submitted(key);
    }

    pub(crate) fn acknowledged(&mut self, key: u64, book: BookId, outcome: &Outcome) {
        let version = self.keys.acknowledged(key, outcome);
        self.reads.acknowledged(book, version);
    }

    pub(crate) fn unknown(&mut self, key: u64) {
        self.keys.unknown(key);
    }

    pub(crate) fn given_up(&mut self, key: u64) {
        self.keys.given_up(key);
    }

    pub(crate) fn floor(&self, book: BookId) -> Floor {
        self.reads.floor(book)
    }

    pub(crate) fn read(&mut self, read: &Read, shown: &Shown) {
        self.reads.shown(read, shown, &self.history);
    }

    pub(crate) fn look_at_the_end(&self, tables: &Tables) {
        self.keys.look_at_the_end(tables);
    }
}
