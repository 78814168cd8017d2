//! Group commit: while one batch is on its way, the next one collects.
//!
//! No timer decides when a batch leaves: the first write leaves at once, and those that come while it
//! travels leave together when it is back. So one write alone is as fast as it can be, and many share
//! one round and one fsync per replica.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::call::WriteFailure;
use crate::command::Outcome;
use crate::entry::Entry;
use crate::ids::{Chain, Digest, Index, NodeId, StoreId};
use crate::message::{Append, Appended, ToReplica, Touched};
use crate::mutant;
use crate::writer::{
    BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, Committed, Effect, Happening, Office, Waiting, Why, Writer,
};

/// The batch that is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Batch<T> {
    before: (Index, Chain),
    entries: Vec<Entry>,
    /// Who waits for each entry and since when; nobody, if they were told that it is unknown.
    pub(super) tickets: Vec<Option<(T, Instant)>>,
    sent: Instant,
    /// When the first member answered: the others have the write timeout from then on.
    first_answer: Option<Instant>,
    /// When the last one so far did.
    last_answer: Option<Instant>,
    answers: BTreeMap<NodeId, (Chain, Digest)>,
    outcomes: Vec<Outcome>,
    /// Not all answers bring the same outcomes.
    outcomes_differ: bool,
    touched: Touched,
    /// All members have it; its keys are leaving the caches.
    invalidating: bool,
}

impl<T> Batch<T> {
    fn last(&self) -> Index {
        self.entries.last().map_or(self.before.0, |entry| entry.index)
    }

    pub(super) fn is_invalidating(&self) -> bool {
        self.invalidating
    }

    pub(super) fn begins_after(&self) -> Index {
        self.before.0
    }
}

impl<T> Writer<T> {
    /// Sends the next batch, if there is one and nothing is in its way.
    pub(super) fn pump(&mut self, now: Instant) -> Vec<Effect<T>> {
        if !self.is_leading() || self.batch.is_some() {
            return Vec::new();
        }
        let mut effects = self.admit_level_joiner(now);
        if !self.is_leading() || self.waiting.is_empty() || self.is_holding(now) {
            return effects;
        }
        self.form_batch(now);
        effects.extend(self.send_batch_to_all(now));
        effects
    }

    fn form_batch(&mut self, now: Instant) {
        let before = self.window.last();
        let epoch = self.epoch();
        let (mut index, mut chain) = before;
        let mut bytes = 0;
        let mut entries = Vec::with_capacity(self.waiting.len().min(BATCH_ENTRIES_MAX));
        let mut tickets = Vec::with_capacity(entries.capacity());
        while entries.len() < BATCH_ENTRIES_MAX && (entries.is_empty() || bytes < BATCH_BYTES_MAX) {
            let Some(waiting) = self.waiting.pop_front() else { break };
            bytes += waiting.command.0.len();
            index = index.next();
            let entry = Entry::after(chain, index, epoch, waiting.command);
            chain = entry.chain;
            entries.push(entry);
            tickets.push(Some((waiting.ticket, waiting.since)));
        }
        self.window.extend(&entries);
        self.batch = Some(Batch {
            before,
            entries,
            tickets,
            sent: now,
            first_answer: None,
            last_answer: None,
            answers: BTreeMap::new(),
            outcomes: Vec::new(),
            outcomes_differ: false,
            touched: Touched::Keys(Vec::new()),
            invalidating: false,
        });
    }

    fn append_of(&self, batch: &Batch<T>) -> ToReplica {
        ToReplica::Append(Append {
            epoch: self.epoch(),
            before: batch.before.0,
            chain_before: batch.before.1,
            commit: self.commit,
            entries: batch.entries.clone(),
        })
    }

    /// Sends the batch to every member and to joiners; answers to an earlier sending no longer count.
    pub(super) fn send_batch_to_all(&mut self, now: Instant) -> Vec<Effect<T>> {
        let Some(batch) = &mut self.batch else { return Vec::new() };
        batch.sent = now;
        batch.first_answer = None;
        batch.last_answer = None;
        batch.answers.clear();
        let Some(batch) = &self.batch else { return Vec::new() };
        let message = self.append_of(batch);
        let mut effects = self.to_all_members(&message);
        for node in self.joiners() {
            effects.push(Effect::Send { to: node, message: message.clone() });
        }
        effects
    }

    /// The batch, for a member that has not answered it; else an append without entries.
    pub(super) fn append_for(&self, member: &NodeId) -> ToReplica {
        match &self.batch {
            Some(batch) if !batch.invalidating && !batch.answers.contains_key(member) => {
                self.append_of(batch)
            }
            _ => self.empty_append(),
        }
    }

    /// Tells all members and joiners what is committed.
    pub(super) fn tell_commit_index(&self) -> Vec<Effect<T>> {
        let message = self.empty_append();
        let all = self.members().cloned().chain(self.joiners());
        all.map(|to| Effect::Tell { to, message: message.clone() }).collect()
    }

    /// An append without entries, behind what every member has.
    pub(super) fn empty_append(&self) -> ToReplica {
        let (before, chain_before) =
            self.batch.as_ref().map_or_else(|| self.window.last(), |batch| batch.before);
        let (epoch, commit) = (self.epoch(), self.commit);
        ToReplica::Append(Append { epoch, before, chain_before, commit, entries: Vec::new() })
    }

    pub(super) fn handle_appended(
        &mut self,
        now: Instant,
        from: &NodeId,
        store: StoreId,
        appended: Appended,
    ) -> Vec<Effect<T>> {
        if appended.epoch != self.epoch() && !mutant!(AnswerOfAnyEpoch) {
            // An answer of another epoch counts for nothing, even with the same chain.
            return Vec::new();
        }
        if self.member_store(from) != Some(store) && !(mutant!(HostsForStores) && self.is_member(from)) {
            return self.joiner_appended(now, from, store, &appended);
        }
        self.clear_suspicion(from, &[Why::Silent, Why::Failing]);
        if matches!(self.office, Office::Levelling { .. }) {
            return self.handle_levelled(now, from, (appended.last, appended.chain));
        }
        if !self.is_leading() {
            return Vec::new();
        }
        let Some(batch) = &mut self.batch else { return Vec::new() };
        if batch.invalidating
            || appended.last != batch.last()
            || appended.outcomes.len() != batch.entries.len()
        {
            // A sign of life, or an answer to what was sent before.
            return Vec::new();
        }
        batch.first_answer.get_or_insert(now);
        let others_wait_since = batch.last_answer.replace(now);
        batch.answers.insert(from.clone(), (appended.chain, appended.digest));
        if batch.answers.len() == 1 {
            batch.outcomes = appended.outcomes;
            batch.outcomes_differ = false;
            batch.touched = appended.touched;
        } else {
            batch.outcomes_differ |= batch.outcomes != appended.outcomes;
            batch.touched =
                union(std::mem::replace(&mut batch.touched, Touched::Everything), appended.touched);
        }
        let mut effects = self.end_replication(now);
        if let Some(since) = others_wait_since
            && self.is_replicated()
        {
            effects.extend(self.note_lateness(now, from, now.saturating_duration_since(since)));
        }
        effects
    }

    /// Whether all members have answered the batch, and agree.
    fn is_replicated(&self) -> bool {
        self.batch.as_ref().is_some_and(Batch::is_invalidating)
    }

    /// All members have answered: they must agree, and the keys touched must leave every cache.
    fn end_replication(&mut self, now: Instant) -> Vec<Effect<T>> {
        let Some(batch) = &self.batch else { return Vec::new() };
        if !mutant!(AcknowledgeBeforeAll) && self.members().any(|node| !batch.answers.contains_key(node)) {
            return Vec::new();
        }
        let issued = batch.entries.last().map(|entry| entry.chain);
        if batch.answers.values().any(|(chain, _)| Some(*chain) != issued) {
            return self
                .step_down(now, format!("members have another entry {} than this writer", batch.last()));
        }
        let mut digests = batch.answers.values().map(|(_, digest)| *digest);
        let digest = digests.next();
        if batch.outcomes_differ || digests.any(|other| Some(other) != digest) {
            let index = batch.last();
            return self.recount(now, index);
        }
        self.digest = digest;
        let Some(batch) = &mut self.batch else { return Vec::new() };
        batch.invalidating = true;
        let touched = std::mem::replace(&mut batch.touched, Touched::Everything);
        let upto = batch.last();
        if mutant!(CommitBeforePush) {
            let mut effects = self.invalidated(now, upto);
            effects.push(Effect::Invalidate { upto, touched });
            return effects;
        }
        vec![Effect::Invalidate { upto, touched }]
    }

    /// The keys of the batch up to this index have left every cache: only now is it committed.
    pub fn invalidated(&mut self, now: Instant, upto: Index) -> Vec<Effect<T>> {
        let Some(batch) = self.batch.take_if(|batch| batch.invalidating && batch.last() == upto) else {
            return Vec::new();
        };
        assert!(self.established, "I1: a commit outside of an office");
        let after = std::mem::replace(&mut self.commit, upto);
        let chain = batch.entries.last().map_or(batch.before.1, |entry| entry.chain);
        let sales = batch.entries.iter().zip(&batch.outcomes).filter_map(|(entry, outcome)| match outcome {
            Outcome::Sold(order) => Some((entry.index, order.clone())),
            _ => None,
        });
        let committed = Committed { after, index: upto, chain, sales: Some(sales.collect()) };
        let mut effects = vec![Effect::Commit(committed)];
        for (ticket, outcome) in batch.tickets.into_iter().zip(batch.outcomes) {
            if let Some((ticket, _)) = ticket {
                effects.push(Effect::Complete { ticket, result: Ok(outcome) });
            }
        }
        effects.extend(self.pump(now));
        if self.batch.is_none() && self.is_leading() {
            // Where no batch follows at once, the members hear of the commit by an empty append.
            effects.extend(self.tell_commit_index());
        }
        effects
    }

    /// A member lacks entries: those of the batch on its way it gets; if it lacks more, it has lost what
    /// it had acknowledged.
    pub(super) fn handle_gap(&mut self, now: Instant, from: &NodeId, have: Index) -> Vec<Effect<T>> {
        if !self.is_member(from) {
            return self.joiner_gap(now, from, have);
        }
        let reached = self.batch.as_ref().map_or(self.window.last().0, Batch::begins_after);
        if have < reached {
            return self.suspect(now, from, Why::Behind);
        }
        self.send_again(from)
    }

    /// A replica has another entry than this writer at a place that it was sent.
    pub(super) fn handle_conflict(&mut self, now: Instant, from: &NodeId, at: Index) -> Vec<Effect<T>> {
        if self.is_member(from) {
            return self.step_down(now, format!("{from} has another entry {at} than this writer"));
        }
        if let Some(peer) = self.peers.get_mut(from) {
            peer.joiner = None;
        }
        self.recover(now, from)
    }

    /// When a member that has not answered the batch counts as silent.
    pub(super) fn batch_deadline(&self) -> Option<Instant> {
        let batch = self.batch.as_ref().filter(|batch| !batch.invalidating)?;
        let unanswered = |node: &NodeId| {
            let suspected = self.peers.get(node).is_some_and(|peer| peer.suspicion.is_some());
            !batch.answers.contains_key(node) && !suspected
        };
        let start = batch.first_answer.unwrap_or(batch.sent);
        (self.is_leading() && self.members().any(unanswered)).then(|| start + self.options.write_timeout)
    }

    /// The members that have not answered the batch, long after another has. What takes all of them long
    /// is the batch's fault, and nobody's.
    pub(super) fn silent_on_batch(&self, now: Instant) -> Vec<NodeId> {
        let Some(batch) = self.batch.as_ref().filter(|batch| !batch.invalidating) else { return Vec::new() };
        match batch.first_answer {
            Some(first) if self.is_leading() && first + self.options.write_timeout <= now => {
                self.members().filter(|node| !batch.answers.contains_key(node)).cloned().collect()
            }
            _ => Vec::new(),
        }
    }

    /// A batch that nobody has answered for so long may have been lost: it is sent again.
    pub(super) fn send_unanswered_batch_again(&mut self, now: Instant) -> Vec<Effect<T>> {
        let overdue = self.batch_deadline().is_some_and(|deadline| deadline <= now);
        let unanswered = self.batch.as_ref().is_some_and(|batch| batch.first_answer.is_none());
        if overdue && unanswered { self.send_batch_to_all(now) } else { Vec::new() }
    }

    /// Callers that have waited for too long are told what is known.
    pub(super) fn expire_callers(&mut self, now: Instant) -> Vec<Effect<T>> {
        let patience = self.options.patience;
        let why = self.waits_for().unwrap_or_else(|| "its replicas".to_owned());
        let mut effects = Vec::new();
        while self.waiting.front().is_some_and(|waiting| waiting.since + patience <= now) {
            if let Some(Waiting { ticket, .. }) = self.waiting.pop_front() {
                let failure = WriteFailure::NotDone(format!("shard {} waits for {why}", self.shard));
                effects.push(Effect::Complete { ticket, result: Err(failure) });
            }
        }
        for place in self.batch.iter_mut().flat_map(|batch| &mut batch.tickets) {
            if let Some((ticket, _)) = place.take_if(|(_, since)| *since + patience <= now) {
                let failure = WriteFailure::Unknown(format!("shard {} waits for {why}", self.shard));
                effects.push(Effect::Complete { ticket, result: Err(failure) });
            }
        }
        effects
    }

    pub(super) fn caller_deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.front().map(|waiting| waiting.since);
        let under_way = self.batch.iter().flat_map(|batch| &batch.tickets).flatten().map(|(_, since)| *since);
        under_way.chain(waiting).min().map(|since| since + self.options.patience)
    }

    pub(super) fn members_differ(&self, index: Index) -> Effect<T> {
        Effect::Happening(Happening::MembersDiffer { shard: self.shard, index })
    }
}

/// Both members' keys, for one that has the batch from before no longer knows which keys it touched.
fn union(one: Touched, other: Touched) -> Touched {
    match (one, other) {
        (Touched::Keys(mut keys), Touched::Keys(others)) => {
            if keys != others {
                keys.extend(others);
                keys.sort();
                keys.dedup();
            }
            Touched::Keys(keys)
        }
        (Touched::Everything, _) | (_, Touched::Everything) => Touched::Everything,
    }
}
