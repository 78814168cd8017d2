//! When a call is tried again, and how long that waits.
//!
//! A failed call goes to the next front end at once; only when all of them have failed does it wait,
//! twice as long after each round, with jitter so that callers that failed together do not come back
//! together. A budget that all calls of a client share keeps retries from multiplying the load on a
//! store that is down. Pure: time and chance come in as values.

use std::time::{Duration, Instant};

/// How patient a client is.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The wait after the first round.
    pub base: Duration,
    /// The longest wait of its own; a front end's `Retry-After` may ask for more.
    pub cap: Duration,
    /// The longest `Retry-After` that is waited for; a longer one ends the call.
    pub retry_after_max: Duration,
}

impl Default for Policy {
    /// From 25 ms, for a replica that fails over within a second, up to 1 s; `Retry-After` up to 5 s.
    fn default() -> Self {
        Self {
            base: Duration::from_millis(25),
            cap: Duration::from_secs(1),
            retry_after_max: Duration::from_secs(5),
        }
    }
}

/// What an answer that was refused said about coming back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// The `Retry-After` of the answer.
    pub retry_after: Option<Duration>,
    /// The refusal is about this caller, not about that front end: the next one gets no rush of it.
    pub about_caller: bool,
}

impl Policy {
    /// How long to wait before the next attempt after `failed` attempts on `urls` front ends in turn,
    /// or `None` if the advice asks for too much. `unit` is random, from 0 to 1.
    #[must_use]
    pub fn wait(&self, failed: u32, urls: u32, advice: Advice, unit: f64) -> Option<Duration> {
        let urls = urls.max(1);
        if !advice.about_caller && !failed.is_multiple_of(urls) {
            return Some(Duration::ZERO);
        }
        let rounds = (failed / urls).max(1);
        let doubled = self.base.saturating_mul(1_u32.checked_shl(rounds - 1).unwrap_or(u32::MAX));
        let own = doubled.min(self.cap).mul_f64(0.5 + unit / 2.0);
        let Some(asked) = advice.retry_after else { return Some(own) };
        // A fifth on top keeps those apart who were given the same second.
        (asked <= self.retry_after_max).then(|| own.max(asked.mul_f64(1.0 + unit / 5.0)))
    }
}

/// The retries that all calls of a client may make together: a bucket that fills with calls and time.
#[derive(Debug)]
pub struct Budget {
    tokens: f64,
    filled_at: Instant,
}

/// The most retries in a row: some 8 calls can outlast a fail-over of several seconds.
const BUDGET_MAX: f64 = 200.0;
/// What time adds, so that a client of few calls can retry as well.
const BUDGET_PER_SECOND: f64 = 20.0;
/// What each call adds: many calls may retry each second one.
const BUDGET_PER_CALL: f64 = 0.5;

impl Budget {
    /// A full one.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { tokens: BUDGET_MAX, filled_at: now }
    }

    /// Counts a call.
    pub fn call(&mut self) {
        self.tokens = (self.tokens + BUDGET_PER_CALL).min(BUDGET_MAX);
    }

    /// Takes a retry, if there is one.
    pub fn retry(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = self.filled_at.max(now);
        self.tokens = (self.tokens + passed * BUDGET_PER_SECOND).min(BUDGET_MAX);
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u64) -> Advice {
        Advice { retry_after: Some(Duration::from_secs(seconds)), about_caller: false }
    }

    #[test]
    fn waits_double_by_round_up_to_the_cap() {
        let policy = Policy::default();
        let ms = |failed, urls, unit| {
            policy.wait(failed, urls, Advice::default(), unit).map(|wait| wait.as_millis())
        };
        let cases = [
            // With one front end each failure ends a round.
            ((1, 1, 1.0), 25),
            ((2, 1, 1.0), 50),
            ((3, 1, 1.0), 100),
            ((3, 1, 0.0), 50),
            ((7, 1, 1.0), 1_000),
            ((4_000_000_000, 1, 1.0), 1_000),
            // With three, the others are asked at once.
            ((1, 3, 1.0), 0),
            ((2, 3, 1.0), 0),
            ((3, 3, 1.0), 25),
            ((4, 3, 1.0), 0),
            ((6, 3, 1.0), 50),
        ];
        for ((failed, urls, unit), expected) in cases {
            assert_eq!(ms(failed, urls, unit), Some(expected), "{failed} of {urls}");
        }
    }

    #[test]
    fn retry_after_is_honoured_up_to_its_limit() {
        let policy = Policy::default();
        assert_eq!(policy.wait(1, 1, after(2), 0.0), Some(Duration::from_secs(2)));
        assert_eq!(policy.wait(1, 1, after(5), 1.0), Some(Duration::from_secs(6)));
        assert_eq!(policy.wait(1, 1, after(6), 0.0), None);
        // A front end that is busy does not speak for the next one, one that refuses the caller does.
        assert_eq!(policy.wait(1, 2, after(2), 0.0), Some(Duration::ZERO));
        let refused = Advice { about_caller: true, ..after(2) };
        assert_eq!(policy.wait(1, 2, refused, 0.0), Some(Duration::from_secs(2)));
    }

    #[test]
    fn the_budget_runs_out_and_fills_with_calls_and_time() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let granted = (0..1_000).filter(|_| budget.retry(start)).count();
        assert_eq!(granted, 200);
        budget.call();
        assert!(!budget.retry(start));
        budget.call();
        assert!(budget.retry(start));
        let later = start + Duration::from_millis(500);
        assert_eq!((0..100).filter(|_| budget.retry(later)).count(), 10);
        assert_eq!((0..1_000).filter(|_| budget.retry(later + Duration::from_secs(3600))).count(), 200);
    }
}
