//! The replicas' processes: the driver of [`Replica`] as a node has it, one thing at a time.

use std::collections::VecDeque;
use std::time::Duration;

use protocol::call::{CallId, LogPage, Query, ReadReply};
use protocol::ids::{Epoch, Index, NodeId, StoreId};
use protocol::message::{Reply, Said, ToReplica};
use protocol::replica::{Done, Effect, Replica, Step, may_be_read};
use protocol::view::{Member, View};

use crate::disk::{Copy, Disk};
use crate::faults::Moment;
use crate::network::{Down, LinkId, Peer, Up};
use crate::sights::Sight;
use crate::world::{Event, World};

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) disk: Disk,
    pub(crate) process: Option<Process>,
    /// How often it was started.
    pub(crate) runs: u64,
    /// How fast its clock goes, in thousandths.
    pub(crate) rate: u32,
    pub(crate) frozen_until: Duration,
    pub(crate) disk_fails_until: Duration,
    pub(crate) disk_slow_until: Duration,
    /// Other replicas can't be reached before.
    pub(crate) cut_off_until: Duration,
    pub(crate) stores: u128,
    /// The machine itself went down with the last process.
    power_lost: bool,
}

impl Node {
    /// Whether the store that it has now is a member, worked out apart from the code that is proven.
    pub(crate) fn is_member_of(&self, view: &View) -> bool {
        view.members.contains(&Member { node: self.id.clone(), store: self.disk.store() })
    }
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) replica: Replica,
    step: Option<Step>,
    inputs: VecDeque<Input>,
    /// The connections heard from; last, the one whose writer the replica goes by.
    heard_on: Vec<(LinkId, u64)>,
    /// Whose message the step under way is for.
    step_for: Option<(LinkId, u64)>,
    /// Pulls and snapshots, one at a time; the first is under way. None is ever called off.
    errands: VecDeque<Source>,
    /// How many snapshots it has installed: what was counted before one says nothing of the rows behind it.
    installs: u64,
}

#[derive(Debug)]
enum Input {
    Message { link: LinkId, generation: u64, message: ToReplica },
    Pulled(Source),
    Counted { sound: bool, installs: u64 },
}

/// What is wanted of a peer, and what came of it.
#[derive(Debug)]
pub(crate) enum Source {
    Page { of: usize, after: Index, page: Option<LogPage> },
    Snapshot { of: usize, at_least: Index, copy: Option<Copy> },
}

impl World {
    pub(crate) fn fresh_node(&mut self, index: usize) -> Node {
        Node {
            id: format!("r{index}").into(),
            disk: self.fresh_disk(index, 0),
            process: None,
            runs: 0,
            rate: self.plan.any_rate(&mut self.random),
            frozen_until: Duration::ZERO,
            disk_fails_until: Duration::ZERO,
            disk_slow_until: Duration::ZERO,
            cut_off_until: Duration::ZERO,
            stores: 1,
            power_lost: false,
        }
    }

    pub(crate) fn fresh_disk(&mut self, index: usize, stores: u128) -> Disk {
        let keep_entries = self.plan.any_retention(&mut self.random);
        Disk::new(&mut self.pool, StoreId(index as u128 * 1000 + stores), keep_entries)
    }

    pub(crate) fn start_node(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.process.is_some() {
            return;
        }
        node.runs += 1;
        let power_lost = std::mem::take(&mut node.power_lost);
        node.process = Some(Process {
            replica: node.disk.open(node.id.clone(), power_lost),
            step: None,
            inputs: VecDeque::new(),
            heard_on: Vec::new(),
            step_for: None,
            errands: VecDeque::new(),
            installs: 0,
        });
        let run = node.runs;
        self.note(|| format!("r{index} starts"));
        self.begin_count(index, None);
        self.after(Duration::from_millis(1), Event::BeatAt { peer: Peer::Catalog(index), run });
    }

    /// The process ends, with its machine or alone. A step under way is done or not; its answer is not
    /// heard.
    pub(crate) fn kill_node(&mut self, index: usize, power_lost: bool) {
        let durable = self.random.chance(50);
        let node = &mut self.nodes[index];
        let Some(process) = node.process.take() else { return };
        node.power_lost = power_lost;
        if let Some(step) = process.step {
            if durable {
                // Whether it could be done, nobody hears.
                drop(node.disk.run(&step));
                self.oracle.changed();
            }
            self.sights.add(if durable { Sight::StepUnheard } else { Sight::StepLost });
        }
        self.nodes[index].frozen_until = Duration::ZERO;
        self.note(|| format!("r{index} dies (its step is done: {durable}, power lost: {power_lost})"));
        let closes = self.random.chance(90);
        self.peer_dies(Peer::Catalog(index), closes);
    }

    fn process(&mut self, node: usize, run: u64) -> Option<&mut Process> {
        let node = &mut self.nodes[node];
        if node.runs == run { node.process.as_mut() } else { None }
    }

    pub(crate) fn node_hears(&mut self, node: usize, link: LinkId, generation: u64, message: Down) {
        match message {
            Down::Replica(message) => {
                let Some(process) = self.nodes[node].process.as_mut() else { return };
                process.inputs.push_back(Input::Message { link, generation, message });
                self.work(node);
            }
            Down::Read { call, store, epoch, query } => {
                self.answer_read(node, link, call, (store, epoch), &query)
            }
            Down::Buy { .. }
            | Down::Submitted { .. }
            | Down::Feed(_)
            | Down::StartOver
            | Down::CommitIndex { .. } => unreachable!("a catalog node is asked for books only"),
        }
    }

    /// The replica opens its snapshot after the request has arrived.
    fn answer_read(
        &mut self,
        node: usize,
        link: LinkId,
        call: CallId,
        (store, epoch): (StoreId, Epoch),
        query: &Query,
    ) {
        let Some(process) = &self.nodes[node].process else { return };
        let disk = &self.nodes[node].disk;
        let reply = if disk.store() != store {
            ReadReply::NotHere
        } else if let Err(promise) = may_be_read(process.replica.standing().promise, epoch) {
            self.sights.add(Sight::ReadSealed);
            ReadReply::Sealed { promise }
        } else {
            match disk.inner.readers.read(query) {
                Ok(answer) => ReadReply::Answer(answer),
                Err(problem) => ReadReply::Failed(problem.to_string()),
            }
        };
        self.send_up(link, Up::Read { call, reply });
    }

    /// Takes what waits, as long as the disk is free.
    fn work(&mut self, node: usize) {
        let now = self.instant(self.nodes[node].rate);
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
                Input::Counted { installs, .. } if installs != process.installs => (Vec::new(), None),
                Input::Counted { sound: true, .. } => (process.replica.counted(), None),
                Input::Counted { sound: false, .. } => (process.replica.damaged(), None),
            };
            self.carry_out(node, effects, asker);
        }
        // As the node's thread does: it becomes durable with the next change.
        let Node { disk, process, .. } = &mut self.nodes[node];
        if let Some(process) = process {
            disk.inner.store.set_commit(process.replica.standing().commit);
        }
        self.set_node_alarm(node);
    }

    fn set_node_alarm(&mut self, node: usize) {
        let Some(process) = self.nodes[node].process.as_ref() else { return };
        if let Some(deadline) = process.replica.deadline() {
            let (at, run) = (self.when(deadline, self.nodes[node].rate), self.nodes[node].runs);
            self.at(at, Event::NodeTick { node, run });
        }
    }

    pub(crate) fn tick_node(&mut self, node: usize, run: u64) {
        let now = self.instant(self.nodes[node].rate);
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

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>, asker: Option<(LinkId, u64)>) {
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
                    self.begin_errand(node, Source::Snapshot { of, at_least, copy: None });
                }
                Effect::Recount { epoch } => self.begin_count(node, asker.map(|(link, _)| (link, epoch))),
                Effect::Note(note) => {
                    self.note(|| format!("r{node}: {note:?}"));
                    self.ambush(Moment::of_note(&note), Some(node));
                }
            }
        }
    }

    fn index_of(&self, id: &NodeId) -> usize {
        self.nodes.iter().position(|node| node.id == *id).expect("a source is a configured replica")
    }

    fn begin_step(&mut self, node: usize, step: Step, asker: Option<(LinkId, u64)>) {
        let slow = self.nodes[node].disk_slow_until > self.now;
        let delay = if slow { self.random.millis(200..1600) } else { self.random.micros(100..3000) };
        if slow {
            self.sights.add(Sight::StepSlow);
        }
        let run = self.nodes[node].runs;
        let process = self.nodes[node].process.as_mut().expect("it asked for the step");
        assert!(process.step.is_none(), "a replica asks for one step at a time");
        process.step = Some(step);
        process.step_for = asker;
        self.after(delay, Event::StepDone { node, run });
    }

    pub(crate) fn step_done(&mut self, node: usize, run: u64) {
        let (now, instant) = (self.now, self.instant(self.nodes[node].rate));
        let Some(process) = self.process(node, run) else { return };
        let step = process.step.take().expect("a step was begun");
        let fails = self.nodes[node].disk_fails_until > now;
        let entry = &mut self.nodes[node];
        let process = entry.process.as_mut().expect("it was there above");
        let asker = process.step_for;
        let done = match fails {
            true => Err("no space left".to_owned()),
            false => entry.disk.run(&step).map_err(|problem| problem.to_string()),
        };
        self.see_step(&done);
        if let (Ok(Done::Promised), Step::Promise { view, .. }) = (&done, &step) {
            self.oracle.promised(view.as_ref());
        }
        let entry = &mut self.nodes[node];
        let process = entry.process.as_mut().expect("it was there above");
        let effects = match done {
            Ok(done) => process.replica.persisted(instant, done),
            Err(problem) => process.replica.failed(instant, problem),
        };
        let standing = entry.disk.standing();
        self.oracle.changed();
        #[expect(clippy::cast_possible_truncation, reason = "half of a hash is one as well")]
        self.mark((standing.chain.0 ^ standing.digest.0) as u64 ^ standing.promise.0);
        self.carry_out(node, effects, asker);
        self.check_memory(node);
        self.work(node);
    }

    /// What a replica says of itself is on its disk; its commit index alone may be ahead.
    fn check_memory(&self, node: usize) {
        let node = &self.nodes[node];
        let Some(process) = node.process.as_ref().filter(|process| process.step.is_none()) else { return };
        let (mut durable, told) = (node.disk.standing(), process.replica.standing());
        assert!(told.commit >= durable.commit, "a replica's commit index is below the durable one");
        durable.commit = told.commit;
        assert_eq!(*told, durable, "a replica says what is not on its disk");
    }

    fn answer(&mut self, node: usize, said: Said, asker: Option<(LinkId, u64)>) {
        let heard_on = self.nodes[node].process.iter().flat_map(|process| process.heard_on.iter().rev());
        let open = heard_on.copied().find(|(link, generation)| self.generation(*link) == Some(*generation));
        let Some((link, generation)) = asker.or(open) else { return };
        // What was asked over a connection that broke is mostly not answered over the next one.
        let same = self.arrives(link, generation);
        if same || self.random.chance(50) {
            self.send_up(link, Up::Said(said));
        }
    }

    /// A replica begins to count its rows: when its process starts, when the writer asks, and once in a while.
    pub(crate) fn begin_count(&mut self, node: usize, asked: Option<(LinkId, Epoch)>) {
        let takes = self.random.millis(if self.plan.slow_counts { 200..900 } else { 1..20 });
        let Node { disk, process, runs, .. } = &self.nodes[node];
        let Some(process) = process else { return };
        let (sound, installs, run) = (disk.is_sound(), process.installs, *runs);
        self.after(takes, Event::Counted { node, run, sound, installs, asked });
    }

    pub(crate) fn counted(
        &mut self,
        (node, run): (usize, u64),
        sound: bool,
        installs: u64,
        asked: Option<(LinkId, Epoch)>,
    ) {
        let Some(process) = self.process(node, run) else { return };
        process.inputs.push_back(Input::Counted { sound, installs });
        if !sound {
            self.sights.add(Sight::SpoiltRowCounted);
        }
        self.note(|| format!("r{node} has counted its rows: sound {sound}"));
        if let Some((link, epoch)) = asked {
            let store = self.nodes[node].disk.store();
            self.send_up(link, Up::Said(Said { store, reply: Reply::Recounted { epoch, sound } }));
        }
        self.work(node);
    }

    fn begin_errand(&mut self, node: usize, source: Source) {
        self.note(|| format!("r{node} asks for {source:?}"));
        let process = self.nodes[node].process.as_mut().expect("it asked for the errand");
        process.errands.push_back(source);
        if process.errands.len() == 1 {
            self.next_errand(node);
        }
    }

    fn next_errand(&mut self, node: usize) {
        let delay = self.random.micros(200..8000);
        let run = self.nodes[node].runs;
        let under_way = self.nodes[node].process.as_ref().and_then(|process| process.errands.front());
        if under_way.is_some() {
            self.after(delay, Event::Pull { node, run });
        }
    }

    /// The peer answers, if it is there.
    pub(crate) fn serve_pull(&mut self, node: usize, run: u64) {
        let Some(process) = self.process(node, run) else { return };
        let mut source = process.errands.pop_front().expect("an errand was begun");
        let limit = if self.random.chance(30) { 2 } else { 200 };
        let delay = self.random.micros(200..8000);
        let (Source::Page { of, .. } | Source::Snapshot { of, .. }) = &source;
        let cut = self.nodes[node].cut_off_until > self.now || self.nodes[*of].cut_off_until > self.now;
        let peer = &self.nodes[*of];
        let there = peer.process.is_some() && peer.frozen_until <= self.now && !cut;
        let unlucky = !self.healed && self.random.chance(5);
        if cut {
            self.sights.add(Sight::ReplicasCut);
        }
        if there && unlucky {
            self.sights.add(Sight::PullLost);
        }
        let delay = if there { delay } else { Duration::from_millis(300) };
        match &mut source {
            Source::Page { after, page, .. } => {
                *page = (there && !unlucky).then(|| peer.disk.page(*after, limit))
            }
            Source::Snapshot { at_least, copy, .. } => {
                let fit = there && !unlucky && peer.disk.last().0 >= *at_least && peer.disk.is_sound();
                *copy = fit.then(|| peer.disk.copy());
            }
        }
        // Its place in the queue is kept until it is back.
        let back = Source::Page { of: 0, after: Index(0), page: None };
        self.nodes[node].process.as_mut().expect("it was there above").errands.push_front(back);
        self.after(delay, Event::Pulled { node, run, source: Box::new(source) });
    }

    pub(crate) fn pulled(&mut self, node: usize, run: u64, source: Source) {
        let Some(process) = self.process(node, run) else { return };
        process.errands.pop_front();
        process.inputs.push_back(Input::Pulled(source));
        self.next_errand(node);
        self.work(node);
    }

    fn take_pulled(&mut self, node: usize, source: Source) -> Vec<Effect> {
        let now = self.instant(self.nodes[node].rate);
        let fails = self.nodes[node].disk_fails_until > self.now;
        let names: Vec<NodeId> = self.nodes.iter().map(|node| node.id.clone()).collect();
        let Node { disk, process, .. } = &mut self.nodes[node];
        let Some(process) = process else { return Vec::new() };
        match source {
            Source::Page { of, page: Some(page), .. } => {
                if matches!(page, LogPage::Gone) {
                    self.sights.add(Sight::LogGone);
                }
                let effects = process.replica.handle_pulled(now, &names[of], page);
                if effects.iter().any(|effect| matches!(effect, Effect::Persist(Step::Append(_)))) {
                    self.sights.add(Sight::LogPulled);
                }
                effects
            }
            Source::Snapshot { at_least, copy: Some(copy), .. } if !fails => {
                assert!(copy.last() >= at_least, "served by the rule");
                if !process.replica.wants_snapshot(copy.last()) {
                    return process.replica.handle_pull_failed(now);
                }
                if disk.install(&copy).is_err() {
                    return process.replica.handle_pull_failed(now);
                }
                self.oracle.changed();
                process.installs += 1;
                self.sights.add(Sight::SnapshotInstalled);
                process.replica.snapshot_installed(now, disk.standing(), disk.tail())
            }
            Source::Page { .. } | Source::Snapshot { .. } => process.replica.handle_pull_failed(now),
        }
    }
}
