//! Audits: of the store at work, between faults, and of the store at rest. Each begins where the last one ended, for
//! the log is cut meanwhile; together they know all of the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bookends::Client;
use bookends::audit::{self, Evidence, Fault, ShardLedger, Start};
use common::api::{Order, StockChange};
use protocol::ids::Index;

/// How long the store is used between two audits.
const REST: Duration = Duration::from_secs(10);

/// What the audits of a round have found so far.
#[derive(Debug, Default)]
pub(crate) struct Audits {
    /// How many there were.
    pub(crate) count: u32,
    /// Where the next one begins.
    start: Option<Start>,
    last: Option<Instant>,
    ledger: Ledger,
    sums: Sums,
}

/// What all audits of a round come to together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    /// Copies that came in, less those that were taken away other than by a sale.
    pub stocked: u64,
    /// Copies sold.
    pub sold: u64,
    /// Copies left.
    pub left: u64,
}

/// The ledger of the only shard.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// What each entry changed, as far as it is known.
    pub(crate) moves: BTreeMap<Index, StockChange>,
    /// All that changed up to here is known …
    end: Index,
    /// … but for what the log had lost before it was read. Sales are never lost.
    has_gaps: bool,
}

impl Audits {
    /// Whether it is time for the next one.
    pub(crate) fn are_due(&self) -> bool {
        self.last.is_none_or(|last| last.elapsed() > REST)
    }

    /// Holds an audit. Says what is wrong.
    pub(crate) async fn hold(&mut self, client: &Client) -> Vec<String> {
        let held = audit::run(client, self.start.as_ref(), &|_, _, _| {}).await;
        self.last = Some(Instant::now());
        let (report, evidence) = match held {
            Ok(held) => held,
            Err(problem) => return vec![format!("there is no audit: {problem}")],
        };
        self.count += 1;
        let mut complaints: Vec<String> = report.faults.iter().map(told).collect();
        if !report.unproven.is_empty() {
            complaints.push(format!("the audit can't prove books {:?}", report.unproven));
        }
        complaints.extend(self.ledger.read_on(evidence));
        // Each audit begins with what the last one saw left.
        let came_in = (self.sums.stocked + report.stocked).saturating_sub(self.sums.left);
        self.sums = Sums { stocked: came_in, sold: self.sums.sold + report.sold, left: report.left };
        self.start = report.end;
        complaints
    }

    /// What they come to.
    pub(crate) fn sums(&self) -> Sums {
        self.sums
    }

    /// What they know of the ledger.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

impl Ledger {
    /// Takes over what an audit has read. What was committed once stays as it was.
    pub(crate) fn read_on(&mut self, evidence: Evidence) -> Vec<String> {
        let mut complaints = Vec::new();
        for ShardLedger { moves, end, begins, .. } in evidence.ledgers {
            let moves: BTreeMap<Index, StockChange> =
                moves.into_iter().map(|change| (Index(change.index), change.change)).collect();
            let is_there = |entry: Index, change: &StockChange| change.order().is_some() || entry.0 >= begins;
            let known = self.moves.iter().filter(|(entry, change)| is_there(**entry, change));
            let again = moves.iter().take_while(|(entry, _)| **entry <= self.end);
            if !known.clone().eq(again.clone()) {
                let known: BTreeMap<_, _> = known.collect();
                let again: BTreeMap<_, _> = again.collect();
                let entries: BTreeSet<_> = known.keys().chain(again.keys()).collect();
                let changed = entries.into_iter().filter(|entry| known.get(*entry) != again.get(*entry));
                complaints.extend(changed.map(|entry| {
                    let (was, is) = (known.get(entry), again.get(entry));
                    format!("entry {entry} of the ledger was {was:?} and has become {is:?}")
                }));
            }
            self.has_gaps |= begins > self.end.0 + 1;
            self.end = self.end.max(Index(end));
            self.moves.extend(moves);
        }
        complaints
    }

    /// Whether everything that changed a stock is known, not only the sales.
    pub(crate) fn is_whole(&self) -> bool {
        !self.has_gaps
    }

    /// All sales.
    pub(crate) fn sales(&self) -> impl Iterator<Item = (Index, &Order)> {
        self.moves.iter().filter_map(|(entry, change)| Some((*entry, change.order()?)))
    }
}

fn told(fault: &Fault) -> String {
    format!("the audit does not balance: {fault:?}")
}

#[cfg(test)]
pub(crate) mod tests {
    use common::api::{LedgerMove, OrderStatus};
    use protocol::ids::BookId;

    use super::*;

    /// A ledger with these changes, from an entry on, and nothing before it.
    pub(crate) fn evidence(begins: u64, changes: Vec<StockChange>) -> Evidence {
        let moves: Vec<_> =
            (begins..).zip(changes).map(|(index, change)| LedgerMove { index, change }).collect();
        let end = begins + moves.len() as u64 - 1;
        let ledger = ShardLedger { moves, known: end, end, begins };
        Evidence { ledgers: vec![ledger], orders: BTreeMap::new(), books: Vec::new(), shards: Vec::new() }
    }

    fn added(amount: i64) -> StockChange {
        StockChange::Added { id: BookId::try_from(1).unwrap(), amount }
    }

    fn sold(name: &str) -> StockChange {
        let (items, created_at) = (Vec::new(), String::new());
        let order_id = name.to_owned();
        let order = Order { order_id, status: OrderStatus::Sold, items, total_cents: 1, created_at };
        StockChange::Sold { order }
    }

    /// What is wrong with a ledger that is read again, and now begins at an entry and has these changes.
    fn wrong(begins: u64, changes: Vec<StockChange>) -> usize {
        let mut ledger = Ledger::default();
        let first = evidence(1, vec![added(1), sold("a"), added(3)]);
        assert_eq!(ledger.read_on(first), Vec::<String>::new());
        ledger.read_on(evidence(begins, changes)).len()
    }

    #[test]
    fn what_was_committed_stays_as_it_was() {
        assert_eq!(wrong(1, vec![added(1), sold("a"), added(3), sold("b")]), 0);
        assert_eq!(wrong(2, vec![sold("a"), added(3), sold("b")]), 0);
        assert_eq!(wrong(1, vec![added(1), sold("b"), added(3)]), 1);
        assert_eq!(wrong(1, vec![added(2), sold("a"), added(4)]), 2);
        assert_eq!(wrong(1, vec![added(1), sold("a")]), 1, "it is gone");
        assert_eq!(wrong(3, vec![added(3)]), 1, "a sale is never lost");
    }

    #[test]
    fn what_was_never_read_is_a_gap() {
        let mut ledger = Ledger::default();
        ledger.read_on(evidence(1, vec![added(1)]));
        assert!(ledger.is_whole());
        ledger.read_on(evidence(2, vec![added(2)]));
        assert!(ledger.is_whole());
        ledger.read_on(evidence(4, vec![added(4)]));
        assert!(!ledger.is_whole() && ledger.moves.len() == 3);
    }
}
