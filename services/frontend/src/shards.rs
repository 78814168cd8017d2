//! What the rest of the front end knows of each shard: the view to read by, who of it is fit to be
//! read, and up to where the shard is committed.
//!
//! The shard's writer publishes here. With several front ends, a reader's lease will: this is the one
//! place that reads take their view and their commit index from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use protocol::balance::{Balancer, Policy};
use protocol::heartbeat::State;
use protocol::ids::{Epoch, Index, NodeId, ShardId, StoreId};
use protocol::view::View;
use tokio::sync::watch;

/// All shards. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shards(Arc<BTreeMap<ShardId, ShardState>>);

/// A shard, as far as it is known here.
#[derive(Debug)]
pub struct ShardState {
    /// Its number.
    pub id: ShardId,
    /// The newest view that its writer has stored. Until the writer is in office, nothing is read by it.
    stored: Mutex<Option<Arc<View>>>,
    view: watch::Sender<Option<Arc<View>>>,
    commit: watch::Sender<Index>,
    waits_for: watch::Sender<Option<String>>,
    seeded: watch::Sender<bool>,
    /// Replicas whose stores can't write, and why.
    failing: Mutex<BTreeMap<NodeId, String>>,
    reading: Mutex<Reading>,
}

#[derive(Debug)]
struct Reading {
    balancer: Balancer,
    /// About to be dropped from the view.
    dropping: BTreeSet<NodeId>,
    /// Without a heartbeat.
    silent: BTreeSet<NodeId>,
}

/// A read under way at a replica: it counts there until this is ended or dropped.
#[derive(Debug)]
pub struct ReadSlot<'a> {
    shard: &'a ShardState,
    /// The replica.
    pub node: NodeId,
    /// Its store, as the view has it.
    pub store: StoreId,
    started: Instant,
    ended: bool,
}

impl Shards {
    /// The shards of a configuration, nothing being known of them.
    #[must_use]
    pub fn new(ids: impl Iterator<Item = ShardId>, policy: Policy) -> Self {
        Self(Arc::new(ids.map(|id| (id, ShardState::new(id, policy))).collect()))
    }

    /// A shard.
    #[must_use]
    pub fn get(&self, shard: ShardId) -> Option<&ShardState> {
        self.0.get(&shard)
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = &ShardState> {
        self.0.values()
    }

    /// A node's heart beats again, or no longer.
    pub fn set_node_state(&self, node: &NodeId, state: State) {
        for shard in self.iter() {
            let mut reading = shard.reading.lock();
            if state == State::Up {
                reading.silent.remove(node);
            } else {
                reading.silent.insert(node.clone());
            }
            shard.choose_candidates(&mut reading);
        }
    }
}

impl ShardState {
    fn new(id: ShardId, policy: Policy) -> Self {
        let reading =
            Reading { balancer: Balancer::new(policy), dropping: BTreeSet::new(), silent: BTreeSet::new() };
        Self {
            id,
            stored: Mutex::default(),
            view: watch::Sender::new(None),
            commit: watch::Sender::new(Index(0)),
            waits_for: watch::Sender::new(Some("the view store".to_owned())),
            seeded: watch::Sender::new(false),
            failing: Mutex::default(),
            reading: Mutex::new(reading),
        }
    }

    /// The view that its writer has stored, for status and messages; not to read by: that is [`ShardState::view`].
    #[must_use]
    pub fn stored_view(&self) -> Option<Arc<View>> {
        self.stored.lock().clone()
    }

    /// Publishes the view that its writer has stored; none when it steps down.
    pub fn set_stored_view(&self, view: Option<View>) {
        *self.stored.lock() = view.map(Arc::new);
    }

    /// The view to read by, if there is one.
    #[must_use]
    pub fn view(&self) -> Option<Arc<View>> {
        self.view.borrow().clone()
    }

    /// Changes with the view.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.view.subscribe()
    }

    /// Waits until there is a view of a higher epoch than this.
    pub async fn view_above(&self, epoch: Epoch) {
        let newer = |view: &Option<Arc<View>>| view.as_ref().is_some_and(|view| view.epoch > epoch);
        // An error would mean that the sender is gone, and the sender is here.
        drop(self.view.subscribe().wait_for(newer).await);
    }

    /// Read by this view from now on.
    pub fn set_view(&self, view: Option<View>) {
        self.view.send_replace(view.map(Arc::new));
        let mut reading = self.reading.lock();
        reading.dropping.clear();
        self.choose_candidates(&mut reading);
    }

    /// Send this member no more reads.
    pub fn stop_reading(&self, node: &NodeId) {
        let mut reading = self.reading.lock();
        reading.dropping.insert(node.clone());
        self.choose_candidates(&mut reading);
    }

    fn choose_candidates(&self, reading: &mut Reading) {
        let view = self.view();
        let members = view.iter().flat_map(|view| view.members.iter().map(|member| member.node.clone()));
        let members: Vec<NodeId> = members.filter(|node| !reading.dropping.contains(node)).collect();
        let beating: Vec<NodeId> =
            members.iter().filter(|node| !reading.silent.contains(*node)).cloned().collect();
        // Better to ask one whose heart does not beat than nobody.
        reading.balancer.set_candidates(if beating.is_empty() { &members } else { &beating });
    }

    /// The replica that gets the next read, other than one that has failed it.
    pub fn next_replica(&self, view: &View, not: Option<&NodeId>) -> Option<ReadSlot<'_>> {
        let started = Instant::now();
        let mut reading = self.reading.lock();
        let node = reading.balancer.choose(started, not)?;
        let store = view.member(&node)?.store;
        reading.balancer.started(&node);
        Some(ReadSlot { shard: self, node, store, started, ended: false })
    }

    /// Up to where the shard is committed.
    #[must_use]
    pub fn commit_index(&self) -> Index {
        *self.commit.borrow()
    }

    /// Waits until the shard is committed up to an index.
    pub async fn committed(&self, index: Index) {
        drop(self.commit.subscribe().wait_for(|commit| *commit >= index).await);
    }

    /// Waits until the shard is committed beyond an index.
    pub async fn committed_beyond(&self, index: Index) {
        drop(self.commit.subscribe().wait_for(|commit| *commit > index).await);
    }

    /// The shard is committed up to here.
    pub fn set_commit(&self, index: Index) {
        self.commit.send_if_modified(|commit| {
            let higher = index > *commit;
            *commit = index.max(*commit);
            higher
        });
    }

    /// What keeps the shard from taking writes.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        if let Some(what) = self.waits_for.borrow().clone() {
            return Some(what);
        }
        (!*self.seeded.borrow()).then(|| "its first books".to_owned())
    }

    /// The members of the view, if the heart of none of them beats: then nothing can be read or written,
    /// and no other replica may take their place.
    #[must_use]
    pub fn silent_members(&self) -> Option<String> {
        let view = self.stored_view()?;
        let reading = self.reading.lock();
        let all_silent = view.members.iter().all(|member| reading.silent.contains(&member.node));
        let names = || view.members.iter().map(|member| member.node.as_str()).collect::<Vec<_>>();
        all_silent.then(|| names().join(" or "))
    }

    /// A replica's store could not do something, for this reason.
    pub fn set_failing(&self, node: &NodeId, problem: String) {
        self.failing.lock().insert(node.clone(), problem);
    }

    /// A replica has made something durable.
    pub fn set_sound(&self, node: &NodeId) {
        self.failing.lock().remove(node);
    }

    /// What keeps the shard from being read or written, with what is known of its causes: its writer's
    /// office, or members that are all gone or can't write.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let what = self.waits_for().or_else(|| self.silent_members());
        let failing = self.failing.lock();
        let view = self.stored_view();
        let all_fail = view.is_some_and(|view| view.members.iter().all(|m| failing.contains_key(&m.node)));
        let what = what.or_else(|| all_fail.then(|| "a replica that can write".to_owned()))?;
        if failing.is_empty() {
            return Some(what);
        }
        let causes = failing.iter().map(|(node, problem)| format!("{node}: {problem}"));
        Some(format!("{what} ({})", causes.collect::<Vec<_>>().join("; ")))
    }

    /// Waits until writes are taken.
    pub async fn leading(&self) {
        drop(self.waits_for.subscribe().wait_for(Option::is_none).await);
    }

    /// Publishes what keeps the shard from taking writes.
    pub fn set_waits_for(&self, what: Option<String>) {
        self.waits_for.send_if_modified(|now| {
            let changed = *now != what;
            *now = what;
            changed
        });
    }

    /// The first books are there, or were long ago.
    pub fn set_seeded(&self) {
        self.seeded.send_replace(true);
    }
}

impl ReadSlot<'_> {
    /// The replica has answered, or not in time.
    pub fn end(mut self, ok: bool) {
        self.ended = true;
        let now = Instant::now();
        let took: Duration = now.saturating_duration_since(self.started);
        self.shard.reading.lock().balancer.finished(&self.node, now, took, ok);
    }
}

impl Drop for ReadSlot<'_> {
    /// The caller went away: that says nothing about the replica.
    fn drop(&mut self) {
        if !self.ended {
            self.shard.reading.lock().balancer.gave_up(&self.node);
        }
    }
}
