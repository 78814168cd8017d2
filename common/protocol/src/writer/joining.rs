//! Letting a replica in that was left out of the view.
//!
//! It is told to level with a member ([`ToReplica::Recover`]). Nearly level, it asks to join: from then
//! on it is sent every new batch, without being waited for. Its answers count only in the writer's
//! epoch, which it promises by taking the first append. With no batch on its way, and its index, chain
//! and digest those of the members, the view is swapped, and it is a member. If load never leaves a
//! gap, one batch is held back for it, for a bounded time.

use std::time::Instant;

use crate::ids::{Chain, Digest, Epoch, Index, NodeId, StoreId};
use crate::message::{Append, Appended, Recover, ToReplica};
use crate::mutant;
use crate::view::{Member, View};
use crate::writer::{Effect, Happening, JOIN_HOLD, Writer};

/// A replica that is about to become a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Joiner {
    store: StoreId,
    /// Up to where it has answered in this epoch, with which chain and which digest.
    matched: Option<(Index, Chain, Digest)>,
    /// A batch is held back for it until then; once for each time that it asks.
    hold: Hold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Hold {
    Unused,
    Until(Instant),
    Spent,
}

impl<T> Writer<T> {
    pub(super) fn joiners(&self) -> Vec<NodeId> {
        self.peers.iter().filter(|(_, peer)| peer.joiner.is_some()).map(|(node, _)| node.clone()).collect()
    }

    /// Tells every replica outside the view to level with a member.
    pub(super) fn recover_all(&mut self, now: Instant) -> Vec<Effect<T>> {
        let nodes = self.configured.clone();
        nodes.iter().flat_map(|node| self.recover(now, node)).collect()
    }

    /// Tells a replica outside the view to level with a member, unless it has to wait.
    pub(super) fn recover(&mut self, now: Instant, node: &NodeId) -> Vec<Effect<T>> {
        if !self.is_leading() || self.is_member(node) {
            return Vec::new();
        }
        let Some(view) = self.view.clone() else { return Vec::new() };
        let suspected =
            |member: &&Member| self.peers.get(&member.node).is_some_and(|p| p.suspicion.is_some());
        // With all of them suspected, one may be back by the time that it is asked.
        let sound = view.members.iter().find(|member| !suspected(member));
        let Some(source) = sound.or_else(|| view.members.first()) else { return Vec::new() };
        let source = source.node.clone();
        let (shard, commit) = (self.shard, self.commit);
        let Some(peer) = self.peers.get_mut(node) else { return Vec::new() };
        if !peer.connected || peer.standing.is_none() || peer.barred_until.is_some_and(|until| until > now) {
            return Vec::new();
        }
        peer.barred_until = None;
        peer.joiner = None;
        let afresh = std::mem::take(&mut peer.unsound);
        let to = node.clone();
        let recover = Recover { view, source: source.clone(), commit, afresh };
        vec![
            Effect::Happening(Happening::ResyncStarted { shard, node: to.clone(), source }),
            Effect::Send { to, message: ToReplica::Recover(recover) },
        ]
    }

    /// A replica asks to be let in.
    pub(super) fn handle_join(
        &mut self,
        now: Instant,
        from: &NodeId,
        store: StoreId,
        (epoch, last, chain): (Epoch, Index, Chain),
    ) -> Vec<Effect<T>> {
        if !self.is_leading() || epoch != self.epoch() || self.is_member(from) {
            return Vec::new();
        }
        match self.window.chain_at(last) {
            None => self.recover(now, from),
            Some(ours) if ours != chain => self.recover(now, from),
            Some(_) => self.begin_joining(from, store, (last, chain)),
        }
    }

    fn begin_joining(&mut self, from: &NodeId, store: StoreId, at: (Index, Chain)) -> Vec<Effect<T>> {
        let shard = self.shard;
        let message = self.all_after(at);
        let Some(peer) = self.peers.get_mut(from) else { return Vec::new() };
        let first_time = peer.joiner.is_none();
        peer.joiner = Some(Joiner { store, matched: None, hold: Hold::Unused });
        let mut effects = vec![Effect::Send { to: from.clone(), message }];
        if first_time {
            effects.push(Effect::Happening(Happening::Joining { shard, node: from.clone() }));
        }
        effects
    }

    /// All that was issued after an entry that the window has.
    fn all_after(&self, (before, chain_before): (Index, Chain)) -> ToReplica {
        let (epoch, commit) = (self.epoch(), self.commit);
        let entries = self.window.after(before);
        ToReplica::Append(Append { epoch, before, chain_before, commit, entries })
    }

    /// A joiner has taken what it was sent.
    pub(super) fn joiner_appended(
        &mut self,
        now: Instant,
        from: &NodeId,
        store: StoreId,
        appended: &Appended,
    ) -> Vec<Effect<T>> {
        let Some(peer) = self.peers.get_mut(from) else { return Vec::new() };
        let Some(joiner) = peer.joiner.as_mut().filter(|joiner| joiner.store == store) else {
            return Vec::new();
        };
        joiner.matched = Some((appended.last, appended.chain, appended.digest));
        self.pump(now)
    }

    /// A joiner lacks something that was sent before.
    pub(super) fn joiner_gap(&mut self, now: Instant, from: &NodeId, have: Index) -> Vec<Effect<T>> {
        let Some(peer) = self.peers.get_mut(from) else { return Vec::new() };
        if peer.joiner.is_none() {
            return Vec::new();
        }
        match self.window.chain_at(have) {
            Some(chain) => {
                vec![Effect::Send { to: from.clone(), message: self.all_after((have, chain)) }]
            }
            None => self.recover(now, from),
        }
    }

    /// With no batch on its way: turns away the joiners that have the members' log but other tables. Their
    /// own are wrong, for the members agree on theirs. Before the first batch of a term the members' digest
    /// is not known; the first batch that they take then shows the difference.
    fn turn_away_unsound_joiners(&mut self, now: Instant) -> Vec<Effect<T>> {
        let (last, digest) = (self.window.last(), self.digest);
        let is_unsound = |joiner: &Joiner| {
            joiner.matched.is_some_and(|(index, chain, found)| {
                (index, chain) == last && digest.is_some_and(|digest| digest != found)
            })
        };
        let mut unsound = Vec::new();
        for (node, peer) in &mut self.peers {
            if peer.joiner.take_if(|joiner| is_unsound(joiner)).is_some() {
                peer.unsound = true;
                unsound.push(node.clone());
            }
        }
        let mut effects = Vec::new();
        for node in unsound {
            effects.push(self.members_differ(last.0));
            effects.extend(self.recover(now, &node));
        }
        effects
    }

    /// With no batch on its way: swaps the view to one that has the joiner, if it is level.
    pub(super) fn admit_level_joiner(&mut self, now: Instant) -> Vec<Effect<T>> {
        let mut effects = self.turn_away_unsound_joiners(now);
        let last = self.window.last();
        let Some(view) = &self.view else { return effects };
        let level: Vec<Member> = self
            .peers
            .iter()
            .filter_map(|(node, peer)| {
                let joiner = peer.joiner.as_ref()?;
                let member = Member { node: node.clone(), store: joiner.store };
                let matched = joiner.matched.map(|(index, chain, _)| (index, chain));
                let is_level = match matched {
                    Some(_) if mutant!(JoinBeforeLevel) => true,
                    Some((index, _)) if mutant!(JoinByIndexAlone) => index == last.0,
                    matched => matched == Some(last),
                };
                is_level.then_some(member)
            })
            .collect();
        if level.is_empty() {
            return effects;
        }
        let configured = &self.configured;
        let place = |node: &NodeId| configured.iter().position(|other| other == node);
        let mut members = view.members.clone();
        members.extend(level.iter().cloned());
        members.sort_by_key(|member| place(&member.node));
        let (shard, epoch) = (self.shard, view.epoch.next());
        let next = View { shard, epoch, writer: self.me.clone(), members, last_index: self.commit };
        let done = |member: Member| Happening::ResyncDone { shard, node: member.node, epoch };
        effects.extend(level.into_iter().map(|member| Effect::Happening(done(member))));
        effects.extend(self.swap_to(now, next));
        effects
    }

    /// Whether the next batch is held back for a joiner that lacks only the last one.
    pub(super) fn is_holding(&mut self, now: Instant) -> bool {
        let (commit, last) = (self.commit, self.window.last().0);
        let mut holding = false;
        for joiner in self.peers.values_mut().filter_map(|peer| peer.joiner.as_mut()) {
            match joiner.hold {
                Hold::Unused if joiner.matched.is_some() && last == commit => {
                    joiner.hold = Hold::Until(now + JOIN_HOLD);
                    holding = true;
                }
                Hold::Until(until) if now < until => holding = true,
                Hold::Until(_) => joiner.hold = Hold::Spent,
                Hold::Unused | Hold::Spent => {}
            }
        }
        holding
    }

    pub(super) fn tick_joining(&mut self, now: Instant) -> Vec<Effect<T>> {
        let expired = |until: Option<Instant>| until.is_some_and(|until| until <= now);
        let barred: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, peer)| expired(peer.barred_until))
            .map(|(node, _)| node.clone())
            .collect();
        let mut effects = Vec::new();
        for node in barred {
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.barred_until = None;
            }
            effects.extend(self.recover(now, &node));
        }
        effects.extend(self.pump(now));
        effects
    }

    pub(super) fn joining_deadline(&self) -> Option<Instant> {
        let holds = self.peers.values().filter_map(|peer| match peer.joiner.as_ref()?.hold {
            Hold::Until(until) => Some(until),
            Hold::Unused | Hold::Spent => None,
        });
        let waits_for_hold = self.is_leading() && self.batch.is_none() && !self.waiting.is_empty();
        let hold = waits_for_hold.then(|| holds.min()).flatten();
        let barred = self.peers.values().filter_map(|peer| peer.barred_until).min();
        [hold, barred].into_iter().flatten().min()
    }
}
