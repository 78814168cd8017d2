//! The check: each book's part of a history has an order, or the problem with the first that has none.
//!
//! **By the log.** Where the store's log was asked about calls, an order is looked for in which each stands where
//! the log has it. Such an order explains what callers saw as well as any other does: it only had less to choose
//! from. So the log is no judge here, it is a witness that is believed as far as it fits. If it does not, the
//! callers' word alone decides what is wrong: they contradict one another, or the log contradicts them.

use std::fmt;

use protocol::ids::BookId;

use crate::book::{Row, Shelf, Version};
use crate::parts::{self, Misfit};
use crate::record::{CallNumber, History};
use crate::search::{DeadEnd, Found, Search};

/// How much a check may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Steps of the search for each book, and comparisons with where it has been. A good history of a store
    /// takes about one for each call; a bad one may take many more, because all orders have to be ruled out.
    pub steps_max: u64,
}

impl Default for Limits {
    /// Ten million: half a minute at most, and some hundred megabytes, for the one book that is hardest to judge.
    fn default() -> Self {
        Self { steps_max: 10_000_000 }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every book's part can be explained.
    Linearizable,
    /// This can't be.
    Wrong(Problem),
    /// This can't be if the store's log is right. Callers have not been shown to contradict one another.
    Contradicted(Problem),
    /// The limit was reached first: too much of what went on with this book at one time is unknown.
    Undecided(BookId),
}

/// What can't be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A call has an answer that no such call can have.
    Misfit {
        /// Which.
        call: CallNumber,
        /// In words.
        story: String,
    },
    /// There is no order of the calls on a book.
    NoOrder {
        /// Which book.
        book: BookId,
        /// Those that can't both be right, at the end of the order that went furthest: the earliest call that
        /// fits nowhere; and the one that has to come next by its version.
        calls: Vec<CallNumber>,
        /// In words.
        story: String,
    },
}

impl Verdict {
    /// Whether every answer has its place.
    #[must_use]
    pub fn is_good(&self) -> bool {
        *self == Self::Linearizable
    }
}

/// Checks a history.
#[must_use]
pub fn check(history: &History) -> Verdict {
    check_within(history, Limits::default())
}

/// Checks a history with other limits.
#[must_use]
pub fn check_within(history: &History, limits: Limits) -> Verdict {
    let books = match parts::of(history) {
        Ok(books) => books,
        Err(Misfit(call)) => {
            let story = format!("call {call} can't have this answer: {}", history.calls()[call.0]);
            return Verdict::Wrong(Problem::Misfit { call, story });
        }
    };
    let (mut contradicted, mut undecided) = (None, None);
    for (book, parts) in books {
        let shelf = Shelf::new(history.start().get(&book).copied());
        let problem = |end: &DeadEnd| problem(history, book, end);
        let found = Search::new(&parts).run(shelf, limits.steps_max);
        // Without the log there are all the orders that there are with it, and more.
        let alone = match (&found, parts::without_log(&parts)) {
            (Found::Order, _) | (_, None) => None,
            (_, Some(parts)) => Some(Search::new(&parts).run(shelf, limits.steps_max)),
        };
        match (found, alone) {
            (Found::Order, _) => {}
            (Found::Nothing(end), None) | (_, Some(Found::Nothing(end))) => {
                return Verdict::Wrong(problem(&end));
            }
            (Found::Nothing(end), Some(_)) => {
                contradicted = contradicted.or_else(|| Some(Verdict::Contradicted(problem(&end))));
            }
            (Found::GaveUp, _) => undecided = undecided.or(Some(Verdict::Undecided(book))),
        }
    }
    contradicted.or(undecided).unwrap_or(Verdict::Linearizable)
}

fn problem(history: &History, book: BookId, end: &DeadEnd) -> Problem {
    let call = |number: CallNumber| format!("\n  call {number}: {}", history.calls()[number.0]);
    let placed: String = end.placed.iter().map(|number| call(*number)).collect();
    let placed = if placed.is_empty() { "\n  nothing".to_owned() } else { placed };
    let next =
        end.next.map_or_else(String::new, |next| format!("\nby its version, next comes{}", call(next)));
    let story = format!(
        "book {book}: a call fits nowhere:{}{next}\nin the order that went furthest, the book came to {} by{placed}",
        call(end.stuck),
        end.shelf,
    );
    let calls = std::iter::once(end.stuck).chain(end.next).collect();
    Problem::NoOrder { book, calls, story }
}

impl fmt::Display for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row {
            Some(Row { cost_cents, quantity }) => write!(f, "{quantity} copies at {cost_cents}")?,
            None => write!(f, "no book")?,
        }
        match self.version {
            Version::At(version) => write!(f, " in version {version}"),
            Version::Above(version) => write!(f, " in a version above {version}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linearizable => write!(f, "linearizable"),
            Self::Wrong(Problem::Misfit { story, .. } | Problem::NoOrder { story, .. }) => f.write_str(story),
            Self::Contradicted(Problem::Misfit { story, .. } | Problem::NoOrder { story, .. }) => {
                write!(f, "the log contradicts what callers saw: {story}")
            }
            Self::Undecided(book) => write!(f, "book {book}: no end of the search within its limit"),
        }
    }
}
