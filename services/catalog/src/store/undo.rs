//! Taking an entry back: what is kept beside it for that, and how it is used.
//!
//! Kept is what the rows of books held before; the outcome is found by the entry's index. Undoing goes through the
//! same [`Tables`] as applying, so the digest and the index of words end where they were.

use protocol::ids::BookId;
use serde::{Deserialize, Serialize};

use super::books::{BookRow, Tables};
use super::error::{Fault, Step};
use super::shelf::Stock;

/// How to undo one change of a book. What is needed to undo an entry is a list of these, first to last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum UndoStep {
    /// It had this stock and price.
    Stock {
        /// Which book.
        book: BookId,
        /// What it had.
        old: Stock,
    },
    /// It was this.
    Row(Box<BookRow>),
    /// It was not there.
    Absent {
        /// Which book.
        book: BookId,
    },
}

impl UndoStep {
    /// Takes the steps of an entry back, last to first.
    pub(super) fn take_back(tables: &mut Tables<'_>, steps: &[Self]) -> Step<()> {
        steps.iter().rev().try_for_each(|step| step.undo(tables))
    }

    fn undo(&self, tables: &mut Tables<'_>) -> Step<()> {
        match self {
            Self::Stock { book, old } => {
                tables.shelved(*book)?.ok_or_else(|| missing(*book))?.stock = *old;
                Ok(())
            }
            Self::Row(old) => {
                let now = tables.book(old.book.id)?;
                tables.put_book(now.as_ref(), old)
            }
            Self::Absent { book } => {
                let now = tables.book(*book)?.ok_or_else(|| missing(*book))?;
                tables.remove_book(&now)
            }
        }
    }
}

fn missing(book: BookId) -> Fault {
    Fault::corrupt(format!("book {book}"), "what is to be undone is not there")
}
