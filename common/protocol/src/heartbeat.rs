//! Who is up, suspect or down, judged by heartbeats.
//!
//! The idea: a process that lives says so on a connection every interval. Silence can mean three things,
//! and they deserve different answers.
//!
//! - The process is gone. Then its kernel closes the connection, and that is news at once: no waiting.
//! - The process or the way to it hangs: the connection is open, but nothing comes. One beat may be late
//!   for a hundred harmless reasons, several in a row rarely are. So after a few missed beats the node is
//!   merely suspect: no new reads go to it, and whoever counts on it, a shard's writer, may go on without.
//! - We hung ourselves. Then all seem silent at once, and all are cleared by the beats that wait in the
//!   sockets: a driver gives the monitor what has arrived before it lets it look at the clock.
//!
//! A restarted node comes back on a new connection while the end of the old one may not yet be known, or
//! be known late. So connections have numbers, and only the newest that is open speaks for its node.
//!
//! What this does not do: it changes no view. A node that is up is usable for reads only if the view has
//! it, and who leaves the view is the writer's decision. See "Heartbeats" in `docs/PROTOCOL.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::ids::NodeId;

/// When silence becomes suspicious.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The time from one beat to the next.
    pub interval: Duration,
    /// So many beats must be missing. Fewer finds a hanging node sooner, more is wrong less often.
    pub missed_limit: u32,
}

impl Options {
    /// The silence that makes a node suspect.
    #[must_use]
    pub fn silence_max(&self) -> Duration {
        self.interval.saturating_mul(self.missed_limit)
    }
}

/// A heartbeat connection. Numbered by the driver as it accepts them, so that a newer one is higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What is thought of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It beats.
    Up,
    /// It is connected, but has not beaten for too long.
    Suspect,
    /// Its connection has closed, or it has not beaten yet since it connected.
    Down,
}

/// What is thought of a node has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Of which node.
    pub node: NodeId,
    /// What was thought before.
    pub from: State,
    /// What is thought now.
    pub to: State,
}

/// Judges nodes by their heartbeats.
///
/// Events go in by [`connected`](Self::connected), [`heard`](Self::heard), [`closed`](Self::closed) and
/// [`tick`](Self::tick); a driver sleeps to [`deadline`](Self::deadline) and then ticks. Nodes are never
/// forgotten: the driver lets in those of the configuration alone.
///
/// 1. A node that is up or suspect has an open connection and was heard.
/// 2. Only the newest open connection of a node brings it up, and only the close of that one takes it
///    down.
/// 3. A node that is up was heard less than the longest silence ago, as of the last tick.
/// 4. A change is told exactly once, and never from a state to itself.
#[derive(Debug)]
pub struct Monitor {
    silence_max: Duration,
    nodes: BTreeMap<NodeId, Node>,
}

#[derive(Debug)]
struct Node {
    state: State,
    open: BTreeSet<ConnectionId>,
    last_heard: Option<Instant>,
}

impl Monitor {
    /// A monitor that knows these nodes, all of them down. Others are down as well until they beat.
    ///
    /// # Panics
    /// If the options make no silence too short: a node would be suspect as soon as it was heard.
    #[must_use]
    pub fn new(options: Options, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let silence_max = options.silence_max();
        assert!(!silence_max.is_zero(), "the longest silence of a node that is up must not be zero");
        Self { silence_max, nodes: nodes.into_iter().map(|node| (node, Node::unheard())).collect() }
    }

    /// A node has said who it is on a new connection. It is not up before its first beat.
    pub fn connected(&mut self, node: &NodeId, connection: ConnectionId) {
        self.nodes.entry(node.clone()).or_insert_with(Node::unheard).open.insert(connection);
    }

    /// A beat came in on a connection.
    ///
    /// A beat of any but the newest open connection counts for nothing: it is what an earlier process
    /// left in a socket, or what was read from one that has closed since.
    pub fn heard(&mut self, now: Instant, node: &NodeId, connection: ConnectionId) -> Option<Change> {
        let (name, node) = (node, self.nodes.get_mut(node)?);
        if node.open.last() != Some(&connection) {
            return None;
        }
        node.last_heard = node.last_heard.max(Some(now));
        node.turn(name, State::Up)
    }

    /// A connection has closed, or was given up.
    pub fn closed(&mut self, node: &NodeId, connection: ConnectionId) -> Option<Change> {
        let (name, node) = (node, self.nodes.get_mut(node)?);
        let newest = node.open.last() == Some(&connection);
        node.open.remove(&connection);
        if newest { node.turn(name, State::Down) } else { None }
    }

    /// The time has come to look who was silent for too long. Changes are in the order of the names.
    pub fn tick(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, node) in &mut self.nodes {
            if node.silent_for(now).is_some_and(|silence| silence >= self.silence_max) {
                changes.extend(node.turn(name, State::Suspect));
            }
        }
        changes
    }

    /// When to tick next, unless something is heard before; `None` if silence can change nothing.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let up = self.nodes.values().filter(|node| node.state == State::Up);
        up.filter_map(|node| node.last_heard?.checked_add(self.silence_max)).min()
    }

    /// What is thought of a node.
    #[must_use]
    pub fn state(&self, node: &NodeId) -> State {
        self.nodes.get(node).map_or(State::Down, |node| node.state)
    }

    /// When a node was last heard, on whichever connection spoke for it then.
    #[must_use]
    pub fn last_heard(&self, node: &NodeId) -> Option<Instant> {
        self.nodes.get(node)?.last_heard
    }

    /// All nodes that are known, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, State)> {
        self.nodes.iter().map(|(name, node)| (name, node.state))
    }
}

impl Node {
    fn unheard() -> Self {
        Self { state: State::Down, open: BTreeSet::new(), last_heard: None }
    }

    /// How long a node that is up has been silent.
    fn silent_for(&self, now: Instant) -> Option<Duration> {
        match (self.state, self.last_heard) {
            (State::Up, Some(heard)) => Some(now.saturating_duration_since(heard)),
            (State::Up, None) => unreachable!("invariant 1: a node that is up was heard"),
            (State::Suspect | State::Down, _) => None,
        }
    }

    fn turn(&mut self, name: &NodeId, to: State) -> Option<Change> {
        let from = std::mem::replace(&mut self.state, to);
        assert!(to == State::Down || !self.open.is_empty(), "invariant 1: {name} has no connection");
        assert!(to == State::Down || self.last_heard.is_some(), "invariant 1: {name} was never heard");
        (from != to).then(|| Change { node: name.clone(), from, to })
    }
}

#[cfg(test)]
mod tests {
    use State::{Down, Suspect, Up};

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const OPTIONS: Options = Options { interval: Duration::from_millis(250), missed_limit: 4 };
    const OLD: ConnectionId = ConnectionId(1);
    const NEW: ConnectionId = ConnectionId(2);

    #[expect(clippy::disallowed_methods, reason = "any instant will do to count from, and there is no other")]
    fn zero() -> Instant {
        Instant::now()
    }

    fn change(node: &str, from: State, to: State) -> Change {
        Change { node: node.into(), from, to }
    }

    /// A monitor of one node that is up on its old connection.
    fn up(now: Instant) -> (Monitor, NodeId) {
        let (mut monitor, a) = (Monitor::new(OPTIONS, []), NodeId::from("a"));
        monitor.connected(&a, OLD);
        assert_eq!(monitor.heard(now, &a, OLD), Some(change("a", Down, Up)));
        (monitor, a)
    }

    #[test]
    fn a_node_is_down_until_it_beats() {
        let (mut monitor, a, now) = (Monitor::new(OPTIONS, ["b".into()]), NodeId::from("a"), zero());
        assert_eq!((monitor.state(&a), monitor.last_heard(&a)), (Down, None));
        monitor.connected(&a, OLD);
        assert_eq!(monitor.state(&a), Down);
        assert_eq!((monitor.deadline(), monitor.tick(now + 10_000 * MS)), (None, vec![]));
        assert_eq!(monitor.heard(now, &a, OLD), Some(change("a", Down, Up)));
        assert_eq!(monitor.heard(now + MS, &a, OLD), None);
        assert_eq!((monitor.state(&a), monitor.last_heard(&a)), (Up, Some(now + MS)));
        assert_eq!(monitor.iter().collect::<Vec<_>>(), [(&a, Up), (&"b".into(), Down)]);
    }

    #[test]
    fn silence_makes_suspect_and_a_beat_clears() {
        let now = zero();
        let (mut monitor, a) = up(now);
        assert_eq!(monitor.deadline(), Some(now + 1000 * MS));
        assert_eq!(monitor.tick(now + 999 * MS), []);
        assert_eq!(monitor.tick(now + 1000 * MS), [change("a", Up, Suspect)]);
        assert_eq!(monitor.deadline(), None, "a driver must not spin on a node that is suspect already");
        assert_eq!(monitor.tick(now + 9000 * MS), []);
        assert_eq!(monitor.heard(now + 9000 * MS, &a, OLD), Some(change("a", Suspect, Up)));
        assert_eq!(monitor.deadline(), Some(now + 10_000 * MS));
    }

    #[test]
    fn every_beat_puts_the_deadline_off_and_the_quietest_sets_it() {
        let now = zero();
        let (mut monitor, a) = up(now);
        let b = NodeId::from("b");
        monitor.connected(&b, NEW);
        assert_eq!(monitor.heard(now + 300 * MS, &b, NEW), Some(change("b", Down, Up)));
        assert_eq!(monitor.heard(now + 500 * MS, &a, OLD), None);
        assert_eq!(monitor.deadline(), Some(now + 1300 * MS));
        assert_eq!(monitor.heard(now + 100 * MS, &a, OLD), None, "the time of a beat may be late");
        assert_eq!(monitor.last_heard(&a), Some(now + 500 * MS));
        assert_eq!(monitor.tick(now + 1300 * MS), [change("b", Up, Suspect)]);
        let both = monitor.tick(now + 1500 * MS);
        assert_eq!(both, [change("a", Up, Suspect)]);
    }

    #[test]
    fn a_closed_connection_is_news_at_once_from_up_and_from_suspect() {
        let now = zero();
        let (mut monitor, a) = up(now);
        assert_eq!(monitor.closed(&a, OLD), Some(change("a", Up, Down)));
        assert_eq!(monitor.closed(&a, OLD), None);
        assert_eq!(monitor.last_heard(&a), Some(now));
        let (mut monitor, a) = up(now);
        assert_eq!(monitor.tick(now + 1000 * MS).len(), 1);
        assert_eq!(monitor.closed(&a, OLD), Some(change("a", Suspect, Down)));
        assert_eq!(monitor.closed(&"stranger".into(), OLD), None);
    }

    #[test]
    fn the_end_of_an_older_connection_takes_nobody_down() {
        let now = zero();
        let (mut monitor, a) = up(now);
        monitor.connected(&a, NEW);
        assert_eq!(monitor.heard(now + MS, &a, NEW), None);
        assert_eq!(monitor.closed(&a, OLD), None);
        assert_eq!(monitor.state(&a), Up);
        assert_eq!(monitor.closed(&a, NEW), Some(change("a", Up, Down)));
    }

    #[test]
    fn beats_of_an_older_connection_do_not_cover_for_the_newest() {
        let now = zero();
        let (mut monitor, a) = up(now);
        monitor.connected(&a, NEW);
        assert_eq!(monitor.heard(now + 900 * MS, &a, OLD), None);
        assert_eq!(monitor.last_heard(&a), Some(now));
        assert_eq!(monitor.tick(now + 1000 * MS), [change("a", Up, Suspect)]);
    }

    #[test]
    fn a_beat_that_was_read_before_the_close_does_not_raise_the_dead() {
        let now = zero();
        let (mut monitor, a) = up(now);
        assert_eq!(monitor.closed(&a, OLD), Some(change("a", Up, Down)));
        assert_eq!(monitor.heard(now + MS, &a, OLD), None);
        assert_eq!(monitor.state(&a), Down);
    }

    #[test]
    fn an_older_connection_speaks_again_when_the_newest_has_closed() {
        let now = zero();
        let (mut monitor, a) = up(now);
        monitor.connected(&a, NEW);
        assert_eq!(monitor.closed(&a, NEW), Some(change("a", Up, Down)));
        assert_eq!(monitor.heard(now + MS, &a, OLD), Some(change("a", Down, Up)));
    }

    #[test]
    fn a_silence_without_end_has_no_deadline() {
        let forever = Options { interval: Duration::MAX, missed_limit: u32::MAX };
        let (mut monitor, a, now) = (Monitor::new(forever, []), NodeId::from("a"), zero());
        monitor.connected(&a, OLD);
        assert_eq!(monitor.heard(now, &a, OLD), Some(change("a", Down, Up)));
        assert_eq!((monitor.deadline(), monitor.tick(now + 1000 * MS)), (None, vec![]));
    }

    /// Numbers without pattern, the same in each run.
    fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
        let mut state = seed;
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        }
    }

    #[test]
    fn any_sequence_keeps_the_invariants() {
        for seed in 0..300 {
            let (mut number, mut now) = (numbers(seed), zero());
            let mut monitor = Monitor::new(OPTIONS, []);
            let mut told = BTreeMap::new();
            for _ in 0..200 {
                let node = NodeId::from(["a", "b", "c"][usize::try_from(number(3)).unwrap()]);
                let connection = ConnectionId(number(4));
                let mut ticked = false;
                let changes = match number(5) {
                    0 => {
                        monitor.connected(&node, connection);
                        vec![]
                    }
                    1 | 2 => monitor.heard(now, &node, connection).into_iter().collect(),
                    3 => monitor.closed(&node, connection).into_iter().collect(),
                    _ => {
                        now += MS * u32::try_from(number(700)).unwrap();
                        ticked = true;
                        monitor.tick(now)
                    }
                };
                for Change { node, from, to } in changes {
                    assert_eq!(told.insert(node, to).unwrap_or(Down), from, "seed {seed}");
                    assert_ne!(from, to, "seed {seed}");
                }
                for (name, node) in &monitor.nodes {
                    assert_eq!(told.get(name).copied().unwrap_or(Down), node.state, "seed {seed}");
                    assert!(node.state == Down || !node.open.is_empty(), "seed {seed}");
                }
                assert!(!ticked || monitor.deadline().is_none_or(|next| next > now), "seed {seed}");
            }
        }
    }
}
