//! Suspicion, and the eviction of a member.
//!
//! A member is suspected when its connection is refused, when it leaves a message unanswered, when it
//! has lost something, or when it can't write. It is dropped only if another member has answered since
//! the suspicion began: else it may be this writer that is cut off. The writer stops reading from it,
//! swaps the view, durably, seals the rest, and then acknowledges what they all have. The last member
//! is never dropped.

use std::time::{Duration, Instant};

use crate::ids::{Epoch, Index, NodeId};
use crate::message::ToReplica;
use crate::view::{Member, View};
use crate::writer::{Effect, Happening, Office, Peer, Suspicion, Why, Writer};

/// How long a member may count its rows. A million take a few seconds.
pub(super) const RECOUNT_TIMEOUT: Duration = Duration::from_secs(60);
/// A replica that has been a member for so long starts with a clean record.
const GOOD_CONDUCT: Duration = Duration::from_secs(60);
/// The first wait of a replica that was dropped for being silent a second time; it doubles.
const BAR_FIRST: Duration = Duration::from_millis(500);
/// The longest.
const BAR_MAX: Duration = Duration::from_secs(60);

/// A member that is this part of the write timeout behind the others is late.
const LATE_PART: u32 = 20;
/// A member is dropped once the vessel holds so many write timeouts: the writes have waited for it alone for twice
/// as many more than they have not.
const LATE_TIMEOUTS: u32 = 2;

/// How long the writes have waited for one member alone: a vessel that fills with the time of waiting and
/// leaks half of all time. One that is late now and then stays; one for which the store stands still more
/// than half of the time does not, though it never leaves a message unanswered for long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Lateness {
    held_up: Duration,
    at: Option<Instant>,
}

impl Lateness {
    /// The writes have waited for it for so long; whether that is too much by now.
    fn waited(&mut self, now: Instant, time: Duration, write_timeout: Duration) -> bool {
        if time < write_timeout / LATE_PART {
            return false;
        }
        let past = self.at.replace(now).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.held_up = self.held_up.saturating_sub(past / 2) + time;
        self.held_up > write_timeout * LATE_TIMEOUTS
    }
}

impl<T> Writer<T> {
    /// A batch waited so long for its last answer, from this member.
    pub(super) fn note_lateness(&mut self, now: Instant, node: &NodeId, time: Duration) -> Vec<Effect<T>> {
        let write_timeout = self.options.write_timeout;
        let Some(peer) = self.peers.get_mut(node) else { return Vec::new() };
        if peer.lateness.waited(now, time, write_timeout) {
            peer.lateness = Lateness::default();
            return self.suspect(now, node, Why::Late);
        }
        Vec::new()
    }

    /// Suspects a member, and drops it if another has answered since.
    pub(super) fn suspect(&mut self, now: Instant, node: &NodeId, why: Why) -> Vec<Effect<T>> {
        if !self.is_member(node) {
            return Vec::new();
        }
        let Some(peer) = self.peers.get_mut(node) else { return Vec::new() };
        let mut effects = Vec::new();
        // One that is gone and did not come back in time either is no longer merely "not up yet".
        if peer.suspicion.map(|suspicion| suspicion.why) < Some(why) {
            peer.suspicion = Some(Suspicion { since: now, why });
            let (shard, node) = (self.shard, node.clone());
            effects.push(Effect::Happening(Happening::Suspected { shard, node, why }));
            self.forgive_lateness();
            effects.extend(self.probe());
        }
        effects.extend(self.review(now));
        effects
    }

    /// Late is who is behind the others. Where nobody is left to be behind, it is the one to keep: else the others,
    /// who are worse off, could never be dropped for want of a member whose answer counts.
    fn forgive_lateness(&mut self) {
        let members: Vec<NodeId> = self.members().cloned().collect();
        let suspicion = |node: &NodeId| self.peers.get(node).and_then(|peer| peer.suspicion);
        if members.iter().all(|node| suspicion(node).is_some()) {
            members.iter().for_each(|node| self.clear_suspicion(node, &[Why::Late]));
        }
    }

    pub(super) fn clear_suspicion(&mut self, node: &NodeId, of: &[Why]) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.suspicion.take_if(|suspicion| of.contains(&suspicion.why));
        }
    }

    /// Asks the members that are not suspected for a sign of life; where all are, each of them, for one that gives it is
    /// no longer silent, and the others can be dropped.
    fn probe(&self) -> Vec<Effect<T>> {
        let suspected = |node: &&NodeId| self.peers.get(*node).is_some_and(|peer| peer.suspicion.is_some());
        let all = self.members().all(|node| suspected(&node));
        let message = match &self.office {
            Office::Leading if !all => self.empty_append(),
            _ => ToReplica::Report,
        };
        let asked = self.members().filter(|node| all || !suspected(node));
        asked.map(|node| Effect::Send { to: node.clone(), message: message.clone() }).collect()
    }

    /// Members that leave unanswered what they should have answered by now are suspected.
    pub(super) fn suspect_late_members(&mut self, now: Instant) -> Vec<Effect<T>> {
        let overdue = self.office_deadline().is_some_and(|deadline| deadline <= now);
        let late: Vec<NodeId> = match &self.office {
            Office::Leading => self.silent_on_batch(now),
            Office::Sealing { sealed, .. } if overdue => {
                self.members().filter(|node| !sealed.contains_key(node)).cloned().collect()
            }
            Office::Fetching { from, .. } if overdue => vec![from.clone()],
            Office::Levelling { behind, .. } if overdue => behind.iter().cloned().collect(),
            Office::Recounting { sound, .. } if overdue => {
                self.members().filter(|node| !sound.contains_key(node)).cloned().collect()
            }
            _ => Vec::new(),
        };
        self.extend_overdue(now, overdue);
        let mut effects = self.send_unanswered_batch_again(now);
        let suspected: Vec<Effect<T>> =
            late.iter().flat_map(|node| self.suspect(now, node, Why::Silent)).collect();
        effects.extend(suspected);
        if overdue {
            effects.extend(self.seal_again(now));
        }
        effects
    }

    /// Sets the next time to look, so that a deadline in the past does not make the driver spin.
    fn extend_overdue(&mut self, now: Instant, overdue: bool) {
        if !overdue {
            return;
        }
        match &mut self.office {
            Office::Sealing { since, first, .. } => {
                *since = now;
                if first.is_some() {
                    *first = Some(now);
                }
            }
            Office::Fetching { since, .. }
            | Office::Levelling { since, .. }
            | Office::Recounting { since, .. } => *since = now,
            _ => {}
        }
    }

    /// Drops the suspected members, if some other has answered since each of them was suspected.
    pub(super) fn review(&mut self, now: Instant) -> Vec<Effect<T>> {
        if !self.may_evict() {
            return Vec::new();
        }
        let Some(view) = &self.view else { return Vec::new() };
        let suspicion = |node: &NodeId| self.peers.get(node).and_then(|peer| peer.suspicion);
        let newest_sign = view
            .members
            .iter()
            .filter(|member| suspicion(&member.node).is_none())
            .filter_map(|member| self.peers.get(&member.node)?.answered)
            .max();
        let Some(newest_sign) = newest_sign else { return Vec::new() };
        let drop = |node: &NodeId| suspicion(node).is_some_and(|suspicion| suspicion.since < newest_sign);
        let (dropped, members): (Vec<Member>, Vec<Member>) =
            view.members.iter().cloned().partition(|member| drop(&member.node));
        if dropped.is_empty() || members.is_empty() {
            return Vec::new();
        }
        let last_index = if self.established { self.commit } else { view.last_index };
        let next = View {
            epoch: view.epoch.next(),
            writer: self.me.clone(),
            members,
            last_index,
            shard: self.shard,
        };
        let mut effects: Vec<Effect<T>> =
            dropped.iter().map(|member| Effect::StopReading(member.node.clone())).collect();
        for member in &dropped {
            self.record_eviction(now, &member.node);
        }
        effects.extend(self.swap_to(now, next));
        effects
    }

    /// Whether members may be dropped now. During a takeover those that are merely not up yet get the
    /// time of the write timeout, counted from the first answer.
    fn may_evict(&self) -> bool {
        match &self.office {
            Office::Leading => !self.batch.as_ref().is_some_and(super::batch::Batch::is_invalidating),
            Office::Sealing { sealed, .. } => {
                let gone_only = self.members().all(|node| {
                    let why = self.peers.get(node).and_then(|peer| peer.suspicion).map(|s| s.why);
                    sealed.contains_key(node) || matches!(why, None | Some(Why::Gone))
                });
                self.established || !gone_only
            }
            Office::Fetching { .. } | Office::Levelling { .. } | Office::Recounting { .. } => true,
            Office::Out { .. }
            | Office::Reading
            | Office::Surveying
            | Office::Swapping { .. }
            | Office::Checking { .. }
            | Office::Halted { .. } => false,
        }
    }

    /// A replica that is dropped again and again for being slow has to wait before it may come back.
    fn record_eviction(&mut self, now: Instant, node: &NodeId) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        let why = peer.suspicion.map(|suspicion| suspicion.why);
        peer.unsound |= why == Some(Why::Unsound);
        if !matches!(why, Some(Why::Late | Why::Silent | Why::Failing)) {
            return;
        }
        if peer.member_since.is_some_and(|since| since + GOOD_CONDUCT <= now) {
            peer.strikes = 0;
        }
        let doublings = peer.strikes.saturating_sub(1).min(16);
        peer.barred_until = (peer.strikes > 0).then(|| now + (BAR_FIRST * 2_u32.pow(doublings)).min(BAR_MAX));
        peer.strikes += 1;
    }

    /// A replica's store could not do what it was asked.
    pub(super) fn handle_failed(
        &mut self,
        now: Instant,
        from: &NodeId,
        epoch: Epoch,
        problem: String,
    ) -> Vec<Effect<T>> {
        let (shard, node) = (self.shard, from.clone());
        let mut effects = vec![Effect::Happening(Happening::ReplicaFailed { shard, node, problem })];
        if let Some(peer) = self.peers.get_mut(from) {
            peer.ask_again = Some(now + self.options.write_timeout);
        }
        if epoch == self.epoch() {
            effects.extend(self.suspect(now, from, Why::Failing));
        }
        effects
    }

    /// A disk that was full may have room again. The last member is not dropped, and a replica outside
    /// the view hears nothing else.
    pub(super) fn ask_failed_again(&mut self, now: Instant) -> Vec<Effect<T>> {
        let due = |peer: &mut Peer| peer.ask_again.take_if(|at| *at <= now).is_some();
        let nodes: Vec<NodeId> =
            self.peers.iter_mut().filter_map(|(node, peer)| due(peer).then(|| node.clone())).collect();
        let again = |node: &NodeId| {
            if self.is_member(node) { self.send_again(node) } else { self.recover(now, node) }
        };
        nodes.iter().flat_map(again).collect()
    }

    /// The members have the same log but other tables: each counts its own anew, off the write path.
    pub(super) fn recount(&mut self, now: Instant, index: Index) -> Vec<Effect<T>> {
        self.office = Office::Recounting { sound: [].into(), since: now };
        let mut effects = vec![self.members_differ(index)];
        effects.extend(self.to_all_members(&ToReplica::Recount { epoch: self.epoch() }));
        effects
    }

    pub(super) fn handle_recounted(
        &mut self,
        now: Instant,
        from: &NodeId,
        epoch: Epoch,
        is_sound: bool,
    ) -> Vec<Effect<T>> {
        if epoch != self.epoch() || !self.is_member(from) {
            return Vec::new();
        }
        let mut effects = Vec::new();
        if !is_sound {
            // Also without having been asked: a replica's own scrub found it.
            effects.extend(self.suspect(now, from, Why::Unsound));
        }
        let Office::Recounting { sound, .. } = &mut self.office else { return effects };
        sound.insert(from.clone(), is_sound);
        let sound = sound.clone();
        if self.members().all(|node| sound.get(node) == Some(&true)) {
            effects.extend(self.halt("the members' tables differ, and each finds its own sound".to_owned()));
        } else if self.members().all(|node| sound.get(node) == Some(&false)) {
            effects.extend(self.halt("no member finds its tables sound".to_owned()));
        }
        effects
    }
}
