//! How fast a replica levels: as gently as it may, and still be level soon.
//!
//! It serves nobody yet, and may share its machine with those who do. A page entered right after the one before takes
//! their time as long as there are pages; so it rests between them, for longer the less it lacks.

use std::time::Duration;

use protocol::ids::Index;
use protocol::resync::NEARLY_LEVEL;
use tokio::time::Instant;

/// The rests are such that a replica is level so long after its first page, if its machine is quick enough.
const LEVEL_WITHIN: Duration = Duration::from_secs(4);
/// The rest of one that is late. A rest is never longer than the work before it: so a replica enters at least half of
/// what it could, whatever it lacks.
const REST_MIN: Duration = Duration::from_millis(3);

/// The pace of one resync.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    began: Instant,
    /// Where the source's log ended then.
    began_at: Index,
    /// When the work on the last page began.
    resumed: Instant,
    /// How many entries that page has.
    entries: usize,
    /// How many the source had beyond it.
    lacking: u64,
    /// Where the source's log ended.
    last: Index,
}

impl Pace {
    /// A page of so many entries, up to `upto` of a log that ends at `last`, was asked for at `asked`: the first one of
    /// a resync, or the next one.
    #[must_use]
    pub fn with_page(before: Option<Self>, asked: Instant, entries: usize, upto: Index, last: Index) -> Self {
        let (began, began_at) = before.map_or((asked, last), |before| (before.began, before.began_at));
        let lacking = last.0.saturating_sub(upto.0);
        Self { began, began_at, resumed: asked, entries, lacking, last }
    }

    /// How long to rest now that the page after that one is asked for.
    #[must_use]
    pub fn rest(&self, now: Instant) -> Duration {
        // Nearly level, a replica asks for the next page only after it has waited for something else.
        if self.lacking <= NEARLY_LEVEL {
            return Duration::ZERO;
        }
        let worked = now.saturating_duration_since(self.resumed);
        let elapsed = now.saturating_duration_since(self.began);
        let left = LEVEL_WITHIN.saturating_sub(elapsed);
        // The source goes on writing meanwhile.
        let grew = u128::from(self.last.0.saturating_sub(self.began_at.0));
        let will_grow = grew * left.as_micros() / elapsed.as_micros().max(1);
        let to_enter = u128::from(self.lacking) + will_grow;
        let due = left.as_micros() * self.entries as u128 / to_enter;
        let due = Duration::from_micros(u64::try_from(due).unwrap_or(u64::MAX));
        due.saturating_sub(worked).max(REST_MIN).min(worked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 1000;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// How long a resync takes, and its longest and shortest rest, if it has any: with so many entries missed
    /// and so many more in each millisecond, at so long a page.
    fn resync(missed: u64, each_ms: u64, page: Duration) -> (Duration, Duration, Duration) {
        let began = Instant::now();
        let (mut now, mut upto, mut pace) = (began, 0, None);
        let (mut longest, mut shortest) = (Duration::ZERO, Duration::MAX);
        loop {
            let last = missed + each_ms * u64::try_from((now - began).as_millis()).unwrap();
            if last - upto < PAGE as u64 {
                return (now - began, longest, shortest);
            }
            upto += PAGE as u64;
            let next = Pace::with_page(pace, now, PAGE, Index(upto), Index(last));
            now += page;
            let rest = next.rest(now);
            if !rest.is_zero() {
                (longest, shortest) = (longest.max(rest), shortest.min(rest));
            }
            now += rest;
            pace = Some(next);
        }
    }

    #[test]
    fn a_replica_is_level_in_time_and_no_sooner_than_it_must() {
        for (missed, each_ms, page) in [(100_000, 0, ms(25)), (100_000, 10, ms(20)), (100_000, 10, ms(10))] {
            let (took, longest, shortest) = resync(missed, each_ms, page);
            let at_least =
                (LEVEL_WITHIN * 7 / 8).min(page * 2 * u32::try_from(missed / PAGE as u64).unwrap());
            assert!(
                (at_least..LEVEL_WITHIN + ms(300)).contains(&took),
                "{missed} {each_ms} {page:?}: {took:?}"
            );
            assert!(longest <= page && shortest >= REST_MIN, "{longest:?} {shortest:?}");
        }
    }

    #[test]
    fn one_that_lacks_little_rests_for_as_long_as_it_works() {
        // But for the last two pages.
        assert_eq!(resync(10_000, 0, ms(20)), (ms(8 * 40 + 2 * 20), ms(20), ms(20)));
    }

    #[test]
    fn one_that_is_nearly_level_does_not_rest() {
        let now = Instant::now();
        let rest =
            |lacking| Pace::with_page(None, now, 10, Index(10), Index(10 + lacking)).rest(now + ms(20));
        assert_eq!((rest(0), rest(NEARLY_LEVEL)), (ms(0), ms(0)));
        assert!(rest(NEARLY_LEVEL + 1) > REST_MIN);
        assert_eq!(Pace::with_page(None, now, 0, Index(0), Index(0)).rest(now + ms(50)), ms(0));
    }

    #[test]
    fn one_that_is_late_rests_for_the_least() {
        let (took, _, shortest) = resync(1_000_000, 0, ms(20));
        assert_eq!((took, shortest), (ms(998 * 23 + 2 * 20), REST_MIN));
        // Though the source writes nearly as fast as it can enter, it gets there.
        let (took, _, _) = resync(100_000, 40, ms(20));
        assert!(took < Duration::from_secs(60), "{took:?}");
    }

    #[test]
    fn a_short_page_has_a_short_rest() {
        let now = Instant::now();
        let pace = Pace::with_page(None, now, 1, Index(1), Index(1_000_000));
        assert_eq!(pace.rest(now + ms(1)), ms(1));
        assert_eq!(pace.rest(now), Duration::ZERO);
    }
}
