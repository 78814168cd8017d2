//! When something happened, millisecond by millisecond: finds the longest time in which it did not.
//!
//! A bit for each millisecond, so that what several threads saw can be laid over one another: the longest gap of
//! each says nothing of the longest gap of all. An hour takes 450 kilobytes.

use std::time::Duration;

/// The milliseconds in which something happened, from a start that all threads share.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    words: Vec<u64>,
}

impl Timeline {
    /// It happened, so long after the start.
    pub(super) fn mark(&mut self, at: Duration) {
        // Memory is the bound: a load lasts a day at most, which fits.
        let Ok(ms) = usize::try_from(whole_ms(at)) else { return };
        let word = ms / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (ms % 64);
    }

    /// What another thread saw happened as well.
    pub(super) fn add(&mut self, other: &Self) {
        if other.words.len() > self.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }

    /// The longest time in which it did not happen, the time before the first and after the last included.
    pub(super) fn longest_gap_ms(&self, length: Duration) -> u64 {
        let mut last = 0;
        let mut longest = 0;
        for (place, word) in (0_u64..).zip(&self.words) {
            let mut rest = *word;
            while rest != 0 {
                let ms = place * 64 + u64::from(rest.trailing_zeros());
                longest = longest.max(ms - last);
                last = ms;
                rest &= rest - 1;
            }
        }
        longest.max(whole_ms(length).saturating_sub(last))
    }
}

/// A time in whole milliseconds.
pub(super) fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(times: &[u64]) -> Timeline {
        let mut timeline = Timeline::default();
        for ms in times {
            timeline.mark(Duration::from_millis(*ms));
        }
        timeline
    }

    #[test]
    fn the_longest_gap_is_found_wherever_it_is() {
        let cases: [(&[u64], u64, u64); 6] = [
            (&[], 500, 500),
            (&[10, 70, 300], 310, 230),
            (&[63, 64, 65], 65, 63),
            (&[0, 1, 2], 900, 898),
            (&[5, 0, 400, 128], 401, 272),
            (&[7], 3, 7),
        ];
        for (times, length, expected) in cases {
            let found = timeline(times).longest_gap_ms(Duration::from_millis(length));
            assert_eq!(found, expected, "{times:?} in {length} ms");
        }
    }

    #[test]
    fn threads_close_one_anothers_gaps() {
        let length = Duration::from_millis(400);
        let (mut early, late) = (timeline(&[0, 100]), timeline(&[200, 300]));
        assert_eq!((early.longest_gap_ms(length), late.longest_gap_ms(length)), (300, 200));
        early.add(&late);
        assert_eq!(early.longest_gap_ms(length), 100);
    }
}
