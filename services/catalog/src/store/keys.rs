//! Which keys have been used: from the hash of a command's key to the entries whose outcomes may stand under it.
//!
//! Keys come in no order, and each new one would rewrite a page of its own in a table that grows for ever. So a new
//! key waits in memory, and when the log comes to a number that [`SLICE_ENTRIES`] divides, those of one of
//! [`SLICES`] slices of all hashes go into the table together, to pages that lie side by side; slice follows upon
//! slice. When a key's turn comes depends on its hash and its entry alone: so what the table holds is a function
//! of the log, and what waits is found again from the last outcomes.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use protocol::ids::Index;
use rusqlite::{CachedStatement, Connection, Row};

use super::codec::{number, signed};
use super::error::Step;
use super::outcomes;

/// The slices of all hashes, by their first bits. More of them keep more keys waiting, which saves pages in a
/// table of many millions.
const SLICES: u64 = 64;
const SLICE_BITS: u32 = 64 - SLICES.ilog2();
/// How many entries come between two slices. Fewer make the single batch that writes a slice less slow; but a
/// commit after a split of pages looks through the whole page cache, which is best done for many keys.
const SLICE_ENTRIES: u64 = 1024;
/// No key waits for longer than so many entries: this bounds the memory, and what is read at a start.
const WAIT_ENTRIES: u64 = SLICES * SLICE_ENTRIES;

/// The keys that are not in the table yet.
#[derive(Debug, Default)]
pub(super) struct Keys {
    waiting: BTreeSet<(u64, Index)>,
}

/// What a transaction has changed in the table, for the memory to follow once it is durable.
#[derive(Debug)]
pub(super) struct KeysChange {
    fresh: BTreeSet<(u64, Index)>,
    settled: Vec<(u64, Index)>,
}

/// The hash by which a key is found. Different keys may share it, by chance or because somebody has looked for such.
pub(super) fn hash(key: &[u8]) -> u64 {
    let hash = blake3::hash(key);
    let (head, _) = hash.as_bytes().split_at(8);
    head.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// The entry with which the key of an entry goes into the table: the first from it on that ends a turn of its slice.
fn due(hash: u64, index: Index) -> Index {
    let turn = index.0.div_ceil(SLICE_ENTRIES);
    let slice = hash >> SLICE_BITS;
    let wait = slice.wrapping_sub(turn) % SLICES;
    Index((turn + wait).saturating_mul(SLICE_ENTRIES))
}

/// Whether the key of an entry is in the table of a store that has all entries up to another.
pub(super) fn is_settled(hash: u64, index: Index, last: Index) -> bool {
    due(hash, index) <= last
}

/// The statement for [`Keys::entries`].
pub(super) fn look(conn: &Connection) -> Step<CachedStatement<'_>> {
    Ok(conn.prepare_cached("SELECT idx FROM keys WHERE hash = ?1")?)
}

/// Puts a key into the table.
pub(super) fn insert(conn: &Connection, hash: u64, index: Index) -> Step<()> {
    let mut statement = conn.prepare_cached("INSERT INTO keys (hash, idx) VALUES (?1, ?2)")?;
    statement.execute([hash.cast_signed(), signed(index.0)?])?;
    Ok(())
}

/// Reads `hash, idx`.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<(u64, Index)> {
    Ok((row.get::<_, i64>(0)?.cast_unsigned(), Index(number(row, 1)?)))
}

impl Keys {
    /// What waits in a store with all entries up to `last`, from its outcomes.
    pub(super) fn load(conn: &Connection, last: Index) -> Step<Self> {
        let mut waiting = BTreeSet::new();
        outcomes::each_above(conn, Index(last.0.saturating_sub(WAIT_ENTRIES)), |row| {
            let hash = hash(row.key.0);
            if !is_settled(hash, row.index, last) {
                waiting.insert((hash, row.index));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Self { waiting })
    }

    /// The entries with keys of this hash: nearly always none, or the one that is looked for.
    pub(super) fn entries(
        &self,
        hash: u64,
        fresh: &BTreeSet<(u64, Index)>,
        look: &mut CachedStatement<'_>,
    ) -> Step<Vec<Index>> {
        let mut entries = Vec::new();
        let mut rows = look.query([hash.cast_signed()])?;
        while let Some(row) = rows.next()? {
            entries.push(Index(number(row, 0)?));
        }
        let range = (hash, Index(0))..=(hash, Index(u64::MAX));
        for keys in [&self.waiting, fresh] {
            entries.extend(keys.range(range.clone()).map(|(_, index)| *index));
        }
        Ok(entries)
    }

    /// Puts into the table what is due when the entries up to `last` have been added to those up to `before`.
    pub(super) fn settle(
        &self,
        conn: &Connection,
        fresh: BTreeSet<(u64, Index)>,
        before: Index,
        last: Index,
    ) -> Step<KeysChange> {
        let mut settled = Vec::new();
        for turn in before.0 / SLICE_ENTRIES + 1..=last.0 / SLICE_ENTRIES {
            let end = Index(turn * SLICE_ENTRIES);
            let slice = turn % SLICES;
            let from = slice << SLICE_BITS;
            let upto = from | ((1 << SLICE_BITS) - 1);
            let range = (from, Index(0))..=(upto, Index(u64::MAX));
            for keys in [&self.waiting, &fresh] {
                for (hash, index) in keys.range(range.clone()) {
                    if due(*hash, *index) == end {
                        insert(conn, *hash, *index)?;
                        settled.push((*hash, *index));
                    }
                }
            }
        }
        Ok(KeysChange { fresh, settled })
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.waiting.len()).unwrap_or(u64::MAX)
    }

    /// Follows a change that is durable.
    pub(super) fn follow(&mut self, change: KeysChange) {
        let KeysChange { fresh, settled } = change;
        self.waiting.extend(fresh);
        for key in &settled {
            self.waiting.remove(key);
        }
    }

    /// Takes the keys of all entries above an index out of the table, and those that were not there yet at that
    /// index, before the outcomes of the entries go.
    pub(super) fn cut_above(conn: &Connection, index: Index, last: Index) -> Step<()> {
        let mut statement = conn.prepare_cached("DELETE FROM keys WHERE hash = ?1 AND idx = ?2")?;
        outcomes::each_above(conn, Index(index.0.saturating_sub(WAIT_ENTRIES)), |row| {
            let hash = hash(row.key.0);
            let stays = row.index <= index && is_settled(hash, row.index, index);
            if is_settled(hash, row.index, last) && !stays {
                statement.execute([hash.cast_signed(), signed(row.index.0)?])?;
            }
            Ok(ControlFlow::Continue(()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_turn_once_and_soon() {
        for index in [1, 2, 1023, 1024, 1025, 65_535, 65_536, 65_537, 1 << 40] {
            for slice in 0..SLICES {
                let hash = slice << SLICE_BITS | 0x1234;
                let due = due(hash, Index(index)).0;
                assert!((index..index + WAIT_ENTRIES).contains(&due), "{index} is due at {due}");
                assert_eq!((due % SLICE_ENTRIES, due / SLICE_ENTRIES % SLICES), (0, slice));
            }
        }
    }
}
