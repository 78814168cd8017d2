//! The write log: entries in order, each with what is needed to undo it.
//!
//! A row of the table is a *piece*: entries one behind the other, as a transaction has added them, and beside them
//! what is needed to undo each; that is missing where the log came with a snapshot. The log is cut at its old
//! end, piece by piece: an entry far enough below the commit index is deleted some batches later, and whoever
//! still needs it takes a snapshot.

use std::ops::ControlFlow;

use protocol::entry::Entry;
use protocol::ids::{Chain, Epoch, Index};
use rusqlite::{Connection, Row, params};

use super::codec::{Values, encode_onto, number, signed};
use super::error::{Fault, Step};
use super::meta::Meta;
use super::undo::UndoStep;

/// The size from which on a piece takes no more entries: who wants one entry reads all of its piece.
const PIECE_BYTES: usize = 8 << 10;

/// A part of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogSlice {
    /// Entries without gaps, beginning where it was asked; none if there are none yet.
    Entries {
        /// The entries.
        entries: Vec<Entry>,
        /// The last index of the whole log.
        last: Index,
    },
    /// The log does not reach back so far.
    Gone,
}

/// How much of the log is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    /// The first one wanted is the one after this.
    pub(super) after: Index,
    /// The last one wanted, if not the last there is.
    pub(super) upto: Option<Index>,
    /// At most so many.
    pub(super) max_entries: usize,
    /// No more once their commands have this size; the first comes whatever its size.
    pub(super) max_bytes: usize,
}

/// Entries on their way into the table.
#[derive(Debug)]
pub(super) struct Piece {
    first: Index,
    last: Index,
    entries: Vec<u8>,
    /// What is needed to undo them; nothing if that is gone for any of them.
    undo: Option<Vec<u8>>,
}

impl Piece {
    pub(super) fn new() -> Self {
        Self { first: Index(0), last: Index(0), entries: Vec::new(), undo: Some(Vec::new()) }
    }

    /// Puts an entry behind the others.
    pub(super) fn add(&mut self, entry: &Entry, undo: Option<&[UndoStep]>, conn: &Connection) -> Step<()> {
        if undo.is_some() != self.undo.is_some() {
            self.write(conn)?;
            self.undo = undo.map(|_| Vec::new());
        }
        if self.entries.is_empty() {
            self.first = entry.index;
        }
        self.last = entry.index;
        encode_onto(entry, &mut self.entries);
        if let (Some(bytes), Some(steps)) = (&mut self.undo, undo) {
            encode_onto(&steps, bytes);
        }
        if self.entries.len() < PIECE_BYTES { Ok(()) } else { self.write(conn) }
    }

    /// Writes what is there.
    pub(super) fn write(&mut self, conn: &Connection) -> Step<()> {
        if !self.entries.is_empty() {
            let mut statement =
                conn.prepare_cached("INSERT INTO log (first, last, entries, undo) VALUES (?1, ?2, ?3, ?4)")?;
            statement.execute(params![
                signed(self.first.0)?,
                signed(self.last.0)?,
                self.entries,
                self.undo
            ])?;
            self.entries.clear();
            self.undo.as_mut().map(Vec::clear);
        }
        Ok(())
    }
}

/// Looks at the entries above an index, first to last, until `look` has seen enough.
///
/// What comes is without gaps within a piece; where the log begins, and that its pieces follow one another, is for
/// the caller to check.
pub(super) fn each_above(
    conn: &Connection,
    index: Index,
    mut look: impl FnMut(Entry) -> Step<ControlFlow<()>>,
) -> Step<()> {
    let mut statement = conn.prepare_cached(
        "SELECT first, last, entries FROM log
         WHERE first >= (SELECT ifnull(max(first), 0) FROM log WHERE first <= ?1) ORDER BY first",
    )?;
    let mut pieces = statement.query([signed(index.next().0)?])?;
    while let Some(piece) = pieces.next()? {
        for entry in entries_of(piece)? {
            let entry = entry?;
            if entry.index > index && look(entry)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The entries of a row with `first, last, entries`.
fn entries_of<'r>(row: &'r Row<'_>) -> Step<impl Iterator<Item = Step<Entry>> + use<'r>> {
    let (first, last) = (Index(number(row, 0)?), Index(number(row, 1)?));
    let bytes = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
    let mut values = Values::<Entry>::of(bytes);
    let mut next = first;
    Ok(std::iter::from_fn(move || {
        let entry = match values.next() {
            None if next == last.next() => return None,
            None => Err(gap(next)),
            Some(Err(problem)) => Err(Fault::corrupt(format!("entry {next}"), problem.to_string())),
            Some(Ok(entry)) if entry.index != next || next > last => Err(gap(next)),
            Some(Ok(entry)) => Ok(entry),
        };
        next = next.next();
        Some(entry)
    }))
}

/// Some of the entries.
pub(super) fn slice(conn: &Connection, range: Range) -> Step<LogSlice> {
    let last = Meta::load(conn)?.standing.last;
    let Range { after, upto, max_entries, max_bytes } = range;
    let upto = upto.map_or(last, |upto| upto.min(last));
    let mut entries = Vec::new();
    if after >= upto {
        return Ok(LogSlice::Entries { entries, last });
    }
    let mut next = after.next();
    let mut bytes = 0;
    let mut gone = false;
    each_above(conn, after, |entry| {
        if entry.index != next {
            gone = entries.is_empty();
            return if gone { Ok(ControlFlow::Break(())) } else { Err(gap(next)) };
        }
        bytes += entry.command.0.len();
        if entries.len() >= max_entries.max(1) || (bytes > max_bytes && !entries.is_empty()) {
            return Ok(ControlFlow::Break(()));
        }
        next = next.next();
        entries.push(entry);
        Ok(if next > upto { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    if gone {
        return Ok(LogSlice::Gone);
    }
    if entries.is_empty() {
        return Err(gap(next));
    }
    Ok(LogSlice::Entries { entries, last })
}

/// An entry is missing between others.
pub(super) fn gap(index: Index) -> Fault {
    Fault::corrupt(format!("entry {index}"), "it is missing from the log")
}

/// The chains of the log from an index on.
pub(super) fn tail(conn: &Connection, from: Index) -> Step<Vec<(Index, Chain)>> {
    let mut tail = Vec::new();
    each_above(conn, Index(from.0.saturating_sub(1)), |entry| {
        tail.push((entry.index, entry.chain));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(tail)
}

/// The epoch and chain of an entry, if the log still has it.
pub(super) fn mark(conn: &Connection, index: Index) -> Step<Option<(Epoch, Chain)>> {
    if index == Index(0) {
        return Ok(Some((Epoch(0), Chain::default())));
    }
    let mut mark = None;
    each_above(conn, Index(index.0 - 1), |entry| {
        mark = (entry.index == index).then_some((entry.epoch, entry.chain));
        Ok(ControlFlow::Break(()))
    })?;
    Ok(mark)
}

/// The first index that the log still has.
pub(super) fn first(conn: &Connection) -> Step<Option<Index>> {
    let first: Option<i64> =
        conn.prepare_cached("SELECT min(first) FROM log")?.query_row([], |row| row.get(0))?;
    Ok(first.and_then(|index| u64::try_from(index).ok()).map(Index))
}

/// Deletes the pieces that end below an index. Gives the first index that is left.
pub(super) fn cut_below(conn: &Connection, index: Index) -> Step<Option<Index>> {
    let mut statement =
        conn.prepare_cached("DELETE FROM log WHERE first < (SELECT max(first) FROM log WHERE first <= ?1)")?;
    statement.execute([signed(index.0)?])?;
    first(conn)
}

/// What is needed to undo the entries above an index, first to last.
pub(super) fn undo_above(conn: &Connection, index: Index) -> Step<Vec<(Index, Vec<UndoStep>)>> {
    let mut statement = conn.prepare_cached(
        "SELECT first, last, undo FROM log
         WHERE first >= (SELECT ifnull(max(first), 0) FROM log WHERE first <= ?1) ORDER BY first",
    )?;
    let mut pieces = statement.query([signed(index.next().0)?])?;
    let mut undo = Vec::new();
    while let Some(piece) = pieces.next()? {
        let (first, last) = (Index(number(piece, 0)?), Index(number(piece, 1)?));
        let steps = undo_of(piece, 2)?.ok_or(Fault::UndoGone(first.max(index.next())))?;
        if u64::try_from(steps.len()).ok() != (last.0 + 1).checked_sub(first.0) {
            return Err(Fault::corrupt(format!("the undo data from entry {first} on"), "it is not complete"));
        }
        undo.extend((first.0..).map(Index).zip(steps).filter(|(above, _)| *above > index));
    }
    Ok(undo)
}

/// What is needed to undo the entries of a piece, one after the other; nothing if that is gone.
fn undo_of(piece: &Row<'_>, column: usize) -> Step<Option<Vec<Vec<UndoStep>>>> {
    let bytes = piece.get_ref(column)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
    let steps = bytes.map(|bytes| Values::of(bytes).collect::<postcard::Result<_>>()).transpose();
    let place = || Ok(format!("the undo data from entry {} on", number(piece, 0)?));
    steps.map_err(|problem| match place() {
        Ok(place) => Fault::corrupt(place, problem.to_string()),
        Err(problem) => Fault::Sqlite(problem),
    })
}

/// Takes all entries above an index out of the log.
pub(super) fn cut_above(conn: &Connection, index: Index) -> Step<()> {
    let mut statement = conn.prepare_cached(
        "SELECT first, last, entries, undo FROM log WHERE first <= ?1 ORDER BY first DESC LIMIT 1",
    )?;
    let read = |row: &Row<'_>| -> Step<_> {
        let entries: Vec<Entry> = entries_of(row)?.collect::<Step<_>>()?;
        Ok((entries, undo_of(row, 3)?))
    };
    let mut pieces = statement.query([signed(index.0)?])?;
    let (entries, undo) = pieces.next()?.map(read).transpose()?.unwrap_or_default();
    drop(pieces);
    let first = entries.first().map_or(Index(0), |entry| entry.index);
    conn.prepare_cached("DELETE FROM log WHERE first >= ?1")?.execute([signed(first.0)?])?;
    let mut left = Piece::new();
    let mut undo = undo.map(Vec::into_iter);
    for entry in entries.iter().take_while(|entry| entry.index <= index) {
        let steps = undo.as_mut().and_then(Iterator::next);
        left.add(entry, steps.as_deref(), conn)?;
    }
    left.write(conn)
}
