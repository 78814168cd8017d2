//! The driver of a replica in the model: it carries out effects as the catalog node does.

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::ids::{Epoch, NodeId, StoreId};
use protocol::message::{Refused, Reply, Said, ToReplica};
use protocol::replica::{Effect, Note, Replica, Step};

use crate::action::Way;
use crate::disk::Disk;
use crate::ghost::Rule;
use crate::model::Model;
use crate::state::{Errand, Event, Node, Process, State, epoch};

/// Where an answer goes: over the connection that its question came from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker {
    /// Over the connection that stands.
    Link(Way),
    /// Over one that broke, to the run of the front end that it was of.
    Late(Way, u8),
    /// Nobody asked: to the front end whose messages the replica goes by.
    Nobody,
}

/// What becomes of the steps that an input leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Luck {
    /// All are carried out.
    Good,
    /// The disk can't carry out the first.
    FailingDisk,
    /// The process dies when the first is durable.
    Crash,
}

/// The file that a node has after so many were made.
#[must_use]
pub(crate) fn store_id(node: usize, files: u8) -> StoreId {
    StoreId(node as u128 * 100 + u128::from(files))
}

impl State {
    /// A node starts from its disk.
    pub(crate) fn start_node(&mut self, node: usize) {
        let entry = self.node_mut(node);
        let disk = &entry.disk;
        let mut replica = Replica::new(entry.id.clone(), disk.standing(), disk.appended_epoch, disk.tail());
        // Rows are never damaged here, and counted in no time.
        let effects = replica.counted();
        assert!(effects.is_empty(), "nothing is under way yet");
        entry.process =
            Some(Process { replica, clock: epoch(), errands: VecDeque::new(), heard: Vec::new() });
    }

    /// A node dies: what is on its way to it is lost, what it has sent is late.
    pub(crate) fn crash_node(&mut self, node: usize) {
        self.node_mut(node).process = None;
        for front in 0..self.fronts.len() {
            self.break_link(Way { front, node });
            self.link_mut(front, node).late_to_node.clear();
        }
    }

    /// A node's disk is replaced by an empty one.
    pub(crate) fn replace_disk(&mut self, node: usize) {
        self.crash_node(node);
        let entry = self.node_mut(node);
        entry.files += 1;
        entry.disk = Disk::new(store_id(node, entry.files));
        self.ghost_mut().undone &= !(1 << node);
    }

    /// A message reaches a replica.
    pub(crate) fn node_hears(
        &mut self,
        model: &Model,
        node: usize,
        message: ToReplica,
        asker: Asker,
        luck: Luck,
    ) {
        self.note(|| format!("{} hears {message:?}", NAMES[node]));
        let Some(process) = &mut self.node_mut(node).process else { return };
        if let Asker::Link(way) = asker
            && process.replica.heeds(&message)
        {
            process.heard.retain(|front| *front != way.front);
            process.heard.push(way.front);
        }
        let effects = process.replica.handle(process.clock, message);
        self.carry_out_of_node(model, node, effects, asker, luck);
    }

    /// A replica's deadline passes.
    pub(crate) fn tick_node(&mut self, model: &Model, node: usize) {
        let Some(process) = &mut self.node_mut(node).process else { return };
        let Some(deadline) = process.replica.deadline() else { return };
        process.clock = process.clock.max(deadline);
        let effects = process.replica.tick(process.clock);
        if process.replica.deadline().is_some_and(|next| next <= deadline) {
            self.broke(Rule::Assertion, "a replica's deadline stays in the past: its driver would spin");
        }
        self.carry_out_of_node(model, node, effects, Asker::Nobody, Luck::Good);
    }

    fn carry_out_of_node(
        &mut self,
        model: &Model,
        node: usize,
        effects: Vec<Effect>,
        asker: Asker,
        luck: Luck,
    ) {
        let mut todo = VecDeque::from(effects);
        let mut first = true;
        while let Some(effect) = todo.pop_front() {
            match effect {
                Effect::Persist(step) => {
                    let fails = first && luck == Luck::FailingDisk;
                    let Some(next) = self.persist(model, node, &step, fails) else { return };
                    if first && luck == Luck::Crash {
                        return self.crash_node(node);
                    }
                    first = false;
                    // A step is the last effect of a call: what comes of it comes next.
                    todo.extend(next);
                }
                Effect::Send(said) => self.send_to_front(node, said, asker),
                Effect::Pull { source, after } => {
                    let of = self.node_named(&source);
                    self.begin_errand(node, Errand::WantsPage { of, after });
                }
                Effect::FetchSnapshot { source, at_least } => {
                    let of = self.node_named(&source);
                    self.begin_errand(node, Errand::WantsSnapshot { of, at_least });
                }
                Effect::Recount { epoch } => {
                    let said = Said {
                        store: self.nodes[node].disk.store,
                        reply: Reply::Recounted { epoch, sound: true },
                    };
                    self.send_to_front(node, said, asker);
                }
                Effect::Note(note) => self.witness_note(node, &note),
            }
        }
        if luck == Luck::Crash {
            self.crash_node(node);
        }
    }

    fn witness_note(&mut self, node: usize, note: &Note) {
        self.note(|| format!("{}: {note:?}", NAMES[node]));
        if let Note::Halted(problem) = note {
            self.broke(Rule::Halt, format!("{}: {problem}", NAMES[node]));
        }
    }

    /// Carries out a step; nothing, if the replica must never have asked for it.
    fn persist(&mut self, model: &Model, node: usize, step: &Step, fails: bool) -> Option<Vec<Effect>> {
        if let Step::Undo { .. } = step {
            if self.is_member(node) {
                self.broke(Rule::Undo, format!("{} undoes entries, and is in the view", NAMES[node]));
            }
            self.happened.insert(Event::Undone);
            self.ghost_mut().undone |= 1 << node;
        }
        let Node { disk, process, .. } = self.node_mut(node);
        let process = process.as_mut()?;
        let clock = process.clock;
        if fails {
            return Some(process.replica.failed(clock, "no space left".to_owned()));
        }
        match disk.run(step, model.retention) {
            Ok(done) => {
                let effects = process.replica.persisted(clock, done);
                self.check_memory(node);
                Some(effects)
            }
            Err(how) => {
                let rule = if matches!(step, Step::Undo { .. }) { Rule::Undo } else { Rule::Promise };
                self.broke(rule, format!("{}: {how}", NAMES[node]));
                None
            }
        }
    }

    /// What a replica says of itself is on its disk; its commit index alone may be ahead.
    fn check_memory(&mut self, node: usize) {
        let Node { disk, process, .. } = &*self.nodes[node];
        let Some(process) = process else { return };
        let (mut durable, told) = (disk.standing(), process.replica.standing());
        let behind = told.commit < durable.commit;
        durable.commit = told.commit;
        if behind || *told != durable {
            self.broke(Rule::Promise, format!("{} says what is not on its disk", NAMES[node]));
        }
    }

    fn send_to_front(&mut self, node: usize, said: Said, asker: Asker) {
        self.judge_answer(node, &said);
        if let Reply::Refused(Refused::SealedBy { .. }) = said.reply {
            self.happened.insert(Event::StaleEpochRefused);
        }
        let way = match asker {
            Asker::Link(way) => Some(way),
            Asker::Late(way, run) => {
                if self.fronts[way.front].runs == run && self.fronts[way.front].run.is_some() {
                    self.link_mut(way.front, node).late_to_front.push_back(said);
                }
                return;
            }
            Asker::Nobody => {
                let heard = self.nodes[node].process.iter().flat_map(|process| process.heard.iter().rev());
                let open = heard.copied().find(|front| self.link(*front, node).up);
                open.map(|front| Way { front, node })
            }
        };
        let Some(way) = way else { return };
        let link = self.link_mut(way.front, node);
        if link.up {
            link.to_front.push_back(said);
        }
    }

    /// A promise is durable before it is answered.
    fn judge_answer(&mut self, node: usize, said: &Said) {
        let promised = match &said.reply {
            Reply::Appended(appended) => appended.epoch,
            Reply::Sealed(sealed) => sealed.epoch,
            Reply::Standing(standing) => standing.promise,
            _ => Epoch(0),
        };
        let disk = &self.nodes[node].disk;
        let last = match &said.reply {
            Reply::Appended(appended) => Some((appended.last, appended.chain)),
            Reply::Sealed(sealed) => Some((sealed.last, sealed.chain)),
            _ => None,
        };
        let has_it = last.is_none_or(|at| disk.tables.last() == at);
        if disk.promise < promised || !has_it {
            self.broke(Rule::Promise, format!("{} answers what is not durable: {said:?}", NAMES[node]));
        }
    }

    fn begin_errand(&mut self, node: usize, errand: Errand) {
        if let Some(process) = &mut self.node_mut(node).process {
            process.errands.push_back(errand);
        }
    }

    /// A peer answers the errand under way, or does not.
    pub(crate) fn serve(&mut self, node: usize, answers: bool) {
        let Some(errand) = self.nodes[node].process.as_ref().and_then(|p| p.errands.front()) else { return };
        let answer = match errand {
            Errand::WantsPage { of, after } => {
                Errand::Page { of: *of, page: answers.then(|| self.nodes[*of].disk.page(*after)) }
            }
            Errand::WantsSnapshot { of, at_least } => {
                let disk = &self.nodes[*of].disk;
                let fits = answers && disk.tables.last().0 >= *at_least;
                Errand::Snapshot { content: fits.then(|| (Arc::clone(&disk.tables), disk.commit)) }
            }
            Errand::Page { .. } | Errand::Snapshot { .. } => return,
        };
        if let Some(process) = &mut self.node_mut(node).process {
            process.errands[0] = answer;
        }
    }

    /// What an errand has brought is used.
    pub(crate) fn fetched(&mut self, model: &Model, node: usize, luck: Luck) {
        let names: Vec<NodeId> = self.nodes.iter().map(|node| node.id.clone()).collect();
        let Node { disk, process, .. } = self.node_mut(node);
        let Some(process) = process else { return };
        let Some(errand) = process.errands.pop_front() else { return };
        let (clock, replica) = (process.clock, &mut process.replica);
        let effects = match errand {
            Errand::Page { of, page: Some(page) } => replica.handle_pulled(clock, &names[of], page),
            Errand::Snapshot { content: Some((tables, commit)) }
                if replica.wants_snapshot(tables.last().0) =>
            {
                if let Err(how) = disk.install(&tables, commit) {
                    return self.broke(Rule::Undo, format!("{}: {how}", NAMES[node]));
                }
                let effects = replica.snapshot_installed(clock, disk.standing(), disk.tail());
                self.happened.insert(Event::SnapshotInstalled);
                effects
            }
            Errand::Page { .. }
            | Errand::Snapshot { .. }
            | Errand::WantsPage { .. }
            | Errand::WantsSnapshot { .. } => replica.handle_pull_failed(clock),
        };
        self.carry_out_of_node(model, node, effects, Asker::Nobody, luck);
    }
}

/// How nodes are called.
pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];
