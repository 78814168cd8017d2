//! What load to put on: how much, of which calls, when. Pure.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::str::FromStr;
use std::time::{Duration, Instant};

use protocol::ids::BookId;
use serde::Serialize;

use super::total_of;
use crate::random::Random;

/// A call that a load can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One book.
    Lookup,
    /// The stock of a book.
    Quantity,
    /// The books of a topic.
    Search,
    /// The first page of all books.
    List,
    /// All topics.
    Topics,
    /// One copy of a book.
    Buy,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Lookup, Self::Quantity, Self::Search, Self::List, Self::Topics, Self::Buy];

    /// Its name in a mix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Quantity => "quantity",
            Self::Search => "search",
            Self::List => "list",
            Self::Topics => "topics",
            Self::Buy => "buy",
        }
    }
}

/// Which calls, by weight, such as `lookup=90,search=5,buy=5`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    weights: Vec<(Kind, u32)>,
    total: usize,
}

/// A text that is no mix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MixError {
    /// A part has no weight.
    #[error("`{0}` must have the form call=weight, such as lookup=90")]
    Form(String),
    /// There is no such call.
    #[error("`{0}` is none of lookup, quantity, search, list, topics, buy")]
    Call(String),
    /// A weight is no number.
    #[error("the weight `{0}` must be an integer from 0 to 1000000")]
    Weight(String),
    /// A call has two weights.
    #[error("`{0}` is given twice")]
    Twice(&'static str),
    /// All weights are 0.
    #[error("at least one call must have a weight above 0")]
    Empty,
}

/// The largest weight; no finer mix can be told from a run.
const WEIGHT_MAX: u32 = 1_000_000;

impl FromStr for Mix {
    type Err = MixError;

    fn from_str(text: &str) -> Result<Self, MixError> {
        let mut weights: Vec<(Kind, u32)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, weight) = part.split_once('=').ok_or_else(|| MixError::Form(part.to_owned()))?;
            let (name, weight) = (name.trim(), weight.trim());
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
            let kind = kind.ok_or_else(|| MixError::Call(name.to_owned()))?;
            let number = weight.parse().ok().filter(|weight| *weight <= WEIGHT_MAX);
            let number = number.ok_or_else(|| MixError::Weight(weight.to_owned()))?;
            if weights.iter().any(|(known, _)| *known == kind) {
                return Err(MixError::Twice(kind.name()));
            }
            weights.push((kind, number));
        }
        weights.retain(|(_, weight)| *weight > 0);
        let total = weights.iter().filter_map(|(_, weight)| usize::try_from(*weight).ok()).sum();
        if total == 0 { Err(MixError::Empty) } else { Ok(Self { weights, total }) }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (kind, weight)) in self.weights.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{}={weight}", kind.name())?;
        }
        Ok(())
    }
}

impl Mix {
    /// The next call.
    pub fn choose(&self, random: &mut Random) -> Kind {
        let mut place = random.below(self.total);
        for (kind, weight) in &self.weights {
            let weight = usize::try_from(*weight).unwrap_or(usize::MAX);
            if place < weight {
                return *kind;
            }
            place -= weight;
        }
        // The weights add up to `total`, and `place` was below it.
        unreachable!("a place of the mix without a call")
    }

    /// Whether it has a call at all.
    #[must_use]
    pub fn has(&self, kind: Kind) -> bool {
        self.weights.iter().any(|(known, _)| *known == kind)
    }
}

/// How long a load goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// For a time.
    Time(Duration),
    /// For a number of requests.
    Requests(NonZeroU64),
}

/// A load to be put on.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The front ends; connections begin at different ones, and go to the next on failure.
    pub urls: Vec<String>,
    /// How many threads drive the connections.
    pub threads: NonZeroUsize,
    /// How many connections.
    pub connections: NonZeroUsize,
    /// How long.
    pub length: Length,
    /// Which calls.
    pub mix: Mix,
    /// Requests a second, for the open loop.
    pub rate: Option<NonZeroU32>,
    /// What fixes the choice of calls and books.
    pub seed: u64,
    /// The books to ask for.
    pub books: Vec<BookId>,
    /// The topics to search for.
    pub topics: Vec<String>,
}

impl Plan {
    /// How many requests it has, where that is known beforehand.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        total_of(self.length, self.rate)
    }
}

/// When each request of an open loop is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) start: Instant,
    pub(super) rate: NonZeroU32,
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

impl Schedule {
    /// When request `number`, counted from 0, is due.
    pub(super) fn due_at(&self, number: u64) -> Instant {
        let nanos = u128::from(number) * NANOS_PER_SECOND / u128::from(self.rate.get());
        self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many requests are due by `now`.
    pub(super) fn due_by(&self, now: Instant) -> u64 {
        let Some(passed) = now.checked_duration_since(self.start) else { return 0 };
        // Request `n` is due at n / rate rounded down to a nanosecond, so the count rounds up.
        let nanos = (passed.as_nanos() + 1) * u128::from(self.rate.get());
        u64::try_from(nanos.div_ceil(NANOS_PER_SECOND)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_reads_what_it_writes() {
        for text in ["lookup=90,search=5,buy=5", "buy=1", "list=1,topics=2,quantity=3"] {
            assert_eq!(text.parse::<Mix>().unwrap().to_string(), text);
        }
        assert_eq!(" lookup = 1 , buy=0,".parse::<Mix>().unwrap().to_string(), "lookup=1");
    }

    #[test]
    fn what_is_no_mix_is_refused_with_its_reason() {
        let cases = [
            ("", MixError::Empty),
            ("buy=0", MixError::Empty),
            ("buy", MixError::Form("buy".into())),
            ("fly=1", MixError::Call("fly".into())),
            ("buy=-1", MixError::Weight("-1".into())),
            ("buy=1000001", MixError::Weight("1000001".into())),
            ("buy=1,buy=2", MixError::Twice("buy")),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Mix>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn calls_come_by_weight() {
        let mix: Mix = "lookup=8,buy=2".parse().unwrap();
        let mut random = Random::seeded(1);
        let buys = (0..10_000).filter(|_| mix.choose(&mut random) == Kind::Buy).count();
        assert!((1_800..2_200).contains(&buys), "{buys}");
    }

    #[test]
    fn requests_are_due_evenly_and_never_early() {
        let start = Instant::now();
        for rate in [1, 3, 7, 1_000, 999_983] {
            let schedule = Schedule { start, rate: NonZeroU32::new(rate).unwrap() };
            assert_eq!(schedule.due_at(0), start);
            assert_eq!(schedule.due_at(rate.into()), start + Duration::from_secs(1));
            for number in [0, 1, 2, 100, 12_345] {
                let due = schedule.due_at(number);
                assert_eq!(schedule.due_by(due), number + 1, "{rate} a second, {number}");
                if let Some(before) = due.checked_sub(Duration::from_nanos(1)).filter(|_| number > 0) {
                    assert_eq!(schedule.due_by(before), number, "{rate} a second, before {number}");
                }
            }
        }
    }

    #[test]
    fn an_open_loop_knows_its_requests_beforehand() {
        let rate = NonZeroU32::new(300);
        let half = Length::Time(Duration::from_millis(500));
        assert_eq!(total_of(half, rate), Some(150));
        assert_eq!(total_of(half, None), None);
        assert_eq!(total_of(Length::Requests(NonZeroU64::MIN), None), Some(1));
    }
}
