//! The world of a run: what is in it, what happens in it, and in which order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use protocol::ids::{Epoch, Index};
use protocol::message::Touched;
use protocol::view::View;
use protocol::writer::SwapResult;

use crate::clients::{Clients, Request};
use crate::faults::Fault;
use crate::fronts::Front;
use crate::network::{Down, Link, LinkId, Peer, Up};
use crate::nodes::{Node, Source};
use crate::oracle::Oracle;
use crate::orders::OrderNode;
use crate::plan::{Day, Plan, TROUBLE};
use crate::pool::{Pool, SHARD};
use crate::random::Random;
use crate::sights::{Sight, Sights};
use crate::trace::Trace;

/// A run of a front end's process; each start has another.
pub(crate) type FrontId = u64;

/// How long it may take after the faults until all is well. A replica that was dropped again and again
/// may have to wait for a minute, and as long may a recount take.
const HEALING: Duration = Duration::from_secs(240);
/// More events than any run needs: beyond it, something spins.
const EVENTS_MAX: u64 = 400_000;

/// What came of a run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The number by which it is recognised.
    pub hash: u64,
    /// What was seen in it.
    pub sights: Sights,
    /// Whether it ended where only a person can help, and so was not looked at at the end.
    pub beyond_help: bool,
}

/// Something that happens at its time.
#[derive(Debug)]
pub(crate) enum Event {
    ToPeer { link: LinkId, generation: u64, run: u64, message: Box<Down>, again: bool },
    ToFront { link: LinkId, generation: u64, message: Box<Up>, again: bool },
    Connect { link: LinkId },
    GiveUp { link: LinkId, generation: u64 },
    StepDone { node: usize, run: u64 },
    NodeTick { node: usize, run: u64 },
    Pull { node: usize, run: u64 },
    Pulled { node: usize, run: u64, source: Box<Source> },
    Counted { node: usize, run: u64, sound: bool, installs: u64, asked: Option<(LinkId, Epoch)> },
    FrontTick { front: FrontId },
    ViewRead { front: FrontId, fails: bool },
    Swapped { front: FrontId, result: SwapResult },
    Invalidate { front: FrontId, upto: Index, touched: Box<Touched> },
    BeatAt { peer: Peer, run: u64 },
    Beat { link: LinkId, run: u64, connection: u64 },
    BeatsClosed { link: LinkId, connection: u64 },
    Next { client: usize },
    AtFront { front: FrontId, request: Box<Request> },
    ReadTick { front: FrontId },
    OrderTick { node: usize, run: u64 },
    Fault(Fault),
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) now: Duration,
    base: Instant,
    queue: BTreeMap<(Duration, u64), Event>,
    next_event: u64,
    pub(crate) plan: Plan,
    pub(crate) pool: Pool,
    pub(crate) nodes: Vec<Node>,
    pub(crate) orders: Vec<OrderNode>,
    pub(crate) fronts: BTreeMap<FrontId, Front>,
    pub(crate) next_front: FrontId,
    pub(crate) links: BTreeMap<LinkId, Link>,
    /// The view store.
    pub(crate) stored: Option<View>,
    pub(crate) clients: Clients,
    pub(crate) oracle: Oracle,
    pub(crate) healed: bool,
    /// How many more faults may be struck by what happens, on top of those that were planned.
    pub(crate) ambushes_left: u32,
    pub(crate) sights: Sights,
    /// Who took office last.
    pub(crate) in_office: Option<FrontId>,
    trace: Trace,
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan, pool: Pool, trace: Trace) -> Self {
        let mut world = Self {
            random: Random::new(seed),
            now: Duration::ZERO,
            base: Instant::now(),
            queue: BTreeMap::new(),
            next_event: 0,
            ambushes_left: plan.ambushes,
            plan,
            pool,
            nodes: Vec::new(),
            orders: Vec::new(),
            fronts: BTreeMap::new(),
            next_front: 1,
            links: BTreeMap::new(),
            stored: None,
            clients: Clients::default(),
            oracle: Oracle::default(),
            healed: false,
            sights: Sights::default(),
            in_office: None,
            trace,
        };
        world.oracle.is_quiet = world.plan.day == Day::Quiet;
        world.oracle.is_corrupt = world.plan.day == Day::Corruption;
        world.oracle.fronts_compete = world.plan.day == Day::TwoWriters;
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.note(|| "a new world".to_owned());
        for index in 0..self.plan.replicas {
            let node = self.fresh_node(index);
            self.nodes.push(node);
        }
        for index in 0..self.plan.order_nodes {
            let node = self.fresh_order_node(index);
            self.orders.push(node);
        }
        self.start_front();
        for index in 0..self.plan.replicas {
            self.start_node(index);
        }
        for index in 0..self.plan.order_nodes {
            self.start_order_node(index);
        }
        for client in 0..self.plan.clients {
            self.after(Duration::from_millis(5), Event::Next { client });
        }
        for (at, fault) in std::mem::take(&mut self.plan.faults) {
            self.at(at, Event::Fault(fault));
        }
        self.at(TROUBLE, Event::Fault(Fault::Heal));
    }

    /// The time as a process is told it, whose clock goes at a rate of its own.
    pub(crate) fn instant(&self, rate_permille: u32) -> Instant {
        self.base + self.now * rate_permille / 1000
    }

    /// When a process's clock will show a time.
    pub(crate) fn when(&self, instant: Instant, rate_permille: u32) -> Duration {
        let shown = (instant - self.base) * 1000 / rate_permille;
        // Rounded up: at that time the clock must show it.
        (shown + Duration::from_nanos(2)).max(self.now)
    }

    pub(crate) fn at(&mut self, at: Duration, event: Event) {
        self.next_event += 1;
        self.queue.insert((at.max(self.now), self.next_event), event);
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        self.trace.note(self.now, line);
    }

    /// Makes something that happened part of what the run is recognised by.
    pub(crate) fn mark(&mut self, what: u64) {
        self.trace.mark(what);
    }

    /// Runs until all is well after the faults. Returns the stores as well.
    pub(crate) fn run(mut self) -> (Run, Pool) {
        let mut events = 0;
        while let Some(((at, number), event)) = self.queue.pop_first() {
            events += 1;
            assert!(events < EVENTS_MAX, "{EVENTS_MAX} events, and no end: something spins");
            if at > TROUBLE + HEALING {
                panic!("not live again: {}", self.what_is_missing());
            }
            self.now = at;
            self.mark(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX) ^ number << 40);
            self.happen(event);
            self.oracle.look_at(&self.nodes, self.stored.as_ref());
            if self.healed && (self.is_beyond_help() || self.is_well()) {
                return self.end();
            }
        }
        panic!("nothing happens any more: {}", self.what_is_missing());
    }

    fn end(mut self) -> (Run, Pool) {
        let beyond_help = self.is_beyond_help();
        if !beyond_help {
            self.final_checks();
        }
        self.see_clocks();
        for node in std::mem::take(&mut self.nodes) {
            self.pool.give_back_store(node.disk.inner);
        }
        for node in std::mem::take(&mut self.orders) {
            self.pool.give_back_book(node.into_book());
        }
        (Run { hash: self.trace.hash(), sights: self.sights, beyond_help }, self.pool)
    }

    fn happen(&mut self, event: Event) {
        if let Some((until, sight)) = self.frozen_until(&event) {
            self.sights.add(sight);
            // As it was sent: in order, once the process goes on.
            return self.at(until, event);
        }
        match event {
            Event::ToPeer { link, generation, run, message, again } => {
                let same_run = self.run_of(link.peer) == run;
                // A call of an order node is known by its number, which is of one run.
                let repeats = again && (same_run || matches!(link.peer, Peer::Catalog(_)));
                let arrives = repeats || (same_run && self.arrives(link, generation));
                self.see_message(link, generation, again, arrives);
                if arrives {
                    self.peer_hears(link, generation, *message);
                }
            }
            Event::ToFront { link, generation, message, again } => {
                let arrives = again || self.arrives(link, generation);
                self.see_message(link, generation, again, arrives);
                if arrives {
                    self.front_hears(link, generation, *message);
                }
            }
            Event::Connect { link } => self.connect(link),
            Event::GiveUp { link, generation } => self.give_up(link, generation),
            Event::StepDone { node, run } => self.step_done(node, run),
            Event::NodeTick { node, run } => self.tick_node(node, run),
            Event::Pull { node, run } => self.serve_pull(node, run),
            Event::Pulled { node, run, source } => self.pulled(node, run, *source),
            Event::Counted { node, run, sound, installs, asked } => {
                self.counted((node, run), sound, installs, asked)
            }
            Event::FrontTick { front } => self.tick_front(front),
            Event::ViewRead { front, fails } => self.view_read(front, fails),
            Event::Swapped { front, result } => self.swapped(front, result),
            Event::Invalidate { front, upto, touched } => self.invalidate(front, upto, &touched),
            Event::BeatAt { peer, run } => self.beat_at(peer, run),
            Event::Beat { link, run, connection } => self.hear_beat(link, run, connection),
            Event::BeatsClosed { link, connection } => self.beats_closed(link, connection),
            Event::Next { client } => self.next_of(client),
            Event::AtFront { front, request } => self.at_front(front, *request),
            Event::ReadTick { front } => self.tick_reads(front),
            Event::OrderTick { node, run } => self.tick_order_node(node, run),
            Event::Fault(fault) => self.strike(fault),
        }
    }

    fn peer_hears(&mut self, link: LinkId, generation: u64, message: Down) {
        match link.peer {
            Peer::Catalog(node) => self.node_hears(node, link, generation, message),
            Peer::Order(node) => self.order_node_hears(node, link, generation, message),
        }
    }

    /// Whether a node's process runs.
    pub(crate) fn is_running(&self, peer: Peer) -> bool {
        match peer {
            Peer::Catalog(node) => self.nodes[node].process.is_some(),
            Peer::Order(node) => self.orders[node].is_running(),
        }
    }

    /// How often a node was started.
    pub(crate) fn run_of(&self, peer: Peer) -> u64 {
        match peer {
            Peer::Catalog(node) => self.nodes[node].runs,
            Peer::Order(node) => self.orders[node].runs,
        }
    }

    /// Until when the process is frozen that an event is of, and which kind of process it is.
    fn frozen_until(&self, event: &Event) -> Option<(Duration, Sight)> {
        let of_replica = |node: &usize| (self.nodes[*node].frozen_until, Sight::ReplicaFrozen);
        let of_order_node = |node: &usize| (self.orders[*node].frozen_until, Sight::OrderNodeFrozen);
        let node = |peer: &Peer| match peer {
            Peer::Catalog(node) => of_replica(node),
            Peer::Order(node) => of_order_node(node),
        };
        let of_front = |front: &FrontId| Some((self.fronts.get(front)?.frozen_until, Sight::FrontFrozen));
        let (until, sight) = match event {
            Event::ToPeer { link, .. } => node(&link.peer),
            Event::BeatAt { peer, .. } => node(peer),
            Event::StepDone { node, .. }
            | Event::NodeTick { node, .. }
            | Event::Pulled { node, .. }
            | Event::Counted { node, .. } => of_replica(node),
            Event::OrderTick { node, .. } => of_order_node(node),
            Event::ToFront { link, .. } | Event::Beat { link, .. } | Event::BeatsClosed { link, .. } => {
                of_front(&link.front)?
            }
            Event::FrontTick { front }
            | Event::ViewRead { front, .. }
            | Event::Swapped { front, .. }
            | Event::Invalidate { front, .. }
            | Event::AtFront { front, .. }
            | Event::ReadTick { front } => of_front(front)?,
            Event::Connect { .. }
            | Event::GiveUp { .. }
            | Event::Pull { .. }
            | Event::Next { .. }
            | Event::Fault(_) => return None,
        };
        (until > self.now).then_some((until, sight))
    }

    /// The writer that takes writes, if there is one.
    pub(crate) fn leader(&self) -> Option<FrontId> {
        self.fronts.iter().find(|(_, front)| front.writer.is_leading()).map(|(id, _)| *id)
    }

    /// Whether no other front end can have taken this one's place, as far as reads go by its view.
    pub(crate) fn is_current(&self, id: FrontId) -> bool {
        let Some(front) = self.fronts.get(&id) else { return false };
        let view = front.shards.get(SHARD).expect("the shard is there").view();
        self.plan.day != Day::TwoWriters
            || view.as_deref().is_some_and(|view| self.stored.as_ref() == Some(view))
    }

    pub(crate) fn all_are_members(&self) -> bool {
        self.stored.as_ref().is_some_and(|view| self.nodes.iter().all(|node| node.is_member_of(view)))
    }

    /// The one file that the view names is gone: it was lost while its last answer, by which the others
    /// were dropped, was on its way. Only an operator can say what is to be done then.
    fn is_beyond_help(&self) -> bool {
        self.stored.as_ref().is_some_and(|view| !self.nodes.iter().any(|node| node.is_member_of(view)))
    }

    fn is_well(&self) -> bool {
        if !self.clients.last_word_done() || self.clients.any_under_way() {
            return false;
        }
        let Some(front) = self.leader().and_then(|id| self.fronts.get(&id)) else { return false };
        let Some(view) = self.stored.as_ref().filter(|_| self.all_are_members()) else { return false };
        let commit = front.writer.commit_index();
        let first = self.nodes[0].disk.standing();
        front.writer.view() == Some(view)
            && self.orders.iter().all(|node| node.reached() == commit)
            && self.nodes.iter().all(|node| {
                let standing = node.disk.standing();
                (standing.last, standing.chain, standing.digest) == (first.last, first.chain, first.digest)
                    && standing.last == commit
            })
            // Last, for it takes long.
            && (self.plan.day != Day::Corruption || self.nodes.iter().all(|node| node.disk.is_sound()))
    }

    fn what_is_missing(&self) -> String {
        let fronts: Vec<_> = self
            .fronts
            .values()
            .map(|front| (front.writer.waits_for(), front.writer.commit_index(), front.writer.view()))
            .collect();
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|node| {
                let standing = node.disk.standing();
                let process = node.process.as_ref();
                let halted = process.and_then(|process| process.replica.halted().map(str::to_owned));
                let resyncs = process.is_some_and(|process| process.replica.is_resyncing());
                (node.id.clone(), standing.promise, standing.last, standing.chain, resyncs, halted)
            })
            .collect();
        let orders: Vec<_> = self.orders.iter().map(OrderNode::reached).collect();
        format!(
            "stored {:?}\nfront ends {fronts:?}\nreplicas {nodes:?}\norder nodes {orders:?}\nclients {}",
            self.stored,
            self.clients.what_they_wait_for()
        )
    }

    fn final_checks(&mut self) {
        for node in &self.nodes {
            assert!(node.disk.is_sound(), "{}: its rows are not what its digest says", node.id);
        }
        self.oracle.look_at_the_end(&self.nodes[0].disk.inner.readers, &mut self.sights);
        for node in &self.orders {
            self.oracle.look_at_orders(node.index, node.readers());
        }
    }
}
