//! What an audit looks at, gathered from a store that may be at work.

use std::collections::BTreeMap;

use common::api::{Book, Ledger, LedgerMove, Order, Role, ShardStatus};

use crate::client::Client;
use crate::error::ClientError;

/// Rows a page: the most that a front end gives.
const PAGE_SIZE: u32 = 1000;

/// Hears of what is being read: what it is, how much has been read, and of how much, where that is known.
pub type Progress<'a> = dyn Fn(&str, u64, Option<u64>) + Sync + 'a;

/// All that is compared.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The shards' ledgers, by shard.
    pub ledgers: Vec<ShardLedger>,
    /// What each order node has, newest first.
    pub orders: BTreeMap<String, Vec<Order>>,
    /// The books, by id.
    pub books: Vec<Book>,
    /// How the replicas stand.
    pub shards: Vec<ShardStatus>,
}

/// A shard's ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardLedger {
    /// Everything that changed a stock up to `end`.
    pub moves: Vec<LedgerMove>,
    /// How far it was known before anything else was looked at.
    pub known: u64,
    /// How far it is known after everything else was looked at.
    pub end: u64,
    /// Before this index, only sales are in it.
    pub begins: u64,
}

impl Evidence {
    /// Asks a store. The order matters: the ledger is read before and after all else.
    pub(super) async fn gather(client: &Client, progress: &Progress<'_>) -> Result<Self, ClientError> {
        let status = client.status().await?;
        let mut ledgers = vec![ShardLedger::default(); status.shards.len()];
        for (shard, ledger) in (0..).zip(&mut ledgers) {
            ledger.read_on(client, shard, progress).await?;
            ledger.known = ledger.end;
        }
        let mut orders = BTreeMap::new();
        for node in status.nodes.iter().filter(|node| node.role == Role::Order) {
            orders.insert(node.id.clone(), orders_of(client, &node.id, progress).await?);
        }
        let books = books(client, progress).await?;
        for (shard, ledger) in (0..).zip(&mut ledgers) {
            ledger.read_on(client, shard, progress).await?;
        }
        Ok(Self { ledgers, orders, books, shards: client.status().await?.shards })
    }

    /// All sales of all ledgers.
    pub fn sales(&self) -> impl Iterator<Item = (u64, &Order)> {
        let moves = self.ledgers.iter().flat_map(|ledger| &ledger.moves);
        moves.filter_map(|change| Some((change.index, change.change.order()?)))
    }
}

impl ShardLedger {
    /// Reads what has been added by now. What is added meanwhile is left for another time, or there might be no
    /// end of it.
    async fn read_on(
        &mut self,
        client: &Client,
        shard: u32,
        progress: &Progress<'_>,
    ) -> Result<(), ClientError> {
        let mut last = None;
        loop {
            let part = client.ledger(shard, self.end, Some(PAGE_SIZE)).await?;
            let last = *last.get_or_insert(part.last);
            self.take(part);
            progress("ledger", self.end, Some(last));
            if self.end >= last {
                break;
            }
        }
        self.forget_what_was_cut();
        Ok(())
    }

    /// Takes over a part that follows.
    fn take(&mut self, part: Ledger) {
        self.moves.extend(part.moves);
        self.end = part.upto;
        self.begins = self.begins.max(part.begins);
    }

    /// The parts may come from different replicas, each of which has cut its log somewhere else: before the place
    /// from which on all of them still had it, some changes may be missing.
    fn forget_what_was_cut(&mut self) {
        self.moves.retain(|change| change.index >= self.begins || change.change.order().is_some());
    }
}

async fn orders_of(client: &Client, node: &str, progress: &Progress<'_>) -> Result<Vec<Order>, ClientError> {
    let mut all = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let page = client.orders_of(node, Some(PAGE_SIZE), token.as_deref()).await?;
        all.extend(page.orders);
        progress(node, all.len() as u64, None);
        token = page.next_page_token;
        if token.is_none() {
            return Ok(all);
        }
    }
}

async fn books(client: &Client, progress: &Progress<'_>) -> Result<Vec<Book>, ClientError> {
    let mut all = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let page = client.list_past_cache(Some(PAGE_SIZE), token.as_deref()).await?;
        all.extend(page.books);
        progress("books", all.len() as u64, None);
        token = page.next_page_token;
        if token.is_none() {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use common::api::StockChange;

    use super::*;

    fn part(begins: u64, indexes: [u64; 2]) -> Ledger {
        let change = StockChange::Removed { id: 1.try_into().unwrap() };
        let moves = indexes.map(|index| LedgerMove { index, change: change.clone() }).to_vec();
        Ledger { shard: 0, moves, upto: indexes[1], last: 9, begins }
    }

    #[test]
    fn what_one_replica_has_cut_off_is_known_from_none() {
        let mut ledger = ShardLedger::default();
        for part in [part(1, [2, 3]), part(5, [5, 6]), part(2, [7, 8])] {
            ledger.take(part);
        }
        ledger.forget_what_was_cut();
        let indexes: Vec<u64> = ledger.moves.iter().map(|change| change.index).collect();
        assert_eq!((ledger.begins, ledger.end, indexes), (5, 8, vec![5, 6, 7, 8]));
    }
}
