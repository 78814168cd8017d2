//! What has changed the stock of books, entry by entry, for an audit of sales against stock.
//!
//! Sales come from their table, the other changes from the commands of the log, neither from the books
//! themselves: that is what makes a comparison with the books worth something. A command counts only if the
//! outcome under its key is of its own entry, and no refusal.

use protocol::call::{LedgerPage, StockMove};
use protocol::catalogue::Order;
use protocol::command::{Action, Command, Outcome};
use protocol::ids::Index;
use rusqlite::Connection;

use super::apply::command_of;
use super::error::Step;
use super::log;
use super::meta::Meta;
use super::rows::{self, SaleRow, signed};

/// The part of the ledger after an index: what so many entries have changed, or fewer, if they changed much.
pub(super) fn page(conn: &Connection, after: Index, limit: u32) -> Step<LedgerPage> {
    let (last, _chain) = Meta::load(conn)?.end();
    let limit_rows = usize::try_from(limit).unwrap_or(usize::MAX);
    let end = Index(after.0.saturating_add(limit.max(1).into())).min(last);
    let mut moves = Vec::new();
    let mut upto = end;
    let mut statement = conn.prepare_cached(
        "SELECT idx, epoch, command, chain FROM log WHERE idx > ?1 AND idx <= ?2 ORDER BY idx",
    )?;
    let range = [signed(after.0)?, signed(end.0.max(after.0))?];
    let begins = log::first(conn)?.unwrap_or(last.next());
    let mut next = after.next().max(begins);
    for entry in statement.query_map(range, log::read)? {
        let entry = entry?;
        if entry.index != next {
            return Err(log::gap(next));
        }
        next = next.next();
        moves.extend(changes(conn, entry.index, command_of(&entry)?)?);
        if moves.len() >= limit_rows {
            upto = entry.index;
            break;
        }
    }
    moves.extend(sales(conn, after, upto)?);
    // Stable, and no entry is in both lists.
    moves.sort_by_key(|(index, _)| *index);
    Ok(LedgerPage { moves, upto: upto.max(after), last, begins })
}

/// What a command that is no sale did to stocks.
fn changes(conn: &Connection, index: Index, command: Command) -> Step<Vec<(Index, StockMove)>> {
    if let Action::Buy { .. } | Action::SetPrice { .. } = command.action {
        return Ok(Vec::new());
    }
    let Some(row) = rows::outcome(conn, &command.key)?.filter(|row| row.index == index) else {
        return Ok(Vec::new());
    };
    let put = |book, quantity| StockMove::Put { book, quantity };
    let moves = match (command.action, row.decode()?) {
        (_, Outcome::Refused(_)) => Vec::new(),
        (Action::AddStock { book, amount }, _) => vec![StockMove::Added { book, amount }],
        (Action::RemoveBook { book }, _) => vec![StockMove::Removed { book }],
        // The outcome has the id also where the command leaves it to the shard.
        (Action::PutBook(_), Outcome::Added(book) | Outcome::Changed(book)) => {
            vec![put(book.id, book.quantity)]
        }
        (Action::Load { books }, _) => {
            books.iter().filter_map(|book| Some(put(book.id?, book.quantity))).collect()
        }
        (Action::PutBook(_) | Action::Buy { .. } | Action::SetPrice { .. }, _) => Vec::new(),
    };
    Ok(moves.into_iter().map(|change| (index, change)).collect())
}

fn sales(conn: &Connection, after: Index, upto: Index) -> Step<Vec<(Index, StockMove)>> {
    let mut statement = conn.prepare_cached(
        "SELECT idx, line, order_id, book_id, title, quantity, unit_cost_cents, at
         FROM sales WHERE idx > ?1 AND idx <= ?2 ORDER BY idx, line",
    )?;
    let mut sales: Vec<(Index, Order)> = Vec::new();
    for sale in statement.query_map([signed(after.0)?, signed(upto.0)?], SaleRow::read)? {
        let SaleRow { index, order, item, at, line: _ } = sale?;
        match sales.last_mut() {
            Some((known, order)) if *known == index => order.items.push(item),
            _ => sales.push((index, Order { id: order, items: vec![item], at })),
        }
    }
    Ok(sales.into_iter().map(|(index, order)| (index, StockMove::Sold(order))).collect())
}
