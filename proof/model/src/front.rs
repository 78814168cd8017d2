//! The driver of a writer in the model: it carries out effects as the front end does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use protocol::call::WriteFailure;
use protocol::command::Outcome;
use protocol::fill::FillTable;
use protocol::ids::{Epoch, Index, NodeId, ShardId};
use protocol::message::{Said, ToReplica};
use protocol::view::View;
use protocol::writer::{Effect, Happening, Options, SwapResult, Writer};

use crate::action::Way;
use crate::disk::{Key, command};
use crate::ghost::Rule;
use crate::state::{Event, Front, Run, Stands, State, Ticket, epoch};

/// How long a member may be silent. Which durations these are makes no difference here, but their order
/// does: a silent member is dropped before its callers lose patience.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a caller waits.
const PATIENCE: Duration = Duration::from_secs(3);
/// What passes where the core compares times that must not be equal: a suspicion, and the next event.
const INSTANT: Duration = Duration::from_nanos(1);

impl State {
    /// A front end starts, and reads the view store.
    pub(crate) fn start_front(&mut self, front: usize) {
        let replicas: Vec<NodeId> = self.nodes.iter().map(|node| node.id.clone()).collect();
        let options = Options { write_timeout: WRITE_TIMEOUT, patience: PATIENCE };
        let Front { id, runs, run } = self.front_mut(front);
        *runs += 1;
        *run = Some(Run {
            writer: Writer::new(ShardId(0), id.clone(), replicas, options, epoch()),
            clock: epoch(),
            swap: None,
            invalidating: None,
            view: None,
            unread: BTreeSet::new(),
            commit: Index(0),
            cached: None,
            fills: FillTable::new(),
            reads: BTreeMap::new(),
        });
        self.with_writer(front, Writer::tick);
    }

    /// The process ends, and its callers know nothing.
    pub(crate) fn crash_front(&mut self, front: usize, swapped: bool, store_lost: bool) {
        if swapped {
            self.carry_out_swap(front);
        }
        self.front_mut(front).run = None;
        for node in 0..self.nodes.len() {
            self.break_link(Way { front, node });
            let link = self.link_mut(front, node);
            link.late_to_front.clear();
            link.refused = false;
        }
        for caller in &mut self.callers {
            if caller.stands == (Stands::UnderWay { front }) {
                caller.stands = Stands::Idle;
                caller.possible = true;
            }
        }
        if store_lost {
            self.stored = None;
        }
    }

    /// Calls the writer and carries out what it wants.
    pub(crate) fn with_writer(
        &mut self,
        front: usize,
        call: impl FnOnce(&mut Writer<Ticket>, Instant) -> Vec<Effect<Ticket>>,
    ) {
        let Some(run) = &mut self.front_mut(front).run else { return };
        let effects = call(&mut run.writer, run.clock);
        for effect in effects {
            self.carry_out_of_front(front, effect);
        }
    }

    /// The earliest deadline passes.
    pub(crate) fn tick_writer(&mut self, front: usize) {
        let Some(run) = &mut self.front_mut(front).run else { return };
        let Some(deadline) = run.writer.deadline() else { return };
        run.clock = run.clock.max(deadline);
        self.with_writer(front, Writer::tick);
        let Some(run) = &self.fronts[front].run else { return };
        if run.writer.deadline().is_some_and(|next| next <= deadline) {
            self.broke(Rule::Assertion, "a writer's deadline stays in the past: its driver would spin");
        }
    }

    fn run_mut(&mut self, front: usize) -> &mut Run {
        self.front_mut(front).run.as_mut().expect("effects come of a process that runs")
    }

    fn carry_out_of_front(&mut self, front: usize, effect: Effect<Ticket>) {
        match effect {
            Effect::Send { to, message } | Effect::Tell { to, message } => {
                self.send_to_node(front, &to, message);
            }
            Effect::ReadView => {
                let stored = self.stored.as_deref().cloned();
                self.note(|| format!("f{front} finds {} in the view store", view_text(stored.as_ref())));
                self.with_writer(front, |writer, now| writer.view_read(now, Ok(stored)));
            }
            Effect::Swap { expected, view } => {
                self.note(|| format!("f{front} swaps {expected} for {}", view_text(Some(&view))));
                self.run_mut(front).swap = Some((expected, view));
            }
            Effect::Invalidate { upto, touched } => {
                self.run_mut(front).invalidating = Some((upto, Some(touched)));
            }
            Effect::Read { view, fresh } => self.read_by(front, view, fresh),
            Effect::StopReading(node) => {
                self.run_mut(front).unread.insert(node);
            }
            Effect::Commit(committed) => {
                self.note(|| format!("f{front} commits {}", committed.index));
                self.judge_commit(front, &committed);
                let run = self.run_mut(front);
                if committed.index < run.commit {
                    let how = format!("the commit index of front end {front} falls to {}", committed.index);
                    self.broke(Rule::OneHistory, how);
                } else {
                    run.commit = committed.index;
                }
            }
            Effect::Complete { ticket, result } => self.complete(ticket, &result),
            Effect::Happening(happening) => self.witness(front, happening),
        }
    }

    fn witness(&mut self, front: usize, happening: Happening) {
        self.note(|| format!("f{front}: {happening:?}"));
        match happening {
            Happening::Suspected { .. } => {
                // What is answered from now on comes after the suspicion.
                self.run_mut(front).clock += INSTANT;
            }
            Happening::TookOffice { .. } => {
                let runs: u8 = self.fronts.iter().map(|front| front.runs).sum();
                if runs > 1 && !self.ghost.committed.is_empty() {
                    self.happened.insert(Event::TookOver);
                }
            }
            Happening::SteppedDown { .. } => self.happened.insert(Event::SteppedDown),
            Happening::Halted { problem, .. } => self.broke(Rule::Halt, format!("f{front}: {problem}")),
            Happening::ViewChanged { .. }
            | Happening::ResyncStarted { .. }
            | Happening::Joining { .. }
            | Happening::ResyncDone { .. }
            | Happening::MembersDiffer { .. }
            | Happening::ReplicaFailed { .. } => {}
        }
    }

    fn send_to_node(&mut self, front: usize, to: &NodeId, message: ToReplica) {
        match &message {
            ToReplica::Append(append) => self.judge_epoch(append.epoch, front),
            ToReplica::Seal(view) => self.judge_view(view),
            ToReplica::Fetch { epoch, .. } => {
                self.happened.insert(Event::Levelled);
                self.judge_epoch(*epoch, front);
            }
            ToReplica::Recover(_) | ToReplica::Recount { .. } | ToReplica::Report => {}
        }
        let node = self.node_named(to);
        let link = self.link_mut(front, node);
        if link.up {
            link.to_node.push_back(message);
        }
    }

    /// An answer reaches the front end.
    pub(crate) fn front_hears(&mut self, way: Way, said: Said) {
        let node = self.nodes[way.node].id.clone();
        self.note(|| format!("f{} hears {node}: {:?}", way.front, said.reply));
        self.with_writer(way.front, |writer, now| writer.handle_said(now, &node, said));
    }

    /// A connection stands.
    pub(crate) fn connect(&mut self, way: Way) {
        let link = self.link_mut(way.front, way.node);
        link.up = true;
        link.refused = false;
        let node = self.nodes[way.node].id.clone();
        self.with_writer(way.front, |writer, _| writer.handle_connected(&node));
    }

    /// A connection breaks. What is on its way is lost, or late.
    pub(crate) fn break_link(&mut self, way: Way) {
        let (lingers, run) = (self.left.lingers, self.fronts[way.front].runs);
        let link = self.link_mut(way.front, way.node);
        link.up = false;
        let to_node = std::mem::take(&mut link.to_node);
        let to_front = std::mem::take(&mut link.to_front);
        if lingers {
            link.late_to_node.extend(to_node.into_iter().map(|message| (run, message)));
            link.late_to_front.extend(to_front);
        }
    }

    /// Whether a swap would win now.
    pub(crate) fn swap_fits(&self, expected: Epoch) -> bool {
        self.stored.as_ref().map_or(Epoch(0), |view| view.epoch) == expected
    }

    /// The view store does what it was asked, if it fits.
    fn carry_out_swap(&mut self, front: usize) -> bool {
        let Some((expected, view)) = self.run_mut(front).swap.clone() else { return false };
        if !self.swap_fits(expected) {
            return false;
        }
        if self.stored.is_none() && self.ghost.view.is_some() {
            self.happened.insert(Event::Surveyed);
        }
        if let Some(old) = &self.ghost.view {
            let left_out = old.members.iter().any(|member| !view.members.contains(member));
            let let_in: Vec<usize> = view
                .members
                .iter()
                .filter(|member| !old.members.contains(member))
                .map(|member| self.node_named(&member.node))
                .collect();
            if left_out {
                self.happened.insert(Event::Evicted);
            }
            for node in let_in {
                self.happened.insert(Event::Joined);
                if self.ghost.undone & (1 << node) != 0 {
                    self.happened.insert(Event::JoinedAfterUndo);
                    self.ghost_mut().undone &= !(1 << node);
                }
            }
        }
        self.ghost_mut().view = Some(view.clone());
        self.stored = Some(view.into());
        true
    }

    /// The view store answers a swap.
    pub(crate) fn swapped(&mut self, front: usize) {
        let result = if self.carry_out_swap(front) { SwapResult::Swapped } else { SwapResult::Lost };
        if result == SwapResult::Lost {
            self.happened.insert(Event::SwapLost);
        }
        self.run_mut(front).swap = None;
        self.note(|| format!("f{front}: {result:?}"));
        self.with_writer(front, |writer, now| writer.swapped(now, result));
    }

    /// The view store's answer is not heard.
    pub(crate) fn swap_unknown(&mut self, front: usize, happened: bool) {
        if happened {
            self.carry_out_swap(front);
        }
        self.run_mut(front).swap = None;
        self.with_writer(front, |writer, now| writer.swapped(now, SwapResult::Unknown));
    }

    /// The keys leave the cache.
    pub(crate) fn drop_keys(&mut self, front: usize) {
        let invalidating = self.run_mut(front).invalidating.as_mut();
        if let Some(touched) = invalidating.and_then(|(_, touched)| touched.take()) {
            self.drop_touched(front, &touched);
        }
    }

    /// The writer hears that the keys have left the cache; they have by now.
    pub(crate) fn invalidated(&mut self, front: usize) {
        self.drop_keys(front);
        let Some((upto, _)) = self.run_mut(front).invalidating.take() else { return };
        self.with_writer(front, |writer, now| writer.invalidated(now, upto));
    }

    /// A caller asks for a write.
    pub(crate) fn submit(&mut self, front: usize, key: Key) {
        let caller = &mut self.callers[usize::from(key)];
        caller.attempts += 1;
        caller.stands = Stands::UnderWay { front };
        let ticket = Ticket { key, attempt: caller.attempts };
        self.with_writer(front, |writer, now| writer.submit(now, ticket, command(key)));
    }

    fn complete(&mut self, ticket: Ticket, result: &Result<Outcome, WriteFailure>) {
        let Ticket { key, attempt } = ticket;
        self.note(|| format!("write {key}, attempt {attempt}: {result:?}"));
        let done = self.ghost.committed.iter().position(|(_, committed)| *committed == key);
        let caller = &mut self.callers[usize::from(key)];
        if caller.attempts != attempt || !matches!(caller.stands, Stands::UnderWay { .. }) {
            return self.broke(Rule::Outcome, format!("write {key}, attempt {attempt}, is answered twice"));
        }
        caller.stands = Stands::Idle;
        match result {
            Ok(Outcome::Loaded { books }) => {
                caller.stands = Stands::Answered;
                let first = *caller.outcome.get_or_insert(*books);
                if caller.possible && caller.attempts > 1 {
                    self.happened.insert(Event::KeyRepeated);
                }
                self.callers[usize::from(key)].possible = true;
                self.happened.insert(Event::Acknowledged);
                let index = done.and_then(|at| u32::try_from(at + 1).ok());
                if first != *books || index != Some(*books) {
                    let how =
                        format!("write {key} came to {books}; first to {first}; it stands at {index:?}");
                    return self.broke(Rule::Outcome, how);
                }
                let told = Index(u64::from(*books));
                if told > self.ghost.told {
                    self.ghost_mut().told = told;
                }
            }
            Err(WriteFailure::NotDone(_)) => {
                if done.is_some() && !caller.possible {
                    self.broke(Rule::Outcome, format!("write {key} is committed, its caller told: not done"));
                }
            }
            Err(WriteFailure::Unknown(_)) => {
                caller.possible = true;
                self.happened.insert(Event::Unknown);
            }
            Ok(outcome) => self.broke(Rule::Outcome, format!("write {key} came to {outcome:?}")),
            Err(WriteFailure::BadRequest(why)) => self.broke(Rule::Outcome, why.clone()),
        }
    }
}

/// A view in few words.
fn view_text(view: Option<&View>) -> String {
    view.map_or_else(
        || "no view".to_owned(),
        |view| {
            let members: Vec<&str> = view.members.iter().map(|member| member.node.as_str()).collect();
            format!("view {} of {} with {}", view.epoch, view.writer, members.join(", "))
        },
    )
}
