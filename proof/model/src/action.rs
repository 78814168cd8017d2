//! What may happen next, and in which states it may.

use std::fmt;

use protocol::fill::FlightId;
use protocol::ids::Index;
use protocol::release::Release;

use crate::disk::Key;
use crate::state::{Errand, Stage, Stands, State};

/// One step of the store, or of what goes wrong around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The next message reaches a replica.
    ToNode(Way),
    /// The next answer reaches a front end.
    ToFront(Way),
    /// A message that is late, or comes for the second time, reaches a replica.
    LateToNode(Way),
    /// An answer that is late, or comes for the second time, reaches a front end.
    LateToFront(Way),
    /// The next message reaches a replica, and will once more, at any later time.
    RepeatToNode(Way),
    /// The next answer reaches a front end, and will once more, at any later time.
    RepeatToFront(Way),
    /// The next message reaches a replica whose disk can't carry out the first step.
    ToFailingDisk(Way),
    /// A connection breaks between living processes.
    Break(Way),
    /// A connection is made.
    Connect(Way),
    /// A front end is told that a connection was refused.
    Refused(Way),
    /// A front end takes a member for silent.
    Silent(Way),
    /// The view store carries out a swap and says so.
    Swapped(usize),
    /// How a swap ended is not known.
    SwapUnknown {
        /// Whose.
        front: usize,
        /// Whether it was carried out.
        happened: bool,
    },
    /// The keys that a write touched leave the cache.
    DropKeys(usize),
    /// The writer hears that they have.
    Invalidated(usize),
    /// A writer's deadline passes.
    WriterTick(usize),
    /// A replica's deadline passes.
    NodeTick(usize),
    /// A caller asks for a write.
    Submit {
        /// Through which front end.
        front: usize,
        /// Which.
        key: Key,
    },
    /// A front end dies.
    CrashFront {
        /// Which.
        front: usize,
        /// Whether a swap on its way was carried out.
        swapped: bool,
        /// Whether its disk, and the view store with it, is lost.
        store_lost: bool,
    },
    /// A front end starts.
    StartFront(usize),
    /// A node dies.
    Crash(usize),
    /// A node dies, and its disk is replaced by an empty one.
    Replace(usize),
    /// A node starts.
    Start(usize),
    /// A peer answers an errand.
    Serve(usize),
    /// A peer can't be reached.
    ServeFails(usize),
    /// The answer of an errand is used.
    Fetched(usize),
    /// A node dies when the first step that the answer of an errand led to is durable.
    FetchedAndCrash(usize),
    /// A miss begins.
    Miss(usize),
    /// A member is asked for what a miss wants.
    Ask {
        /// Which front end.
        front: usize,
        /// Which miss.
        flight: FlightId,
        /// Which node.
        node: usize,
    },
    /// A member reads.
    Read {
        /// For which front end.
        front: usize,
        /// For which miss.
        flight: FlightId,
    },
    /// A front end looks at an answer that it holds.
    Release {
        /// Which front end.
        front: usize,
        /// Which miss.
        flight: FlightId,
    },
}

/// A connection, by its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The front end.
    pub front: usize,
    /// The node.
    pub node: usize,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = |n: &usize| char::from(b'a' + u8::try_from(*n).unwrap_or(0));
        let way = |w: &Way| format!("f{}-{}", w.front, node(&w.node));
        match self {
            Self::ToNode(w) => write!(f, "{}: a message arrives", way(w)),
            Self::ToFront(w) => write!(f, "{}: an answer arrives", way(w)),
            Self::LateToNode(w) => write!(f, "{}: a late message arrives", way(w)),
            Self::LateToFront(w) => write!(f, "{}: a late answer arrives", way(w)),
            Self::RepeatToNode(w) => write!(f, "{}: a message arrives, and will again", way(w)),
            Self::RepeatToFront(w) => write!(f, "{}: an answer arrives, and will again", way(w)),
            Self::ToFailingDisk(w) => write!(f, "{}: a message arrives, the disk fails", way(w)),
            Self::Break(w) => write!(f, "{}: the connection breaks", way(w)),
            Self::Connect(w) => write!(f, "{}: connected", way(w)),
            Self::Refused(w) => write!(f, "{}: a connection is refused", way(w)),
            Self::Silent(w) => write!(f, "{}: taken for silent", way(w)),
            Self::Swapped(front) => write!(f, "f{front}: the swap is answered"),
            Self::SwapUnknown { front, happened } => {
                write!(f, "f{front}: the swap's end is not known (it happened: {happened})")
            }
            Self::DropKeys(front) => write!(f, "f{front}: the keys leave the cache"),
            Self::Invalidated(front) => write!(f, "f{front}: the keys are gone"),
            Self::WriterTick(front) => write!(f, "f{front}: a deadline passes"),
            Self::NodeTick(n) => write!(f, "{}: a deadline passes", node(n)),
            Self::Submit { front, key } => write!(f, "write {key} is asked of f{front}"),
            Self::CrashFront { front, swapped, store_lost } => write!(
                f,
                "f{front} dies (its swap is carried out: {swapped}, the view store is lost: {store_lost})"
            ),
            Self::StartFront(front) => write!(f, "f{front} starts"),
            Self::Crash(n) => write!(f, "{} dies", node(n)),
            Self::Replace(n) => write!(f, "{} dies, and its disk is replaced", node(n)),
            Self::Start(n) => write!(f, "{} starts", node(n)),
            Self::Serve(n) => write!(f, "a peer answers {}", node(n)),
            Self::ServeFails(n) => write!(f, "a peer does not answer {}", node(n)),
            Self::Fetched(n) => write!(f, "{} has what it fetched", node(n)),
            Self::FetchedAndCrash(n) => write!(f, "{} has what it fetched, and dies half-way", node(n)),
            Self::Miss(front) => write!(f, "f{front}: a miss"),
            Self::Ask { front, node: n, .. } => write!(f, "f{front} asks {} for the book", node(n)),
            Self::Read { front, .. } => write!(f, "a member reads for f{front}"),
            Self::Release { front, .. } => write!(f, "f{front} looks at an answer that it holds"),
        }
    }
}

impl State {
    /// All that may happen next.
    pub fn list_actions(&self, actions: &mut Vec<Action>) {
        if self.ghost.broken.is_some() {
            return;
        }
        for front in 0..self.fronts.len() {
            self.list_of_front(front, actions);
            for node in 0..self.nodes.len() {
                self.list_of_link(Way { front, node }, actions);
            }
        }
        for node in 0..self.nodes.len() {
            self.list_of_node(node, actions);
        }
    }

    fn list_of_link(&self, way: Way, actions: &mut Vec<Action>) {
        let (left, link) = (&self.left, self.link(way.front, way.node));
        let run = self.fronts[way.front].run.as_ref();
        let process = self.nodes[way.node].process.as_ref();
        if process.is_some() && link.up && !link.to_node.is_empty() {
            actions.push(Action::ToNode(way));
            if left.repeats > 0 {
                actions.push(Action::RepeatToNode(way));
            }
            if left.disk_failures > 0 {
                actions.push(Action::ToFailingDisk(way));
            }
        }
        if process.is_some() && !link.late_to_node.is_empty() {
            actions.push(Action::LateToNode(way));
        }
        let Some(run) = run else { return };
        if link.up && !link.to_front.is_empty() {
            actions.push(Action::ToFront(way));
            if left.repeats > 0 {
                actions.push(Action::RepeatToFront(way));
            }
        }
        if !link.late_to_front.is_empty() {
            actions.push(Action::LateToFront(way));
        }
        if !link.up && process.is_some() {
            actions.push(Action::Connect(way));
        }
        if !link.up && !link.refused && (process.is_none() || left.suspicions > 0) {
            actions.push(Action::Refused(way));
        }
        if link.up && left.breaks > 0 {
            actions.push(Action::Break(way));
        }
        let is_member = run.writer.view().is_some_and(|v| v.member(&self.nodes[way.node].id).is_some());
        if left.suspicions > 0 && is_member {
            actions.push(Action::Silent(way));
        }
    }

    fn list_of_front(&self, front: usize, actions: &mut Vec<Action>) {
        let left = &self.left;
        let Some(run) = &self.fronts[front].run else {
            return actions.push(Action::StartFront(front));
        };
        if run.swap.is_some() {
            actions.push(Action::Swapped(front));
            if left.swaps_unknown > 0 {
                let unknown = |happened| Action::SwapUnknown { front, happened };
                actions.extend([true, false].map(unknown));
            }
        }
        if let Some((_, touched)) = &run.invalidating {
            actions.push(Action::Invalidated(front));
            // Only a read can tell the moment between.
            if touched.is_some() && (left.reads > 0 || !run.reads.is_empty()) {
                actions.push(Action::DropKeys(front));
            }
        }
        if left.writer_ticks > 0 && run.writer.deadline().is_some() {
            actions.push(Action::WriterTick(front));
        }
        if left.submits > 0 && run.writer.is_leading() {
            self.list_submits(front, actions);
        }
        if left.front_crashes > 0 {
            let swap_fits = run.swap.as_ref().is_some_and(|(expected, _)| self.swap_fits(*expected));
            for swapped in [false, true] {
                for store_lost in [false, true] {
                    if (swapped && !swap_fits) || (store_lost && left.store_losses == 0) {
                        continue;
                    }
                    actions.push(Action::CrashFront { front, swapped, store_lost });
                }
            }
        }
        if left.reads > 0 && run.cached.is_none() && run.view.is_some() {
            actions.push(Action::Miss(front));
        }
        for (flight, reading) in &run.reads {
            let (front, flight) = (front, *flight);
            match &reading.stage {
                Stage::Wanted => {
                    for member in run.view.iter().flat_map(|view| &view.members) {
                        if !run.unread.contains(&member.node) {
                            let node = self.node_named(&member.node);
                            actions.push(Action::Ask { front, flight, node });
                        }
                    }
                }
                Stage::Asked { .. } => actions.push(Action::Read { front, flight }),
                Stage::Held { epoch, shown } => {
                    if Self::verdict(run, *shown, *epoch) != Release::Hold {
                        actions.push(Action::Release { front, flight });
                    }
                }
            }
        }
    }

    /// The commands are first asked for in order: which is which makes no difference.
    fn list_submits(&self, front: usize, actions: &mut Vec<Action>) {
        for (key, caller) in self.callers.iter().enumerate() {
            if !matches!(caller.stands, Stands::UnderWay { .. }) {
                let key = Key::try_from(key).unwrap_or(Key::MAX);
                actions.push(Action::Submit { front, key });
            }
            if caller.attempts == 0 {
                return;
            }
        }
    }

    fn list_of_node(&self, node: usize, actions: &mut Vec<Action>) {
        let left = &self.left;
        let Some(process) = &self.nodes[node].process else {
            return actions.push(Action::Start(node));
        };
        if left.node_ticks > 0 && process.replica.deadline().is_some() {
            actions.push(Action::NodeTick(node));
        }
        if left.node_crashes > 0 {
            actions.push(Action::Crash(node));
        }
        if left.disks_replaced > 0 && self.may_be_lost(node) {
            actions.push(Action::Replace(node));
        }
        match process.errands.front() {
            Some(Errand::WantsPage { of, .. } | Errand::WantsSnapshot { of, .. }) => {
                let there = self.nodes[*of].process.is_some();
                actions.push(if there { Action::Serve(node) } else { Action::ServeFails(node) });
            }
            Some(Errand::Page { .. } | Errand::Snapshot { .. }) => {
                actions.push(Action::Fetched(node));
                if left.node_crashes > 0 {
                    actions.push(Action::FetchedAndCrash(node));
                }
            }
            None => {}
        }
    }

    /// A disk may be replaced while another member's has all that counts: losing the disks of all members
    /// at once is outside of what the protocol promises.
    fn may_be_lost(&self, node: usize) -> bool {
        let all = Index(self.ghost.committed.len() as u64);
        let has_all = |other: usize| self.nodes[other].disk.tables.last().0 >= all;
        (0..self.nodes.len()).any(|other| other != node && self.is_member(other) && has_all(other))
    }
}
