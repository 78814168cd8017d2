//! What must hold at all times, whatever happens: a file for each promise.

mod callers;
mod durability;
mod epochs;
mod logs;
mod model;
mod orders;
mod reads;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use catalog::store::Readers;
use frontend::cache::Cached;
use protocol::call::{Feed, Query};
use protocol::catalogue::Order;
use protocol::command::{Action, CommandKey, Outcome};
use protocol::entry::EncodedCommand;
use protocol::ids::{BookId, Chain, Digest, Index, OrderId};
use protocol::message::ToReplica;
use protocol::view::View;
use protocol::writer::Committed;

use crate::nodes::Node;
use crate::sights::Sights;
use crate::world::FrontId;

pub(crate) use reads::Floor;

/// Sees everything, and panics when something is not as it must be.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    history: durability::History,
    model: model::Model,
    epochs: epochs::Epochs,
    reads: reads::Reads,
    orders: orders::Orders,
    pub(crate) callers: callers::Callers,
    /// Keys of writes whose callers know that they may have been done.
    possible: BTreeSet<CommandKey>,
    /// Keys of writes that were not done, and were not asked for again.
    given_up: BTreeSet<CommandKey>,
    /// The digest of the tables that each history leads to.
    digests: BTreeMap<(Index, Chain), Digest>,
    /// Whether nothing goes wrong in this run.
    pub(crate) is_quiet: bool,
    /// Whether somebody else changes the tables.
    pub(crate) is_corrupt: bool,
    /// Whether front ends take each other's place. One that was displaced may not know it yet, for there are no
    /// leases: what it shows is held against what it has committed or shown itself.
    pub(crate) fronts_compete: bool,
    /// The book whose row on some replica was changed from outside. Until a write meets it, reads show what stands there.
    pub(crate) spoilt: Option<BookId>,
    /// A disk, the view or what is committed has changed since it was last looked at.
    changed: bool,
}

impl Oracle {
    pub(crate) fn changed(&mut self) {
        self.changed = true;
    }

    /// After each event.
    pub(crate) fn look_at(&mut self, nodes: &[Node], stored: Option<&View>) {
        if std::mem::take(&mut self.changed) {
            self.history.is_on_every_member(nodes, stored);
            self.history.has_all_that_is_known_committed(nodes);
            logs::are_prefixes(nodes, stored);
            if !self.is_corrupt {
                self.equal_histories_make_equal_tables(nodes);
            }
        }
    }

    fn equal_histories_make_equal_tables(&mut self, nodes: &[Node]) {
        for node in nodes {
            let standing = node.disk.standing();
            let digest = *self.digests.entry((standing.last, standing.chain)).or_insert(standing.digest);
            assert_eq!(standing.digest, digest, "{} has other tables at {}", node.id, standing.last);
        }
    }

    pub(crate) fn committed(
        &mut self,
        front: FrontId,
        committed: &Committed,
        nodes: &[Node],
        stored: Option<&View>,
    ) {
        self.changed = true;
        for entry in self.history.extend(front, committed, nodes, stored) {
            let command = entry.command.decode().expect("the clients send commands");
            let key = command.key.clone();
            assert!(!self.given_up.contains(&key), "{key:?} is committed, its caller told: not done");
            self.model.apply(entry.index, command);
        }
    }

    pub(crate) fn sent(&self, front: FrontId, message: &ToReplica) {
        self.epochs.sent(front, message);
    }

    /// A replica's disk has made a promise durable, and perhaps the view that it was told.
    pub(crate) fn promised(&self, view: Option<&View>) {
        if let Some(view) = view {
            self.epochs.is_told(view);
        }
    }

    pub(crate) fn view_stored(&mut self, front: FrontId, old: Option<&View>, new: &View, nodes: &[Node]) {
        self.changed = true;
        views::may_follow(old, new, self.is_quiet);
        if let Some(old) = old
            && old.members != new.members
        {
            self.epochs.is_of(old.epoch, front);
        }
        self.epochs.begins(front, new, nodes);
    }

    /// A command reaches a writer.
    pub(crate) fn submitted(&mut self, command: &EncodedCommand) {
        let key = command.decode().expect("the clients send commands").key;
        assert!(!self.given_up.contains(&key), "a client gives up and asks again");
    }

    /// A caller is told what became of its write: what the model says, and nothing that is not committed. By which front
    /// end, and how far that one has committed: of an order it may tell what another has committed.
    pub(crate) fn acknowledged(
        &mut self,
        by: Option<(FrontId, Index)>,
        key: &CommandKey,
        action: &Action,
        outcome: &Outcome,
    ) {
        self.possible.insert(key.clone());
        let index = self.model.check_outcome(key, action, outcome);
        let front = by.filter(|(_, committed)| *committed >= index).map(|(front, _)| front);
        self.reads.told(front, index);
        if let Outcome::Sold(order) = outcome {
            self.orders.told(order.id);
        }
    }

    pub(crate) fn unknown(&mut self, key: &CommandKey) {
        self.possible.insert(key.clone());
    }

    /// A client hears that a write was not done, and lets it be. `false`: another attempt may have done it.
    pub(crate) fn given_up(&mut self, now: Duration, key: &CommandKey) -> bool {
        if self.possible.contains(key) {
            return false;
        }
        assert!(!self.model.knows(key), "{key:?} is committed, its caller told: not done");
        self.given_up.insert(key.clone());
        self.callers.gives_up(now, key);
        true
    }

    /// A client asks a front end to see books. `is_current`: no other can have taken its place. Returns what it must
    /// not fall behind.
    pub(crate) fn asked(
        &mut self,
        now: Duration,
        client: usize,
        (front, is_current): (FrontId, bool),
        query: &Query,
    ) -> Floor {
        self.callers.asks_anew(client);
        let about_spoilt = matches!(query, Query::Book(id) if Some(*id) == self.spoilt);
        if is_current && !about_spoilt {
            self.callers.reads(now, client, query);
        }
        self.reads.floor(front, is_current)
    }

    /// A client is shown books. Returns the entry from which on things have looked so.
    pub(crate) fn shown(
        &mut self,
        now: Duration,
        client: usize,
        query: &Query,
        shown: &Cached,
        floor: Floor,
    ) -> Index {
        self.callers.is_shown(now, client, query, shown, self.spoilt);
        self.reads.shown(query, shown, floor, &self.model, self.spoilt)
    }

    /// An order node is fed.
    pub(crate) fn fed(&self, feed: &Feed) {
        self.orders.fed(feed, &self.model);
    }

    /// An order node hears of a sale.
    pub(crate) fn sold(&self, order: &Order) {
        self.orders.sold(order, &self.model);
    }

    /// An order was looked up that somebody had been told of, in a book that has followed up to here.
    pub(crate) fn order_shown(&self, order: OrderId, shown: Option<&Order>, reached: Index) {
        // A front end that was displaced says what is committed by its own account.
        let upto = if self.fronts_compete { reached } else { self.model.last() };
        self.orders.shown(order, shown, upto, &self.model);
    }

    pub(crate) fn look_at_the_end(&mut self, store: &Readers, sights: &mut Sights) {
        self.model.look_at_the_end(store);
        self.callers.look_at_the_end(sights);
    }

    pub(crate) fn look_at_orders(&self, node: usize, book: &order::book::Readers) {
        self.orders.look_at_the_end(node, book, &self.model);
    }
}
