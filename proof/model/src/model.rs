//! The model: which states there are, what leads from one to the next, and what must hold in each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use protocol::ids::NodeId;
use stateright::Property;

use crate::action::{Action, Way};
use crate::budget::Budget;
use crate::disk::Disk;
use crate::ghost::{Ghost, Rule};
use crate::node::{Asker, Luck, NAMES, store_id};
use crate::state::{Caller, EVENTS, Event, Front, Happened, Link, Node, State};

/// A store within bounds.
#[derive(Clone, Debug)]
pub struct Model {
    /// How many catalog nodes there are.
    pub replicas: usize,
    /// How many front ends there are.
    pub fronts: usize,
    /// How many different commands there are.
    pub keys: usize,
    /// How many committed entries a log reaches back.
    pub retention: u64,
    /// What has happened before the exploration begins.
    pub prelude: fn(&Self, State) -> State,
    /// What may happen in it.
    pub budget: Budget,
    /// Of so many states, one is asked whether it heals once the faults have ended; 0 for none.
    pub heal_one_in: u64,
    /// What must be reached.
    pub reaches: Vec<Event>,
}

impl Model {
    /// All nodes and front ends run for the first time, on empty disks, and nothing has happened.
    #[must_use]
    pub fn beginning(&self) -> State {
        let node = |node: usize| {
            let disk = Disk::new(store_id(node, 1));
            Arc::new(Node { id: NodeId::from(NAMES[node]), files: 1, disk, process: None })
        };
        let front =
            |front: usize| Arc::new(Front { id: NodeId::from(format!("f{front}")), runs: 0, run: None });
        let mut state = State {
            fronts: (0..self.fronts).map(front).collect(),
            nodes: (0..self.replicas).map(node).collect(),
            links: (0..self.fronts * self.replicas).map(|_| Arc::new(Link::default())).collect(),
            stored: None,
            callers: vec![Caller::default(); self.keys],
            ghost: Arc::new(Ghost::default()),
            left: Budget::default(),
            happened: Happened::default(),
            notes: None,
        };
        for node in 0..self.replicas {
            state.start_node(node);
        }
        state
    }

    /// Where the exploration begins.
    #[must_use]
    pub fn initial(&self) -> State {
        let mut state = (self.prelude)(self, self.beginning());
        state.left = self.budget;
        state.happened = Happened::default();
        state
    }

    /// What an action leads to. A panic of the core is a broken rule like others.
    #[must_use]
    pub fn after(&self, state: &State, action: &Action) -> State {
        let mut next = state.clone();
        let carried_out = catch_unwind(AssertUnwindSafe(|| self.carry_out(&mut next, action)));
        if let Err(panic) = carried_out {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            next = state.clone();
            next.broke(Rule::Assertion, text.unwrap_or_else(|| "a panic".to_owned()));
        }
        next
    }

    fn carry_out(&self, state: &mut State, action: &Action) {
        match *action {
            Action::ToNode(way) => self.deliver(state, way, Luck::Good),
            Action::RepeatToNode(way) => {
                state.left.repeats -= 1;
                let run = state.fronts[way.front].runs;
                let link = state.link_mut(way.front, way.node);
                let again = link.to_node.front().cloned();
                link.late_to_node.extend(again.map(|message| (run, message)));
                self.deliver(state, way, Luck::Good);
            }
            Action::RepeatToFront(way) => {
                state.left.repeats -= 1;
                let link = state.link_mut(way.front, way.node);
                let said = link.to_front.pop_front();
                link.late_to_front.extend(said.clone());
                said.into_iter().for_each(|said| state.front_hears(way, said));
            }
            Action::ToFailingDisk(way) => {
                state.left.disk_failures -= 1;
                self.deliver(state, way, Luck::FailingDisk);
            }
            Action::ToFront(way) => {
                let said = state.link_mut(way.front, way.node).to_front.pop_front();
                said.into_iter().for_each(|said| state.front_hears(way, said));
            }
            Action::LateToNode(way) => {
                state.happened.insert(Event::LateMessage);
                let late = state.link_mut(way.front, way.node).late_to_node.pop_front();
                if let Some((run, message)) = late {
                    state.node_hears(self, way.node, message, Asker::Late(way, run), Luck::Good);
                }
            }
            Action::LateToFront(way) => {
                state.happened.insert(Event::LateMessage);
                let said = state.link_mut(way.front, way.node).late_to_front.pop_front();
                said.into_iter().for_each(|said| state.front_hears(way, said));
            }
            Action::Break(way) => {
                state.left.breaks -= 1;
                state.break_link(way);
            }
            Action::Connect(way) => state.connect(way),
            Action::Refused(way) => Self::refuse(state, way),
            Action::Silent(way) => {
                state.left.suspicions -= 1;
                let node = state.nodes[way.node].id.clone();
                state.with_writer(way.front, |writer, now| writer.handle_silent(now, &node));
            }
            Action::Swapped(front) => state.swapped(front),
            Action::SwapUnknown { front, happened } => {
                state.left.swaps_unknown -= 1;
                state.swap_unknown(front, happened);
            }
            Action::DropKeys(front) => state.drop_keys(front),
            Action::Invalidated(front) => state.invalidated(front),
            Action::WriterTick(front) => {
                state.left.writer_ticks -= 1;
                state.tick_writer(front);
            }
            Action::NodeTick(node) => {
                state.left.node_ticks -= 1;
                state.tick_node(self, node);
            }
            Action::Submit { front, key } => {
                state.left.submits -= 1;
                state.submit(front, key);
            }
            Action::CrashFront { front, swapped, store_lost } => {
                state.left.front_crashes -= 1;
                state.left.store_losses -= u8::from(store_lost);
                state.crash_front(front, swapped, store_lost);
            }
            Action::StartFront(front) => state.start_front(front),
            Action::Crash(node) => {
                state.left.node_crashes -= 1;
                state.crash_node(node);
            }
            Action::Replace(node) => {
                state.left.disks_replaced -= 1;
                state.replace_disk(node);
            }
            Action::Start(node) => state.start_node(node),
            Action::Serve(node) => state.serve(node, true),
            Action::ServeFails(node) => state.serve(node, false),
            Action::Fetched(node) => state.fetched(self, node, Luck::Good),
            Action::FetchedAndCrash(node) => {
                state.left.node_crashes -= 1;
                state.fetched(self, node, Luck::Crash);
            }
            Action::Miss(front) => {
                state.left.reads -= 1;
                state.miss(front);
            }
            Action::Ask { front, flight, node } => state.ask(front, flight, node),
            Action::Read { front, flight } => state.read(front, flight),
            Action::Release { front, flight } => state.release(front, flight),
        }
    }

    fn deliver(&self, state: &mut State, way: Way, luck: Luck) {
        let message = state.link_mut(way.front, way.node).to_node.pop_front();
        if let Some(message) = message {
            state.node_hears(self, way.node, message, Asker::Link(way), luck);
        }
    }

    fn refuse(state: &mut State, way: Way) {
        if state.nodes[way.node].process.is_some() {
            state.left.suspicions -= 1;
        }
        state.link_mut(way.front, way.node).refused = true;
        let node = state.nodes[way.node].id.clone();
        state.with_writer(way.front, |writer, now| writer.handle_lost(now, &node));
    }
}

fn unbroken(state: &State, rules: &[Rule]) -> bool {
    state.ghost.broken.as_ref().is_none_or(|broken| !rules.contains(&broken.rule))
}

impl stateright::Model for Model {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.initial()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        state.list_actions(actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        Some(self.after(state, &action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties: Vec<Property<Self>> = vec![
            Property::always("I1 committed writes are on all members", |_, s: &State| s.members_have_all()),
            Property::always("I2 members' logs are prefixes", |_, s: &State| s.members_agree()),
            Property::always("I3 a commit index names one history", |_, s: &State| {
                s.commits_are_known() && unbroken(s, &[Rule::OneHistory])
            }),
            Property::always("I3 an epoch has one writer", |_, s: &State| unbroken(s, &[Rule::OneWriter])),
            Property::always("I3 an epoch has one view", |_, s: &State| !s.ghost.two_views),
            Property::always("I3 promises are kept and durable", |_, s: &State| {
                unbroken(s, &[Rule::Promise])
            }),
            Property::always("nothing committed is undone", |_, s: &State| unbroken(s, &[Rule::Undo])),
            Property::always("outcomes are kept", |_, s: &State| unbroken(s, &[Rule::Outcome])),
            Property::always("R1 reads are linearizable", |_, s: &State| unbroken(s, &[Rule::Read])),
            Property::always("C1-C3 no cached answer is stale", |_, s: &State| s.caches_are_fresh()),
            Property::always("no assertion fails", |_, s: &State| unbroken(s, &[Rule::Assertion])),
            Property::always("nothing halts", |_, s: &State| unbroken(s, &[Rule::Halt])),
            Property::always("it heals once the faults have ended", Self::heals),
        ];
        for event in &self.reaches {
            if let Some(property) = sometimes(*event) {
                properties.push(property);
            }
        }
        properties
    }
}

/// The property that an event is reached.
fn sometimes(event: Event) -> Option<Property<Model>> {
    macro_rules! reaches {
        ($($event:ident),* $(,)?) => {
            match event {
                $(Event::$event => |_: &Model, state: &State| state.happened.contains(Event::$event),)*
            }
        };
    }
    let condition: fn(&Model, &State) -> bool = reaches!(
        Acknowledged,
        Unknown,
        Evicted,
        Undone,
        JoinedAfterUndo,
        Joined,
        TookOver,
        Levelled,
        SnapshotInstalled,
        VoidFill,
        Filled,
        FlightShared,
        StaleEpochRefused,
        ReadRefused,
        ReadHeldBack,
        SteppedDown,
        SwapLost,
        Surveyed,
        LateMessage,
        KeyRepeated,
    );
    let (_, name) = EVENTS.iter().find(|(known, _)| *known == event)?;
    Some(Property::sometimes(name, condition))
}
