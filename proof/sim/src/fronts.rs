//! The front ends' processes: the driver of [`Writer`] and of the heartbeat [`Monitor`], with the real
//! cache, shard state and feeds; and the view store that they share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use frontend::cache::Cache;
use frontend::feed::Feeds;
use frontend::shards::Shards;
use protocol::call::{CallId, WriteFailure};
use protocol::command::Outcome;
use protocol::heartbeat::{self, Change, ConnectionId, Monitor, State};
use protocol::ids::{Epoch, Index, NodeId};
use protocol::message::{ToReplica, Touched};
use protocol::view::View;
use protocol::writer::{Effect, Options, SwapResult, Writer};

use crate::buys::Buying;
use crate::faults::Moment;
use crate::feeding::Follower;
use crate::network::{Down, LinkId, Peer, Up};
use crate::plan::{BEAT_INTERVAL, Day, WRITE_TIMEOUT};
use crate::pool::SHARD;
use crate::reads::Read;
use crate::sights::Sight;
use crate::world::{Event, FrontId, World};

/// Who waits for a write.
#[derive(Debug)]
pub(crate) enum Ticket {
    /// A client's attempt at it.
    Client { client: usize, attempt: u64 },
    /// A call of an order node, over a connection.
    Order { link: LinkId, generation: u64, call: CallId },
}

#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) writer: Writer<Ticket>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) shards: Shards,
    pub(crate) feeds: Feeds,
    monitor: Monitor,
    pub(crate) reads: BTreeMap<u64, Read>,
    pub(crate) next_read: u64,
    pub(crate) buys: BTreeMap<CallId, Buying>,
    pub(crate) followers: BTreeMap<usize, Follower>,
    /// How fast its clock goes, in thousandths.
    pub(crate) rate: u32,
    pub(crate) frozen_until: Duration,
    /// The calls of the view store are answered in order.
    store_free_at: Duration,
    alarm: Option<Duration>,
}

impl World {
    pub(crate) fn start_front(&mut self) {
        let id = self.next_front;
        self.next_front += 1;
        let rate = self.plan.any_rate(&mut self.random);
        let replicas: Vec<NodeId> = self.nodes.iter().map(|node| node.id.clone()).collect();
        let options = Options { write_timeout: WRITE_TIMEOUT, patience: WRITE_TIMEOUT * 3 };
        let name =
            if self.plan.day == Day::TwoWriters { format!("front-{id}") } else { "front-1".to_owned() };
        let beats = heartbeat::Options { interval: BEAT_INTERVAL, missed_limit: 4 };
        let peers = self.peers();
        let config = common::config::Cache { capacity_bytes: 1 << 20, enabled: self.plan.cache };
        let front = Front {
            writer: Writer::new(SHARD, NodeId::from(name), replicas, options, self.instant(rate)),
            cache: Arc::new(Cache::new(config)),
            shards: Shards::new([SHARD].into_iter(), self.plan.policy),
            feeds: Feeds::new([SHARD].into_iter()),
            monitor: Monitor::new(beats, peers.iter().map(|peer| self.name_of(*peer))),
            reads: BTreeMap::new(),
            next_read: 0,
            buys: BTreeMap::new(),
            followers: BTreeMap::new(),
            rate,
            frozen_until: Duration::ZERO,
            store_free_at: self.now,
            alarm: None,
        };
        self.fronts.insert(id, front);
        self.note(|| format!("front end {id} starts"));
        for peer in peers {
            self.start_connecting(LinkId { front: id, peer });
        }
        self.set_alarm(id);
    }

    fn peers(&self) -> Vec<Peer> {
        let catalogs = (0..self.plan.replicas).map(Peer::Catalog);
        catalogs.chain((0..self.plan.order_nodes).map(Peer::Order)).collect()
    }

    pub(crate) fn name_of(&self, peer: Peer) -> NodeId {
        match peer {
            Peer::Catalog(node) => self.nodes[node].id.clone(),
            Peer::Order(node) => format!("o{node}").into(),
        }
    }

    fn catalog_named(&self, node: &NodeId) -> usize {
        self.nodes.iter().position(|other| other.id == *node).expect("a configured replica")
    }

    pub(crate) fn kill_front(&mut self, id: FrontId) {
        self.note(|| format!("front end {id} dies"));
        let links: Vec<LinkId> = self.links.keys().filter(|link| link.front == id).copied().collect();
        for link in links {
            self.break_link(link);
        }
        if self.fronts.remove(&id).is_some() {
            self.sights.add(Sight::FrontKilled);
        }
        self.clients_lose(id);
    }

    /// A node's process has ended: its connections break, and its heart stops.
    pub(crate) fn peer_dies(&mut self, peer: Peer, closes: bool) {
        let connection = self.run_of(peer);
        for link in self.links_of(peer) {
            self.break_link(link);
            if closes {
                let delay = self.random.micros(50..5_000);
                self.after(delay, Event::BeatsClosed { link, connection });
            }
        }
    }

    /// Calls the writer and carries out what it wants.
    pub(crate) fn with_writer(
        &mut self,
        id: FrontId,
        call: impl FnOnce(&mut Writer<Ticket>, Instant) -> Vec<Effect<Ticket>>,
    ) {
        let Some(rate) = self.fronts.get(&id).map(|front| front.rate) else { return };
        let now = self.instant(rate);
        let Some(front) = self.fronts.get_mut(&id) else { return };
        let led = front.writer.is_leading();
        let effects = call(&mut front.writer, now);
        let leads = front.writer.is_leading();
        for effect in effects {
            self.carry_out_of_front(id, effect);
        }
        if leads && !led {
            // Who came while it did not is waiting for this.
            self.drive_followers(id);
        }
        self.set_alarm(id);
    }

    fn set_alarm(&mut self, id: FrontId) {
        let Some(front) = self.fronts.get(&id) else { return };
        let (writer, monitor) = (front.writer.deadline(), front.monitor.deadline());
        let at = writer.into_iter().chain(monitor).min().map(|deadline| self.when(deadline, front.rate));
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
        let Some(front) = self.fronts.get(&id) else { return };
        if front.alarm.is_none_or(|at| at > self.now) {
            return;
        }
        let now = self.instant(front.rate);
        let Some(front) = self.fronts.get_mut(&id) else { return };
        front.alarm = None;
        let changes = front.monitor.tick(now);
        self.spread(id, changes);
        self.with_writer(id, Writer::tick);
        let Some(front) = self.fronts.get(&id) else { return };
        let past = front.writer.deadline().filter(|deadline| *deadline <= now);
        assert!(past.is_none(), "the writer's deadline stays in the past: its driver would spin");
    }

    fn carry_out_of_front(&mut self, id: FrontId, effect: Effect<Ticket>) {
        match effect {
            Effect::Send { to, message } | Effect::Tell { to, message } => self.send(id, &to, message),
            Effect::ReadView => self.begin_view_read(id),
            Effect::Swap { expected, view } => self.begin_swap(id, expected, view),
            Effect::Invalidate { upto, touched } => {
                let delay = self.random.micros(1..self.plan.push_max);
                self.after(delay, Event::Invalidate { front: id, upto, touched: Box::new(touched) });
            }
            Effect::Read { view, fresh } => {
                self.note(|| format!("front end {id} reads by {view:?} (fresh: {fresh})"));
                let Some(front) = self.fronts.get_mut(&id) else { return };
                front.shards.get(SHARD).expect("the shard is there").set_view(view);
                if fresh {
                    front.cache.clear();
                } else {
                    front.cache.void_fills();
                }
                self.drive_reads(id);
            }
            Effect::StopReading(node) => {
                if let Some(front) = self.fronts.get(&id) {
                    front.shards.get(SHARD).expect("the shard is there").stop_reading(&node);
                }
            }
            Effect::Commit(committed) => {
                self.note(|| format!("front end {id} commits {}", committed.index));
                self.oracle.committed(id, &committed, &self.nodes, self.stored.as_ref());
                let index = committed.index;
                let Some(front) = self.fronts.get_mut(&id) else { return };
                front.feeds.push(SHARD, committed);
                front.shards.get(SHARD).expect("the shard is there").set_commit(index);
                self.drive_reads(id);
            }
            Effect::Complete { ticket, result } => self.complete(ticket, result),
            Effect::Happening(happening) => {
                self.note(|| format!("front end {id}: {happening:?}"));
                self.see_happening(id, &happening);
                self.ambush(Moment::of_happening(&happening), None);
            }
        }
    }

    fn complete(&mut self, ticket: Ticket, result: Result<Outcome, WriteFailure>) {
        match ticket {
            Ticket::Client { client, attempt } => self.written(client, attempt, result),
            Ticket::Order { link, generation, call } => {
                if self.generation(link) == Some(generation) {
                    self.send_down(link, Down::Submitted { call, result });
                }
            }
        }
    }

    fn send(&mut self, id: FrontId, to: &NodeId, message: ToReplica) {
        let peer = Peer::Catalog(self.catalog_named(to));
        self.oracle.sent(id, &message);
        self.send_down(LinkId { front: id, peer }, Down::Replica(message));
    }

    pub(crate) fn connected(&mut self, link: LinkId) {
        self.note(|| format!("{link:?}: connected"));
        match link.peer {
            Peer::Catalog(node) => {
                let node = self.nodes[node].id.clone();
                self.with_writer(link.front, |writer, _| writer.handle_connected(&node));
                self.drive_reads(link.front);
            }
            Peer::Order(node) => self.order_node_connected(node, link),
        }
    }

    pub(crate) fn lost(&mut self, link: LinkId) {
        if let Peer::Catalog(node) = link.peer {
            self.note(|| format!("{link:?}: refused"));
            self.sights.add(Sight::ConnectionRefused);
            let node = self.nodes[node].id.clone();
            self.with_writer(link.front, |writer, now| writer.handle_lost(now, &node));
        }
    }

    /// A connection broke: what was asked over it gets no answer.
    pub(crate) fn broke(&mut self, link: LinkId) {
        match link.peer {
            Peer::Catalog(node) => self.reads_lose(link.front, node),
            Peer::Order(node) => {
                if let Some(front) = self.fronts.get_mut(&link.front) {
                    front.followers.remove(&node);
                }
                self.buys_lose(link.front, node);
                self.order_node_loses(node, link.front);
            }
        }
    }

    pub(crate) fn front_hears(&mut self, link: LinkId, generation: u64, message: Up) {
        let front = link.front;
        if !self.fronts.contains_key(&front) {
            return;
        }
        match (message, link.peer) {
            (Up::Said(said), Peer::Catalog(node)) => {
                let node = self.nodes[node].id.clone();
                self.note(|| format!("{front} hears {node}: {:?}", said.reply));
                self.with_writer(front, |writer, now| writer.handle_said(now, &node, said));
            }
            (Up::Read { call, reply }, Peer::Catalog(_)) => self.read_back(front, call, reply),
            (Up::Bought { call, result }, Peer::Order(_)) => self.bought(front, call, result),
            (Up::Submit { call, command }, Peer::Order(_)) => {
                self.oracle.submitted(&command);
                let ticket = Ticket::Order { link, generation, call };
                self.with_writer(front, |writer, now| writer.submit(now, ticket, command));
            }
            // What is followed ends with the connection that it was asked over.
            (Up::Follow { after, chain }, Peer::Order(node)) => {
                if self.generation(link) == Some(generation) {
                    self.follow(front, node, after, chain);
                }
            }
            (Up::AskCommitIndex { call }, Peer::Order(_)) => {
                let writer = &self.fronts[&front].writer;
                let result = writer.waits_for().map_or(Ok(writer.commit_index()), Err);
                self.send_down(link, Down::CommitIndex { call, result });
            }
            (message, peer) => unreachable!("{peer:?} does not say {message:?}"),
        }
    }

    /// The keys leave the caches, and then the writer hears that they have.
    pub(crate) fn invalidate(&mut self, id: FrontId, upto: Index, touched: &Touched) {
        let Some(front) = self.fronts.get(&id) else { return };
        front.cache.invalidate(touched);
        self.with_writer(id, |writer, now| writer.invalidated(now, upto));
    }

    /// A node's heart beats.
    pub(crate) fn beat_at(&mut self, peer: Peer, run: u64) {
        if self.run_of(peer) != run || !self.is_running(peer) {
            return;
        }
        self.after(BEAT_INTERVAL, Event::BeatAt { peer, run });
        let fronts: Vec<FrontId> = self.fronts.keys().copied().collect();
        for front in fronts {
            let link = LinkId { front, peer };
            if self.beats_pass(link) {
                let delay = self.random.micros(50..5_000);
                self.after(delay, Event::Beat { link, run, connection: run });
            }
        }
    }

    pub(crate) fn hear_beat(&mut self, link: LinkId, run: u64, connection: u64) {
        if self.run_of(link.peer) != run || !self.is_running(link.peer) {
            return;
        }
        let name = self.name_of(link.peer);
        let Some(front) = self.fronts.get(&link.front) else { return };
        let now = self.instant(front.rate);
        let Some(front) = self.fronts.get_mut(&link.front) else { return };
        front.monitor.connected(&name, ConnectionId(connection));
        let change = front.monitor.heard(now, &name, ConnectionId(connection));
        self.spread(link.front, change);
        self.set_alarm(link.front);
    }

    pub(crate) fn beats_closed(&mut self, link: LinkId, connection: u64) {
        let name = self.name_of(link.peer);
        let Some(front) = self.fronts.get_mut(&link.front) else { return };
        let change = front.monitor.closed(&name, ConnectionId(connection));
        self.spread(link.front, change);
        self.set_alarm(link.front);
    }

    /// As the front end's heartbeat listener does.
    fn spread(&mut self, id: FrontId, changes: impl IntoIterator<Item = Change>) {
        for Change { node, to, .. } in changes {
            self.note(|| format!("front end {id}: {node} is {to:?}"));
            let Some(front) = self.fronts.get(&id) else { return };
            front.shards.set_node_state(&node, to);
            if to == State::Suspect && self.nodes.iter().any(|other| other.id == node) {
                self.with_writer(id, |writer, now| writer.handle_silent(now, &node));
            }
        }
    }

    fn store_delay(&mut self, id: FrontId) -> Duration {
        let slow = !self.healed && self.random.chance(5);
        let delay = if slow { self.random.millis(20..500) } else { self.random.micros(200..4000) };
        if slow {
            self.sights.add(Sight::ViewStoreSlow);
        }
        let now = self.now;
        let Some(front) = self.fronts.get_mut(&id) else { return now };
        let at = front.store_free_at.max(now) + delay;
        front.store_free_at = at;
        at
    }

    fn begin_view_read(&mut self, id: FrontId) {
        let at = self.store_delay(id);
        let fails = !self.healed && self.random.chance(self.plan.store_trouble);
        self.at(at, Event::ViewRead { front: id, fails });
    }

    /// The store answers a read with what it has at that time.
    pub(crate) fn view_read(&mut self, id: FrontId, fails: bool) {
        let failure = || Err("the view store can't be read".to_owned());
        if fails {
            self.sights.add(Sight::ViewUnread);
        }
        let read = if fails { failure() } else { Ok(self.stored.clone()) };
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
            self.oracle.view_stored(id, self.stored.as_ref(), &view, &self.nodes);
            self.see_view(&view);
            self.stored = Some(view);
            self.ambush(Moment::ViewStored, None);
        }
        let result = match (unknown, fits) {
            (true, _) => SwapResult::Unknown,
            (false, true) => SwapResult::Swapped,
            (false, false) => SwapResult::Lost,
        };
        self.see_swap(&result, fits && happens);
        self.at(at, Event::Swapped { front: id, result });
    }

    pub(crate) fn swapped(&mut self, id: FrontId, result: SwapResult) {
        self.note(|| format!("front end {id}: the swap is {result:?}"));
        self.with_writer(id, |writer, now| writer.swapped(now, result));
    }
}
