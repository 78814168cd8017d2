//! The thread that owns a shard's file: it drives the protocol's [`Replica`] over the [`Store`].
//!
//! Everything that changes the file goes through this one thread, one thing at a time, in the order in
//! which it came: what the writer says, what errands bring, and the passing of time. Reads do not come
//! here; they go to [`Readers`], with this thread's promise and store id at hand in [`Shard`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::exit::with_causes;
use common::link::LinkSender;
use parking_lot::Mutex;
use protocol::call::{CatalogReply, Content, LogPage, Query, ShardBeat};
use protocol::ids::{Epoch, Index, NodeId, ShardId, StoreId};
use protocol::message::{Reply, Said, Standing, ToReplica};
use protocol::replica::{Done, Effect, Note, Replica, Step};
use protocol::writer::BATCH_ENTRIES_MAX;
use tempfile::TempPath;
use tokio::sync::oneshot;

use crate::errands::{Errand, Errands};
use crate::store::{CheckedSnapshot, Readers, Store, StoreError};

/// How many inputs may wait for the thread. A writer has one batch on its way at a time, so few ever
/// wait; beyond this they are dropped, as a network might, and asked for again.
const INPUTS_MAX: usize = 1024;
/// How long the thread sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// What the thread is told.
#[derive(Debug)]
pub enum Input {
    /// A message, and the link that answers go to.
    Message {
        /// From whom it came.
        from: LinkSender<CatalogReply>,
        /// What it says.
        message: ToReplica,
    },
    /// A page of a peer's log.
    Pulled {
        /// For which of the replica's resyncs it was asked for.
        resync: u64,
        /// Whose.
        source: NodeId,
        /// The page.
        page: LogPage,
    },
    /// A snapshot of a peer, checked.
    Snapshot {
        /// Its file, which goes with this value.
        file: TempPath,
        /// What it holds.
        snapshot: CheckedSnapshot,
    },
    /// The peer could not be reached, or sent something that can't be used.
    PullFailed,
    /// The rows were counted.
    Counted {
        /// The epoch of the writer's call, if it asked.
        asked: Option<Epoch>,
        /// How many snapshots had been installed when the count began: those before it replaced what was counted.
        installs: u64,
        /// Whether the rows gave the digest; or why they could not be counted.
        sound: Result<bool, String>,
    },
    /// The process ends.
    Stop,
}

/// A shard as the rest of the node sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shard {
    /// Its number.
    pub id: ShardId,
    /// For reads.
    pub readers: Readers,
    inputs: SyncSender<Input>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: StoreId,
    promise: AtomicU64,
    /// How many snapshots this process has installed.
    installs: AtomicU64,
    standing: Mutex<Standing>,
}

impl Shard {
    /// Hands an input to the thread. `false` if it was dropped.
    pub fn send(&self, input: Input) -> bool {
        match self.inputs.try_send(input) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                tracing::warn!(shard = %self.id, waiting = INPUTS_MAX, "the disk is behind; a message is dropped");
                false
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }

    /// The store's id.
    #[must_use]
    pub fn store(&self) -> StoreId {
        self.shared.store
    }

    /// The epoch that the replica has promised.
    #[must_use]
    pub fn promise(&self) -> Epoch {
        Epoch(self.shared.promise.load(Ordering::Acquire))
    }

    /// How many snapshots were installed so far: to be noted before the rows are counted.
    #[must_use]
    pub fn installs(&self) -> u64 {
        self.shared.installs.load(Ordering::Acquire)
    }

    /// How it stands, for a heartbeat.
    #[must_use]
    pub fn beat(&self) -> ShardBeat {
        let standing = self.shared.standing.lock();
        ShardBeat {
            shard: self.id,
            store: Some(standing.store),
            promise: standing.promise,
            last: standing.last,
            chain: standing.chain,
            digest: standing.digest,
        }
    }
}

/// The running thread.
#[derive(Debug)]
pub struct ShardThread {
    inputs: SyncSender<Input>,
    handle: JoinHandle<()>,
    /// Resolves when the thread ends, however it does.
    pub ended: oneshot::Receiver<()>,
}

/// The thread panicked.
#[derive(Debug)]
pub struct Panicked;

impl ShardThread {
    /// Ends the thread once it has done what waits.
    ///
    /// # Errors
    /// If it has panicked.
    pub fn stop(self) -> Result<(), Panicked> {
        // If it has ended already, its end is what we want to hear of.
        drop(self.inputs.send(Input::Stop));
        self.handle.join().map_err(|_| Panicked)
    }
}

/// Starts the thread of a shard.
///
/// # Errors
/// If the store can't be read.
pub fn start(
    id: ShardId,
    me: NodeId,
    store: Store,
    readers: Readers,
) -> Result<(Shard, ShardThread, Errands), StoreError> {
    let standing = store.standing();
    let tail = store.tail(store.tail_begin())?;
    let replica = Replica::new(me, standing.clone(), store.appended_epoch(), tail);
    let shared = Arc::new(Shared {
        store: standing.store,
        promise: AtomicU64::new(standing.promise.0),
        installs: AtomicU64::new(0),
        standing: Mutex::new(standing),
    });
    let (inputs, receiver) = sync_channel(INPUTS_MAX);
    let (errands, requests) = Errands::new(id, readers.clone(), inputs.clone());
    let driver = Driver {
        id,
        replica,
        store,
        shared: shared.clone(),
        errands: requests,
        resyncs: 0,
        links: Vec::new(),
    };
    let (alive, ended) = oneshot::channel();
    let run = move || {
        // Dropped with the thread, also by a panic.
        let _alive: oneshot::Sender<()> = alive;
        driver.run(&receiver);
    };
    let handle =
        std::thread::Builder::new().name(format!("shard-{id}")).spawn(run).map_err(StoreError::Thread)?;
    let thread = ShardThread { inputs: inputs.clone(), handle, ended };
    Ok((Shard { id, readers, inputs, shared }, thread, errands))
}

/// Says in the log what a file holds.
pub fn log_what_is_held(shard: ShardId, store: &Store, readers: &Readers) {
    let standing = store.standing();
    let books = match readers.read(&Query::Topics).map(|answer| answer.content) {
        Ok(Content::Topics(topics)) => topics.iter().map(|topic| topic.books).sum(),
        _ => 0_u64,
    };
    tracing::info!(
        %shard,
        store = %standing.store,
        books,
        last_index = %standing.last,
        commit_index = %standing.commit,
        promise = %standing.promise,
        digest = %standing.digest,
        "holds"
    );
}

/// Puts the appends that wait behind an append into it, and gives what waits behind those. A member has never more
/// than one to take. One that is about to join is not waited for; if its disk is slower than the members', it only
/// gets level by taking what has gathered with one sync.
fn gather(input: &mut Input, inputs: &Receiver<Input>) -> Option<Input> {
    while let Input::Message { from, message: ToReplica::Append(append) } = &mut *input
        && append.entries.len() < BATCH_ENTRIES_MAX
    {
        match inputs.try_recv().ok()? {
            Input::Message { from: other, message: ToReplica::Append(next) } if other.is_same(from) => {
                if let Err(next) = append.join(next) {
                    return Some(Input::Message { from: other, message: ToReplica::Append(next) });
                }
            }
            next => return Some(next),
        }
    }
    None
}

struct Driver {
    id: ShardId,
    replica: Replica,
    store: Store,
    shared: Arc<Shared>,
    errands: tokio::sync::mpsc::Sender<Errand>,
    /// How many resyncs have begun.
    resyncs: u64,
    /// The open links; last, the one whose writer this replica goes by.
    links: Vec<LinkSender<CatalogReply>>,
}

impl Driver {
    fn run(mut self, inputs: &Receiver<Input>) {
        let mut next = None;
        loop {
            let patience = self
                .replica
                .deadline()
                .map_or(IDLE, |deadline| deadline.saturating_duration_since(Instant::now()));
            match next.take().map_or_else(|| inputs.recv_timeout(patience), Ok) {
                Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(mut input) => {
                    next = gather(&mut input, inputs);
                    let effects = self.take(input);
                    self.carry_out(effects);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            // Also after an input: under a load that leaves no pause, what is due is due all the same.
            let effects = self.replica.tick(Instant::now());
            self.carry_out(effects);
            self.publish();
            self.store.keep_short();
        }
    }

    fn take(&mut self, input: Input) -> Vec<Effect> {
        let now = Instant::now();
        match input {
            Input::Message { from, message } => {
                let heeded = self.replica.heeds(&message);
                self.remember(&from, heeded);
                let effects = self.replica.handle(now, message);
                self.carry_out_for(Some(&from), effects);
                Vec::new()
            }
            // What another resync wanted is not this one's, and this one has asked for its own.
            Input::Pulled { resync, .. } if resync != self.resyncs => Vec::new(),
            Input::Pulled { resync: _, source, page } => self.replica.handle_pulled(now, &source, page),
            Input::Snapshot { file, snapshot } => self.install(file, &snapshot),
            Input::PullFailed => self.replica.handle_pull_failed(now),
            Input::Counted { asked, installs, sound } => self.counted(asked, installs, sound),
            Input::Stop => Vec::new(),
        }
    }

    fn counted(&mut self, asked: Option<Epoch>, installs: u64, sound: Result<bool, String>) -> Vec<Effect> {
        let mut effects = match &sound {
            Ok(_) if installs != self.shared.installs.load(Ordering::Acquire) => Vec::new(),
            Ok(true) => self.replica.counted(),
            Ok(false) => self.replica.damaged(),
            Err(_) => Vec::new(),
        };
        if let Some(epoch) = asked {
            let store = self.shared.store;
            let reply = match sound {
                Ok(sound) => Reply::Recounted { epoch, sound },
                Err(problem) => Reply::Failed { epoch, problem },
            };
            effects.push(Effect::Send(Said { store, reply }));
        }
        effects
    }

    /// Keeps the links by which something can be said unasked. A late message of an earlier writer, or on a
    /// link that has been closed since, does not put its link in front of the one that counts.
    fn remember(&mut self, from: &LinkSender<CatalogReply>, heeded: bool) {
        self.links.retain(|link| !link.is_closed());
        if heeded {
            self.links.retain(|link| !link.is_same(from));
            self.links.push(from.clone());
        } else if !self.links.iter().any(|link| link.is_same(from)) {
            self.links.insert(0, from.clone());
        }
    }

    fn install(&mut self, file: TempPath, snapshot: &CheckedSnapshot) -> Vec<Effect> {
        let now = Instant::now();
        // It was long on its way: what it was fetched for may be over.
        if !self.replica.wants_snapshot(snapshot.last()) {
            tracing::info!(shard = %self.id, last_index = %snapshot.last(), "a snapshot came too late to be wanted");
            return self.replica.handle_pull_failed(now);
        }
        let installed = self.store.install_snapshot(snapshot, Index(0));
        if let Err(problem) = file.close() {
            tracing::warn!(shard = %self.id, %problem, "a used snapshot stays behind");
        }
        let now = Instant::now();
        let standing = self.store.standing();
        match installed.and_then(|()| self.store.tail(self.store.tail_begin())) {
            Ok(tail) => {
                self.shared.installs.fetch_add(1, Ordering::AcqRel);
                tracing::info!(shard = %self.id, last_index = %standing.last, digest = %standing.digest, "a snapshot is installed");
                self.replica.snapshot_installed(now, standing, tail)
            }
            Err(problem) => {
                tracing::error!(shard = %self.id, problem = %with_causes(&problem), "a snapshot can't be installed");
                self.replica.handle_pull_failed(now)
            }
        }
    }

    /// Carries out what nobody has asked for; whether there is anybody to be told of it or not.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        if effects.is_empty() {
            return;
        }
        let link = self.links.iter().rev().find(|link| !link.is_closed()).cloned();
        self.carry_out_for(link.as_ref(), effects);
    }

    /// Carries out effects in order; what a step leads to comes before what was left.
    fn carry_out_for(&mut self, link: Option<&LinkSender<CatalogReply>>, effects: Vec<Effect>) {
        let mut todo: std::collections::VecDeque<Effect> = effects.into();
        while let Some(effect) = todo.pop_front() {
            match effect {
                Effect::Persist(step) => {
                    let more = match self.persist(step) {
                        Ok(done) => self.replica.persisted(Instant::now(), done),
                        Err(problem) => {
                            let is_damage = problem.is_damage();
                            let problem = with_causes(&problem);
                            tracing::error!(shard = %self.id, %problem, "the store can't write");
                            let mut effects = self.replica.failed(Instant::now(), problem);
                            if is_damage {
                                effects.extend(self.replica.damaged());
                            }
                            effects
                        }
                    };
                    for effect in more.into_iter().rev() {
                        todo.push_front(effect);
                    }
                    // Readers must see a promise before anyone hears of it.
                    self.shared.promise.store(self.replica.standing().promise.0, Ordering::Release);
                }
                Effect::Send(said) => {
                    // If the link is gone, the writer asks again on the next one.
                    if let Some(link) = link {
                        drop(link.put(&CatalogReply::Replicate { shard: self.id, said }));
                    }
                }
                Effect::Pull { source, after } => {
                    self.ask(Errand::Pull { resync: self.resyncs, source, after });
                }
                Effect::FetchSnapshot { source, at_least } => {
                    self.ask(Errand::Snapshot { source, at_least });
                }
                Effect::Recount { epoch } => {
                    self.ask(Errand::Recount {
                        epoch,
                        installs: self.shared.installs.load(Ordering::Acquire),
                    });
                }
                Effect::Note(note) => self.note(&note),
            }
        }
        if let Some(link) = link {
            // From here, without waking the link's own task.
            link.push();
        }
    }

    fn persist(&mut self, step: Step) -> Result<Done, StoreError> {
        Ok(match step {
            Step::Promise { epoch, view } => {
                self.store.promise(epoch, view.as_ref())?;
                Done::Promised
            }
            Step::Append(change) => {
                let applied = self.store.append(&change)?;
                let digest = self.store.standing().digest;
                Done::Appended { outcomes: applied.outcomes, touched: applied.touched, digest }
            }
            Step::Outcomes { first, last } => Done::Outcomes(self.store.outcomes(first, last)?),
            Step::Fetch { after, upto } => Done::Fetched(self.store.all_entries(after, upto)?),
            Step::Undo { to } => match self.store.undo_to(to) {
                Ok(()) => Done::Undone { digest: self.store.standing().digest },
                Err(StoreError::UndoGone { .. }) => Done::UndoGone,
                Err(problem) => return Err(problem),
            },
        })
    }

    /// Asks for an errand. The queue is never waited for: what waits there may be waiting for this thread.
    fn ask(&mut self, errand: Errand) {
        if let Err(problem) = self.errands.try_send(errand) {
            tracing::warn!(shard = %self.id, %problem, "an errand has to wait");
            // It is asked for again in a moment.
            drop(self.replica.handle_pull_failed(Instant::now()));
        }
    }

    fn publish(&mut self) {
        let standing = self.replica.standing();
        self.store.set_commit(standing.commit);
        self.shared.promise.store(standing.promise.0, Ordering::Release);
        self.shared.standing.lock().clone_from(standing);
    }

    fn note(&mut self, note: &Note) {
        let shard = self.id;
        match note {
            Note::ResyncStarted { epoch, source, last } => {
                self.resyncs += 1;
                tracing::info!(%shard, %epoch, %source, last_index = %last, "resync started: this replica is not in the view");
            }
            Note::Undoing { to, from } => {
                tracing::warn!(%shard, %to, %from, "undoing entries that the members do not have");
            }
            Note::AsksToJoin { last } => {
                tracing::info!(%shard, last_index = %last, "nearly level: asking to join")
            }
            Note::Joined { epoch } => tracing::info!(%shard, %epoch, "resync done: a member again"),
            Note::SourceChanged(source) => {
                tracing::info!(%shard, %source, "the member has another log by now; it is asked again")
            }
            Note::Halted(problem) => {
                tracing::error!(%shard, %problem, "halted: this replica refuses all work")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use common::link::detached;
    use protocol::command::{Action, Command, CommandKey, Scope};
    use protocol::entry::{EncodedCommand, Entry};
    use protocol::ids::{Chain, Timestamp};
    use protocol::message::{Append, Recover};
    use protocol::view::{Member, View};

    use super::*;
    use crate::store::MemoryStore;

    fn append(first: u64, entries: u64) -> Append {
        let entry = |index| Entry {
            index: Index(index),
            epoch: Epoch(1),
            command: EncodedCommand(Bytes::new()),
            chain: Chain(index.into()),
        };
        Append {
            epoch: Epoch(1),
            before: Index(first - 1),
            chain_before: Chain((first - 1).into()),
            commit: Index(first - 1),
            entries: (first..first + entries).map(entry).collect(),
        }
    }

    /// What is taken at once of these, and whether something is left for the next turn.
    fn taken(appends: Vec<(&LinkSender<CatalogReply>, Append)>) -> (Append, bool) {
        let (sender, inputs) = sync_channel(INPUTS_MAX);
        for (from, append) in appends {
            let message = ToReplica::Append(append);
            sender.send(Input::Message { from: from.clone(), message }).unwrap();
        }
        let mut input = inputs.recv().unwrap();
        let next = gather(&mut input, &inputs);
        match input {
            Input::Message { message: ToReplica::Append(append), .. } => (append, next.is_some()),
            other => panic!("{other:?}"),
        }
    }

    /// Asks a shard how it stands, until it is as wanted. Each time by a link of its own.
    fn stands(shard: &Shard, wanted: impl Fn(&Standing) -> bool) -> LinkSender<CatalogReply> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let (link, unsent) = detached();
            shard.send(Input::Message { from: link.clone(), message: ToReplica::Report });
            let said = loop {
                match unsent.take().unwrap().pop() {
                    Some(CatalogReply::Replicate { said, .. }) => break said,
                    Some(other) => panic!("{other:?}"),
                    None => assert!(Instant::now() < end, "the shard says nothing"),
                }
                std::thread::yield_now();
            };
            match said.reply {
                Reply::Standing(standing) if wanted(&standing) => return link,
                _ => link.close(),
            }
        }
    }

    #[test]
    fn a_page_is_entered_with_nobody_there_to_be_told_and_one_for_another_resync_is_not() {
        let MemoryStore { store, readers } = MemoryStore::new(ShardId(0), 1, 1, StoreId(1)).unwrap();
        let source = NodeId::from("catalog-2");
        let (shard, thread, _errands) = start(ShardId(0), "catalog-1".into(), store, readers).unwrap();
        let entry = |name: &[u8]| {
            let action = Action::RemoveBook { book: 1.try_into().unwrap() };
            let command = Command { key: CommandKey::new(Scope::Admin, name), at: Timestamp(0), action };
            Entry::after(Chain(0), Index(1), Epoch(1), EncodedCommand::of(&command))
        };
        let view = View {
            shard: ShardId(0),
            epoch: Epoch(1),
            writer: "frontend-1".into(),
            members: vec![Member { node: source.clone(), store: StoreId(2) }],
            last_index: Index(0),
        };
        let (link, _unsent) = detached();
        let recover = Recover { view, source: source.clone(), commit: Index(0), afresh: false };
        shard.send(Input::Message { from: link.clone(), message: ToReplica::Recover(recover) });
        link.close();
        stands(&shard, |standing| standing.promise == Epoch(1)).close();
        let wanted = entry(b"wanted");
        for (resync, entry) in [(0, entry(b"late")), (1, wanted.clone())] {
            let page = LogPage::Entries { entries: vec![entry], last: Index(1) };
            shard.send(Input::Pulled { resync, source: source.clone(), page });
        }
        stands(&shard, |standing| (standing.last, standing.chain) == (Index(1), wanted.chain)).close();
        thread.stop().unwrap();
    }

    #[test]
    fn appends_that_have_gathered_are_taken_at_once() {
        let (link, _unsent) = detached();
        let (other, _unsent) = detached();
        // Without entries it tells how far all is committed.
        let (all, more) = taken(
            [append(1, 2), append(3, 0), append(3, 1), append(4, 3), append(7, 0)]
                .map(|append| (&link, append))
                .to_vec(),
        );
        assert_eq!((all, more), (Append { commit: Index(6), ..append(1, 6) }, false));
        let (all, _) = taken(vec![(&link, append(1, 0)), (&link, append(1, 2))]);
        assert_eq!(all, append(1, 2));
        let cut = Append { epoch: Epoch(2), ..append(3, 1) };
        let fork = Append { chain_before: Chain(9), ..append(3, 1) };
        for (from, next) in [(&other, append(3, 1)), (&link, append(4, 1)), (&link, cut), (&link, fork)] {
            assert_eq!(taken(vec![(&link, append(1, 2)), (from, next)]), (append(1, 2), true));
        }
        let full = append(1, BATCH_ENTRIES_MAX as u64);
        let next = append(BATCH_ENTRIES_MAX as u64 + 1, 1);
        assert_eq!(taken(vec![(&link, full.clone()), (&link, next)]), (full, false));
    }
}
