//! Histories of calls on a store, and whether they can be explained.
//!
//! A [`History`] is what callers saw: each call with the moments at which it was sent and answered, and its
//! answer. [`check`] tells whether the history is *linearizable*: whether each call can be given one moment
//! between its sending and its answer, at which it happened as a whole, so that all answers are those of one
//! plain book shelf to which the calls come one after the other. A call without a known outcome may have
//! happened at any moment after it was sent, or never.
//!
//! **Book by book.** Linearizability is local: a history is linearizable if that of each object is. So each
//! book is checked by itself, which is what makes long histories feasible. Calls on several books at once are
//! cut into one part for each book: a sale of two books into two sales, a page of books into lookups. That
//! never accuses a store wrongly, for if the whole call has a moment, each of its parts has that moment. It
//! asks less than the whole, though: that the parts of *one* call share a moment is not checked here. That a
//! sale takes all of its books or none is for the audit of orders against stock to find.
//!
//! **The search** is that of Wing and Gong with Lowe's memory of what was tried ([`check`] has the details),
//! helped by what is special here: a book's version rises with every change, and answers show it. Those of sales
//! do not; where the store's log has been asked about them ([`Logged`]), the search has next to nothing to choose.
//!
//! Nothing here knows clocks, networks or services: whoever records decides what a moment is.

mod book;
mod call;
mod check;
mod parts;
mod record;
mod search;

pub use self::call::{Answer, Call, NewRow, Seen};
pub use self::check::{Limits, Problem, Verdict, check, check_within};
pub use self::record::{CallNumber, ClientId, History, Logged, Moment, ReadError, Recorded, Start};
