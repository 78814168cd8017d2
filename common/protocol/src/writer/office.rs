//! From a view in the store to an office in which writes are taken, and out of it again.
//!
//! 1. The view store is read. With no view there, every configured replica is asked how it stands, and
//!    the newest view that one was told is continued from; if none was told one, they begin empty.
//! 2. The view is swapped: epoch + 1, writer = me, same members.
//! 3. Every member is sealed. Those that are silent for the write timeout after another's answer leave
//!    the view, by another swap, before anything is appended. Any member has every acknowledged write.
//! 4. The longest log is taken, and the members that lack its end get it, before any of it counts.
//!
//! The same seal follows every later swap of the term; then the batch that was on its way is sent again
//! under the new epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::call::WriteFailure;
use crate::entry::Entry;
use crate::ids::{Chain, Epoch, Index, NodeId};
use crate::message::{Append, Sealed, Standing, ToReplica};
use crate::mutant;
use crate::view::{Member, View};
use crate::writer::window::Window;
use crate::writer::{Committed, Effect, Happening, Office, SwapResult, Why, Writer};

/// How long after stepping down, or after the view store failed, it is tried again.
const OUT_OF_OFFICE: Duration = Duration::from_millis(200);

/// How far the first epoch after a survey is beyond the highest that a replica knows: the store that was lost
/// may have held newer views, whose seals no replica has got yet, and an epoch has one view. More than there
/// were swaps in a row that reached nobody.
const SURVEY_LEAP: u64 = 1000;

impl<T> Writer<T> {
    /// What the view store holds; an error if it can't be read.
    pub fn view_read(&mut self, now: Instant, read: Result<Option<View>, String>) -> Vec<Effect<T>> {
        match (&self.office, read) {
            (Office::Reading | Office::Checking { .. }, Err(why)) => self.step_down(now, why),
            (Office::Reading, Ok(Some(view))) => self.take_over(now, view),
            (Office::Reading, Ok(None)) => self.begin_survey(),
            (Office::Checking { next }, Ok(stored)) => {
                let next = next.clone();
                if stored.as_ref() == Some(&next) {
                    return self.enter_view(now, next);
                }
                if stored.as_ref().map(|view| view.epoch) == self.view.as_ref().map(|view| view.epoch) {
                    // It did not happen, and no one else has been there: once more.
                    self.office = Office::Out { until: now };
                    return self.swap_to(now, next);
                }
                self.step_down(now, "another front end has changed the view".to_owned())
            }
            _ => Vec::new(),
        }
    }

    /// How a swap ended.
    pub fn swapped(&mut self, now: Instant, result: SwapResult) -> Vec<Effect<T>> {
        let Office::Swapping { next } = &self.office else { return Vec::new() };
        let next = next.clone();
        match result {
            SwapResult::Swapped => self.enter_view(now, next),
            SwapResult::Lost => self.step_down(now, "another front end has changed the view".to_owned()),
            SwapResult::Unknown if mutant!(UnknownSwapTakenForDone) => self.enter_view(now, next),
            SwapResult::Unknown => {
                self.office = Office::Checking { next };
                vec![Effect::ReadView]
            }
        }
    }

    pub(super) fn tick_office(&mut self, now: Instant) -> Vec<Effect<T>> {
        match &self.office {
            Office::Out { until } if *until <= now => {
                self.office = Office::Reading;
                vec![Effect::ReadView]
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn office_deadline(&self) -> Option<Instant> {
        let timeout = self.options.write_timeout;
        match &self.office {
            Office::Out { until } => Some(*until),
            Office::Sealing { since, first, .. } => {
                let start = if self.established { Some(*since) } else { *first };
                start.map(|start| start + timeout)
            }
            Office::Fetching { since, .. } | Office::Levelling { since, .. } => Some(*since + timeout),
            Office::Recounting { since, .. } => Some(*since + super::members::RECOUNT_TIMEOUT),
            Office::Reading
            | Office::Surveying
            | Office::Swapping { .. }
            | Office::Checking { .. }
            | Office::Leading
            | Office::Halted { .. } => None,
        }
    }

    fn take_over(&mut self, now: Instant, stored: View) -> Vec<Effect<T>> {
        self.established = false;
        let next = View { epoch: stored.epoch.next(), writer: self.me.clone(), ..stored.clone() };
        self.view = Some(stored);
        self.swap_to(now, next)
    }

    pub(super) fn swap_to(&mut self, now: Instant, next: View) -> Vec<Effect<T>> {
        let expected = self.view.as_ref().map_or(Epoch(0), |view| view.epoch);
        assert!(next.epoch > expected, "I3: each view has a higher epoch than those before");
        assert!(!next.members.is_empty(), "the last member is never dropped");
        if mutant!(SealBeforeSwap) {
            let mut effects = self.enter_view(now, next.clone());
            effects.push(Effect::Swap { expected, view: next });
            return effects;
        }
        self.office = Office::Swapping { next: next.clone() };
        vec![Effect::Swap { expected, view: next }]
    }

    /// A replica has said how it stands.
    pub(super) fn handle_standing(
        &mut self,
        now: Instant,
        from: &NodeId,
        standing: Standing,
    ) -> Vec<Effect<T>> {
        let store = standing.store;
        if let Some(peer) = self.peers.get_mut(from) {
            peer.standing = Some(standing);
        }
        if matches!(self.office, Office::Surveying) {
            return self.end_survey(now);
        }
        let Some(view) = self.view.clone() else { return Vec::new() };
        if !view.has(from, store) {
            return self.recover(now, from);
        }
        // What it says of its log may be old by now. What it is sent shows whether it lacks something.
        self.clear_suspicion(from, &[Why::Gone, Why::Silent]);
        self.send_again(from)
    }

    /// Sends a member what it may have missed: the answer is a sign of life, and a gap if it lacks more.
    pub(super) fn send_again(&self, to: &NodeId) -> Vec<Effect<T>> {
        let messages = match (&self.office, &self.view) {
            (Office::Sealing { sealed, .. }, Some(view)) if !sealed.contains_key(to) => {
                vec![ToReplica::Seal(view.clone())]
            }
            (Office::Recounting { sound, .. }, Some(view)) if !sound.contains_key(to) => {
                vec![self.append_for(to), ToReplica::Recount { epoch: view.epoch }]
            }
            (Office::Leading | Office::Recounting { .. }, _) => vec![self.append_for(to)],
            _ => Vec::new(),
        };
        messages.into_iter().map(|message| Effect::Send { to: to.clone(), message }).collect()
    }

    /// Every replica is asked how it stands now: what was heard before may have changed since.
    fn begin_survey(&mut self) -> Vec<Effect<T>> {
        self.office = Office::Surveying;
        for peer in self.peers.values_mut() {
            peer.standing = None;
        }
        let connected = self.peers.iter().filter(|(_, peer)| peer.connected);
        connected.map(|(to, _)| Effect::Send { to: to.clone(), message: ToReplica::Report }).collect()
    }

    /// With no view stored: once all configured replicas have reported, the newest view that one of them
    /// was told is continued from. With fewer, a newer one might be missed.
    fn end_survey(&mut self, now: Instant) -> Vec<Effect<T>> {
        let standings: Vec<(&NodeId, &Standing)> = self
            .configured
            .iter()
            .filter_map(|node| Some((node, self.peers.get(node)?.standing.as_ref()?)))
            .collect();
        if standings.len() < self.configured.len() {
            return Vec::new();
        }
        let promised = standings.iter().map(|(_, standing)| standing.promise).max().unwrap_or_default();
        let newest = standings.iter().filter_map(|(_, s)| s.view.as_ref()).max_by_key(|view| view.epoch);
        let orphan = standings.iter().find(|(_, s)| s.view.is_none() && s.last > Index(0));
        let (members, last_index) = match (newest, orphan) {
            (Some(view), _) => (view.members.clone(), view.last_index),
            (None, Some((node, standing))) => {
                let problem = format!("{node} has {} entries but was never told a view", standing.last);
                return self.halt(problem);
            }
            (None, None) => {
                let all = standings.iter().map(|(node, s)| Member { node: (*node).clone(), store: s.store });
                (all.collect(), Index(0))
            }
        };
        let known = promised.max(newest.map_or(Epoch(0), |view| view.epoch));
        // Where none was ever told a view there can be no lost one either.
        let leap = if newest.is_some() { SURVEY_LEAP } else { 1 };
        let epoch = Epoch(known.0 + leap);
        self.established = false;
        self.view = None;
        let (shard, writer) = (self.shard, self.me.clone());
        self.swap_to(now, View { shard, epoch, writer, members, last_index })
    }

    /// The view is in the store: its members are sealed before anything counts under it.
    fn enter_view(&mut self, now: Instant, view: View) -> Vec<Effect<T>> {
        let fresh = !self.established;
        for (node, peer) in &mut self.peers {
            if view.member(node).is_some() {
                if peer.joiner.take().is_some() {
                    peer.suspicion = None;
                }
                peer.member_since.get_or_insert(now);
            } else {
                peer.member_since = None;
                peer.suspicion = None;
                peer.joiner = None;
            }
        }
        self.office = Office::Sealing { sealed: BTreeMap::new(), since: now, first: None };
        self.view = Some(view.clone());
        // Until all are sealed, the writer before a term may commit what no cache here hears of: an answer from before
        // that would be too old for who asks after it, and shares the answer.
        let reads_at_once = !fresh || mutant!(TakeoverKeepsCache);
        let mut effects = vec![
            Effect::Happening(Happening::ViewChanged { view: view.clone() }),
            Effect::Read { view: reads_at_once.then(|| view.clone()), fresh },
        ];
        effects.extend(self.to_all_members(&ToReplica::Seal(view)));
        effects
    }

    pub(super) fn handle_sealed(&mut self, now: Instant, from: &NodeId, answer: Sealed) -> Vec<Effect<T>> {
        let Some(view) = &self.view else { return Vec::new() };
        if answer.epoch != view.epoch {
            return Vec::new();
        }
        let least = if self.established { self.commit } else { view.last_index };
        let Office::Sealing { sealed, first, .. } = &mut self.office else { return Vec::new() };
        first.get_or_insert(now);
        if answer.last < least {
            return self.suspect(now, from, Why::Behind);
        }
        if self.established && answer.last > self.window.last().0 {
            let why = format!("{from} has entries up to {} that this writer did not issue", answer.last);
            return self.step_down(now, why);
        }
        sealed.insert(from.clone(), answer);
        self.clear_suspicion(from, &[Why::Gone, Why::Silent, Why::Failing]);
        self.end_sealing(now)
    }

    /// The time for an answer is over: who owes one is asked again. Logs may have been levelled in part
    /// by now, so that begins anew. Who owes none and is suspected is asked how it stands: nothing else brings a word of
    /// it, and as long as it is suspected nobody can be dropped in its favour.
    pub(super) fn seal_again(&mut self, now: Instant) -> Vec<Effect<T>> {
        if matches!(self.office, Office::Fetching { .. } | Office::Levelling { .. }) {
            self.office = Office::Sealing { sealed: BTreeMap::new(), since: now, first: Some(now) };
        }
        if !matches!(self.office, Office::Sealing { .. }) {
            return Vec::new();
        }
        let again = |node: &NodeId| {
            let owed = self.send_again(node);
            let suspected = self.peers.get(node).is_some_and(|peer| peer.suspicion.is_some());
            if !owed.is_empty() || !suspected {
                return owed;
            }
            vec![Effect::Send { to: node.clone(), message: ToReplica::Report }]
        };
        self.members().flat_map(again).collect()
    }

    fn end_sealing(&mut self, now: Instant) -> Vec<Effect<T>> {
        let Office::Sealing { sealed, .. } = &self.office else { return Vec::new() };
        if !mutant!(AppendBeforeDrop) && self.members().any(|node| !sealed.contains_key(node)) {
            return Vec::new();
        }
        if self.established {
            return self.resume(now);
        }
        // What one of them knows to be committed has been on all.
        let known = sealed.values().map(|answer| answer.commit).max().unwrap_or_default();
        let behind = |(_, answer): &(&NodeId, &Sealed)| answer.last < known;
        let behind: Vec<NodeId> = sealed.iter().filter(behind).map(|(node, _)| node.clone()).collect();
        if !behind.is_empty() {
            if let Office::Sealing { sealed, .. } = &mut self.office {
                sealed.retain(|node, _| !behind.contains(node));
            }
            return behind.iter().flat_map(|node| self.suspect(now, node, Why::Behind)).collect();
        }
        let sealed = sealed.clone();
        self.level(now, sealed)
    }

    /// Back in office after a change of the members: what was on its way is sent again.
    fn resume(&mut self, now: Instant) -> Vec<Effect<T>> {
        self.office = Office::Leading;
        let mut effects = self.send_batch_to_all(now);
        effects.extend(self.recover_all(now));
        effects.extend(self.pump(now));
        effects
    }

    /// All members are sealed: the longest log is taken.
    fn level(&mut self, now: Instant, sealed: BTreeMap<NodeId, Sealed>) -> Vec<Effect<T>> {
        let Some((longest, target)) =
            sealed.iter().max_by_key(|(_, s)| s.last).map(|(node, s)| (node.clone(), (s.last, s.chain)))
        else {
            return Vec::new();
        };
        if let Some((node, _)) = sealed.iter().find(|(_, s)| s.last == target.0 && s.chain != target.1) {
            return self.halt(format!("I2: the logs of {longest} and {node} differ at {}", target.0));
        }
        let Some(least) = sealed.values().map(|s| s.last).min() else { return Vec::new() };
        if least == target.0 {
            return self.take_office(now, target);
        }
        let epoch = self.epoch();
        let message = ToReplica::Fetch { epoch, after: least, upto: target.0 };
        self.office = Office::Fetching { sealed, from: longest.clone(), since: now };
        vec![Effect::Send { to: longest, message }]
    }

    pub(super) fn handle_fetched(
        &mut self,
        now: Instant,
        from: &NodeId,
        epoch: Epoch,
        entries: Vec<Entry>,
    ) -> Vec<Effect<T>> {
        let current = self.epoch();
        let Office::Fetching { sealed, from: source, .. } = &self.office else { return Vec::new() };
        let (Some(target), true) = (sealed.get(from), from == source && epoch == current) else {
            return Vec::new();
        };
        let target = (target.last, target.chain);
        if entries.last().map(|entry| (entry.index, entry.chain)) != Some(target) {
            return self.halt(format!("{from} did not send its log up to {}", target.0));
        }
        let mut effects = Vec::new();
        let mut behind = BTreeSet::new();
        for (node, standing) in sealed.iter().filter(|(_, s)| s.last < target.0) {
            let lacking = entries.iter().filter(|entry| entry.index > standing.last).cloned().collect();
            let append = Append {
                epoch,
                before: standing.last,
                chain_before: standing.chain,
                commit: self.commit,
                entries: lacking,
            };
            behind.insert(node.clone());
            effects.push(Effect::Send { to: node.clone(), message: ToReplica::Append(append) });
        }
        self.office = Office::Levelling { target, behind, since: now };
        effects
    }

    /// A member that lacked something has it now.
    pub(super) fn handle_levelled(
        &mut self,
        now: Instant,
        from: &NodeId,
        at: (Index, Chain),
    ) -> Vec<Effect<T>> {
        let Office::Levelling { target, behind, .. } = &mut self.office else { return Vec::new() };
        if at != *target {
            return Vec::new();
        }
        let target = *target;
        behind.remove(from);
        if !behind.is_empty() {
            return Vec::new();
        }
        self.take_office(now, target)
    }

    /// All members are level and sealed: from here everything up to that index is committed.
    fn take_office(&mut self, now: Instant, (index, chain): (Index, Chain)) -> Vec<Effect<T>> {
        let after = self.commit.min(index);
        self.established = true;
        self.office = Office::Leading;
        self.commit = index;
        self.digest = None;
        self.batch = None;
        self.window = Window::at(index, chain);
        let (shard, epoch) = (self.shard, self.epoch());
        let mut effects = vec![
            // Not before: what is read while the logs are not level may lack what is committed here, and no
            // keys are known that would drop it from a cache.
            Effect::Read { view: self.view.clone(), fresh: true },
            Effect::Commit(Committed { after, index, chain, sales: None }),
            Effect::Happening(Happening::TookOffice { shard, epoch, commit: index }),
        ];
        if mutant!(TakeoverKeepsCache) {
            effects.remove(0);
        }
        effects.extend(self.recover_all(now));
        effects.extend(self.pump(now));
        if self.batch.is_none() {
            effects.extend(self.tell_commit_index());
        }
        effects
    }

    /// Out of office at once: it drops nobody, and unfinished writes end as unknown.
    pub(super) fn step_down(&mut self, now: Instant, why: String) -> Vec<Effect<T>> {
        let mut effects = self.end_unfinished(&why);
        self.established = false;
        self.view = None;
        self.window = Window::default();
        for peer in self.peers.values_mut() {
            peer.joiner = None;
            peer.suspicion = None;
        }
        self.office = Office::Out { until: now + OUT_OF_OFFICE };
        effects.push(Effect::Read { view: None, fresh: true });
        effects.push(Effect::Happening(Happening::SteppedDown { shard: self.shard, why }));
        effects
    }

    /// Ends what is on its way as unknown, and what waits as not done.
    pub(super) fn end_unfinished(&mut self, why: &str) -> Vec<Effect<T>> {
        let under_way = self.batch.take().into_iter().flat_map(|batch| batch.tickets).flatten();
        let unknown = WriteFailure::Unknown(format!("{why}; ask again with the same key"));
        let mut effects: Vec<Effect<T>> =
            under_way.map(|(ticket, _)| Effect::Complete { ticket, result: Err(unknown.clone()) }).collect();
        let not_done = WriteFailure::NotDone(why.to_owned());
        effects.extend(
            self.waiting
                .drain(..)
                .map(|waiting| Effect::Complete { ticket: waiting.ticket, result: Err(not_done.clone()) }),
        );
        effects
    }
}
