//! The statements that change the book.

use std::collections::BTreeMap;

use protocol::catalogue::Order;
use protocol::ids::{Chain, Index, ShardId};
use rusqlite::{Connection, params};

use super::{Change, Cursor};

pub(super) fn carry_out(conn: &Connection, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::Sales { shard, sales } => {
            sales.iter().try_for_each(|(index, order)| enter(conn, *shard, Some(*index), order))
        }
        Change::Ahead { shard, orders } => {
            orders.iter().try_for_each(|order| enter(conn, *shard, None, order))
        }
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

/// Enters an order, unless it is there. One that was entered ahead of the log gets its index.
fn enter(conn: &Connection, shard: ShardId, index: Option<Index>, order: &Order) -> rusqlite::Result<()> {
    let id = order.id.0.to_be_bytes();
    let changed = conn
        .prepare_cached(
            "INSERT INTO orders (order_id, shard, idx, created_at, total_cents) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (order_id) DO UPDATE SET idx = excluded.idx
             WHERE idx IS NULL AND excluded.idx IS NOT NULL",
        )?
        .execute(params![
            id,
            shard.0,
            index.map(|index| signed(index.0)),
            signed(order.at.0),
            signed(order.total_cents())
        ])?;
    if changed == 0 {
        return Ok(());
    }
    let mut insert = conn.prepare_cached(
        "INSERT OR IGNORE INTO lines (order_id, line, book_id, title, quantity, unit_cost_cents)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for (line, item) in (0_i64..).zip(&order.items) {
        let (quantity, cost) = (signed(item.quantity), signed(item.unit_cost_cents));
        insert.execute(params![id, line, signed(item.book.get()), item.title, quantity, cost])?;
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
    for statement in [
        "DELETE FROM lines WHERE order_id IN (SELECT order_id FROM orders WHERE shard = ?1)",
        "DELETE FROM orders WHERE shard = ?1",
        "DELETE FROM cursors WHERE shard = ?1",
    ] {
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
