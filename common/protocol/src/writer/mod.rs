//! The writer: the one front end that gives a shard's writes their order.
//!
//! ```text
//!                  submit          Appended, Sealed, Join, …       swapped, view_read, invalidated
//!                     │                       │                              │
//!                     ▼                       ▼                              ▼
//!   waiting ──► batch ──► Append to all members ──► all have it ──► keys leave the caches ──► commit, answers
//! ```
//!
//! Calls come in through the `handle_*` methods, [`Writer::submit`] and [`Writer::tick`]; each returns
//! the [`Effect`]s that the driver has to carry out, in order. The driver sleeps until
//! [`Writer::deadline`]. Time is always an argument.
//!
//! - this file: the state, the front door, and time;
//! - `office`: from a view in the store to an office in which writes may be taken, and out of it;
//! - `batch`: group commit: numbering, sending, counting, committing;
//! - `members`: suspicion, and the eviction of a member;
//! - `joining`: letting a replica in that has levelled with the members;
//! - `window`: the log's end, kept at hand.
//!
//! What must hold (docs/PROTOCOL.md):
//!
//! - I1 a write is acknowledged when every member of the current view has it, in the view's epoch;
//! - I3 an epoch has one writer: an office begins with a swap of the view that only one can win;
//! - a view is durable in the view store, and sealed at its members, before anything counts under it;
//! - the last member is never dropped, and a member only if another has answered since it was suspected.

mod batch;
mod effect;
mod joining;
mod members;
mod office;
mod window;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

pub use effect::{Committed, Effect, Happening, SwapResult};

use crate::call::WriteFailure;
use crate::entry::EncodedCommand;
use crate::ids::{Chain, Digest, Epoch, Index, NodeId, ShardId, StoreId};
use crate::message::{Refused, Reply, Said, Sealed, Standing, ToReplica};
use crate::mutant;
use crate::view::View;
use batch::Batch;
use joining::Joiner;
use members::Lateness;
use window::Window;

/// The most entries of a batch. Past a few hundred the fsync is shared by so many that more would only
/// add to the wait.
pub const BATCH_ENTRIES_MAX: usize = 1024;
/// The most bytes of a batch's commands: a bulk load's batches are large by themselves.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// The most writes that wait for their batch. Beyond it new ones are turned away at once.
pub const WAITING_MAX: usize = 16 * 1024;
/// How long one batch is held back for a replica that is about to join.
pub const JOIN_HOLD: Duration = Duration::from_millis(100);

/// What a writer can be told to do differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    /// How long a member may leave a message unanswered.
    pub write_timeout: Duration,
    /// How long a caller waits for its outcome before it is told that it is unknown, or that nothing
    /// was done. Longer than it takes to drop a silent member, so that callers do not notice one.
    pub patience: Duration,
}

/// The writer of a shard. `T` is how the driver knows its callers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Writer<T> {
    shard: ShardId,
    me: NodeId,
    options: Options,
    /// In the order of the configuration, which is the order of members in views.
    configured: Vec<NodeId>,
    peers: BTreeMap<NodeId, Peer>,
    office: Office,
    /// Whether this term's takeover is complete: everything found is committed.
    established: bool,
    view: Option<View>,
    commit: Index,
    digest: Option<Digest>,
    waiting: VecDeque<Waiting<T>>,
    batch: Option<Batch<T>>,
    window: Window,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Waiting<T> {
    ticket: T,
    command: EncodedCommand,
    since: Instant,
}

/// What is known of a configured replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    connected: bool,
    standing: Option<Standing>,
    /// When it last answered anything.
    answered: Option<Instant>,
    suspicion: Option<Suspicion>,
    joiner: Option<Joiner>,
    /// Its own tables were found wrong: it must begin again from a snapshot.
    unsound: bool,
    /// How often in a row it was dropped for being silent or late.
    strikes: u32,
    /// Not to be let in before.
    barred_until: Option<Instant>,
    /// When it is asked again for what its store could not do.
    ask_again: Option<Instant>,
    member_since: Option<Instant>,
    lateness: Lateness,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Suspicion {
    since: Instant,
    why: Why,
}

/// Why a member is suspected, the graver the later: a graver reason takes the place of a lighter one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Its connection broke and it refuses another.
    Gone,
    /// It answers, but most of the time all the others wait for it.
    Late,
    /// It left a message unanswered, or its heart does not beat.
    Silent,
    /// Its store can't write.
    Failing,
    /// It has lost entries that it had acknowledged.
    Behind,
    /// Its tables are not what its digest says.
    Unsound,
    /// Under its name there is another store now.
    OtherStore,
}

/// Where the writer stands on its way to, in and out of office.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Office {
    /// Not in office; the view store is asked at this time.
    Out { until: Instant },
    /// The view store was asked.
    Reading,
    /// There is no view: every configured replica is asked how it stands.
    Surveying,
    /// A new view is on its way into the store.
    Swapping { next: View },
    /// The outcome of a swap is not known: the store was asked what it holds.
    Checking { next: View },
    /// The members are asked to promise the view's epoch.
    Sealing { sealed: BTreeMap<NodeId, Sealed>, since: Instant, first: Option<Instant> },
    /// The longest log's end is fetched for the members that lack it.
    Fetching { sealed: BTreeMap<NodeId, Sealed>, from: NodeId, since: Instant },
    /// Members that lacked something get it.
    Levelling { target: (Index, Chain), behind: BTreeSet<NodeId>, since: Instant },
    /// Writes are taken.
    Leading,
    /// The members' digests differ: each counts its own anew.
    Recounting { sound: BTreeMap<NodeId, bool>, since: Instant },
    /// Nothing is taken any more, for going on could make things worse.
    Halted { problem: String },
}

impl<T> Writer<T> {
    /// A writer that is not in office yet: call [`Writer::tick`] to begin.
    #[must_use]
    pub fn new(shard: ShardId, me: NodeId, replicas: Vec<NodeId>, options: Options, now: Instant) -> Self {
        let peers = replicas.iter().map(|node| (node.clone(), Peer::default())).collect();
        Self {
            shard,
            me,
            options,
            configured: replicas,
            peers,
            office: Office::Out { until: now },
            established: false,
            view: None,
            commit: Index(0),
            digest: None,
            waiting: VecDeque::new(),
            batch: None,
            window: Window::default(),
        }
    }

    /// The view that the writer goes by, once there is one.
    #[must_use]
    pub fn view(&self) -> Option<&View> {
        self.view.as_ref()
    }

    /// Up to where the shard is committed, as far as this writer knows.
    #[must_use]
    pub fn commit_index(&self) -> Index {
        self.commit
    }

    /// Whether writes are taken now.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        matches!(self.office, Office::Leading)
    }

    /// What keeps it from taking writes, in words.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        let silent = |heard: &dyn Fn(&NodeId) -> bool| {
            let names: Vec<&str> = self.members().filter(|node| !heard(node)).map(NodeId::as_str).collect();
            names.join(", ")
        };
        match &self.office {
            Office::Leading => None,
            Office::Out { .. } | Office::Reading => Some("the view store".to_owned()),
            Office::Surveying => {
                let unheard = self.configured.iter().filter(|node| !self.has_reported(node));
                let names: Vec<&str> = unheard.map(NodeId::as_str).collect();
                Some(format!(
                    "a report of {}: no view is stored, so every replica must say which it knows",
                    names.join(", ")
                ))
            }
            Office::Swapping { .. } | Office::Checking { .. } => Some("the view store".to_owned()),
            Office::Sealing { sealed, .. } => {
                Some(format!("a promise of {}", silent(&|node| sealed.contains_key(node))))
            }
            Office::Fetching { from, .. } => Some(format!("the log of {from}")),
            Office::Levelling { behind, .. } => {
                Some(format!("an answer of {}", silent(&|node| !behind.contains(node))))
            }
            Office::Recounting { sound, .. } => {
                Some(format!("members differ; a recount by {}", silent(&|node| sound.contains_key(node))))
            }
            Office::Halted { problem } => Some(format!("an operator: {problem}")),
        }
    }

    /// A write. Its outcome comes as an [`Effect::Complete`] with the ticket.
    pub fn submit(&mut self, now: Instant, ticket: T, command: EncodedCommand) -> Vec<Effect<T>> {
        self.submit_all(now, [(ticket, command)])
    }

    /// Writes that came together, and may leave together.
    pub fn submit_all(
        &mut self,
        now: Instant,
        writes: impl IntoIterator<Item = (T, EncodedCommand)>,
    ) -> Vec<Effect<T>> {
        let mut effects = Vec::new();
        for (ticket, command) in writes {
            match self.turned_away() {
                Some(why) => {
                    let result = Err(WriteFailure::NotDone(why));
                    effects.push(Effect::Complete { ticket, result });
                }
                None => self.waiting.push_back(Waiting { ticket, command, since: now }),
            }
        }
        effects.extend(self.pump(now));
        effects
    }

    /// Why no write is taken now, not even to wait.
    fn turned_away(&self) -> Option<String> {
        match &self.office {
            Office::Halted { problem } => Some(format!("shard {} is halted: {problem}", self.shard)),
            _ if self.waiting.len() >= WAITING_MAX => Some(format!("{WAITING_MAX} writes wait already")),
            _ => None,
        }
    }

    /// A connection to a replica stands.
    pub fn handle_connected(&mut self, node: &NodeId) -> Vec<Effect<T>> {
        let Some(peer) = self.peers.get_mut(node) else { return Vec::new() };
        peer.connected = true;
        peer.joiner = None;
        vec![Effect::Send { to: node.clone(), message: ToReplica::Report }]
    }

    /// A connection to a replica broke, and another was refused.
    pub fn handle_lost(&mut self, now: Instant, node: &NodeId) -> Vec<Effect<T>> {
        let Some(peer) = self.peers.get_mut(node) else { return Vec::new() };
        peer.connected = false;
        peer.joiner = None;
        peer.standing = None;
        self.suspect(now, node, Why::Gone)
    }

    /// A replica's heart has not beaten for longer than the limit.
    pub fn handle_silent(&mut self, now: Instant, node: &NodeId) -> Vec<Effect<T>> {
        self.suspect(now, node, Why::Silent)
    }

    /// What a replica says.
    pub fn handle_said(&mut self, now: Instant, from: &NodeId, said: Said) -> Vec<Effect<T>> {
        let Some(peer) = self.peers.get_mut(from) else { return Vec::new() };
        peer.answered = Some(now);
        let store = said.store;
        if let Some(member) = self.view.as_ref().and_then(|view| view.member(from))
            && member.store != store
            && !mutant!(HostsForStores)
        {
            let mut effects = self.suspect(now, from, Why::OtherStore);
            if let Reply::Standing(standing) = said.reply {
                effects.extend(self.handle_standing(now, from, standing));
            }
            return effects;
        }
        self.clear_suspicion(from, &[Why::OtherStore]);
        let mut effects = match said.reply {
            Reply::Standing(standing) => self.handle_standing(now, from, standing),
            Reply::Appended(appended) => self.handle_appended(now, from, store, appended),
            Reply::Sealed(sealed) => self.handle_sealed(now, from, sealed),
            Reply::Refused(refused) => self.handle_refused(now, from, refused),
            Reply::Join { epoch, last, chain } => self.handle_join(now, from, store, (epoch, last, chain)),
            Reply::Fetched { epoch, entries } => self.handle_fetched(now, from, epoch, entries),
            Reply::Recounted { epoch, sound } => self.handle_recounted(now, from, epoch, sound),
            Reply::Failed { epoch, problem } => self.handle_failed(now, from, epoch, problem),
        };
        // An answer of one member may be what the eviction of another waited for.
        effects.extend(self.review(now));
        effects
    }

    fn handle_refused(&mut self, now: Instant, from: &NodeId, refused: Refused) -> Vec<Effect<T>> {
        let current = self.epoch();
        match refused {
            Refused::SealedBy { promise, .. } if promise > current => {
                self.step_down(now, format!("{from} has promised epoch {promise}"))
            }
            Refused::Gap { epoch, have } if epoch == current => self.handle_gap(now, from, have),
            Refused::Conflict { epoch, at } if epoch == current => self.handle_conflict(now, from, at),
            // An answer of another epoch counts for nothing.
            Refused::SealedBy { .. } | Refused::Gap { .. } | Refused::Conflict { .. } => Vec::new(),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) -> Vec<Effect<T>> {
        let mut effects = self.tick_office(now);
        effects.extend(self.expire_callers(now));
        effects.extend(self.suspect_late_members(now));
        effects.extend(self.ask_failed_again(now));
        effects.extend(self.review(now));
        effects.extend(self.tick_joining(now));
        effects
    }

    /// When [`Writer::tick`] wants to be called, if ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let failed = self.peers.values().filter_map(|peer| peer.ask_again).min();
        let waits = [self.office_deadline(), self.batch_deadline(), self.joining_deadline(), failed];
        waits.into_iter().chain([self.caller_deadline()]).flatten().min()
    }

    fn epoch(&self) -> Epoch {
        self.view.as_ref().map_or(Epoch(0), |view| view.epoch)
    }

    fn members(&self) -> impl Iterator<Item = &NodeId> {
        self.view.iter().flat_map(|view| view.members.iter().map(|member| &member.node))
    }

    fn is_member(&self, node: &NodeId) -> bool {
        self.view.as_ref().is_some_and(|view| view.member(node).is_some())
    }

    fn member_store(&self, node: &NodeId) -> Option<StoreId> {
        Some(self.view.as_ref()?.member(node)?.store)
    }

    fn has_reported(&self, node: &NodeId) -> bool {
        self.peers.get(node).is_some_and(|peer| peer.standing.is_some())
    }

    fn to_all_members(&self, message: &ToReplica) -> Vec<Effect<T>> {
        self.members().map(|node| Effect::Send { to: node.clone(), message: message.clone() }).collect()
    }

    fn halt(&mut self, problem: String) -> Vec<Effect<T>> {
        let mut effects = self.end_unfinished(&problem);
        effects.push(Effect::Happening(Happening::Halted { shard: self.shard, problem: problem.clone() }));
        self.office = Office::Halted { problem };
        effects
    }
}
