//! What became of every command, for ever, under its key and by its index. Sales stand here and nowhere else.
//!
//! A row of the table is a *piece*: outcomes one behind the other, in the order of the log, as a transaction has
//! added them. One insert for a whole batch, at the end of the table, is what makes a batch cheap; which
//! outcomes share a piece means nothing. A repetition of an earlier command has no outcome of its own. From a key
//! to the index of its outcome leads [`super::keys`].

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use protocol::catalogue::Order;
use protocol::command::{CommandKey, Fingerprint, Outcome, Refusal};
use protocol::ids::Index;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::codec::{Raw, Values, encode_onto, number, signed};
use super::digest::{Sign, Sum};
use super::error::{Fault, Step};
use super::keys::{self, Keys, KeysChange};

/// The size from which on a piece takes no more outcomes: who wants one outcome reads all of its piece.
const PIECE_BYTES: usize = 8 << 10;

/// An outcome, as it is stored.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct OutcomeRow<'b> {
    pub(super) index: Index,
    #[serde(borrow)]
    pub(super) key: Raw<'b>,
    pub(super) fingerprint: Fingerprint,
    /// The outcome itself, encoded.
    #[serde(borrow)]
    pub(super) result: Raw<'b>,
}

impl OutcomeRow<'_> {
    pub(super) fn decode(&self) -> Step<Outcome> {
        postcard::from_bytes(self.result.0).map_err(|problem| unreadable(self.index, problem))
    }

    /// The sale, if it is one.
    pub(super) fn sale(&self) -> Step<Option<Order>> {
        match self.decode()? {
            Outcome::Sold(order) => Ok(Some(order)),
            Outcome::Changed(_)
            | Outcome::Added(_)
            | Outcome::Removed
            | Outcome::Loaded { .. }
            | Outcome::Refused(_) => Ok(None),
        }
    }

    /// Counts it as the rows that it is to the digest: the outcome, and each line of a sale.
    pub(super) fn count(&self, outcome: &Outcome, sign: Sign, sum: &mut Sum) {
        sum.count(sign, &(4_u8, self.key, self.fingerprint, self.index, self.result));
        if let Outcome::Sold(order) = outcome {
            for (item, line) in order.items.iter().zip(0_u64..) {
                sum.count(sign, &(3_u8, self.index, line, order.id, item, order.at));
            }
        }
    }
}

fn unreadable(index: Index, problem: postcard::Error) -> Fault {
    Fault::corrupt(format!("the outcome of entry {index}"), problem.to_string())
}

/// The rows of a piece; `first` is the index that it is stored under.
fn rows_of(first: Index, piece: &[u8]) -> impl Iterator<Item = Step<OutcomeRow<'_>>> {
    Values::of(piece).map(move |row| {
        row.map_err(|problem| {
            Fault::corrupt(format!("the outcomes from entry {first} on"), problem.to_string())
        })
    })
}

/// Outcomes on their way into the table.
#[derive(Debug, Default)]
pub(super) struct Piece {
    first: Index,
    bytes: Vec<u8>,
}

impl Piece {
    /// Puts a row behind the others.
    pub(super) fn add(&mut self, row: &OutcomeRow<'_>, conn: &Connection) -> Step<()> {
        if self.bytes.is_empty() {
            self.first = row.index;
        }
        encode_onto(row, &mut self.bytes);
        if self.bytes.len() < PIECE_BYTES { Ok(()) } else { self.write(conn) }
    }

    /// Writes what is there.
    pub(super) fn write(&mut self, conn: &Connection) -> Step<()> {
        if !self.bytes.is_empty() {
            let mut statement = conn.prepare_cached("INSERT INTO outcomes (first, rows) VALUES (?1, ?2)")?;
            statement.execute(params![signed(self.first.0)?, self.bytes])?;
            self.bytes.clear();
        }
        Ok(())
    }
}

/// The outcomes within a transaction that adds to them.
pub(super) struct Outcomes<'c> {
    conn: &'c Connection,
    keys: &'c Keys,
    look: CachedStatement<'c>,
    /// The keys that this transaction has added.
    fresh: BTreeSet<(u64, Index)>,
    piece: Piece,
    /// An outcome that is being encoded; kept for its memory.
    result: Vec<u8>,
}

impl<'c> Outcomes<'c> {
    pub(super) fn new(conn: &'c Connection, keys: &'c Keys) -> Step<Self> {
        let (fresh, piece, result) = (BTreeSet::new(), Piece::default(), Vec::new());
        Ok(Self { conn, keys, look: keys::look(conn)?, fresh, piece, result })
    }

    /// What a command gets whose key was used before; nothing if this is the first use.
    pub(super) fn again(&mut self, key: &CommandKey, fingerprint: Fingerprint) -> Step<Option<Outcome>> {
        let hash = keys::hash(key.as_bytes());
        for index in self.keys.entries(hash, &self.fresh, &mut self.look)? {
            let again = |row: OutcomeRow<'_>| {
                if row.key.0 != key.as_bytes() {
                    return Ok(None);
                }
                let same = row.fingerprint == fingerprint;
                if same { row.decode().map(Some) } else { Ok(Some(Outcome::Refused(Refusal::KeyConflict))) }
            };
            let missing = || Fault::corrupt(format!("the outcome of entry {index}"), "it is missing");
            let found = match self.in_piece(index, again)? {
                None => at(self.conn, index, again)?,
                found => found,
            };
            if let Some(outcome) = found.ok_or_else(missing)? {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }

    fn in_piece<R>(&self, index: Index, look: impl FnOnce(OutcomeRow<'_>) -> Step<R>) -> Step<Option<R>> {
        find(self.piece.first, &self.piece.bytes, index, look)
    }

    /// Stores what became of the command of an entry, under its key.
    pub(super) fn add(
        &mut self,
        index: Index,
        key: &CommandKey,
        fingerprint: Fingerprint,
        outcome: &Outcome,
        sum: &mut Sum,
    ) -> Step<()> {
        self.result.clear();
        encode_onto(outcome, &mut self.result);
        let row = OutcomeRow { index, key: Raw(key.as_bytes()), fingerprint, result: Raw(&self.result) };
        row.count(outcome, Sign::Plus, sum);
        self.fresh.insert((keys::hash(key.as_bytes()), index));
        self.piece.add(&row, self.conn)
    }

    /// Writes what is still in memory alone, as entries up to `last` have been added to those up to `before`.
    pub(super) fn finish(mut self, before: Index, last: Index) -> Step<KeysChange> {
        self.piece.write(self.conn)?;
        self.keys.settle(self.conn, self.fresh, before, last)
    }
}

/// The row of an entry in a piece.
fn find<R>(
    first: Index,
    piece: &[u8],
    index: Index,
    look: impl FnOnce(OutcomeRow<'_>) -> Step<R>,
) -> Step<Option<R>> {
    for row in rows_of(first, piece) {
        let row = row?;
        if row.index == index {
            return look(row).map(Some);
        }
    }
    Ok(None)
}

/// Looks at the outcome of an entry, if it has one of its own.
pub(super) fn at<R>(
    conn: &Connection,
    index: Index,
    look: impl FnOnce(OutcomeRow<'_>) -> Step<R>,
) -> Step<Option<R>> {
    let mut statement = conn
        .prepare_cached("SELECT first, rows FROM outcomes WHERE first <= ?1 ORDER BY first DESC LIMIT 1")?;
    let mut pieces = statement.query([signed(index.0)?])?;
    let Some(row) = pieces.next()? else { return Ok(None) };
    find(Index(number(row, 0)?), row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?, index, look)
}

/// Looks at the outcomes of all entries above an index, first to last, until `look` has seen enough.
pub(super) fn each_above(
    conn: &Connection,
    index: Index,
    mut look: impl FnMut(OutcomeRow<'_>) -> Step<ControlFlow<()>>,
) -> Step<()> {
    let mut statement = conn.prepare_cached(
        "SELECT first, rows FROM outcomes
         WHERE first >= (SELECT ifnull(max(first), 0) FROM outcomes WHERE first <= ?1) ORDER BY first",
    )?;
    let mut pieces = statement.query([signed(index.next().0)?])?;
    while let Some(piece) = pieces.next()? {
        let bytes = piece.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        for row in rows_of(Index(number(piece, 0)?), bytes) {
            let row = row?;
            if row.index > index && look(row)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Takes the outcomes of all entries above an index out of the table.
pub(super) fn cut_above(conn: &Connection, index: Index) -> Step<()> {
    let mut above = conn.prepare_cached("DELETE FROM outcomes WHERE first > ?1")?;
    above.execute([signed(index.0)?])?;
    let mut statement =
        conn.prepare_cached("SELECT first, rows FROM outcomes ORDER BY first DESC LIMIT 1")?;
    let read = |row: &rusqlite::Row<'_>| Ok((Index(number(row, 0)?), row.get::<_, Vec<u8>>(1)?));
    let Some((first, bytes)) = statement.query_row([], read).optional()? else { return Ok(()) };
    let mut left = Vec::new();
    for row in rows_of(first, &bytes) {
        let row = row?;
        if row.index <= index {
            encode_onto(&row, &mut left);
        }
    }
    if left.len() < bytes.len() {
        let mut shorten = conn.prepare_cached("UPDATE outcomes SET rows = ?2 WHERE first = ?1")?;
        shorten.execute(params![signed(first.0)?, left])?;
    }
    Ok(())
}
