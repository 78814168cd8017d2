//! How a replica that was left out of a view levels with its members.
//!
//! The writer says which member to pull from. The replica has made the view's epoch its promise,
//! durably, before anything here happens. Then it pulls the member's log from its own commit index on
//! (up to there the two are the same), undoes what the member does not share, appends what it lacks,
//! and, nearly level, asks the writer to join. From then on the writer sends it every batch; a
//! [`ToReplica::Seal`](crate::message::ToReplica::Seal) with a view that has it ends the resync.
//!
//! Where the member's log does not reach back so far, or something can't be undone, or the own rows turn out
//! to be damaged, a snapshot of the member replaces the tables and the log.
//!
//! Its rows are counted meanwhile, once after each start of its process, and it does not ask to join before
//! they are found sound: it may soon be the only member, and nobody has looked at its file while it was away.
//!
//! Two things it must not do: undo at or below its commit index, and undo what it acknowledged to a
//! writer that may still count that. A writer counts the acknowledgements of its own epoch only, so
//! entries may be undone when the last acknowledged append was of an older epoch than the view that
//! leaves the replica out; those of the same epoch came from the very writer that now says "recover",
//! and fit on its log. If the member's log has others all the same, of a later epoch, that writer has been
//! displaced, and the next one is waited for.

use std::time::{Duration, Instant};

use crate::call::LogPage;
use crate::entry::Entry;
use crate::ids::{Chain, Epoch, Index, NodeId};
use crate::message::{Recover, Reply, Standing};
use crate::mutant;
use crate::replica::{Effect, Note, Replica, Rows};

/// How long to wait before a source that could not be reached is asked again, and before the writer is
/// asked again to be let in. Short against the patience of an operator, long against a round trip.
pub const RETRY: Duration = Duration::from_millis(200);

/// How near to the end of the source's log is near enough to ask to join. The writer keeps at least so
/// many entries at hand.
pub const NEARLY_LEVEL: u64 = 1024;

/// A resync under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resync {
    epoch: Epoch,
    source: NodeId,
    commit: Index,
    state: State,
    /// Up to where our log has been found to be the source's.
    verified: Index,
    /// The end of the source's log when it was last heard of.
    source_last: Index,
    /// What was pulled and waits for an undo to be done.
    pulled: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    /// A page was asked for.
    Pulling,
    /// A snapshot was asked for.
    Fetching,
    /// The source could not be reached.
    Waiting { until: Instant, snapshot: bool },
    /// Nearly level, but its rows are still being counted.
    Counting,
    /// The writer was asked; it sends what is new.
    Joining { again: Instant },
}

impl Replica {
    /// Whether a resync is under way.
    #[must_use]
    pub fn is_resyncing(&self) -> bool {
        self.resync.is_some()
    }

    /// When [`Replica::tick`] wants to be called, if ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.resync.as_ref()?.state {
            State::Waiting { until, .. } => Some(until),
            State::Joining { again } => Some(again),
            State::Pulling | State::Fetching | State::Counting => None,
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) -> Vec<Effect> {
        let Some(resync) = &mut self.resync else { return Vec::new() };
        match resync.state {
            State::Waiting { until, snapshot } if until <= now => {
                if snapshot {
                    return self.fetch_snapshot();
                }
                resync.state = State::Pulling;
                vec![Effect::Pull { source: resync.source.clone(), after: resync.verified }]
            }
            State::Joining { again } if again <= now => self.ask_to_join(now),
            State::Waiting { .. }
            | State::Joining { .. }
            | State::Pulling
            | State::Fetching
            | State::Counting => Vec::new(),
        }
    }

    /// Begins, the promise being durable. A resync of the same view goes on as it is, unless it had
    /// come as far as asking to join: then the writer found that it lacks too much, and it pulls again.
    pub(crate) fn start_resync(&mut self, now: Instant, recover: Recover) -> Vec<Effect> {
        let epoch = recover.view.epoch;
        if let Some(resync) = &self.resync
            && resync.epoch == epoch
            && resync.source == recover.source
            && !matches!(resync.state, State::Joining { .. })
        {
            return Vec::new();
        }
        let (source, last) = (recover.source, self.standing.last);
        self.resync = Some(Resync {
            epoch,
            source: source.clone(),
            commit: recover.commit,
            state: State::Waiting { until: now, snapshot: recover.afresh || self.rows == Rows::Damaged },
            verified: self.standing.commit,
            source_last: recover.commit,
            pulled: Vec::new(),
        });
        let mut effects = vec![Effect::Note(Note::ResyncStarted { epoch, source, last })];
        effects.extend(self.tick(now));
        effects
    }

    /// A page of the source's log, asked for from this replica's commit index or last index on.
    pub fn handle_pulled(&mut self, now: Instant, source: &NodeId, page: LogPage) -> Vec<Effect> {
        let Some(resync) = &mut self.resync else { return Vec::new() };
        if resync.source != *source || resync.state != State::Pulling {
            return Vec::new();
        }
        match page {
            LogPage::Entries { entries, last } => self.take_page(now, entries, last),
            LogPage::Gone => self.fetch_snapshot(),
            LogPage::Failed(_) => self.handle_pull_failed(now),
        }
    }

    fn take_page(&mut self, now: Instant, entries: Vec<Entry>, source_last: Index) -> Vec<Effect> {
        let Some(resync) = &self.resync else { return Vec::new() };
        let verified = resync.verified;
        if entries.first().is_some_and(|entry| entry.index != verified.next()) {
            // An answer to what was asked before this resync began: what was asked since comes behind it.
            return self.handle_pull_failed(now);
        }
        let page_end = entries.last().map_or(verified, |entry| entry.index);
        let Some(shared) = self.shared_with(verified, &entries) else {
            let chain = self.chain_at(verified);
            let begins_elsewhere =
                entries.first().is_some_and(|first| chain.is_some_and(|ours| !first.follows(ours)));
            if verified > self.standing.commit && begins_elsewhere {
                // Left out itself meanwhile, the source may have undone what it had when it made the page before.
                return self.wait_for_source(now);
            }
            return self
                .halt(format!("a page of {}'s log does not fit on our entry {verified}", resync.source));
        };
        let parted = shared < page_end && shared < self.standing.last;
        let ends_below_ours = page_end >= source_last && page_end < self.standing.last;
        let keep =
            if parted || ends_below_ours { shared.min(self.standing.last) } else { self.standing.last };
        let may_undo = self.may_undo();
        let is_of_a_later_view = entries.last().is_some_and(|entry| entry.epoch > resync.epoch);
        if ends_below_ours && !parted && !may_undo {
            // Sent by the writer before the source had it when it made this page, and committed since, it may
            // be: the writer is to judge it, by its chain.
            return self.ask_to_join(now);
        }
        if keep < self.standing.commit {
            return self.halt(format!("the members' log parts from ours at the committed {}", keep.next()));
        }
        let fresh: Vec<Entry> = entries.into_iter().filter(|entry| entry.index > keep).collect();
        if let Some(resync) = &mut self.resync {
            resync.verified = page_end;
            resync.source_last = source_last;
        }
        if keep == self.standing.last {
            return self.take_fresh(now, fresh);
        }
        if !may_undo {
            if is_of_a_later_view {
                // The writer that said "recover" has been displaced at the source. What it counts there it will never
                // have; but it is for its successor to say so, under an epoch of its own.
                return self.wait_for_source(now);
            }
            let epoch = self.appended_epoch;
            return self
                .halt(format!("what was acknowledged in epoch {epoch} above {keep} is not on the members"));
        }
        if let Some(resync) = &mut self.resync {
            resync.pulled = fresh;
        }
        let from = self.standing.last;
        vec![Effect::Note(Note::Undoing { to: keep, from }), self.persist_undo(keep)]
    }

    /// Up to where a page that begins behind `verified` is one with our log, or goes on from it.
    /// Nothing if the page does not fit on `verified` or on itself.
    fn shared_with(&self, verified: Index, entries: &[Entry]) -> Option<Index> {
        let mut chain = self.chain_at(verified)?;
        let mut index = verified;
        let mut shared = verified;
        let mut parted = false;
        for entry in entries {
            index = index.next();
            if entry.index != index || !entry.follows(chain) {
                return None;
            }
            chain = entry.chain;
            parted |= index <= self.standing.last && self.chain_at(index) != Some(chain);
            if !parted {
                shared = index;
            }
        }
        Some(shared)
    }

    fn take_fresh(&mut self, now: Instant, fresh: Vec<Entry>) -> Vec<Effect> {
        let Some(resync) = &self.resync else { return Vec::new() };
        let Some(end) = fresh.last().map(|entry| entry.index) else { return self.join_or_pull(now) };
        let commit = self.standing.commit.max(resync.commit.min(end));
        vec![self.persist_pulled(fresh, commit)]
    }

    /// A step of the resync is durable: what comes next.
    pub(crate) fn continue_resync(&mut self, now: Instant) -> Vec<Effect> {
        let Some(resync) = &mut self.resync else { return Vec::new() };
        let fresh = std::mem::take(&mut resync.pulled);
        self.take_fresh(now, fresh)
    }

    fn join_or_pull(&mut self, now: Instant) -> Vec<Effect> {
        let Some(resync) = &mut self.resync else { return Vec::new() };
        let last = self.standing.last;
        if resync.verified >= last && last.0 + NEARLY_LEVEL >= resync.source_last.0 {
            return self.ask_to_join(now);
        }
        resync.state = State::Pulling;
        vec![Effect::Pull { source: resync.source.clone(), after: resync.verified }]
    }

    fn ask_to_join(&mut self, now: Instant) -> Vec<Effect> {
        let Some(resync) = &mut self.resync else { return Vec::new() };
        if self.rows == Rows::Uncounted && !mutant!(JoinUncounted) {
            resync.state = State::Counting;
            return Vec::new();
        }
        let first_time = !matches!(resync.state, State::Joining { .. });
        resync.state = State::Joining { again: now + RETRY };
        let epoch = resync.epoch;
        let Standing { last, chain, .. } = self.standing;
        let mut effects = self.send(Reply::Join { epoch, last, chain });
        if first_time {
            effects.push(Effect::Note(Note::AsksToJoin { last }));
        }
        effects
    }

    /// The rows were found sound: what has been added to the source's log meanwhile is pulled, and then it joins.
    pub(crate) fn rows_are_sound(&mut self) -> Vec<Effect> {
        match &mut self.resync {
            Some(resync) if resync.state == State::Counting => {
                resync.state = State::Pulling;
                vec![Effect::Pull { source: resync.source.clone(), after: resync.verified }]
            }
            _ => Vec::new(),
        }
    }

    /// The rows were found damaged: what is pulled would not mend them.
    pub(crate) fn begin_afresh(&mut self) -> Vec<Effect> {
        match &self.resync {
            Some(resync) if resync.state != State::Fetching => self.fetch_snapshot(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn fetch_snapshot(&mut self) -> Vec<Effect> {
        let at_least = self.snapshot_at_least();
        let Some(resync) = &mut self.resync else { return Vec::new() };
        resync.state = State::Fetching;
        resync.pulled.clear();
        vec![Effect::FetchSnapshot { source: resync.source.clone(), at_least }]
    }

    /// Whether nothing that this replica has acknowledged may still be counted by a writer.
    fn may_undo(&self) -> bool {
        let fits = |resync: &Resync| self.appended_epoch < resync.epoch || mutant!(UndoWhatCounts);
        self.resync.as_ref().is_some_and(fits)
    }

    /// What a snapshot must hold, so that nothing is lost by it that must not be undone.
    fn snapshot_at_least(&self) -> Index {
        if self.may_undo() { self.standing.commit } else { self.standing.last }
    }

    /// Whether a snapshot that ends at an index is still wanted: to be asked just before it is installed,
    /// for what the replica was told since it asked for one may have made it useless, or harmful.
    #[must_use]
    pub fn wants_snapshot(&self, last: Index) -> bool {
        let fetching = self.resync.as_ref().is_some_and(|resync| resync.state == State::Fetching);
        fetching && last >= self.snapshot_at_least()
    }

    /// A snapshot has replaced the tables and the log; this is how the store stands now.
    pub fn snapshot_installed(
        &mut self,
        now: Instant,
        standing: Standing,
        tail: impl IntoIterator<Item = (Index, Chain)>,
    ) -> Vec<Effect> {
        self.replace(standing, tail);
        let Some(resync) = &mut self.resync else { return Vec::new() };
        resync.state = State::Waiting { until: now, snapshot: false };
        resync.verified = self.standing.commit;
        self.tick(now)
    }

    /// The source has another log than when it was named, or last asked.
    fn wait_for_source(&mut self, now: Instant) -> Vec<Effect> {
        let source = self.resync.as_ref().map(|resync| resync.source.clone());
        let mut effects = self.handle_pull_failed(now);
        effects.extend(source.map(|source| Effect::Note(Note::SourceChanged(source))));
        effects
    }

    /// The source did not answer, or what it sent could not be used.
    pub fn handle_pull_failed(&mut self, now: Instant) -> Vec<Effect> {
        if let Some(resync) = &mut self.resync {
            let snapshot = resync.state == State::Fetching;
            resync.pulled.clear();
            // What was pulled may not have become durable.
            resync.verified = self.standing.commit;
            resync.state = State::Waiting { until: now + RETRY, snapshot };
        }
        Vec::new()
    }
}
