//! The statements that change the book.

use std::collections::BTreeMap;

use protocol::catalogue::Order;
use protocol::ids::{Chain, Index, ShardId};
use rusqlite::{Connection, params};

use super::{Change, Cursor};

pub(super) fn carry_out(conn: &Connection, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::Sales { shard, sales } => enter(conn, *shard, sales),
        Change::Advance { shard, cursor } => advance(conn, *shard, *cursor),
        Change::Forget { shard } => forget(conn, *shard),
    }
}

pub(super) fn cursors(conn: &Connection) -> rusqlite::Result<BTreeMap<ShardId, Cursor>> {
    let mut statement = conn.prepare_cached("SELECT shard, idx, chain FROM cursors")?;
    let rows = statement.query_map([], |row| {
        let chain = Chain(u128::from_be_bytes(row.get(2)?));
        Ok((ShardId(row.get(0)?), Cursor { index: Index(unsigned(row.get(1)?)), chain }))
    })?;
    rows.collect()
}

/// Notes how many shards the book is of, once and for all. Not before something is entered: who has told it that has
/// the same count, while one that is only configured may be a mistake.
pub(super) fn note_count(conn: &Connection, shards: u32) -> rusqlite::Result<()> {
    let mut insert =
        conn.prepare_cached("INSERT INTO cut (one, shards) VALUES (1, ?1) ON CONFLICT DO NOTHING")?;
    insert.execute([shards])?;
    Ok(())
}

/// Enters orders, but for those that are there.
fn enter(conn: &Connection, shard: ShardId, sales: &[(Index, Order)]) -> rusqlite::Result<()> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO orders (order_id, shard, idx, created_at, total_cents, items)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
    )?;
    for (index, order) in sales {
        let items = serde_json::to_string(&order.items)
            .map_err(|problem| rusqlite::Error::ToSqlConversionFailure(Box::new(problem)))?;
        insert.execute(params![
            order.id.0.to_be_bytes(),
            shard.0,
            signed(index.0),
            signed(order.at.0),
            signed(order.total_cents()),
            items
        ])?;
    }
    Ok(())
}

fn advance(conn: &Connection, shard: ShardId, cursor: Cursor) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO cursors (shard, idx, chain) VALUES (?1, ?2, ?3)
         ON CONFLICT (shard) DO UPDATE SET idx = excluded.idx, chain = excluded.chain",
    )?
    .execute(params![shard.0, signed(cursor.index.0), cursor.chain.0.to_be_bytes()])?;
    Ok(())
}

fn forget(conn: &Connection, shard: ShardId) -> rusqlite::Result<()> {
    for statement in ["DELETE FROM orders WHERE shard = ?1", "DELETE FROM cursors WHERE shard = ?1"] {
        conn.execute(statement, [shard.0])?;
    }
    Ok(())
}

/// A number as SQLite holds it. Indexes, times, ids and prices stay far below the edge; one beyond it
/// could only be nonsense.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that was stored by [`signed`].
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
