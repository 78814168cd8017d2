//! What was promised to the outside, kept beside the store to judge it by.

use std::collections::BTreeMap;

use protocol::ids::{Chain, Epoch, Index};
use protocol::view::View;
use protocol::writer::Committed;

use crate::disk::Key;
use crate::state::State;

/// What nobody in the store knows as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// All that was ever committed, in order.
    pub committed: Vec<(Chain, Key)>,
    /// The newest version of the book that anyone was told.
    pub told: Index,
    /// Which front end, in which of its runs, has given entries their places in each epoch.
    pub writers: BTreeMap<Epoch, (usize, u8)>,
    /// The view of each epoch.
    pub views: BTreeMap<Epoch, View>,
    /// Whether an epoch has had two.
    pub two_views: bool,
    /// The view that was stored last, also after the view store was lost.
    pub view: Option<View>,
    /// The first rule that was broken.
    pub broken: Option<Violation>,
    /// How many replicas have undone something since they were members, by node.
    pub undone: u8,
}

/// A rule, and how it was broken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// How.
    pub how: String,
}

/// What is checked where it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A commit index never names two histories.
    OneHistory,
    /// An epoch has one writer.
    OneWriter,
    /// A promise is kept, and durable before it is answered.
    Promise,
    /// Nothing committed is undone, and a member undoes nothing.
    Undo,
    /// Outcomes are kept, and what was not done is not done.
    Outcome,
    /// Reads are linearizable.
    Read,
    /// An assertion of the core or of the disk.
    Assertion,
    /// A state machine has refused to go on.
    Halt,
}

impl State {
    /// Notes that a rule was broken; the first one stays.
    pub fn broke(&mut self, rule: Rule, how: impl Into<String>) {
        let how = how.into();
        self.note(|| format!("BROKEN {rule:?}: {how}"));
        if self.ghost.broken.is_none() {
            self.ghost_mut().broken = Some(Violation { rule, how });
        }
    }

    /// A writer says that the shard is committed up to an index.
    pub(crate) fn judge_commit(&mut self, front: usize, committed: &Committed) {
        let Committed { index, chain, .. } = *committed;
        let known = Index(self.ghost.committed.len() as u64);
        if index <= known {
            let before = index.0.checked_sub(1).and_then(|at| usize::try_from(at).ok());
            let named = before.and_then(|at| self.ghost.committed.get(at));
            if named.is_some_and(|(named, _)| *named != chain) {
                self.broke(Rule::OneHistory, format!("front end {front} commits another entry {index}"));
            }
            return;
        }
        let has_it = |node: &&std::sync::Arc<crate::state::Node>| {
            node.disk.tables.chain_at(index) == Some(chain)
                && (known == Index(0) || node.disk.tables.chain_at(known) == self.chain_committed(known))
        };
        let more = self.nodes.iter().find(has_it).and_then(|node| node.disk.tables.history(known));
        let Some(more) = more else {
            let how = format!("front end {front} commits {index}, which no disk has behind {known}");
            return self.broke(Rule::OneHistory, how);
        };
        let count = usize::try_from(index.0 - known.0).unwrap_or(usize::MAX);
        self.ghost_mut().committed.extend(more.into_iter().take(count));
        for (key, caller) in self.callers.clone().iter().enumerate() {
            let done = self.ghost.committed.iter().any(|(_, committed)| usize::from(*committed) == key);
            let told_not = !caller.possible && caller.stands == crate::state::Stands::Idle;
            if done && caller.attempts > 0 && told_not {
                self.broke(Rule::Outcome, format!("write {key} is committed, its caller told: not done"));
            }
        }
    }

    /// The chain of the committed entry at an index.
    #[must_use]
    pub fn chain_committed(&self, index: Index) -> Option<Chain> {
        let at = usize::try_from(index.0.checked_sub(1)?).ok()?;
        self.ghost.committed.get(at).map(|(chain, _)| *chain)
    }

    /// A view leaves a writer, to be promised.
    pub(crate) fn judge_view(&mut self, view: &View) {
        let ghost = self.ghost_mut();
        let first = ghost.views.entry(view.epoch).or_insert_with(|| view.clone());
        if first != view {
            ghost.two_views = true;
        }
    }

    /// An append of an epoch leaves a writer.
    pub(crate) fn judge_epoch(&mut self, epoch: Epoch, front: usize) {
        let writer = (front, self.fronts[front].runs);
        let of = *self.ghost_mut().writers.entry(epoch).or_insert(writer);
        if of != writer {
            let how = format!("epoch {epoch} is of front end and run {of:?}, and {writer:?} uses it");
            self.broke(Rule::OneWriter, how);
        }
    }

    /// An answer is released to the callers of a read.
    pub(crate) fn judge_read(&mut self, shown: crate::state::Shown, floors: &[Index]) {
        if let Some(register) = shown.register {
            let at = usize::try_from(register.version.index.0).ok().and_then(|index| index.checked_sub(1));
            let committed = at.and_then(|at| self.ghost.committed.get(at)).map(|(_, key)| *key);
            if committed != Some(register.key) {
                self.broke(Rule::Read, format!("a read shows {register:?}, which is not committed"));
            }
        }
        let version = shown.register.map_or(Index(0), |register| register.version.index);
        if let Some(floor) = floors.iter().find(|floor| version < **floor) {
            let how = format!("a read shows version {version}, and {floor} was known when it began");
            self.broke(Rule::Read, how);
        }
        if version > self.ghost.told {
            self.ghost_mut().told = version;
        }
    }

    /// I1: every member of the view that counts has all that is committed.
    #[must_use]
    pub fn members_have_all(&self) -> bool {
        let last = Index(self.ghost.committed.len() as u64);
        let lacks = |node: usize| {
            let tables = &self.nodes[node].disk.tables;
            tables.last().0 < last
                || (last > tables.base() && tables.chain_at(last) != self.chain_committed(last))
        };
        !(0..self.nodes.len()).any(|node| self.is_member(node) && lacks(node))
    }

    /// I2: the logs of the members are prefixes of one another.
    #[must_use]
    pub fn members_agree(&self) -> bool {
        let members: Vec<_> = (0..self.nodes.len()).filter(|node| self.is_member(*node)).collect();
        members.windows(2).all(|pair| {
            let [one, other] = [pair[0], pair[1]].map(|node| &self.nodes[node].disk.tables);
            let shared = one.last().0.min(other.last().0);
            let reached = shared >= one.base() && shared >= other.base();
            !reached || one.chain_at(shared) == other.chain_at(shared)
        })
    }

    /// I3: no replica's commit index names anything but what was committed.
    #[must_use]
    pub fn commits_are_known(&self) -> bool {
        self.nodes.iter().all(|node| {
            let told = node.process.as_ref().map_or(node.disk.commit, |p| p.replica.standing().commit);
            told.0 <= self.ghost.committed.len() as u64
                && (told == Index(0) || node.disk.tables.chain_at(told) == self.chain_committed(told))
        })
    }

    /// C1 to C3: no front end that may serve reads has a cached answer that is older than what was told.
    #[must_use]
    pub fn caches_are_fresh(&self) -> bool {
        let runs = self.fronts.iter().filter_map(|front| front.run.as_ref());
        let mut cached = runs.filter(|run| run.view.is_some()).filter_map(|run| run.cached);
        cached.all(|shown| shown.register.map_or(Index(0), |r| r.version.index) >= self.ghost.told)
    }
}
