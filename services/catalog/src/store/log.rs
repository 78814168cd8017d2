//! The rows of the write log: entries in order, each with what is needed to undo it.
//!
//! The log is cut at its old end: an entry far enough below the commit index is deleted some batches
//! later, and whoever still needs it takes a snapshot.

use bytes::Bytes;
use protocol::entry::{EncodedCommand, Entry};
use protocol::ids::{Chain, Epoch, Index};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::error::{Fault, Step};
use super::meta::Meta;
use super::rows::{number, signed};

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

/// Enters an entry.
pub(super) fn insert(conn: &Connection, entry: &Entry, undo: &[u8]) -> Step<()> {
    let Entry { index, epoch, command, chain } = entry;
    conn.prepare_cached("INSERT INTO log (idx, epoch, command, chain, undo) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
            signed(index.0)?,
            signed(epoch.0)?,
            command.0.as_ref(),
            chain.0.to_be_bytes(),
            undo
        ])?;
    Ok(())
}

/// Reads `idx, epoch, command, chain`.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        index: Index(number(row, 0)?),
        epoch: Epoch(number(row, 1)?),
        command: EncodedCommand(Bytes::from(row.get::<_, Vec<u8>>(2)?)),
        chain: Chain(u128::from_be_bytes(row.get(3)?)),
    })
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
    let mut statement = conn.prepare_cached(
        "SELECT idx, epoch, command, chain FROM log WHERE idx > ?1 AND idx <= ?2 ORDER BY idx",
    )?;
    let mut rows = statement.query([signed(after.0)?, signed(upto.0)?])?;
    let mut next = after.next();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let entry = read(row)?;
        if entry.index != next {
            return if entries.is_empty() { Ok(LogSlice::Gone) } else { Err(gap(next)) };
        }
        bytes += entry.command.0.len();
        if entries.len() >= max_entries.max(1) || (bytes > max_bytes && !entries.is_empty()) {
            break;
        }
        next = next.next();
        entries.push(entry);
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
    let mut statement = conn.prepare_cached("SELECT idx, chain FROM log WHERE idx >= ?1 ORDER BY idx")?;
    let rows = statement.query_map([signed(from.0)?], |row| {
        Ok((Index(number(row, 0)?), Chain(u128::from_be_bytes(row.get(1)?))))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The epoch and chain of an entry, if the log still has it.
pub(super) fn mark(conn: &Connection, index: Index) -> Step<Option<(Epoch, Chain)>> {
    if index == Index(0) {
        return Ok(Some((Epoch(0), Chain::default())));
    }
    let mut statement = conn.prepare_cached("SELECT epoch, chain FROM log WHERE idx = ?1")?;
    let read = |row: &Row<'_>| Ok((Epoch(number(row, 0)?), Chain(u128::from_be_bytes(row.get(1)?))));
    Ok(statement.query_row([signed(index.0)?], read).optional()?)
}

/// The first index that the log still has.
pub(super) fn first(conn: &Connection) -> Step<Option<Index>> {
    let first: Option<i64> =
        conn.prepare_cached("SELECT min(idx) FROM log")?.query_row([], |row| row.get(0))?;
    Ok(first.and_then(|index| u64::try_from(index).ok()).map(Index))
}

/// Deletes the entries below an index.
pub(super) fn cut_below(conn: &Connection, index: Index) -> Step<()> {
    conn.prepare_cached("DELETE FROM log WHERE idx < ?1")?.execute([signed(index.0)?])?;
    Ok(())
}
