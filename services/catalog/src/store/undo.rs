//! Taking an entry back: what is kept beside it for that, and how it is used.
//!
//! Kept is what the rows held before; sales are found by the entry's index. Undoing goes through the
//! same [`Tables`] as applying, so the digest and the index of words end where they were.

use protocol::command::CommandKey;
use protocol::ids::{BookId, Index};
use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Deserialize, Serialize};

use super::error::{Fault, Step};
use super::rows::{BookRow, Stock, Tables, signed};

/// What is needed to undo an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Undo {
    /// The key under which the entry's outcome was stored; none for a repetition.
    pub(super) key: Option<CommandKey>,
    /// What it did to books, first to last.
    pub(super) steps: Vec<UndoStep>,
}

/// How to undo one change of a book.
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
    /// Takes the steps of an entry back, last to first, and its sale.
    pub(super) fn take_back(tables: &mut Tables<'_>, steps: &[Self], index: Index) -> Step<()> {
        tables.remove_sales(index)?;
        steps.iter().rev().try_for_each(|step| step.undo(tables))
    }

    fn undo(&self, tables: &mut Tables<'_>) -> Step<()> {
        match self {
            Self::Stock { book, old } => {
                let now = tables.priced(*book)?.ok_or_else(|| missing(*book))?;
                tables.set_stock(*book, now.stock, *old)
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

/// Takes an entry back, and out of the log.
pub(super) fn take_back(tables: &mut Tables<'_>, index: Index) -> Step<()> {
    let mut statement = tables.conn.prepare_cached("DELETE FROM log WHERE idx = ?1 RETURNING undo")?;
    let read = |row: &Row<'_>| row.get::<_, Option<Vec<u8>>>(0);
    let undo = statement.query_row([signed(index.0)?], read).optional()?.flatten();
    let undo = undo.ok_or(Fault::UndoGone(index))?;
    let undo: Undo = postcard::from_bytes(&undo)
        .map_err(|problem| Fault::corrupt(format!("the undo data of entry {index}"), problem.to_string()))?;
    UndoStep::take_back(tables, &undo.steps, index)?;
    undo.key.map_or(Ok(()), |key| tables.remove_outcome(&key))
}

/// Takes an entry out of the log, and leaves what it changed: what must never be done.
pub(super) fn forget(conn: &Connection, index: Index) -> Step<()> {
    conn.execute("DELETE FROM log WHERE idx = ?1", [signed(index.0)?])?;
    Ok(())
}
