//! When a process that died is started again.
//!
//! One death is bad luck: the process is started at once, for every moment without it costs redundancy.
//! Deaths in a row have a cause that a restart does not heal: they are spaced further and further, and
//! many of them in a short time end in giving up, loudly. A process that has lived for a while has earned
//! a new beginning. Pure: time comes in as an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The wait before the second restart in a row; each further one waits twice as long …
const WAIT_FIRST: Duration = Duration::from_millis(100);

/// … up to this, so that what heals from outside is picked up soon.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// After so much life a death counts as the first in a row again.
const STEADY: Duration = Duration::from_secs(10);

/// So many deaths within [`WINDOW`] end in giving up.
const DEATHS_MAX: usize = 10;

/// Deaths before that are forgiven.
const WINDOW: Duration = Duration::from_secs(60);

/// What a death leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Start it again after this wait.
    Restart(Duration),
    /// Leave it down.
    GiveUp,
}

/// The memory of a process's deaths.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    deaths: VecDeque<Instant>,
    wait: Duration,
}

impl Backoff {
    /// The process died at `now`, after it had lived for `lived`.
    pub(crate) fn died(&mut self, now: Instant, lived: Duration) -> Verdict {
        if lived >= STEADY {
            self.wait = Duration::ZERO;
        }
        while self.deaths.front().is_some_and(|death| now.duration_since(*death) >= WINDOW) {
            self.deaths.pop_front();
        }
        self.deaths.push_back(now);
        if self.deaths.len() >= DEATHS_MAX {
            return Verdict::GiveUp;
        }
        let wait = self.wait;
        self.wait = (wait * 2).clamp(WAIT_FIRST, WAIT_MAX);
        Verdict::Restart(wait)
    }

    /// Somebody has looked at it and starts it anew.
    pub(crate) fn forgive(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(10);

    fn restart(ms: u64) -> Verdict {
        Verdict::Restart(Duration::from_millis(ms))
    }

    #[test]
    fn deaths_in_a_row_wait_longer_and_end_in_giving_up() {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        for ms in [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            assert_eq!(backoff.died(now, SHORT), restart(ms));
            now += Duration::from_millis(ms) + SHORT;
        }
        assert_eq!(backoff.died(now, SHORT), Verdict::GiveUp);
        assert_eq!(backoff.died(now, SHORT), Verdict::GiveUp);
    }

    #[test]
    fn ten_seconds_of_life_make_the_next_death_the_first() {
        for (lived_ms, expected) in [(9_999, restart(400)), (10_000, restart(0))] {
            let mut backoff = Backoff::default();
            let mut now = Instant::now();
            for _ in 0..3 {
                backoff.died(now, SHORT);
            }
            now += Duration::from_millis(lived_ms);
            assert_eq!(backoff.died(now, Duration::from_millis(lived_ms)), expected, "{lived_ms}");
        }
    }

    #[test]
    fn a_minute_forgives_a_death_but_not_the_wait() {
        let begin = Instant::now();
        for (later, expected) in
            [(WINDOW - Duration::from_millis(1), Verdict::GiveUp), (WINDOW, restart(5000))]
        {
            let mut backoff = Backoff::default();
            backoff.died(begin, SHORT);
            for _ in 0..8 {
                backoff.died(begin + SHORT, SHORT);
            }
            assert_eq!(backoff.died(begin + later, SHORT), expected, "{later:?}");
        }
    }

    #[test]
    fn ten_slow_deaths_are_no_reason_to_give_up() {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        for _ in 0..100 {
            assert_eq!(backoff.died(now, STEADY), restart(0));
            now += STEADY;
        }
    }

    #[test]
    fn a_start_by_hand_forgives_all() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        while backoff.died(now, SHORT) != Verdict::GiveUp {}
        backoff.forgive();
        assert_eq!(backoff.died(now, SHORT), restart(0));
    }
}
