//! What there is in a modelled store: processes, disks, connections, the view store, and who asks.
//!
//! The state machines in it are those of `protocol`, as they run in the services. Parts are behind `Arc`:
//! a transition copies what it changes, and states that wait to be explored share the rest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use protocol::call::{LogPage, Version};
use protocol::fill::{FillTable, FlightId, Token};
use protocol::ids::{Epoch, Index, NodeId, StoreId};
use protocol::message::{Said, ToReplica, Touched};
use protocol::replica::Replica;
use protocol::view::{Member, View};
use protocol::writer::Writer;

use crate::budget::Budget;
use crate::disk::{Disk, Key, Register, Tables};
use crate::ghost::Ghost;

/// When every process starts. Each has a clock of its own, which a tick sets to its deadline.
#[must_use]
pub fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// A whole store.
#[derive(Clone, Debug)]
pub struct State {
    /// The front ends.
    pub fronts: Vec<Arc<Front>>,
    /// The catalog nodes.
    pub nodes: Vec<Arc<Node>>,
    /// The connections: those of the first front end first.
    pub links: Vec<Arc<Link>>,
    /// The view store.
    pub stored: Option<Arc<View>>,
    /// What each command's caller knows.
    pub callers: Vec<Caller>,
    /// What was promised to the outside, and whether it was kept.
    pub ghost: Arc<Ghost>,
    /// What may still happen.
    pub left: Budget,
    /// What has happened on the way here. Not part of what tells states apart.
    pub happened: Happened,
    /// What the last step did, in words; kept only where a trace is told.
    pub notes: Option<Vec<String>>,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.fronts == other.fronts
            && self.nodes == other.nodes
            && self.links == other.links
            && self.stored == other.stored
            && self.callers == other.callers
            && self.ghost == other.ghost
            && self.left == other.left
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fronts.hash(state);
        self.nodes.hash(state);
        self.links.hash(state);
        self.stored.hash(state);
        self.callers.hash(state);
        self.ghost.hash(state);
        self.left.hash(state);
    }
}

/// A front end: the process, if it runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Front {
    /// Its name.
    pub id: NodeId,
    /// How often it was started.
    pub runs: u8,
    /// The process.
    pub run: Option<Run>,
}

/// How the writer's driver knows a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The command.
    pub key: Key,
    /// Which of its attempts.
    pub attempt: u8,
}

/// The driver of a writer, and the reads and the cache beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// The real thing.
    pub writer: Writer<Ticket>,
    /// Its time.
    pub clock: Instant,
    /// A swap whose answer is on its way.
    pub swap: Option<(Epoch, View)>,
    /// A batch whose keys are to leave the cache, and which those are; none, once they have.
    pub invalidating: Option<(Index, Option<Touched>)>,
    /// What reads go by.
    pub view: Option<View>,
    /// Members that get no more reads.
    pub unread: BTreeSet<NodeId>,
    /// The commit index that reads go by.
    pub commit: Index,
    /// The cache: what is known of the book, or that it has not been set.
    pub cached: Option<Shown>,
    /// The real thing.
    pub fills: FillTable<u8>,
    /// The reads under way.
    pub reads: BTreeMap<FlightId, Reading>,
}

/// A miss on its way to an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reading {
    /// The duty to end the flight.
    pub token: Token,
    /// Who waits for it: the newest version that anyone had been told when each of them asked.
    pub floors: Vec<Index>,
    /// How far it is.
    pub stage: Stage,
    /// Whether a member has refused to answer it.
    pub refused: bool,
}

/// How far a read is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// A member has to be asked (again).
    Wanted,
    /// This member was asked, by the view of this epoch.
    Asked {
        /// Which node.
        node: usize,
        /// Which store.
        store: StoreId,
        /// The epoch of the view.
        epoch: Epoch,
    },
    /// It has answered; the answer is held back until it is committed.
    Held {
        /// The epoch of the view that it was asked by.
        epoch: Epoch,
        /// The answer.
        shown: Shown,
    },
}

/// An answer to a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shown {
    /// What R1 goes by.
    pub version: Version,
    /// The book, or its absence.
    pub register: Option<Register>,
}

/// A catalog node: its disk, and its process if it runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// How many files were made under its name.
    pub files: u8,
    /// The disk.
    pub disk: Disk,
    /// The process.
    pub process: Option<Process>,
}

/// The driver of a replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// The real thing.
    pub replica: Replica,
    /// Its time.
    pub clock: Instant,
    /// What it fetches from peers, one at a time; none is ever called off.
    pub errands: VecDeque<Errand>,
    /// Front ends, the one last whose messages it goes by.
    pub heard: Vec<usize>,
}

/// What is wanted of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Errand {
    /// A page of the log is asked for.
    WantsPage {
        /// Of which node.
        of: usize,
        /// After which index.
        after: Index,
    },
    /// A page is on its way back; none if the peer could not be reached.
    Page {
        /// Of which node.
        of: usize,
        /// The page.
        page: Option<LogPage>,
    },
    /// A snapshot is asked for.
    WantsSnapshot {
        /// Of which node.
        of: usize,
        /// It must not end before.
        at_least: Index,
    },
    /// A snapshot is on its way back, if there is one.
    Snapshot {
        /// The tables and what is known to be committed.
        content: Option<(Arc<Tables>, Index)>,
    },
}

/// The way between a front end and a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Link {
    /// Whether a connection stands.
    pub up: bool,
    /// Whether the front end was told that another was refused.
    pub refused: bool,
    /// What is on its way over the connection, in order.
    pub to_node: VecDeque<ToReplica>,
    /// The same, the other way.
    pub to_front: VecDeque<Said>,
    /// What may still arrive of connections that broke, each with the front end's run that sent it.
    pub late_to_node: VecDeque<(u8, ToReplica)>,
    /// The same, the other way.
    pub late_to_front: VecDeque<Said>,
}

/// What the caller of a command knows of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Caller {
    /// How often it was asked for.
    pub attempts: u8,
    /// Where the last attempt stands.
    pub stands: Stands,
    /// Whether any attempt may have been carried out, as far as the caller was told.
    pub possible: bool,
    /// The first outcome, once acknowledged: where the command was carried out.
    pub outcome: Option<u32>,
}

/// Where a caller's last attempt stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Stands {
    /// Nothing was asked yet, or nothing is known of it.
    #[default]
    Idle,
    /// On its way through this front end.
    UnderWay {
        /// Which one.
        front: usize,
    },
    /// The last attempt was answered.
    Answered,
}

/// A set of things that happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Happened(u32);

/// Something that the model must be known to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// A write was acknowledged.
    Acknowledged,
    /// A caller was told that its write's end is unknown.
    Unknown,
    /// A member was dropped from the view.
    Evicted,
    /// A replica has undone entries.
    Undone,
    /// A replica that had undone entries became a member again.
    JoinedAfterUndo,
    /// A replica became a member again.
    Joined,
    /// Another front end, or another run of it, came into office after the first.
    TookOver,
    /// A new writer found members of unequal length, and levelled them.
    Levelled,
    /// A snapshot was installed.
    SnapshotInstalled,
    /// A fill was void.
    VoidFill,
    /// A fill was stored.
    Filled,
    /// A miss joined the flight of another.
    FlightShared,
    /// A replica refused a message of an older epoch than its promise.
    StaleEpochRefused,
    /// A read was refused by a replica with a higher promise.
    ReadRefused,
    /// A read was held back until its version was committed.
    ReadHeldBack,
    /// A writer stepped down.
    SteppedDown,
    /// A writer lost a swap to another.
    SwapLost,
    /// With no view stored, the replicas' reports brought a new one.
    Surveyed,
    /// A message arrived after the connection that it was sent over had broken.
    LateMessage,
    /// A key that had been carried out was asked for again, and changed nothing.
    KeyRepeated,
}

/// All of them, with how they are told.
pub const EVENTS: [(Event, &str); 20] = [
    (Event::Acknowledged, "a write is acknowledged"),
    (Event::Unknown, "a write ends as unknown"),
    (Event::Evicted, "a member is dropped from the view"),
    (Event::Undone, "entries are undone"),
    (Event::JoinedAfterUndo, "a replica joins after an undo"),
    (Event::Joined, "a replica joins the view"),
    (Event::TookOver, "a writer takes over"),
    (Event::Levelled, "a new writer levels the members"),
    (Event::SnapshotInstalled, "a snapshot is installed"),
    (Event::VoidFill, "a fill is void"),
    (Event::Filled, "a fill is stored"),
    (Event::FlightShared, "a miss joins a flight"),
    (Event::StaleEpochRefused, "a stale epoch is refused"),
    (Event::ReadRefused, "a read by an old view is refused"),
    (Event::ReadHeldBack, "a read is held back"),
    (Event::SteppedDown, "a writer steps down"),
    (Event::SwapLost, "a swap is lost"),
    (Event::Surveyed, "a survey finds the view"),
    (Event::LateMessage, "a message arrives after its connection broke"),
    (Event::KeyRepeated, "a key is used again"),
];

impl Happened {
    /// Notes that something happened.
    pub fn insert(&mut self, event: Event) {
        self.0 |= 1 << event as u8;
    }

    /// Whether it did.
    #[must_use]
    pub fn contains(self, event: Event) -> bool {
        self.0 & (1 << event as u8) != 0
    }
}

impl State {
    /// The link between a front end and a node.
    #[must_use]
    pub fn link(&self, front: usize, node: usize) -> &Link {
        &self.links[front * self.nodes.len() + node]
    }

    /// The same, to change it.
    pub fn link_mut(&mut self, front: usize, node: usize) -> &mut Link {
        let nodes = self.nodes.len();
        Arc::make_mut(&mut self.links[front * nodes + node])
    }

    /// A front end, to change it.
    pub fn front_mut(&mut self, front: usize) -> &mut Front {
        Arc::make_mut(&mut self.fronts[front])
    }

    /// A node, to change it.
    pub fn node_mut(&mut self, node: usize) -> &mut Node {
        Arc::make_mut(&mut self.nodes[node])
    }

    /// The ghost, to change it.
    pub fn ghost_mut(&mut self) -> &mut Ghost {
        Arc::make_mut(&mut self.ghost)
    }

    /// A node by its name.
    #[must_use]
    pub fn node_named(&self, id: &NodeId) -> usize {
        let found = self.nodes.iter().position(|node| node.id == *id);
        found.expect("views and messages name configured nodes")
    }

    /// Whether the view that counts has this node, with the file that it has now. Worked out apart from the code
    /// that is proven.
    #[must_use]
    pub fn is_member(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        let member = Member { node: node.id.clone(), store: node.disk.store };
        self.ghost.view.as_ref().is_some_and(|view| view.members.contains(&member))
    }

    /// Adds a line to the trace, if one is told.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(notes) = &mut self.notes {
            notes.push(line());
        }
    }
}
