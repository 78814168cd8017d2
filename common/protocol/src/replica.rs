//! One copy of a shard: what it takes, what it refuses, and how it stands.
//!
//! A replica does as the writer says, within what it has promised: it takes appends that fit on its log
//! and are of an epoch that it may take, makes promises, and levels with the members when it is told
//! that it is not one of them (that part is in [`crate::resync`]). It decides nothing for others.
//!
//! The driver owns the disk and does one thing at a time: it calls a `handle_*` method, carries out the
//! effects in order, and after each [`Effect::Persist`] calls [`Replica::persisted`], or
//! [`Replica::failed`] if the store could not do it. An answer is an effect behind the write that it
//! speaks of, so nothing is said that is not yet durable.
//!
//! What must hold (docs/PROTOCOL.md):
//!
//! - I2 it appends only what fits on its last entry, so its log has no gap and one history;
//! - I3 it never takes an append below its promise, and a promise is durable before it is answered;
//! - nothing at or below its commit index is ever undone;
//! - in the view it undoes nothing at all.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::command::Outcome;
use crate::entry::Entry;
use crate::ids::{Chain, Digest, Epoch, Index, NodeId};
use crate::message::{
    Append, Appended, CacheKey, Recover, Refused, Reply, Said, Sealed, Standing, ToReplica, Touched,
};
use crate::mutant;
use crate::resync::Resync;
use crate::view::View;

/// How many (index, chain) pairs of the log's end are kept at hand, to recognise what is sent again.
/// Far more than one batch, which is all that a writer ever sends again.
pub const TAIL_ENTRIES: u64 = 16 * 1024;

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Change the store, durably, and call [`Replica::persisted`] or [`Replica::failed`].
    Persist(Step),
    /// Send this to the writer that asked last.
    Send(Said),
    /// Ask a peer for the log after an index, and call [`Replica::handle_pulled`] or
    /// [`Replica::handle_pull_failed`].
    Pull {
        /// Whom to ask.
        source: NodeId,
        /// After which index.
        after: Index,
    },
    /// Bring a snapshot here from a peer, install it, and call [`Replica::snapshot_installed`] or
    /// [`Replica::handle_pull_failed`].
    FetchSnapshot {
        /// Whom to ask.
        source: NodeId,
        /// A snapshot that ends before this index must not be installed: it would undo a commit.
        at_least: Index,
    },
    /// Count the digest from the rows, off the write path, and send the result.
    Recount {
        /// The epoch of the call.
        epoch: Epoch,
    },
    /// Something that people should see in the log.
    Note(Note),
}

/// A change of the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Keep a promise, and a view if one was told.
    Promise {
        /// The epoch.
        epoch: Epoch,
        /// The view.
        view: Option<View>,
    },
    /// Append entries and apply them, in one transaction with the rest.
    Append(Change),
    /// Read back the outcomes of entries that are there already.
    Outcomes {
        /// The first one.
        first: Index,
        /// The last one.
        last: Index,
    },
    /// Read the entries after one index up to another.
    Fetch {
        /// The first is the one after this.
        after: Index,
        /// The last one.
        upto: Index,
    },
    /// Undo all entries above an index.
    Undo {
        /// The last one to stay.
        to: Index,
    },
}

/// What one transaction changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// The promise from now on.
    pub promise: Epoch,
    /// The epoch of the last append that was acknowledged to a writer.
    pub appended_epoch: Epoch,
    /// What is known to be committed.
    pub commit: Index,
    /// The entries; they fit on the log.
    pub entries: Vec<Entry>,
}

/// What came of a [`Step`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Done {
    /// The promise is durable.
    Promised,
    /// The entries are, and this came of them.
    Appended {
        /// One outcome for each entry.
        outcomes: Vec<Outcome>,
        /// What they changed.
        touched: Vec<CacheKey>,
        /// The digest now.
        digest: Digest,
    },
    /// The outcomes that were asked for.
    Outcomes(Vec<Outcome>),
    /// The entries that were asked for.
    Fetched(Vec<Entry>),
    /// What was above is gone, and this is the digest now.
    Undone {
        /// The digest now.
        digest: Digest,
    },
    /// It can't be undone, for what is needed for it is gone: a snapshot is needed.
    UndoGone,
}

/// What a person should know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// Left out of a view, it begins to level with a member.
    ResyncStarted {
        /// The epoch of the view.
        epoch: Epoch,
        /// The member.
        source: NodeId,
        /// Its last index at the start.
        last: Index,
    },
    /// Entries were undone.
    Undoing {
        /// The last one to stay.
        to: Index,
        /// The last one there was.
        from: Index,
    },
    /// It is level enough to ask for membership.
    AsksToJoin {
        /// Its last index.
        last: Index,
    },
    /// It is a member again.
    Joined {
        /// Of the view with this epoch.
        epoch: Epoch,
    },
    /// The member that it levels with has another log by now: it asks again in a moment.
    SourceChanged(NodeId),
    /// It refuses all work from now on, for going on would break a promise.
    Halted(String),
}

/// What is to be done once a step is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Pending {
    Seal(View),
    Append { append: AppendPlan },
    Repeat { append: AppendPlan },
    Recover(Recover),
    Fetch { epoch: Epoch },
    Pulled { chains: Vec<(Index, Chain)>, commit: Index },
    Undo { to: Index },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct AppendPlan {
    epoch: Epoch,
    commit: Index,
    first: Index,
    last: Index,
    outcomes: Outcomes,
    chains: Vec<(Index, Chain)>,
}

/// Which outcomes the answer to an append brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Outcomes {
    /// Those that come of appending, for all of it is new.
    New,
    /// Those of all its entries, read back, for some were there already.
    ReadBack,
    /// None: it comes late and again.
    None,
}

/// Whether the rows of the tables are known to be what the digest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rows {
    /// Nobody has looked since the process started, and before that the file was anybody's.
    Uncounted,
    /// They were counted, or came with a snapshot that was checked row by row.
    Sound,
    /// They are not.
    Damaged,
}

/// One copy of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    pub(crate) me: NodeId,
    pub(crate) standing: Standing,
    pub(crate) appended_epoch: Epoch,
    pub(crate) resync: Option<Resync>,
    pub(crate) rows: Rows,
    tail: BTreeMap<Index, Chain>,
    pending: Option<Pending>,
    halted: Option<String>,
}

impl Replica {
    /// A replica as its store has it. `tail` holds the chains of the log's end, from its commit index
    /// or from [`TAIL_ENTRIES`] before its last index, whichever reaches further back.
    #[must_use]
    pub fn new(
        me: NodeId,
        standing: Standing,
        appended_epoch: Epoch,
        tail: impl IntoIterator<Item = (Index, Chain)>,
    ) -> Self {
        let mut tail: BTreeMap<Index, Chain> = tail.into_iter().collect();
        tail.insert(standing.last, standing.chain);
        let rows = Rows::Uncounted;
        Self { me, standing, appended_epoch, resync: None, rows, tail, pending: None, halted: None }
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Why it refuses all work, if it does.
    #[must_use]
    pub fn halted(&self) -> Option<&str> {
        self.halted.as_deref()
    }

    /// Whether a message is of a writer that this replica goes by: not of an older epoch than its promise.
    /// What it has to say unasked is for whoever last sent such a message, as far as that one is there.
    #[must_use]
    pub fn heeds(&self, message: &ToReplica) -> bool {
        epoch_of(message).is_some_and(|epoch| epoch >= self.standing.promise)
    }

    /// A message from a writer, or from a front end that wants to become one.
    pub fn handle(&mut self, now: Instant, message: ToReplica) -> Vec<Effect> {
        assert!(self.pending.is_none(), "a step was not answered with `persisted` or `failed`");
        if let (Some(problem), Some(epoch)) = (&self.halted, epoch_of(&message)) {
            return self.send(Reply::Failed { epoch, problem: problem.clone() });
        }
        match message {
            ToReplica::Append(append) => self.handle_append(append),
            ToReplica::Seal(view) => self.handle_seal(view),
            ToReplica::Recover(recover) => self.handle_recover(now, recover),
            ToReplica::Fetch { epoch, after, upto } => self.handle_fetch(epoch, after, upto),
            ToReplica::Recount { epoch } => vec![Effect::Recount { epoch }],
            ToReplica::Report => {
                let mut effects = self.send(Reply::Standing(self.standing.clone()));
                effects.extend(self.tell_damage());
                effects
            }
        }
    }

    /// All rows were counted, and gave the digest that is kept.
    pub fn counted(&mut self) -> Vec<Effect> {
        if self.rows != Rows::Uncounted {
            return Vec::new();
        }
        self.rows = Rows::Sound;
        self.rows_are_sound()
    }

    /// The rows are not what the digest says, or can't be read.
    pub fn damaged(&mut self) -> Vec<Effect> {
        self.rows = Rows::Damaged;
        let mut effects = self.tell_damage();
        effects.extend(self.begin_afresh());
        effects
    }

    /// Has the writer drop this replica, so that it may begin again from a snapshot. As long as it is a member
    /// it is said again whenever the writer may not have heard of it.
    fn tell_damage(&self) -> Vec<Effect> {
        match self.rows {
            Rows::Damaged => self.send(Reply::Recounted { epoch: self.standing.promise, sound: false }),
            Rows::Uncounted | Rows::Sound => Vec::new(),
        }
    }

    fn handle_append(&mut self, mut append: Append) -> Vec<Effect> {
        let epoch = append.epoch;
        if let Some(refused) = self.refuse_old_epoch(epoch) {
            return refused;
        }
        let gap = Refused::Gap { epoch, have: self.standing.last };
        if append.before > self.standing.last {
            return self.refuse(gap);
        }
        let last = append.last();
        let commit = self.standing.commit.max(append.commit.min(last));
        let had = append.entries.partition_point(|entry| entry.index <= self.standing.last);
        match self.chain_at(append.before) {
            // A late repetition of what is long committed: too old to be compared, and nothing to be taken.
            None if last <= self.standing.commit => append.entries.clear(),
            None => return self.refuse(gap),
            Some(chain) if chain != append.chain_before => {
                return self.refuse(Refused::Conflict { epoch, at: append.before });
            }
            Some(_) => {
                if let Some(at) = self.first_conflict(&append, had) {
                    return self.refuse(Refused::Conflict { epoch, at });
                }
            }
        }
        let mut plan = AppendPlan {
            epoch,
            commit,
            first: append.before.next(),
            last,
            outcomes: self.outcomes_of(&append, commit, had),
            chains: Vec::new(),
        };
        let mut entries = append.entries;
        entries.drain(..had.min(entries.len()));
        if entries.is_empty() && epoch == self.standing.promise && epoch == self.appended_epoch {
            return self.acknowledge_again(plan);
        }
        plan.chains = entries.iter().map(|entry| (entry.index, entry.chain)).collect();
        self.pending = Some(Pending::Append { append: plan });
        let promise = if mutant!(JoinWithoutPromise) { self.standing.promise } else { epoch };
        let change = Change { promise, appended_epoch: epoch, commit, entries };
        vec![Effect::Persist(Step::Append(change))]
    }

    /// Whether somebody waits for the outcomes of an append of which so many entries were there before. Not if
    /// more stands behind it by now: they could pass for those of the last batch. Nor if some of it is committed,
    /// which a batch on its way is not: the log may have it no more.
    fn outcomes_of(&self, append: &Append, commit: Index, had: usize) -> Outcomes {
        match had {
            0 => Outcomes::New,
            _ if append.last() >= self.standing.last && append.before >= commit => Outcomes::ReadBack,
            _ => Outcomes::None,
        }
    }

    /// Where an append's entries part from the log, or from themselves.
    fn first_conflict(&self, append: &Append, had: usize) -> Option<Index> {
        let (known, new) = append.entries.split_at(had);
        let mut index = append.before;
        let mut chain = append.chain_before;
        for entry in known {
            index = index.next();
            if entry.index != index || self.chain_at(index) != Some(entry.chain) {
                return Some(index);
            }
            chain = entry.chain;
        }
        for entry in new {
            index = index.next();
            if entry.index != index || !entry.follows(chain) {
                return Some(index);
            }
            chain = entry.chain;
        }
        None
    }

    /// Nothing of the append is new, and nothing that must be durable before the answer.
    fn acknowledge_again(&mut self, plan: AppendPlan) -> Vec<Effect> {
        self.standing.commit = plan.commit;
        self.answer_append(plan, Vec::new(), Vec::new())
    }

    fn handle_seal(&mut self, view: View) -> Vec<Effect> {
        if let Some(refused) = self.refuse_old_epoch(view.epoch) {
            return refused;
        }
        if view.epoch == self.standing.promise && self.standing.view.as_ref() == Some(&view) {
            return self.sealed(&view);
        }
        let step = Step::Promise { epoch: view.epoch, view: Some(view.clone()) };
        self.pending = Some(Pending::Seal(view));
        vec![Effect::Persist(step)]
    }

    fn handle_recover(&mut self, now: Instant, recover: Recover) -> Vec<Effect> {
        if let Some(refused) = self.refuse_old_epoch(recover.view.epoch) {
            return refused;
        }
        if recover.view.has(&self.me, self.standing.store) {
            // In the view it waits for the writer, who sends what it lacks.
            return Vec::new();
        }
        if recover.view.epoch == self.standing.promise && self.standing.view.as_ref() == Some(&recover.view) {
            return self.start_resync(now, recover);
        }
        if mutant!(UndoBeforePromise) {
            return self.start_resync(now, recover);
        }
        let step = Step::Promise { epoch: recover.view.epoch, view: Some(recover.view.clone()) };
        self.pending = Some(Pending::Recover(recover));
        vec![Effect::Persist(step)]
    }

    fn handle_fetch(&mut self, epoch: Epoch, after: Index, upto: Index) -> Vec<Effect> {
        if let Some(refused) = self.refuse_old_epoch(epoch) {
            return refused;
        }
        if after < self.standing.commit {
            // A new writer wants what lies behind all that is committed, for that is on every member. This comes
            // late, of a levelling that is long over, and the log may have it no more.
            return Vec::new();
        }
        self.pending = Some(Pending::Fetch { epoch });
        vec![Effect::Persist(Step::Fetch { after, upto })]
    }

    /// A step is durable.
    pub fn persisted(&mut self, now: Instant, done: Done) -> Vec<Effect> {
        match (self.pending.take(), done) {
            (Some(Pending::Seal(view)), Done::Promised) => self.promised_seal(view),
            (Some(Pending::Recover(recover)), Done::Promised) => {
                self.promise(recover.view.clone());
                self.start_resync(now, recover)
            }
            (Some(Pending::Append { append }), Done::Appended { outcomes, touched, digest }) => {
                self.take_append(append, outcomes, touched, digest)
            }
            (Some(Pending::Repeat { append }), Done::Outcomes(outcomes)) => {
                self.appended(append.epoch, outcomes, Touched::Everything)
            }
            (Some(Pending::Fetch { epoch }), Done::Fetched(entries)) => {
                self.send(Reply::Fetched { epoch, entries })
            }
            (Some(Pending::Pulled { chains, commit }), Done::Appended { digest, .. }) => {
                self.extend(&chains, digest);
                self.standing.commit = self.standing.commit.max(commit);
                self.continue_resync(now)
            }
            (Some(Pending::Undo { to }), Done::Undone { digest }) => {
                self.forget_above(to, digest);
                self.continue_resync(now)
            }
            (Some(Pending::Undo { .. }), Done::UndoGone) => self.fetch_snapshot(),
            (pending, done) => unreachable!("the driver answered {pending:?} with {done:?}"),
        }
    }

    /// The store could not carry out a step: nothing of it is done.
    pub fn failed(&mut self, now: Instant, problem: String) -> Vec<Effect> {
        let epoch = match self.pending.take() {
            Some(Pending::Seal(view)) => view.epoch,
            Some(Pending::Append { append } | Pending::Repeat { append }) => append.epoch,
            Some(Pending::Fetch { epoch }) => epoch,
            Some(Pending::Recover(recover)) => recover.view.epoch,
            Some(Pending::Pulled { .. } | Pending::Undo { .. }) => {
                let mut effects = self.handle_pull_failed(now);
                effects.extend(self.send(Reply::Failed { epoch: self.standing.promise, problem }));
                return effects;
            }
            None => unreachable!("nothing was asked of the store"),
        };
        self.send(Reply::Failed { epoch, problem })
    }

    fn promised_seal(&mut self, view: View) -> Vec<Effect> {
        let mut effects = Vec::new();
        if view.has(&self.me, self.standing.store) && self.resync.take().is_some() {
            effects.push(Effect::Note(Note::Joined { epoch: view.epoch }));
        }
        self.promise(view.clone());
        if mutant!(UndoInTheView) && self.standing.last > self.standing.commit {
            return vec![self.persist_undo(self.standing.commit)];
        }
        effects.extend(self.sealed(&view));
        effects
    }

    fn promise(&mut self, view: View) {
        assert!(view.epoch >= self.standing.promise, "I3: a promise never falls");
        self.standing.promise = view.epoch;
        self.standing.view = Some(view);
    }

    fn take_append(
        &mut self,
        plan: AppendPlan,
        outcomes: Vec<Outcome>,
        touched: Vec<CacheKey>,
        digest: Digest,
    ) -> Vec<Effect> {
        assert!(plan.epoch >= self.standing.promise, "I3: an append below the promise was taken");
        if !mutant!(JoinWithoutPromise) {
            self.standing.promise = plan.epoch;
        }
        self.appended_epoch = plan.epoch;
        self.extend(&plan.chains, digest);
        self.standing.commit = plan.commit;
        self.answer_append(plan, outcomes, touched)
    }

    /// What is durable is answered, with what came of appending it.
    fn answer_append(
        &mut self,
        plan: AppendPlan,
        outcomes: Vec<Outcome>,
        touched: Vec<CacheKey>,
    ) -> Vec<Effect> {
        match plan.outcomes {
            Outcomes::New => self.appended(plan.epoch, outcomes, Touched::Keys(touched)),
            Outcomes::None => self.appended(plan.epoch, Vec::new(), Touched::Keys(touched)),
            Outcomes::ReadBack => {
                let step = Step::Outcomes { first: plan.first, last: plan.last };
                self.pending = Some(Pending::Repeat { append: plan });
                vec![Effect::Persist(step)]
            }
        }
    }

    /// Has entries from a member's log appended during a resync.
    pub(crate) fn persist_pulled(&mut self, entries: Vec<Entry>, commit: Index) -> Effect {
        let chains = entries.iter().map(|entry| (entry.index, entry.chain)).collect();
        self.pending = Some(Pending::Pulled { chains, commit });
        let (promise, appended_epoch) = (self.standing.promise, self.appended_epoch);
        Effect::Persist(Step::Append(Change { promise, appended_epoch, commit, entries }))
    }

    /// Has the entries above an index undone during a resync.
    pub(crate) fn persist_undo(&mut self, to: Index) -> Effect {
        assert!(to >= self.standing.commit, "what is committed is never undone");
        self.pending = Some(Pending::Undo { to });
        Effect::Persist(Step::Undo { to })
    }

    fn extend(&mut self, chains: &[(Index, Chain)], digest: Digest) {
        for (index, chain) in chains {
            assert_eq!(*index, self.standing.last.next(), "I2: the log has no gap");
            self.standing.last = *index;
            self.standing.chain = *chain;
            self.tail.insert(*index, *chain);
        }
        self.standing.digest = digest;
        let keep_from = Index(self.standing.last.0.saturating_sub(TAIL_ENTRIES)).min(self.standing.commit);
        while self.tail.first_key_value().is_some_and(|(index, _)| *index < keep_from) {
            self.tail.pop_first();
        }
    }

    fn forget_above(&mut self, to: Index, digest: Digest) {
        self.tail.retain(|index, _| *index <= to);
        self.standing.chain = self.chain_at(to).unwrap_or_default();
        self.standing.last = to;
        self.standing.digest = digest;
    }

    /// Takes over how the store stands after a snapshot has replaced its tables and log.
    pub(crate) fn replace(&mut self, standing: Standing, tail: impl IntoIterator<Item = (Index, Chain)>) {
        assert_eq!(standing.store, self.standing.store, "a snapshot does not change who the store is");
        assert!(standing.promise >= self.standing.promise, "I3: a promise never falls");
        self.tail = tail.into_iter().collect();
        self.tail.insert(standing.last, standing.chain);
        self.standing = standing;
        self.rows = Rows::Sound;
    }

    /// The chain at an index, if it is known.
    pub(crate) fn chain_at(&self, index: Index) -> Option<Chain> {
        if index == Index(0) { Some(Chain::default()) } else { self.tail.get(&index).copied() }
    }

    /// Refuses all work from now on.
    pub(crate) fn halt(&mut self, problem: String) -> Vec<Effect> {
        self.resync = None;
        self.halted = Some(problem.clone());
        let mut effects = vec![Effect::Note(Note::Halted(problem.clone()))];
        effects.extend(self.send(Reply::Failed { epoch: self.standing.promise, problem }));
        effects
    }

    fn refuse_old_epoch(&self, epoch: Epoch) -> Option<Vec<Effect>> {
        let promise = self.standing.promise;
        (epoch < promise && !mutant!(NoFencing)).then(|| self.refuse(Refused::SealedBy { epoch, promise }))
    }

    fn appended(&self, epoch: Epoch, outcomes: Vec<Outcome>, touched: Touched) -> Vec<Effect> {
        let Standing { last, chain, digest, .. } = self.standing;
        self.send(Reply::Appended(Appended { epoch, last, chain, digest, outcomes, touched }))
    }

    fn sealed(&self, view: &View) -> Vec<Effect> {
        let Standing { last, chain, commit, .. } = self.standing;
        let mut effects = self.send(Reply::Sealed(Sealed { epoch: view.epoch, last, chain, commit }));
        effects.extend(self.tell_damage());
        effects
    }

    fn refuse(&self, refused: Refused) -> Vec<Effect> {
        self.send(Reply::Refused(refused))
    }

    pub(crate) fn send(&self, reply: Reply) -> Vec<Effect> {
        vec![Effect::Send(Said { store: self.standing.store, reply })]
    }
}

/// Whether a replica that has made this promise may answer a reader whose view has this epoch: not if the
/// promise is higher, for then the replica may have been left out, and be behind, without the reader's
/// knowledge. A function of its own, for reads go past the replica's owner.
///
/// # Errors
/// The promised epoch.
pub fn may_be_read(promise: Epoch, reader: Epoch) -> Result<(), Epoch> {
    if reader < promise && !mutant!(ReadOfAnyEpoch) { Err(promise) } else { Ok(()) }
}

fn epoch_of(message: &ToReplica) -> Option<Epoch> {
    match message {
        ToReplica::Append(append) => Some(append.epoch),
        ToReplica::Seal(view) => Some(view.epoch),
        ToReplica::Recover(recover) => Some(recover.view.epoch),
        ToReplica::Fetch { epoch, .. } | ToReplica::Recount { epoch } => Some(*epoch),
        ToReplica::Report => None,
    }
}
