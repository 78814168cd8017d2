//! The drivers of the shards' writers: one task each, which owns the [`Writer`] and carries out what it
//! asks for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::config::Config;
use common::link::LinkSender;
use protocol::call::{CallId, InternalReply, WriteFailure};
use protocol::command::Outcome;
use protocol::entry::EncodedCommand;
use protocol::ids::{NodeId, ShardId};
use protocol::message::{Reply, Said, Touched};
use protocol::view::View;
use protocol::writer::{Effect, Happening, Options, SwapResult, Writer};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::cache::Cache;
use crate::catalogs::Catalogs;
use crate::feed::Feeds;
use crate::happenings::Happenings;
use crate::orders::AskedHere;
use crate::shards::Shards;
use crate::view_store::ViewStore;

/// How many events may wait for a writer; whoever brings more waits until there is room. The links
/// bring few, and as many writes wait inside the writer as it allows.
const EVENTS_MAX: usize = 4096;
/// How many events are taken at once.
const EVENTS_AT_ONCE: usize = 256;
/// How many write timeouts a caller waits: enough to find a silent member and to go on without it.
pub const PATIENCE_TIMEOUTS: u32 = 3;
/// How long a word that nobody waits for may wait for another message to go with. A link is woken for each of them
/// otherwise, in the middle of the next write.
const UNHURRIED: Duration = Duration::from_millis(5);
/// How long the task sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// Who waits for a write.
#[derive(Debug)]
pub enum Ticket {
    /// A request of this front end.
    Local(oneshot::Sender<Result<Outcome, WriteFailure>>),
    /// A call of an order node.
    Remote {
        /// The link that it came by.
        link: LinkSender<InternalReply>,
        /// Its number.
        call: CallId,
        /// The request behind it, if it is one of this front end's.
        asked_here: Option<AskedHere>,
    },
}

impl Ticket {
    /// Tells the caller what became of its write. Over a link the answer goes with its next push.
    pub fn complete(self, result: Result<Outcome, WriteFailure>) -> Told {
        match self {
            // A caller that has gone asks again with its key, if it wants to know.
            Self::Local(caller) => {
                drop(caller.send(result));
                Told::Here
            }
            Self::Remote { link, call, asked_here } => match (asked_here, result) {
                (Some(request), Ok(outcome)) => {
                    request.answer(outcome);
                    drop(link.put(&InternalReply::Answered { call }));
                    Told::Word(link)
                }
                // What a failure means is for the order node to say: it knows of earlier attempts.
                (_, result) => {
                    drop(link.put(&InternalReply::Submitted { call, result }));
                    Told::Answer(link)
                }
            },
        }
    }
}

/// What a completed ticket leaves to do.
#[derive(Debug)]
pub enum Told {
    /// Nothing.
    Here,
    /// This link has an answer that somebody waits for.
    Answer(LinkSender<InternalReply>),
    /// This link has a word that a call is over, which nobody waits for.
    Word(LinkSender<InternalReply>),
}

/// What a writer is told.
#[derive(Debug)]
pub enum ShardEvent {
    /// Writes that came together.
    Submit(Vec<(Ticket, EncodedCommand)>),
    /// A node's link stands.
    Connected(NodeId),
    /// A node is gone.
    Lost(NodeId),
    /// A node's heart does not beat.
    Silent(NodeId),
    /// A replica has said something.
    Said(NodeId, Said),
}

/// Where the writers are told things. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Writers(Arc<BTreeMap<ShardId, mpsc::Sender<ShardEvent>>>);

/// What a writer's task reads and writes.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The links to the replicas.
    pub catalogs: Catalogs,
    /// Where views are kept.
    pub view_store: ViewStore,
    /// What the writer publishes.
    pub shards: Shards,
    /// What writes make stale.
    pub cache: Arc<Cache>,
    /// What order nodes follow.
    pub feeds: Feeds,
    /// What people see.
    pub happenings: Happenings,
}

impl Writers {
    /// Where to tell the writers of these shards, and what their tasks hear it from.
    pub fn new(
        shards: impl Iterator<Item = ShardId>,
    ) -> (Self, BTreeMap<ShardId, mpsc::Receiver<ShardEvent>>) {
        let mut senders = BTreeMap::new();
        let mut receivers = BTreeMap::new();
        for shard in shards {
            let (sender, receiver) = mpsc::channel(EVENTS_MAX);
            senders.insert(shard, sender);
            receivers.insert(shard, receiver);
        }
        (Self(Arc::new(senders)), receivers)
    }

    /// Tells a shard's writer something, waiting for room.
    pub async fn tell(&self, shard: ShardId, event: ShardEvent) {
        if let Some(sender) = self.0.get(&shard) {
            // The writer's task ends only with the process.
            drop(sender.send(event).await);
        }
    }

    /// Has a shard's writer carry out a command.
    ///
    /// # Errors
    /// If it was not done, or it is not known whether.
    pub async fn submit(&self, shard: ShardId, command: EncodedCommand) -> Result<Outcome, WriteFailure> {
        let (sender, receiver) = oneshot::channel();
        self.tell(shard, ShardEvent::Submit(vec![(Ticket::Local(sender), command)])).await;
        receiver.await.unwrap_or_else(|_| Err(WriteFailure::Unknown("the front end stops".to_owned())))
    }
}

/// The links that messages were put on, each of which is written to once.
#[derive(Debug, Default)]
struct Written {
    replicas: Vec<NodeId>,
    callers: Vec<LinkSender<InternalReply>>,
}

impl Written {
    fn replica(&mut self, node: NodeId) {
        if !self.replicas.contains(&node) {
            self.replicas.push(node);
        }
    }

    fn caller(&mut self, link: LinkSender<InternalReply>) {
        if !self.callers.iter().any(|known| known.is_same(&link)) {
            self.callers.push(link);
        }
    }

    fn push(&mut self, catalogs: &Catalogs) {
        for node in self.replicas.drain(..) {
            catalogs.push(&node);
        }
        for link in self.callers.drain(..) {
            link.push();
        }
    }
}

enum Stored {
    Swapped(SwapResult),
    Read(Result<Option<View>, String>),
}

struct Driver {
    shard: ShardId,
    writer: Writer<Ticket>,
    around: Surroundings,
    storing: JoinSet<Stored>,
    /// What can wait, and until when.
    unhurried: Written,
    unhurried_until: Option<Instant>,
}

/// Runs a shard's writer for as long as anybody may tell it something.
pub async fn run(
    shard: ShardId,
    me: NodeId,
    config: Arc<Config>,
    mut events: mpsc::Receiver<ShardEvent>,
    around: Surroundings,
) {
    let replicas = config.replicas_of(shard).into_iter().map(|node| node.id.clone()).collect();
    let write_timeout = config.timeouts.write;
    let options = Options { write_timeout, patience: write_timeout * PATIENCE_TIMEOUTS };
    let writer = Writer::new(shard, me, replicas, options, Instant::now());
    let unhurried = Written::default();
    let mut driver =
        Driver { shard, writer, around, storing: JoinSet::new(), unhurried, unhurried_until: None };
    let mut waiting = Vec::with_capacity(EVENTS_AT_ONCE);
    loop {
        let deadlines = [driver.writer.deadline(), driver.unhurried_until];
        let deadline = deadlines.into_iter().flatten().min().unwrap_or_else(|| Instant::now() + IDLE);
        tokio::select! {
            biased;
            Some(stored) = driver.storing.join_next() => {
                let now = Instant::now();
                let effects = match stored {
                    Ok(Stored::Swapped(result)) => driver.writer.swapped(now, result),
                    Ok(Stored::Read(read)) => driver.writer.view_read(now, read),
                    Err(problem) => {
                        // Only a panic ends such a task early, and what it had done by then is not known.
                        tracing::error!(%problem, "the view store failed");
                        driver.writer.swapped(now, SwapResult::Unknown)
                    }
                };
                driver.carry_out(effects);
            }
            taken = events.recv_many(&mut waiting, EVENTS_AT_ONCE) => {
                if taken == 0 {
                    return;
                }
                driver.take(&mut waiting);
                // Under a load that leaves no pause, what is due is due all the same.
                if deadline <= Instant::now() {
                    driver.tick();
                }
            }
            () = tokio::time::sleep_until(deadline.into()) => driver.tick(),
        }
        driver.publish();
    }
}

impl Driver {
    /// Takes all that waits; the writes among it leave together.
    fn take(&mut self, waiting: &mut Vec<ShardEvent>) {
        let now = Instant::now();
        let mut writes = Vec::new();
        for event in waiting.drain(..) {
            let effects = match event {
                ShardEvent::Submit(submitted) => {
                    writes.extend(submitted);
                    continue;
                }
                ShardEvent::Connected(node) => self.writer.handle_connected(&node),
                ShardEvent::Lost(node) => self.writer.handle_lost(now, &node),
                ShardEvent::Silent(node) => self.writer.handle_silent(now, &node),
                ShardEvent::Said(node, said) => {
                    self.note_health(&node, &said.reply);
                    self.writer.handle_said(now, &node, said)
                }
            };
            self.carry_out(effects);
        }
        if !writes.is_empty() {
            let effects = self.writer.submit_all(now, writes);
            self.carry_out(effects);
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let effects = self.writer.tick(now);
        self.carry_out(effects);
        if self.unhurried_until.take_if(|until| *until <= now).is_some() {
            self.unhurried.push(&self.around.catalogs);
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect<Ticket>>) {
        let shard = self.shard;
        let mut written = Written::default();
        let mut todo: std::collections::VecDeque<Effect<Ticket>> = effects.into();
        while let Some(effect) = todo.pop_front() {
            match effect {
                Effect::Send { to, message } => {
                    self.around.catalogs.put(&to, shard, message);
                    written.replica(to);
                }
                Effect::Tell { to, message } => {
                    self.around.catalogs.put(&to, shard, message);
                    self.unhurried.replica(to);
                    self.soon();
                }
                Effect::ReadView => {
                    let store = self.around.view_store.clone();
                    self.storing.spawn(async move { Stored::Read(store.read(shard).await) });
                }
                Effect::Swap { expected, view } => {
                    let store = self.around.view_store.clone();
                    self.storing.spawn(async move { Stored::Swapped(store.swap(expected, view).await) });
                }
                Effect::Invalidate { upto, touched } => {
                    // With one front end the keys are gone when this returns. With several, the others
                    // will be pushed to here, and `invalidated` called once each has answered.
                    self.invalidate(&touched);
                    todo.extend(self.writer.invalidated(Instant::now(), upto));
                }
                Effect::Read { view, fresh } => {
                    self.read_by(view);
                    if fresh {
                        self.around.cache.clear();
                    } else {
                        self.around.cache.void_fills();
                    }
                }
                Effect::StopReading(node) => {
                    if let Some(state) = self.around.shards.get(shard) {
                        state.stop_reading(&node);
                    }
                }
                Effect::Commit(committed) => {
                    let index = committed.index;
                    self.around.feeds.push(shard, committed);
                    if let Some(state) = self.around.shards.get(shard) {
                        state.set_commit(index);
                    }
                }
                Effect::Complete { ticket, result } => match ticket.complete(result) {
                    Told::Here => {}
                    Told::Answer(link) => written.caller(link),
                    Told::Word(link) => {
                        self.unhurried.caller(link);
                        self.soon();
                    }
                },
                Effect::Happening(happening) => self.tell(&happening),
            }
        }
        written.push(&self.around.catalogs);
    }

    fn soon(&mut self) {
        self.unhurried_until.get_or_insert_with(|| Instant::now() + UNHURRIED);
    }

    /// Whether a replica can write, for people: the writer has rules of its own for what follows from it.
    fn note_health(&self, node: &NodeId, reply: &Reply) {
        let Some(state) = self.around.shards.get(self.shard) else { return };
        match reply {
            Reply::Failed { problem, .. } => state.set_failing(node, problem.clone()),
            Reply::Appended(_) | Reply::Sealed(_) | Reply::Join { .. } => state.set_sound(node),
            Reply::Standing(_) | Reply::Refused(_) | Reply::Fetched { .. } | Reply::Recounted { .. } => {}
        }
    }

    fn invalidate(&self, touched: &Touched) {
        self.around.cache.invalidate(touched);
    }

    fn tell(&self, happening: &Happening) {
        let state = self.around.shards.get(self.shard);
        match (happening, state) {
            (Happening::ViewChanged { view }, Some(state)) => state.set_stored_view(Some(view.clone())),
            (Happening::SteppedDown { .. }, Some(state)) => state.set_stored_view(None),
            _ => {}
        }
        self.around.happenings.shard(happening);
    }

    fn read_by(&self, view: Option<View>) {
        if let Some(state) = self.around.shards.get(self.shard) {
            state.set_view(view);
        }
    }

    fn publish(&self) {
        if let Some(state) = self.around.shards.get(self.shard) {
            state.set_waits_for(self.writer.waits_for());
        }
    }
}
