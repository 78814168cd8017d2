//! The front ends' processes: the driver of [`Writer`], and the view store that they share.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::ids::{Epoch, Index, NodeId, ShardId};
use protocol::message::{Said, ToReplica};
use protocol::view::View;
use protocol::writer::{Effect, Options, SwapResult, Writer};

use crate::cluster::{Event, FrontId, World};
use crate::faults::Day;
use crate::network::LinkId;

/// A client's attempt at a write.
pub(crate) type Ticket = u64;

pub(crate) struct Front {
    pub(crate) writer: Writer<Ticket>,
    /// What reads go by.
    pub(crate) view: Option<View>,
    pub(crate) unread: BTreeSet<NodeId>,
    pub(crate) commit: Index,
    /// The calls of the view store are answered in order.
    store_free_at: Duration,
    /// Since when a replica has not been heard of.
    unheard: BTreeMap<usize, u32>,
    alarm: Option<Duration>,
}

impl World {
    pub(crate) fn start_front(&mut self) {
        let id = self.next_front;
        self.next_front += 1;
        let replicas: Vec<NodeId> = self.nodes.iter().map(|node| node.id.clone()).collect();
        let options =
            Options { write_timeout: Duration::from_millis(1000), patience: Duration::from_millis(3000) };
        let name =
            if self.plan.day == Day::TwoWriters { format!("front-{id}") } else { "front-1".to_owned() };
        let name = NodeId::from(name);
        let writer = Writer::new(ShardId(0), name, replicas, options, self.instant());
        let front = Front {
            writer,
            view: None,
            unread: BTreeSet::new(),
            commit: Index(0),
            store_free_at: self.now,
            unheard: BTreeMap::new(),
            alarm: None,
        };
        self.fronts.insert(id, front);
        self.note(|| format!("front end {id} starts"));
        for node in 0..self.nodes.len() {
            self.start_connecting(LinkId { front: id, node });
        }
        self.set_alarm(id);
    }

    pub(crate) fn kill_front(&mut self, id: FrontId) {
        self.fronts.remove(&id);
        let links: Vec<LinkId> = self.links.keys().filter(|link| link.front == id).copied().collect();
        for link in links {
            self.break_link(link);
        }
        self.note(|| format!("front end {id} dies"));
        self.front_died(id);
    }

    /// Calls the writer and carries out what it wants.
    pub(crate) fn with_writer(
        &mut self,
        id: FrontId,
        call: impl FnOnce(&mut Writer<Ticket>, std::time::Instant) -> Vec<Effect<Ticket>>,
    ) {
        let now = self.instant();
        let Some(front) = self.fronts.get_mut(&id) else { return };
        let effects = call(&mut front.writer, now);
        for effect in effects {
            self.carry_out_of_front(id, effect);
        }
        self.set_alarm(id);
    }

    fn set_alarm(&mut self, id: FrontId) {
        let deadline = self.fronts.get(&id).and_then(|front| front.writer.deadline());
        let at = deadline.map(|deadline| self.since_start(deadline).max(self.now));
        let Some(front) = self.fronts.get_mut(&id) else { return };
        if front.alarm == at {
            return;
        }
        front.alarm = at;
        if let Some(at) = at {
            self.at(at, Event::FrontTick { front: id });
        }
    }

    pub(crate) fn tick_front(&mut self, id: FrontId) {
        let Some(front) = self.fronts.get_mut(&id) else { return };
        if front.alarm != Some(self.now) {
            return;
        }
        front.alarm = None;
        self.with_writer(id, Writer::tick);
        let now = self.instant();
        let Some(front) = self.fronts.get(&id) else { return };
        let past = front.writer.deadline().filter(|deadline| *deadline <= now);
        assert!(past.is_none(), "the writer's deadline stays in the past: its driver would spin");
    }

    fn carry_out_of_front(&mut self, id: FrontId, effect: Effect<Ticket>) {
        match effect {
            Effect::Send { to, message } => self.send(id, &to, message),
            Effect::ReadView => self.begin_view_read(id),
            Effect::Swap { expected, view } => self.begin_swap(id, expected, view),
            Effect::Invalidate { upto, .. } => {
                let delay = self.random.micros(1..500);
                self.after(delay, Event::Invalidated { front: id, upto });
            }
            Effect::Read { view, .. } => {
                self.note(|| format!("front end {id} reads by {view:?}"));
                if let Some(front) = self.fronts.get_mut(&id) {
                    front.view = view;
                    front.unread.clear();
                }
            }
            Effect::StopReading(node) => {
                if let Some(front) = self.fronts.get_mut(&id) {
                    front.unread.insert(node);
                }
            }
            Effect::Commit(committed) => {
                self.note(|| format!("front end {id} commits {}", committed.index));
                self.oracle.committed(id, &committed, &self.nodes, self.stored.as_ref());
                if let Some(front) = self.fronts.get_mut(&id) {
                    assert!(committed.index >= front.commit, "a commit index falls");
                    front.commit = committed.index;
                }
                self.release_reads(id);
            }
            Effect::Complete { ticket, result } => self.complete(ticket, result),
            Effect::Happening(happening) => self.note(|| format!("front end {id}: {happening:?}")),
        }
    }

    fn send(&mut self, id: FrontId, to: &NodeId, message: ToReplica) {
        let node = self.nodes.iter().position(|node| node.id == *to).expect("a configured replica");
        self.oracle.sent(id, &message);
        self.send_to_node(LinkId { front: id, node }, message);
    }

    pub(crate) fn connected(&mut self, link: LinkId) {
        let node = self.nodes[link.node].id.clone();
        self.note(|| format!("{} - {}: connected", link.front, link.node));
        self.with_writer(link.front, |writer, _| writer.handle_connected(&node));
    }

    pub(crate) fn lost(&mut self, link: LinkId) {
        let node = self.nodes[link.node].id.clone();
        self.note(|| format!("{} - {}: refused", link.front, link.node));
        self.with_writer(link.front, |writer, now| writer.handle_lost(now, &node));
    }

    pub(crate) fn front_hears(&mut self, link: LinkId, generation: u64, said: Said) {
        if !self.arrives(link, generation) {
            return;
        }
        let node = self.nodes[link.node].id.clone();
        self.note(|| format!("{} hears {}: {:?}", link.front, link.node, said.reply));
        self.with_writer(link.front, |writer, now| writer.handle_said(now, &node, said));
    }

    pub(crate) fn invalidated(&mut self, id: FrontId, upto: Index) {
        self.with_writer(id, |writer, now| writer.invalidated(now, upto));
    }

    /// The heartbeats: a replica that can't be reached for four beats is silent.
    pub(crate) fn beats(&mut self) {
        self.after(Duration::from_millis(250), Event::Beats);
        let fronts: Vec<FrontId> = self.fronts.keys().copied().collect();
        for front in fronts {
            for node in 0..self.nodes.len() {
                let link = LinkId { front, node };
                let there = self.nodes[node].process.is_some()
                    && self.nodes[node].frozen_until <= self.now
                    && !self.is_stalled(link);
                let Some(state) = self.fronts.get_mut(&front) else { continue };
                let unheard = state.unheard.entry(node).or_default();
                *unheard = if there { 0 } else { *unheard + 1 };
                if *unheard == 5 {
                    let name = self.nodes[node].id.clone();
                    self.note(|| format!("front end {front}: {name} is silent"));
                    self.with_writer(front, |writer, now| writer.handle_silent(now, &name));
                }
            }
        }
    }

    fn store_delay(&mut self, id: FrontId) -> Duration {
        let slow = !self.healed && self.random.chance(5);
        let delay = if slow { self.random.millis(50..1500) } else { self.random.micros(200..4000) };
        let Some(front) = self.fronts.get_mut(&id) else { return self.now };
        let at = front.store_free_at.max(self.now) + delay;
        front.store_free_at = at;
        at
    }

    fn begin_view_read(&mut self, id: FrontId) {
        let at = self.store_delay(id);
        let fails = !self.healed && self.random.chance(self.plan.store_trouble);
        let read = if fails { Err("the view store can't be read".to_owned()) } else { Ok(None) };
        self.at(at, Event::ViewRead { front: id, read });
    }

    /// The store answers a read with what it has at that time.
    pub(crate) fn view_read(&mut self, id: FrontId, read: Result<Option<View>, String>) {
        let read = read.map(|_| self.stored.clone());
        self.with_writer(id, |writer, now| writer.view_read(now, read));
    }

    /// The swap itself happens now; its answer comes later, or is not known.
    fn begin_swap(&mut self, id: FrontId, expected: Epoch, view: View) {
        let at = self.store_delay(id);
        let unknown = !self.healed && self.random.chance(self.plan.store_trouble);
        let happens = !unknown || self.random.chance(50);
        let there = self.stored.as_ref().map_or(Epoch(0), |view| view.epoch);
        let fits = there == expected;
        if fits && happens {
            self.note(|| format!("front end {id} stores {view:?}"));
            self.oracle.view_stored(id, self.stored.as_ref(), &view);
            self.stored = Some(view);
        }
        let result = match (unknown, fits) {
            (true, _) => SwapResult::Unknown,
            (false, true) => SwapResult::Swapped,
            (false, false) => SwapResult::Lost,
        };
        self.at(at, Event::Swapped { front: id, result });
    }

    pub(crate) fn swapped(&mut self, id: FrontId, result: SwapResult) {
        self.note(|| format!("front end {id}: the swap is {result:?}"));
        self.with_writer(id, |writer, now| writer.swapped(now, result));
    }
}
