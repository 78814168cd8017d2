//! The replicas' processes: the driver of [`Replica`] as a node has it, one thing at a time.

use std::collections::VecDeque;
use std::time::Duration;

use protocol::call::LogPage;
use protocol::ids::{Index, NodeId, StoreId};
use protocol::message::{Reply, Said, ToReplica};
use protocol::replica::{Effect, Replica, Step};

use crate::cluster::{Event, NodeIndex, World};
use crate::disk::{Disk, Tables};
use crate::network::LinkId;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) disk: Disk,
    pub(crate) process: Option<Process>,
    /// How often it was started.
    pub(crate) runs: u64,
    pub(crate) frozen_until: Duration,
    pub(crate) disk_fails_until: Duration,
    pub(crate) disk_slow_until: Duration,
    pub(crate) stores: u128,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) replica: Replica,
    step: Option<Step>,
    inputs: VecDeque<Input>,
    /// Where the last message of the protocol came from, and over which connection.
    /// The connections heard from; last, the one whose writer the replica goes by.
    heard_on: Vec<(LinkId, u64)>,
    /// Whose message the step under way is for.
    step_for: Option<(LinkId, u64)>,
    /// Pulls and snapshots, one at a time; the first is under way. None is ever called off.
    errands: VecDeque<Source>,
}

#[derive(Debug)]
enum Input {
    Message { link: LinkId, generation: u64, message: ToReplica },
    Pulled(Source),
}

/// What is wanted of a peer, and what came of it.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Page { of: NodeIndex, after: Index, page: Option<LogPage> },
    Snapshot { of: NodeIndex, at_least: Index, tables: Option<(Box<Tables>, Index)> },
}

impl World {
    pub(crate) fn fresh_node(&mut self, index: NodeIndex) -> Node {
        let mut node = Node {
            id: format!("r{index}").into(),
            disk: self.fresh_disk(index, 0),
            process: None,
            runs: 0,
            frozen_until: Duration::ZERO,
            disk_fails_until: Duration::ZERO,
            disk_slow_until: Duration::ZERO,
            stores: 1,
        };
        start(&mut node);
        node
    }

    pub(crate) fn fresh_disk(&mut self, index: NodeIndex, stores: u128) -> Disk {
        let retention = if self.random.chance(50) { 1_000 } else { self.random.between(1..40) };
        let can_undo = self.random.chance(80);
        Disk::new(StoreId(index as u128 * 1000 + stores), retention, can_undo)
    }

    pub(crate) fn start_node(&mut self, index: NodeIndex) {
        let node = &mut self.nodes[index];
        if node.process.is_none() {
            start(node);
            self.note(|| format!("node {index} starts"));
        }
    }

    /// The process ends. A step under way is done or not; its answer is not heard.
    pub(crate) fn kill_node(&mut self, index: NodeIndex) {
        let durable = self.random.chance(50);
        let node = &mut self.nodes[index];
        let Some(process) = node.process.take() else { return };
        if let Some(step) = process.step.filter(|_| durable) {
            node.disk.run(&step);
        }
        node.frozen_until = Duration::ZERO;
        self.note(|| format!("node {index} dies (its step is durable: {durable})"));
        let links: Vec<LinkId> = self.links.keys().filter(|link| link.node == index).copied().collect();
        for link in links {
            self.break_link(link);
        }
    }

    fn process(&mut self, node: NodeIndex, run: u64) -> Option<&mut Process> {
        let node = &mut self.nodes[node];
        if node.runs == run { node.process.as_mut() } else { None }
    }

    pub(crate) fn node_hears(&mut self, link: LinkId, generation: u64, run: u64, message: ToReplica) {
        if !self.arrives(link, generation) || self.nodes[link.node].runs != run {
            return;
        }
        let Some(process) = self.nodes[link.node].process.as_mut() else { return };
        process.inputs.push_back(Input::Message { link, generation, message });
        self.work(link.node);
    }

    /// Takes what waits, as long as the disk is free.
    fn work(&mut self, node: NodeIndex) {
        let now = self.instant();
        loop {
            let Some(process) = self.nodes[node].process.as_mut() else { return };
            if process.step.is_some() {
                return;
            }
            let Some(input) = process.inputs.pop_front() else { break };
            let (effects, asker) = match input {
                Input::Message { link, generation, message } => {
                    process.heard_on.retain(|known| *known != (link, generation));
                    let place = if process.replica.heeds(&message) { process.heard_on.len() } else { 0 };
                    process.heard_on.insert(place, (link, generation));
                    (process.replica.handle(now, message), Some((link, generation)))
                }
                Input::Pulled(source) => (self.take_pulled(node, source), None),
            };
            self.carry_out(node, effects, asker);
        }
        self.set_node_alarm(node);
    }

    fn set_node_alarm(&mut self, node: NodeIndex) {
        let Some(process) = self.nodes[node].process.as_ref() else { return };
        if let Some(deadline) = process.replica.deadline() {
            let (at, run) = (self.since_start(deadline), self.nodes[node].runs);
            self.at(at, Event::NodeTick { node, run });
        }
    }

    pub(crate) fn tick_node(&mut self, node: NodeIndex, run: u64) {
        let now = self.instant();
        let Some(process) = self.process(node, run) else { return };
        let Some(deadline) = process.replica.deadline() else { return };
        if deadline > now || process.step.is_some() {
            return;
        }
        let effects = process.replica.tick(now);
        let moved = process.replica.deadline().is_none_or(|next| next > now);
        assert!(moved, "a replica's deadline stays in the past: its driver would spin");
        self.carry_out(node, effects, None);
        self.work(node);
    }

    fn carry_out(&mut self, node: NodeIndex, effects: Vec<Effect>, asker: Option<(LinkId, u64)>) {
        let run = self.nodes[node].runs;
        for effect in effects {
            match effect {
                Effect::Persist(step) => self.begin_step(node, step, asker),
                Effect::Send(said) => self.answer(node, said, asker),
                Effect::Pull { source, after } => {
                    let of = self.index_of(&source);
                    self.begin_errand(node, Source::Page { of, after, page: None });
                }
                Effect::FetchSnapshot { source, at_least } => {
                    let of = self.index_of(&source);
                    self.begin_errand(node, Source::Snapshot { of, at_least, tables: None });
                }
                Effect::Recount { epoch } => {
                    let sound = self.nodes[node].disk.tables.is_sound();
                    let said =
                        Said { store: self.nodes[node].disk.store, reply: Reply::Recounted { epoch, sound } };
                    let delay = self.random.millis(1..50);
                    if let Some((link, _)) = asker {
                        self.after(delay, Event::Recounted { node, run, link, said });
                    }
                }
                Effect::Note(note) => self.note(|| format!("node {node}: {note:?}")),
            }
        }
    }

    fn index_of(&self, id: &NodeId) -> NodeIndex {
        self.nodes.iter().position(|node| node.id == *id).expect("a source is a configured replica")
    }

    fn begin_step(&mut self, node: NodeIndex, step: Step, asker: Option<(LinkId, u64)>) {
        let slow = self.nodes[node].disk_slow_until > self.now;
        let delay = if slow { self.random.millis(200..1600) } else { self.random.micros(100..3000) };
        let run = self.nodes[node].runs;
        let process = self.nodes[node].process.as_mut().expect("it asked for the step");
        assert!(process.step.is_none(), "a replica asks for one step at a time");
        process.step = Some(step);
        process.step_for = asker;
        self.after(delay, Event::StepDone { node, run });
    }

    pub(crate) fn step_done(&mut self, node: NodeIndex, run: u64) {
        let (now, instant) = (self.now, self.instant());
        let Some(process) = self.process(node, run) else { return };
        let step = process.step.take().expect("a step was begun");
        let fails = self.nodes[node].disk_fails_until > now;
        let entry = &mut self.nodes[node];
        let process = entry.process.as_mut().expect("it was there above");
        let asker = process.step_for;
        let effects = if fails {
            process.replica.failed(instant, "no space left".to_owned())
        } else {
            let done = entry.disk.run(&step);
            process.replica.persisted(instant, done)
        };
        self.carry_out(node, effects, asker);
        self.check_memory(node);
        self.work(node);
    }

    /// What a replica says of itself is on its disk; its commit index alone may be ahead.
    fn check_memory(&self, node: NodeIndex) {
        let node = &self.nodes[node];
        let Some(process) = node.process.as_ref().filter(|process| process.step.is_none()) else { return };
        let (mut durable, told) = (node.disk.standing(), process.replica.standing());
        assert!(told.commit >= durable.commit, "a replica's commit index is below the durable one");
        durable.commit = told.commit;
        assert_eq!(*told, durable, "a replica says what is not on its disk");
    }

    fn answer(&mut self, node: NodeIndex, said: Said, asker: Option<(LinkId, u64)>) {
        let heard_on = self.nodes[node].process.iter().flat_map(|process| process.heard_on.iter().rev());
        let open = heard_on.copied().find(|(link, generation)| self.arrives(*link, *generation));
        let Some((link, generation)) = asker.or(open) else { return };
        // What was asked over a connection that broke is mostly not answered over the next one.
        let same = self.arrives(link, generation);
        if same || self.random.chance(50) {
            self.send_to_front(link, said);
        }
    }

    pub(crate) fn recounted(&mut self, node: NodeIndex, run: u64, link: LinkId, said: Said) {
        if self.process(node, run).is_some() {
            self.send_to_front(link, said);
        }
    }

    fn begin_errand(&mut self, node: NodeIndex, source: Source) {
        let process = self.nodes[node].process.as_mut().expect("it asked for the errand");
        process.errands.push_back(source);
        if process.errands.len() == 1 {
            self.next_errand(node);
        }
    }

    fn next_errand(&mut self, node: NodeIndex) {
        let delay = self.random.micros(200..8000);
        let run = self.nodes[node].runs;
        let under_way = self.nodes[node].process.as_ref().and_then(|process| process.errands.front());
        if under_way.is_some() {
            self.after(delay, Event::Pull { node, run });
        }
    }

    /// The peer answers, if it is there.
    pub(crate) fn serve_pull(&mut self, node: NodeIndex, run: u64) {
        let Some(process) = self.process(node, run) else { return };
        let source = process.errands.front().cloned().expect("an errand was begun");
        let limit = if self.random.chance(30) { 2 } else { 200 };
        let delay = self.random.micros(200..8000);
        let of = match &source {
            Source::Page { of, .. } | Source::Snapshot { of, .. } => *of,
        };
        let peer = &self.nodes[of];
        let there = peer.process.is_some() && peer.frozen_until <= self.now;
        let unlucky = !self.healed && self.random.chance(5);
        let delay = if there { delay } else { Duration::from_millis(300) };
        let disk = &self.nodes[of].disk;
        let answer = match source {
            Source::Page { after, .. } => {
                let page = (there && !unlucky).then(|| disk.page(after, limit));
                Source::Page { of, after, page }
            }
            Source::Snapshot { at_least, .. } => {
                let fit = there && !unlucky && disk.tables.is_sound() && disk.tables.last().0 >= at_least;
                let tables = fit.then(|| (Box::new(disk.tables.clone()), disk.commit));
                Source::Snapshot { of, at_least, tables }
            }
        };
        self.after(delay, Event::Pulled { node, run, source: answer });
    }

    pub(crate) fn pulled(&mut self, node: NodeIndex, run: u64, source: Source) {
        let Some(process) = self.process(node, run) else { return };
        process.errands.pop_front();
        process.inputs.push_back(Input::Pulled(source));
        self.next_errand(node);
        self.work(node);
    }

    fn take_pulled(&mut self, node: NodeIndex, source: Source) -> Vec<Effect> {
        let now = self.instant();
        let fails = self.nodes[node].disk_fails_until > self.now;
        let names: Vec<NodeId> = self.nodes.iter().map(|node| node.id.clone()).collect();
        let Node { disk, process, .. } = &mut self.nodes[node];
        let Some(process) = process else { return Vec::new() };
        match source {
            Source::Page { of, page: Some(page), .. } => process.replica.handle_pulled(now, &names[of], page),
            Source::Snapshot { at_least, tables: Some((tables, commit)), .. } if !fails => {
                assert!(tables.last().0 >= at_least, "served by the rule");
                if !process.replica.wants_snapshot(tables.last().0) {
                    return process.replica.handle_pull_failed(now);
                }
                disk.install(*tables, commit);
                process.replica.snapshot_installed(now, disk.standing(), disk.tail())
            }
            Source::Page { .. } | Source::Snapshot { .. } => process.replica.handle_pull_failed(now),
        }
    }
}

fn start(node: &mut Node) {
    node.runs += 1;
    let replica =
        Replica::new(node.id.clone(), node.disk.standing(), node.disk.appended_epoch, node.disk.tail());
    node.process = Some(Process {
        replica,
        step: None,
        inputs: VecDeque::new(),
        heard_on: Vec::new(),
        step_for: None,
        errands: VecDeque::new(),
    });
}
