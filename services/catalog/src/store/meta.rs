//! The one row of `meta`: who the store is, what it promised, and where its log ends.
//!
//! The row carries a checksum of itself: a promise or a commit index that a disk made lower would break
//! what was said to others, and no digest covers them.

use protocol::call::Version;
use protocol::ids::{Chain, Digest, Epoch, Index, ShardId, StoreId};
use protocol::message::Standing;
use rusqlite::{Connection, params};

use super::codec::{encode, number, signed};
use super::error::{Fault, Step};

/// The part of the catalogue that a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) shard: ShardId,
    pub(super) count: u32,
}

/// What the row holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) part: Part,
    /// The store id is 0 in a snapshot: a copy is nobody's store yet.
    pub(super) standing: Standing,
    /// The epoch of the last append that was acknowledged to a writer.
    pub(super) appended_epoch: Epoch,
    /// The epoch of the last entry.
    pub(super) last_epoch: Epoch,
}

impl Meta {
    /// That of a new store.
    pub(super) fn new(store: StoreId, part: Part) -> Self {
        let standing = Standing {
            store,
            promise: Epoch(0),
            last: Index(0),
            chain: Chain::default(),
            digest: Digest::default(),
            commit: Index(0),
            view: None,
        };
        Self { part, standing, appended_epoch: Epoch(0), last_epoch: Epoch(0) }
    }

    /// Reads it.
    pub(super) fn load(conn: &Connection) -> Step<Self> {
        let mut statement = conn.prepare_cached(
            "SELECT store, shard, shard_count, promise, appended_epoch, view, last, last_epoch, chain,
                    commit_index, digest, checksum
             FROM meta WHERE one = 1",
        )?;
        let mut rows = statement.query([])?;
        let row = rows.next()?.ok_or_else(|| Fault::corrupt("meta", "its row is missing"))?;
        let view: Option<Vec<u8>> = row.get(5)?;
        let view = view.map(|bytes| postcard::from_bytes(&bytes)).transpose();
        let meta = Self {
            part: Part { shard: ShardId(row.get(1)?), count: row.get(2)? },
            standing: Standing {
                store: StoreId(u128::from_be_bytes(row.get(0)?)),
                promise: Epoch(number(row, 3)?),
                view: view.map_err(|problem| Fault::corrupt("meta", format!("its view: {problem}")))?,
                last: Index(number(row, 6)?),
                chain: Chain(u128::from_be_bytes(row.get(8)?)),
                commit: Index(number(row, 9)?),
                digest: Digest(u128::from_be_bytes(row.get(10)?)),
            },
            appended_epoch: Epoch(number(row, 4)?),
            last_epoch: Epoch(number(row, 7)?),
        };
        if meta.checksum() != row.get::<_, [u8; 16]>(11)? {
            return Err(Fault::corrupt("meta", "its checksum does not fit"));
        }
        Ok(meta)
    }

    /// Puts the row into a new file.
    pub(super) fn create(&self, conn: &Connection) -> Step<()> {
        let Part { shard, count } = self.part;
        conn.execute(
            "INSERT INTO meta (one, store, shard, shard_count, promise, appended_epoch, view, last,
                               last_epoch, chain, commit_index, digest, checksum)
             VALUES (1, zeroblob(16), ?1, ?2, 0, 0, NULL, 0, 0, zeroblob(16), 0, zeroblob(16), zeroblob(16))",
            params![shard.0, count],
        )?;
        self.save(conn, (Index(0), Chain::default()))
    }

    /// Writes it, all but the shard. The row must end at `before` until now: anything else means that
    /// somebody else writes this file.
    pub(super) fn save(&self, conn: &Connection, before: (Index, Chain)) -> Step<()> {
        let Standing { store, promise, last, chain, digest, commit, view } = &self.standing;
        let changed = conn
            .prepare_cached(
                "UPDATE meta SET store = ?1, promise = ?2, appended_epoch = ?3, view = ?4, last = ?5,
                                 last_epoch = ?6, chain = ?7, commit_index = ?8, digest = ?9, checksum = ?10
                 WHERE one = 1 AND last = ?11 AND chain = ?12",
            )?
            .execute(params![
                store.0.to_be_bytes(),
                signed(promise.0)?,
                signed(self.appended_epoch.0)?,
                view.as_ref().map(encode),
                signed(last.0)?,
                signed(self.last_epoch.0)?,
                chain.0.to_be_bytes(),
                signed(commit.0)?,
                digest.0.to_be_bytes(),
                self.checksum(),
                signed(before.0.0)?,
                before.1.0.to_be_bytes(),
            ])?;
        if changed == 1 { Ok(()) } else { Err(Fault::corrupt("meta", "somebody else changed it")) }
    }

    /// Where the log ends.
    pub(super) fn end(&self) -> (Index, Chain) {
        (self.standing.last, self.standing.chain)
    }

    /// The version of an answer that shows the whole store: its last entry.
    pub(super) fn version(&self) -> Version {
        Version { index: self.standing.last, epoch: self.last_epoch }
    }

    fn checksum(&self) -> [u8; 16] {
        let Part { shard, count } = self.part;
        let row = encode(&(shard, count, &self.standing, self.appended_epoch, self.last_epoch));
        Digest::default().plus_row(&row).0.to_be_bytes()
    }
}
