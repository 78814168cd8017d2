//! What has changed the stock of books, entry by entry, for an audit of sales against stock.
//!
//! Sales come from the stored outcomes, the other changes from the commands of the log, neither from the books
//! themselves: that is what makes a comparison with the books worth something. A command counts only if it has
//! an outcome of its own, and no refusal.

use std::ops::ControlFlow;

use protocol::call::{LedgerPage, StockMove};
use protocol::command::{Action, Command, Outcome};
use protocol::ids::Index;
use rusqlite::Connection;

use super::apply::command_of;
use super::error::Step;
use super::meta::Meta;
use super::{log, outcomes};

/// The part of the ledger after an index: what so many entries have changed, or fewer, if they changed much.
pub(super) fn page(conn: &Connection, after: Index, limit: u32) -> Step<LedgerPage> {
    let (last, _chain) = Meta::load(conn)?.end();
    let limit_rows = usize::try_from(limit).unwrap_or(usize::MAX);
    let end = Index(after.0.saturating_add(limit.max(1).into())).min(last);
    let mut moves = Vec::new();
    let mut upto = end;
    let begins = log::first(conn)?.unwrap_or(last.next());
    let mut next = after.next().max(begins);
    log::each_above(conn, after, |entry| {
        if entry.index > end {
            return Ok(ControlFlow::Break(()));
        }
        if entry.index != next {
            return Err(log::gap(next));
        }
        next = next.next();
        moves.extend(changes(conn, entry.index, command_of(&entry)?)?);
        if moves.len() >= limit_rows {
            upto = entry.index;
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    outcomes::each_above(conn, after, |row| {
        if row.index > upto {
            return Ok(ControlFlow::Break(()));
        }
        moves.extend(row.sale()?.map(|order| (row.index, StockMove::Sold(order))));
        Ok(ControlFlow::Continue(()))
    })?;
    // Stable, and no entry is in both lists.
    moves.sort_by_key(|(index, _)| *index);
    Ok(LedgerPage { moves, upto: upto.max(after), last, begins })
}

/// What a command that is no sale did to stocks.
fn changes(conn: &Connection, index: Index, command: Command) -> Step<Vec<(Index, StockMove)>> {
    if let Action::Buy { .. } | Action::SetPrice { .. } = command.action {
        return Ok(Vec::new());
    }
    let Some(outcome) = outcomes::at(conn, index, |row| row.decode())? else {
        return Ok(Vec::new());
    };
    let put = |book, quantity| StockMove::Put { book, quantity };
    let moves = match (command.action, outcome) {
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
