//! What a load measured: how many answers, how fast, and what went wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::plan::{Kind, Plan};
use super::timeline::{Timeline, whole_ms};

/// The longest latency that is told from longer ones: well above the limit of an answer, for an open
/// loop counts the wait for its turn as well.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Three digits: percentiles are right to a thousandth.
const DIGITS: u8 = 3;

/// Why a request got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// No connection could be made.
    Connect,
    /// The connection ended before the answer did.
    Closed,
    /// The answer took too long.
    Timeout,
}

impl Failure {
    const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
        }
    }
}

/// Counts what one thread sees.
#[derive(Debug)]
pub(super) struct Recorder {
    /// By [`Kind`], made when first needed: each is some hundred kilobytes.
    latencies: BTreeMap<Kind, Histogram<u64>>,
    /// When good answers came, by the same.
    successes: BTreeMap<Kind, Timeline>,
    statuses: BTreeMap<u16, u64>,
    failures: BTreeMap<Failure, u64>,
    reconnects: u64,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self {
            latencies: BTreeMap::new(),
            successes: BTreeMap::new(),
            statuses: BTreeMap::new(),
            failures: BTreeMap::new(),
            reconnects: 0,
        }
    }

    /// An answer that came `at` after the load's start.
    pub(super) fn answer(&mut self, kind: Kind, status: u16, latency: Duration, at: Duration) {
        if is_good(status) {
            self.successes.entry(kind).or_default().mark(at);
        }
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latencies.entry(kind).or_insert_with(histogram).saturating_record(micros);
        *self.statuses.entry(status).or_default() += 1;
    }

    pub(super) fn failure(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
    }

    pub(super) fn reconnect(&mut self) {
        self.reconnects += 1;
    }

    fn add(&mut self, other: &Self) {
        for (kind, latencies) in &other.latencies {
            // Equal bounds, so every value fits.
            *self.latencies.entry(*kind).or_insert_with(histogram) += latencies;
        }
        for (kind, successes) in &other.successes {
            self.successes.entry(*kind).or_default().add(successes);
        }
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (failure, count) in &other.failures {
            *self.failures.entry(*failure).or_default() += count;
        }
        self.reconnects += other.reconnects;
    }
}

/// Whether an answer is one in good order; a sold-out buy is.
const fn is_good(status: u16) -> bool {
    matches!(status, 200..=299 | 409)
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS)
        .expect("constant bounds, right in one test are right in all")
}

/// How long answers took, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Half of them were as fast as this, or faster.
    pub p50_us: u64,
    /// Nine of ten.
    pub p90_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// 999 of 1000.
    pub p99_9_us: u64,
    /// The slowest.
    pub max_us: u64,
    /// Their mean.
    pub mean_us: f64,
}

impl From<&Histogram<u64>> for Latency {
    fn from(latencies: &Histogram<u64>) -> Self {
        Self {
            p50_us: latencies.value_at_quantile(0.5),
            p90_us: latencies.value_at_quantile(0.9),
            p99_us: latencies.value_at_quantile(0.99),
            p99_9_us: latencies.value_at_quantile(0.999),
            max_us: latencies.max(),
            mean_us: latencies.mean(),
        }
    }
}

/// What one kind of call gave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CallReport {
    /// How many were answered.
    pub answered: u64,
    /// How fast.
    pub latency: Latency,
    /// The longest time without a good answer, from the load's start to its end, to a millisecond.
    pub longest_gap_ms: u64,
}

/// What a load gave.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How many requests were made.
    pub requests: u64,
    /// How many were answered, whatever the answer.
    pub answered: u64,
    /// How many buys found the shelf empty: an answer in good order.
    pub out_of_stock: u64,
    /// Requests that failed: by `connect`, `closed`, `timeout`, or the status of the answer.
    pub errors: BTreeMap<String, u64>,
    /// How often a front end closed a connection between two requests.
    pub reconnects: u64,
    /// Requests of an open loop that were due and never sent, because the store was too slow.
    pub unsent: u64,
    /// How long it took.
    pub seconds: f64,
    /// Answers a second.
    pub per_second: f64,
    /// How fast answers came, all calls together.
    pub latency: Latency,
    /// The same by call.
    pub calls: BTreeMap<Kind, CallReport>,
    /// How many connections there were.
    pub connections: usize,
    /// How many threads drove them.
    pub threads: usize,
    /// The rate asked for; none in a closed loop.
    pub rate: Option<u32>,
    /// The mix of calls.
    pub mix: String,
    /// The seed of all choices.
    pub seed: u64,
}

impl Report {
    pub(super) fn new(plan: &Plan, recorders: Vec<Recorder>, elapsed: Duration, unsent: u64) -> Self {
        let mut sum = Recorder::new();
        for recorder in &recorders {
            sum.add(recorder);
        }
        let mut all = histogram();
        for latencies in sum.latencies.values() {
            // Equal bounds, so every value fits.
            all += latencies;
        }
        let answered: u64 = sum.statuses.values().sum();
        let failed: u64 = sum.failures.values().sum();
        let mut errors: BTreeMap<String, u64> =
            sum.failures.iter().map(|(failure, count)| (failure.name().to_owned(), *count)).collect();
        let bad = sum.statuses.iter().filter(|(status, _)| !is_good(**status));
        errors.extend(bad.map(|(status, count)| (format!("status {status}"), *count)));
        let seconds = elapsed.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate, which nobody reads to 16 digits")]
        let per_second = answered as f64 / seconds.max(f64::MIN_POSITIVE);
        Self {
            requests: answered + failed,
            answered,
            out_of_stock: sum.statuses.get(&409).copied().unwrap_or_default(),
            errors,
            reconnects: sum.reconnects,
            unsent,
            seconds,
            per_second,
            latency: Latency::from(&all),
            calls: sum
                .latencies
                .iter()
                .map(|(kind, latencies)| {
                    let longest_gap_ms = sum
                        .successes
                        .get(kind)
                        .map_or(whole_ms(elapsed), |times| times.longest_gap_ms(elapsed));
                    (
                        *kind,
                        CallReport { answered: latencies.len(), latency: latencies.into(), longest_gap_ms },
                    )
                })
                .collect(),
            connections: plan.connections.get(),
            threads: plan.threads.get(),
            rate: plan.rate.map(std::num::NonZeroU32::get),
            mix: plan.mix.to_string(),
            seed: plan.seed,
        }
    }

    /// How many requests failed or were never sent.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.errors.values().sum::<u64>() + self.unsent
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU64, NonZeroUsize};

    use super::super::plan::Length;
    use super::*;

    fn plan() -> Plan {
        Plan {
            urls: vec![],
            threads: NonZeroUsize::MIN,
            connections: NonZeroUsize::MIN,
            length: Length::Requests(NonZeroU64::MIN),
            mix: "lookup=1".parse().unwrap(),
            rate: None,
            seed: 1,
            books: vec![],
            topics: vec![],
        }
    }

    #[test]
    fn percentiles_are_of_all_threads_together() {
        let mut recorders = vec![Recorder::new(), Recorder::new()];
        for number in 1..=1000_u64 {
            let place = usize::from(number.is_multiple_of(2));
            recorders[place].answer(
                Kind::Lookup,
                200,
                Duration::from_micros(number),
                Duration::from_millis(number),
            );
        }
        recorders[0].answer(Kind::Buy, 409, Duration::from_hours(1), Duration::from_millis(400));
        recorders[1].answer(Kind::Buy, 503, Duration::ZERO, Duration::from_millis(1200));
        recorders[1].answer(Kind::List, 500, Duration::ZERO, Duration::from_millis(1));
        recorders[1].failure(Failure::Connect);
        let report = Report::new(&plan(), recorders, Duration::from_secs(2), 7);
        let lookups = &report.calls[&Kind::Lookup];
        assert_eq!((lookups.answered, lookups.latency.p50_us, lookups.latency.max_us), (1000, 500, 1000));
        assert_eq!(
            (lookups.latency.p90_us, lookups.latency.p99_us, lookups.latency.p99_9_us),
            (900, 990, 999)
        );
        assert_eq!((report.requests, report.answered, report.out_of_stock), (1004, 1003, 1));
        // Lookups ended after 1000 of 2000 ms; buys had one good answer, after 400; lists had none.
        let gaps = report.calls.values().map(|call| call.longest_gap_ms).collect::<Vec<_>>();
        assert_eq!(gaps, [1000, 2000, 1600], "lookup, list, buy");
        let errors: Vec<_> = report.errors.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
        assert_eq!(errors, [("connect", 1), ("status 500", 1), ("status 503", 1)]);
        assert_eq!((report.failed(), report.per_second), (10, 501.5));
        assert!(report.latency.max_us >= LATENCY_US_MAX);
    }
}
