//! Which replica gets the next read.
//!
//! Any member of the view may be read, so a front end spreads its reads over those that are up. The
//! question has two halves that are kept apart here: who stands next in turn, and who is the best by the
//! policy. Every policy looks at the candidates in the order of their turns and takes the first of the
//! best, so that equals share the load exactly, and round robin is the policy to which all are equal.
//!
//! Least response time is the interesting one. It keeps an estimate for each replica that jumps to a slow
//! answer at once and comes down only with time (a peak-sensitive moving average, as in Finagle and
//! linkerd): trouble is noticed by one read, trust is earned back by many. It multiplies the estimate by
//! the reads under way, which tells of trouble before the first slow answer is in. An estimate that no
//! answer renews fades away; else a replica that was slow once would never be asked again, and so never
//! be found to have recovered.
//!
//! What this does not do: it neither finds candidates nor judges their health (see [`crate::heartbeat`]),
//! and it does not retry; it only answers whom to ask instead. See "Reading" in `docs/PROTOCOL.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::ids::NodeId;

/// How fast an estimate follows: after this time an old value has lost all but 1/e of its weight. Shorter
/// forgets a slow replica before it is well, longer leaves one that is well again without work.
const DECAY: Duration = Duration::from_secs(3);
/// The least that a failed read counts as, in seconds: the default time after which a read is late. Else
/// a replica that fails at once would look like the fastest.
const FAILURE_SECONDS: f64 = 1.0;
/// The least estimate, in seconds. Differences below it are noise, and an estimate of nothing would stay
/// nothing however many reads were under way.
const ESTIMATE_SECONDS_MIN: f64 = 0.000_1;

/// How the next replica is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// The one with the fewest reads under way.
    LeastConnections,
    /// The one that answered fastest of late.
    LeastResponseTime,
}

/// Text that names no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a balancing policy is round-robin, least-connections or least-response-time, not `{0}`")]
pub struct NotAPolicy(String);

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::RoundRobin => "round-robin",
            Self::LeastConnections => "least-connections",
            Self::LeastResponseTime => "least-response-time",
        })
    }
}

impl FromStr for Policy {
    type Err = NotAPolicy;

    fn from_str(text: &str) -> Result<Self, NotAPolicy> {
        match text {
            "round-robin" => Ok(Self::RoundRobin),
            "least-connections" => Ok(Self::LeastConnections),
            "least-response-time" => Ok(Self::LeastResponseTime),
            _ => Err(NotAPolicy(text.to_owned())),
        }
    }
}

/// Chooses among the replicas that may be read now.
///
/// For each read: [`choose`](Self::choose) and [`started`](Self::started), under one hold of the lock
/// that the balancer is behind, else reads that come together all see the same idle replica; then exactly
/// one of [`finished`](Self::finished) and [`gave_up`](Self::gave_up).
///
/// 1. The candidates stand in the order of their names, each once.
/// 2. `turn` is the place of a candidate, or 0 if there is none.
/// 3. Each read that was started and has not ended is counted once: with its candidate, or in `departed`
///    if its node is none now. So a node that goes and comes back is not credited with the end of reads
///    that it was not charged for.
/// 4. `departed` has no candidate and no count of 0: it is bounded by the reads under way.
#[derive(Debug)]
pub struct Balancer {
    policy: Policy,
    candidates: Vec<Candidate>,
    turn: usize,
    departed: BTreeMap<NodeId, u32>,
}

#[derive(Debug)]
struct Candidate {
    node: NodeId,
    reading: u32,
    response_time: Option<ResponseTime>,
}

impl Balancer {
    /// A balancer without candidates.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy, candidates: Vec::new(), turn: 0, departed: BTreeMap::new() }
    }

    /// The nodes that may be read from now on. What is known of those that stay is kept; a node that
    /// comes back starts without a past, for it may be another process by now.
    pub fn set_candidates(&mut self, nodes: &[NodeId]) {
        let whose_turn = self.candidates.get(self.turn).map(|candidate| candidate.node.clone());
        let nodes: BTreeSet<&NodeId> = nodes.iter().collect();
        for gone in self.candidates.extract_if(.., |candidate| !nodes.contains(&candidate.node)) {
            if gone.reading > 0 {
                self.departed.insert(gone.node, gone.reading);
            }
        }
        for node in nodes {
            if let Err(place) = self.place_of(node) {
                let reading = self.departed.remove(node).unwrap_or(0);
                let candidate = Candidate { node: node.clone(), reading, response_time: None };
                self.candidates.insert(place, candidate);
            }
        }
        let turn = whose_turn.map_or(0, |node| self.candidates.partition_point(|c| c.node < node));
        self.turn = if turn < self.candidates.len() { turn } else { 0 };
        assert!(self.candidates.is_sorted_by(|a, b| a.node < b.node), "invariant 1");
        assert!(self.departed.keys().all(|node| self.place_of(node).is_err()), "invariant 4");
    }

    /// Whom to ask: for a retry, anyone but the one that was asked first. `None` if nobody is left.
    ///
    /// A retry does not use up a turn. If it did, then of two replicas the one that fails would stand
    /// next each time, and every read, not every other, would have to be tried twice.
    pub fn choose(&mut self, now: Instant, not: Option<&NodeId>) -> Option<NodeId> {
        let (before, from_turn) = self.candidates.split_at(self.turn);
        let in_turn = from_turn.iter().chain(before).filter(|candidate| Some(&candidate.node) != not);
        let chosen = match self.policy {
            Policy::RoundRobin => round_robin(in_turn),
            Policy::LeastConnections => least_connections(in_turn),
            Policy::LeastResponseTime => least_response_time(in_turn, now),
        }?
        .node
        .clone();
        if not.is_none() {
            let place = self.place_of(&chosen).expect("the chosen one is a candidate");
            self.turn = (place + 1) % self.candidates.len();
        }
        Some(chosen)
    }

    /// A read is sent to the node.
    pub fn started(&mut self, node: &NodeId) {
        match self.place_of(node) {
            Ok(place) => self.candidates[place].reading += 1,
            Err(_) => *self.departed.entry(node.clone()).or_insert(0) += 1,
        }
    }

    /// The node answered a read, or failed to, after so long.
    pub fn finished(&mut self, node: &NodeId, now: Instant, took: Duration, ok: bool) {
        let Some(candidate) = self.ended(node) else { return };
        let took = took.as_secs_f64();
        let seconds = if ok { took } else { took.max(FAILURE_SECONDS) };
        candidate.response_time = Some(match candidate.response_time {
            Some(before) => before.observe(now, seconds),
            None => ResponseTime { seconds, at: now },
        });
    }

    /// A read ended that says nothing about the node, such as one whose caller has gone away.
    pub fn gave_up(&mut self, node: &NodeId) {
        self.ended(node);
    }

    /// Counts a read as ended; gives the candidate if the node is one.
    fn ended(&mut self, node: &NodeId) -> Option<&mut Candidate> {
        if let Ok(place) = self.place_of(node) {
            let candidate = &mut self.candidates[place];
            assert!(candidate.reading > 0, "invariant 3: a read of {node} ended that was not started");
            candidate.reading -= 1;
            return Some(candidate);
        }
        let reading = self.departed.get_mut(node);
        let reading = reading.unwrap_or_else(|| panic!("invariant 3: {node} ended a read not started"));
        *reading -= 1;
        if *reading == 0 {
            self.departed.remove(node);
        }
        None
    }

    /// The place of a candidate, or the one where it would stand.
    fn place_of(&self, node: &NodeId) -> Result<usize, usize> {
        self.candidates.binary_search_by(|candidate| candidate.node.cmp(node))
    }
}

fn round_robin<'a>(mut in_turn: impl Iterator<Item = &'a Candidate>) -> Option<&'a Candidate> {
    in_turn.next()
}

/// Of several with the fewest, `min_by_key` gives the first, which is the next in turn.
fn least_connections<'a>(in_turn: impl Iterator<Item = &'a Candidate>) -> Option<&'a Candidate> {
    in_turn.min_by_key(|candidate| candidate.reading)
}

/// Of several with the lowest, `min_by` gives the first, which is the next in turn.
fn least_response_time<'a>(
    in_turn: impl Iterator<Item = &'a Candidate>,
    now: Instant,
) -> Option<&'a Candidate> {
    let costs = in_turn.map(|candidate| (candidate.expected_seconds(now), candidate));
    costs.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, candidate)| candidate)
}

impl Candidate {
    /// How long a read that is sent now may take, if those under way are answered before it.
    fn expected_seconds(&self, now: Instant) -> f64 {
        let each = match self.response_time {
            // A newcomer gets one read to show itself, and no more before it has answered.
            None if self.reading == 0 => ESTIMATE_SECONDS_MIN,
            None => FAILURE_SECONDS,
            Some(response_time) => response_time.estimate(now),
        };
        each * (f64::from(self.reading) + 1.0)
    }
}

/// A peak-sensitive moving average of response times.
///
/// 1. `seconds` is finite and not negative, so is everything that is computed from it, and there is no
///    NaN: durations are finite, the weight is from 0 to 1.
/// 2. `at` never goes back: callers take the time before they wait for the lock.
#[derive(Clone, Copy, Debug)]
struct ResponseTime {
    seconds: f64,
    at: Instant,
}

impl ResponseTime {
    /// With one more answer: up at once, down by the time that has passed.
    fn observe(self, now: Instant, seconds: f64) -> Self {
        let kept = self.weight(now);
        let blend = self.seconds * kept + seconds * (1.0 - kept);
        let seconds = blend.max(seconds);
        assert!(seconds.is_finite() && seconds >= 0.0, "invariant 1");
        Self { seconds, at: self.at.max(now) }
    }

    /// What to expect of the next read. Fades towards the least while no answer comes in.
    fn estimate(self, now: Instant) -> f64 {
        (self.seconds * self.weight(now)).max(ESTIMATE_SECONDS_MIN)
    }

    /// The weight that is left to the value: 1 at first, 0 in the end.
    fn weight(self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at);
        (-age.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[expect(clippy::disallowed_methods, reason = "any instant will do to count from, and there is no other")]
    fn zero() -> Instant {
        Instant::now()
    }

    fn nodes(names: &[&str]) -> Vec<NodeId> {
        names.iter().map(|name| NodeId::from(*name)).collect()
    }

    fn balancer(policy: Policy, names: &[&str]) -> Balancer {
        let mut balancer = Balancer::new(policy);
        balancer.set_candidates(&nodes(names));
        balancer
    }

    /// Whom the next so many reads go to, none of which ends.
    fn next(balancer: &mut Balancer, now: Instant, count: usize) -> String {
        let mut start = || {
            let node = balancer.choose(now, None).unwrap();
            balancer.started(&node);
            node.to_string()
        };
        (0..count).map(|_| start()).collect()
    }

    /// A read from start to end.
    fn read(balancer: &mut Balancer, node: &str, now: Instant, took: Duration, ok: bool) {
        balancer.started(&node.into());
        balancer.finished(&node.into(), now, took, ok);
    }

    #[test]
    fn policies_read_what_they_write() {
        for policy in [Policy::RoundRobin, Policy::LeastConnections, Policy::LeastResponseTime] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert_eq!(Policy::default().to_string(), "round-robin");
        for bad in ["", "RoundRobin", "round_robin", "random", " round-robin"] {
            assert!(bad.parse::<Policy>().unwrap_err().to_string().contains(&format!("`{bad}`")));
        }
    }

    #[test]
    fn nobody_is_chosen_from_nobody() {
        for policy in [Policy::RoundRobin, Policy::LeastConnections, Policy::LeastResponseTime] {
            assert_eq!(Balancer::new(policy).choose(zero(), None), None);
            let mut one = balancer(policy, &["a"]);
            assert_eq!(one.choose(zero(), Some(&"a".into())), None);
            assert_eq!(one.choose(zero(), None), Some("a".into()));
            one.set_candidates(&[]);
            assert_eq!(one.choose(zero(), None), None);
        }
    }

    #[test]
    fn equals_are_taken_in_turn_under_every_policy() {
        for policy in [Policy::RoundRobin, Policy::LeastConnections, Policy::LeastResponseTime] {
            let mut balancer = balancer(policy, &["c", "a", "b", "a"]);
            assert_eq!(next(&mut balancer, zero(), 9), "abcabcabc", "{policy}");
        }
    }

    #[test]
    fn round_robin_does_not_care_how_they_fare() {
        let mut balancer = balancer(Policy::RoundRobin, &["a", "b"]);
        let now = zero();
        read(&mut balancer, "a", now, 900 * MS, false);
        assert_eq!(next(&mut balancer, now, 4), "abab");
    }

    #[test]
    fn a_change_of_the_candidates_keeps_the_turn() {
        let mut balancer = balancer(Policy::RoundRobin, &["a", "b", "c"]);
        let now = zero();
        assert_eq!(next(&mut balancer, now, 1), "a");
        balancer.set_candidates(&nodes(&["0", "a", "b", "c"]));
        assert_eq!(next(&mut balancer, now, 1), "b");
        balancer.set_candidates(&nodes(&["0", "a", "b"]));
        assert_eq!(next(&mut balancer, now, 4), "0ab0");
    }

    #[test]
    fn a_retry_goes_elsewhere_and_uses_up_no_turn() {
        let mut balancer = balancer(Policy::RoundRobin, &["a", "b"]);
        let now = zero();
        let mut first_tries = String::new();
        for _ in 0..4 {
            let first = balancer.choose(now, None).unwrap();
            first_tries.push_str(first.as_str());
            if first.as_str() == "a" {
                assert_eq!(balancer.choose(now, Some(&first)), Some("b".into()));
            }
        }
        assert_eq!(first_tries, "abab", "a replica that fails must not attract all first tries");
        assert_eq!(balancer.choose(now, Some(&"a".into())), Some("b".into()), "it is the turn of a");
    }

    #[test]
    fn least_connections_fills_up_the_emptiest() {
        let mut balancer = balancer(Policy::LeastConnections, &["a", "b"]);
        let now = zero();
        assert_eq!(next(&mut balancer, now, 6), "ababab");
        for _ in 0..2 {
            balancer.finished(&"b".into(), now, MS, true);
        }
        assert_eq!(next(&mut balancer, now, 4), "bbab");
        balancer.gave_up(&"a".into());
        assert_eq!(next(&mut balancer, now, 1), "a");
    }

    #[test]
    fn reads_of_a_node_that_came_back_are_counted_once() {
        let mut balancer = balancer(Policy::LeastConnections, &["a", "b"]);
        let now = zero();
        assert_eq!(next(&mut balancer, now, 4), "abab");
        balancer.set_candidates(&nodes(&["b"]));
        balancer.finished(&"a".into(), now, MS, true);
        balancer.started(&"a".into());
        balancer.set_candidates(&nodes(&["a", "b"]));
        for node in ["a", "a", "b", "b"] {
            balancer.finished(&node.into(), now, MS, true);
        }
        assert!(balancer.candidates.iter().all(|candidate| candidate.reading == 0));
        assert!(balancer.departed.is_empty());
    }

    #[test]
    fn what_departed_leaves_nothing_behind_once_its_reads_have_ended() {
        let mut balancer = balancer(Policy::LeastResponseTime, &["a"]);
        let now = zero();
        assert_eq!(next(&mut balancer, now, 2), "aa");
        balancer.set_candidates(&[]);
        balancer.finished(&"a".into(), now, MS, true);
        balancer.gave_up(&"a".into());
        assert!(balancer.departed.is_empty());
    }

    #[test]
    #[should_panic(expected = "invariant 3")]
    fn a_read_does_not_end_twice() {
        let mut balancer = balancer(Policy::RoundRobin, &["a"]);
        read(&mut balancer, "a", zero(), MS, true);
        balancer.gave_up(&"a".into());
    }

    #[test]
    fn the_faster_gets_more_by_as_much_as_it_is_faster() {
        let mut balancer = balancer(Policy::LeastResponseTime, &["a", "b"]);
        let now = zero();
        read(&mut balancer, "a", now, MS, true);
        read(&mut balancer, "b", now, 4 * MS, true);
        let to = next(&mut balancer, now, 50);
        assert_eq!([to.matches('a').count(), to.matches('b').count()], [40, 10], "{to}");
    }

    #[test]
    fn one_slow_answer_is_noticed_and_many_fast_ones_make_up_for_it() {
        let mut balancer = balancer(Policy::LeastResponseTime, &["a", "b"]);
        let now = zero();
        let first = |balancer: &mut Balancer, now| balancer.choose(now, None).unwrap().to_string();
        for _ in 0..100 {
            read(&mut balancer, "a", now, MS, true);
        }
        read(&mut balancer, "b", now, 10 * MS, true);
        read(&mut balancer, "a", now, 100 * MS, true);
        assert_eq!(first(&mut balancer, now), "b");
        read(&mut balancer, "a", now, MS, true);
        assert_eq!(first(&mut balancer, now), "b", "one fast answer at once must not erase a slow one");
        let later = now + 5 * DECAY;
        read(&mut balancer, "b", later, 10 * MS, true);
        read(&mut balancer, "a", later, MS, true);
        assert_eq!(first(&mut balancer, later), "a");
    }

    #[test]
    fn a_slow_replica_is_asked_again_after_a_while_without_reads() {
        let mut balancer = balancer(Policy::LeastResponseTime, &["a", "b"]);
        let start = zero();
        read(&mut balancer, "b", start, 50 * MS, true);
        let asked_again = (0_u32..).map(|i| start + i * 100 * MS).find(|now| {
            let node = balancer.choose(*now, None).unwrap();
            read(&mut balancer, node.as_str(), *now, MS, true);
            node.as_str() == "b"
        });
        let after = asked_again.unwrap() - start;
        assert!(after > 2 * DECAY && after < 6 * DECAY, "{after:?}");
    }

    #[test]
    fn a_replica_that_fails_at_once_does_not_look_fast() {
        let mut balancer = balancer(Policy::LeastResponseTime, &["a", "b"]);
        let now = zero();
        read(&mut balancer, "a", now, Duration::ZERO, false);
        read(&mut balancer, "b", now, 20 * MS, true);
        assert_eq!(next(&mut balancer, now, 10), "bbbbbbbbbb");
    }

    #[test]
    fn a_newcomer_gets_one_read_until_it_has_answered() {
        let mut balancer = balancer(Policy::LeastResponseTime, &["a"]);
        let now = zero();
        read(&mut balancer, "a", now, 10 * MS, true);
        balancer.set_candidates(&nodes(&["a", "b"]));
        assert_eq!(next(&mut balancer, now, 5), "baaaa");
        balancer.finished(&"b".into(), now, MS, true);
        assert_eq!(next(&mut balancer, now, 2), "bb");
    }

    #[test]
    fn strange_times_give_sound_estimates() {
        let mut balancer = balancer(Policy::LeastResponseTime, &["a", "b"]);
        let now = zero() + 1000 * MS;
        for (at, took) in [(now, Duration::MAX), (now - 500 * MS, Duration::ZERO), (now, Duration::MAX)] {
            read(&mut balancer, "a", at, took, true);
            for later in [now - 900 * MS, now, now + Duration::from_secs(1 << 30)] {
                assert!(balancer.candidates[0].expected_seconds(later).is_finite());
            }
        }
        assert_eq!(next(&mut balancer, now, 1), "b");
    }
}
