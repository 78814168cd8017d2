//! The world of a run: what is in it, what happens in it, and in which order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use protocol::message::{Said, ToReplica};
use protocol::view::View;
use protocol::writer::SwapResult;

use crate::clients::{Clients, Read, Shown};
use crate::faults::{Day, Fault, Plan};
use crate::fronts::Front;
use crate::invariants::Oracle;
use crate::network::{Link, LinkId};
use crate::nodes::{Node, Source};
use crate::random::Random;

/// A run of a front end's process; each start has another.
pub(crate) type FrontId = u64;
/// A replica, by its place in the configuration.
pub(crate) type NodeIndex = usize;

/// How long the faults last.
pub(crate) const TROUBLE: Duration = Duration::from_secs(8);
/// How long it may take after the faults until all is well. A replica that was dropped again and again
/// may have to wait for a minute, and as long may a recount take.
const HEALING: Duration = Duration::from_secs(240);
/// More events than any run needs: beyond it, something spins.
const EVENTS_MAX: u64 = 400_000;

/// Something that happens at its time.
#[derive(Debug)]
pub(crate) enum Event {
    ToNode { link: LinkId, generation: u64, run: u64, message: ToReplica },
    ToFront { link: LinkId, generation: u64, said: Said },
    Connect { link: LinkId },
    StepDone { node: NodeIndex, run: u64 },
    NodeTick { node: NodeIndex, run: u64 },
    Pull { node: NodeIndex, run: u64 },
    Pulled { node: NodeIndex, run: u64, source: Source },
    Recounted { node: NodeIndex, run: u64, link: LinkId, said: Said },
    FrontTick { front: FrontId },
    ViewRead { front: FrontId, read: Result<Option<View>, String> },
    Swapped { front: FrontId, result: SwapResult },
    Invalidated { front: FrontId, upto: protocol::ids::Index },
    Submit { client: usize },
    Ask { client: usize },
    ReadAt { read: Read },
    ReadBack { read: Read, shown: Shown },
    Beats,
    Fault(Fault),
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) now: Duration,
    base: Instant,
    queue: BTreeMap<(Duration, u64), Event>,
    next_event: u64,
    pub(crate) plan: Plan,
    pub(crate) nodes: Vec<Node>,
    pub(crate) fronts: BTreeMap<FrontId, Front>,
    pub(crate) next_front: FrontId,
    pub(crate) links: BTreeMap<LinkId, Link>,
    /// The view store.
    pub(crate) stored: Option<View>,
    pub(crate) clients: Clients,
    pub(crate) oracle: Oracle,
    pub(crate) healed: bool,
    verbose: bool,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "any instant will do to count from, and there is no other")]
    pub(crate) fn new(seed: u64, plan: Plan, verbose: bool) -> Self {
        let mut world = Self {
            random: Random::new(seed),
            now: Duration::ZERO,
            base: Instant::now(),
            queue: BTreeMap::new(),
            next_event: 0,
            plan,
            nodes: Vec::new(),
            fronts: BTreeMap::new(),
            next_front: 1,
            links: BTreeMap::new(),
            stored: None,
            clients: Clients::default(),
            oracle: Oracle::default(),
            healed: false,
            verbose,
        };
        world.oracle.is_quiet = world.plan.day == Day::Quiet;
        world.begin();
        world
    }

    fn begin(&mut self) {
        for index in 0..self.plan.replicas {
            let node = self.fresh_node(index);
            self.nodes.push(node);
        }
        self.start_front();
        for client in 0..self.plan.clients {
            self.after(self.plan.think, Event::Submit { client });
            self.after(self.plan.think, Event::Ask { client });
        }
        self.after(Duration::from_millis(250), Event::Beats);
        for (at, fault) in std::mem::take(&mut self.plan.faults) {
            self.at(at, Event::Fault(fault));
        }
        self.at(TROUBLE, Event::Fault(Fault::Heal));
    }

    /// The time as the machines are told it.
    pub(crate) fn instant(&self) -> Instant {
        self.base + self.now
    }

    pub(crate) fn since_start(&self, instant: Instant) -> Duration {
        instant - self.base
    }

    pub(crate) fn at(&mut self, at: Duration, event: Event) {
        self.next_event += 1;
        self.queue.insert((at.max(self.now), self.next_event), event);
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if self.verbose {
            println!("{:>10.3} ms  {}", self.now.as_secs_f64() * 1000.0, line());
        }
    }

    /// Runs until all is well after the faults.
    pub(crate) fn run(&mut self) {
        let mut events = 0;
        while let Some(((at, _), event)) = self.queue.pop_first() {
            events += 1;
            assert!(events < EVENTS_MAX, "{EVENTS_MAX} events, and no end: something spins");
            assert!(at <= TROUBLE + HEALING, "not live again: {}", self.what_is_missing());
            self.now = at;
            self.happen(event);
            self.oracle.look_at(&self.nodes, self.stored.as_ref());
            if self.healed && self.is_well() {
                return self.final_checks();
            }
            if self.healed && self.is_beyond_help() {
                return;
            }
        }
        panic!("nothing happens any more: {}", self.what_is_missing());
    }

    fn happen(&mut self, event: Event) {
        if let Some(until) = self.frozen_until(&event) {
            // As it was sent: in order, once the process goes on.
            return self.at(until, event);
        }
        match event {
            Event::ToNode { link, generation, run, message } => {
                self.node_hears(link, generation, run, message)
            }
            Event::ToFront { link, generation, said } => self.front_hears(link, generation, said),
            Event::Connect { link } => self.connect(link),
            Event::StepDone { node, run } => self.step_done(node, run),
            Event::NodeTick { node, run } => self.tick_node(node, run),
            Event::Pull { node, run } => self.serve_pull(node, run),
            Event::Pulled { node, run, source } => self.pulled(node, run, source),
            Event::Recounted { node, run, link, said } => self.recounted(node, run, link, said),
            Event::FrontTick { front } => self.tick_front(front),
            Event::ViewRead { front, read } => self.view_read(front, read),
            Event::Swapped { front, result } => self.swapped(front, result),
            Event::Invalidated { front, upto } => self.invalidated(front, upto),
            Event::Submit { client } => self.submit(client),
            Event::Ask { client } => self.ask(client),
            Event::ReadAt { read } => self.read_at(read),
            Event::ReadBack { read, shown } => self.read_back(read, shown),
            Event::Beats => self.beats(),
            Event::Fault(fault) => self.strike(fault),
        }
    }

    fn frozen_until(&self, event: &Event) -> Option<Duration> {
        let node = match event {
            Event::ToNode { link, .. } => link.node,
            Event::StepDone { node, .. }
            | Event::NodeTick { node, .. }
            | Event::Pulled { node, .. }
            | Event::Recounted { node, .. } => *node,
            Event::ReadAt { read } => read.node,
            _ => return None,
        };
        let until = self.nodes[node].frozen_until;
        (until > self.now).then_some(until)
    }

    /// The writer that takes writes, if there is one.
    pub(crate) fn leader(&self) -> Option<FrontId> {
        self.fronts.iter().find(|(_, front)| front.writer.is_leading()).map(|(id, _)| *id)
    }

    pub(crate) fn all_are_members(&self) -> bool {
        let is_member = |view: &View, node: &Node| view.has(&node.id, node.disk.store);
        self.stored.as_ref().is_some_and(|view| self.nodes.iter().all(|node| is_member(view, node)))
    }

    /// The one file that the view names is gone: it was lost while its last answer, by which the others
    /// were dropped, was on its way. Only an operator can say what is to be done then.
    fn is_beyond_help(&self) -> bool {
        let exists = |view: &View, node: &Node| view.has(&node.id, node.disk.store);
        self.stored.as_ref().is_some_and(|view| !self.nodes.iter().any(|node| exists(view, node)))
    }

    fn is_well(&self) -> bool {
        let Some(front) = self.leader().and_then(|id| self.fronts.get(&id)) else { return false };
        if !self.all_are_members() {
            return false;
        }
        let Some(view) = &self.stored else { return false };
        let first = self.nodes[0].disk.standing();
        front.writer.view() == Some(view)
            && self.clients.last_word_done()
            && self.nodes.iter().all(|node| {
                let standing = node.disk.standing();
                (standing.last, standing.chain, standing.digest) == (first.last, first.chain, first.digest)
                    && standing.last == front.writer.commit_index()
            })
    }

    fn what_is_missing(&self) -> String {
        let front = self.fronts.values().next().map(|front| {
            (front.writer.waits_for(), front.writer.commit_index(), front.writer.view().cloned())
        });
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|node| {
                let standing = node.disk.standing();
                let halted = node.process.as_ref().and_then(|p| p.replica.halted().map(str::to_owned));
                let resyncs = node.process.as_ref().is_some_and(|p| p.replica.is_resyncing());
                (node.id.clone(), standing.promise, standing.last, standing.chain, resyncs, halted)
            })
            .collect();
        format!("stored {:?}\nwriter {front:?}\nnodes {nodes:#?}\n{:?}", self.stored, self.clients)
    }

    fn final_checks(&self) {
        self.oracle.look_at_the_end(&self.nodes[0].disk.tables);
    }
}
