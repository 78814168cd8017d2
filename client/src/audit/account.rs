//! The judgement: ledger, books, orders and replicas side by side. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use common::api::{Order, ReplicaState, ReplicaStatus, StockChange};
use protocol::ids::{BookId, ShardId};

use super::evidence::{Evidence, ShardLedger};
use super::report::{Fault, Report};
use super::start::{Start, StartError};

/// What the ledger says of one book.
#[derive(Clone, Debug, Default)]
struct Account {
    /// Stocked and sold after each change, by its index; none while it is not there.
    states: Vec<(u64, Option<Balance>)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Balance {
    stocked: u64,
    sold: u64,
}

impl Balance {
    fn left(self) -> Option<u64> {
        self.stocked.checked_sub(self.sold)
    }
}

impl Account {
    /// The balance at a version.
    fn at(&self, version: u64) -> Option<Balance> {
        let after = self.states.partition_point(|(index, _)| *index <= version);
        self.states[..after].last().and_then(|(_, balance)| *balance)
    }

    /// Whether all that is known of a version is that the book was removed before it. Books that are loaded without ids
    /// get the lowest that are free, and the ledger does not say which: it may be there again.
    fn was_removed_before(&self, version: u64) -> bool {
        let after = self.states.partition_point(|(index, _)| *index <= version);
        let gone = self.states[..after].iter().rev().take_while(|(_, balance)| balance.is_none());
        gone.last().is_some_and(|(removed, _)| *removed < version)
    }

    fn last(&self) -> Option<Balance> {
        self.states.last().and_then(|(_, balance)| *balance)
    }
}

/// Compares everything with everything.
pub(super) fn judge(evidence: &Evidence, start: Option<&Start>) -> Result<Report, StartError> {
    if let Some(start) = start {
        start.check(&evidence.ledgers)?;
    }
    let mut report = Report { books: evidence.books.len() as u64, ..Report::default() };
    let accounts = accounts(evidence, start, &mut report.faults);
    judge_books(evidence, &accounts, &mut report);
    judge_orders(evidence, &mut report);
    evidence.shards.iter().for_each(|shard| judge_replicas(shard.shard, &shard.replicas, &mut report.faults));
    let left = |account: &Account| account.last().and_then(Balance::left);
    let mut books = at_the_end(evidence, &report.unproven);
    books.extend(accounts.iter().filter_map(|(id, account)| Some((*id, left(account)?))));
    let indexes = evidence.ledgers.iter().map(|ledger| ledger.end);
    report.end = Some(Start { indexes: indexes.collect(), books });
    Ok(report)
}

/// The stocks at the end of the ledgers of books of which nothing is known but how they were listed: what was so far is
/// not proven, but what comes will be.
fn at_the_end(evidence: &Evidence, unproven: &[BookId]) -> BTreeMap<BookId, u64> {
    let unproven: BTreeSet<&BookId> = unproven.iter().collect();
    let listed = evidence.books.iter().filter(|book| unproven.contains(&book.id));
    let mut known: BTreeMap<BookId, (u64, Option<Balance>)> = listed
        .map(|book| (book.id, (book.version, Some(Balance { stocked: book.quantity, sold: 0 }))))
        .collect();
    for ledger in &evidence.ledgers {
        for change in &ledger.moves {
            for (id, step) in steps(&change.change) {
                if let Some((version, balance)) =
                    known.get_mut(&id).filter(|(version, _)| *version < change.index)
                {
                    // What was delivered before the ledger begins is not in it.
                    *balance = balance.filter(|_| ledger.begins <= *version + 1);
                    *balance = after(*balance, step);
                }
            }
        }
    }
    known.into_iter().filter_map(|(id, (_, balance))| Some((id, balance?.left()?))).collect()
}

/// Follows each book through the ledgers.
fn accounts(
    evidence: &Evidence,
    start: Option<&Start>,
    faults: &mut Vec<Fault>,
) -> BTreeMap<BookId, Account> {
    let mut accounts: BTreeMap<BookId, Account> = BTreeMap::new();
    for (id, quantity) in start.iter().flat_map(|start| &start.books) {
        // A book may be listed in a version from before the start: it was the same then.
        let opening = Balance { stocked: *quantity, sold: 0 };
        accounts.entry(*id).or_default().states.push((0, Some(opening)));
    }
    for (shard, ledger) in (0..).zip(&evidence.ledgers) {
        let begin = start_of(start, shard);
        for change in ledger.moves.iter().filter(|change| change.index > begin) {
            for (id, step) in steps(&change.change) {
                let account = accounts.entry(id).or_default();
                let balance = account.last();
                let after = after(balance, step);
                if after.is_some_and(|balance| balance.left().is_none()) {
                    faults.push(Fault::Oversold { id, index: change.index });
                }
                account.states.push((change.index, after));
            }
        }
    }
    accounts
}

fn start_of(start: Option<&Start>, shard: u32) -> u64 {
    let indexes = start.map(|start| start.indexes.as_slice()).unwrap_or_default();
    usize::try_from(shard).ok().and_then(|shard| indexes.get(shard)).copied().unwrap_or(0)
}

/// What a change is to one book.
#[derive(Clone, Copy, Debug)]
enum Step {
    Sold(u64),
    Added(i64),
    Put(u64),
    Removed,
}

fn steps(change: &StockChange) -> Vec<(BookId, Step)> {
    match change {
        StockChange::Sold { order } => {
            order.items.iter().map(|item| (item.id, Step::Sold(item.quantity))).collect()
        }
        StockChange::Added { id, amount } => vec![(*id, Step::Added(*amount))],
        StockChange::Put { id, quantity } => vec![(*id, Step::Put(*quantity))],
        StockChange::Removed { id } => vec![(*id, Step::Removed)],
    }
}

/// The balance after a change. Of a book whose beginning is not known, nothing is known until it is put.
fn after(balance: Option<Balance>, step: Step) -> Option<Balance> {
    if let Step::Put(quantity) = step {
        let sold = balance.unwrap_or_default().sold;
        return Some(Balance { stocked: sold + quantity, sold });
    }
    let balance = balance?;
    match step {
        Step::Sold(quantity) => Some(Balance { sold: balance.sold + quantity, ..balance }),
        Step::Added(amount) => {
            // Below nothing is as wrong as too much sold, and shows as that.
            Some(Balance { stocked: balance.stocked.saturating_add_signed(amount), ..balance })
        }
        Step::Put(_) | Step::Removed => None,
    }
}

fn judge_books(evidence: &Evidence, accounts: &BTreeMap<BookId, Account>, report: &mut Report) {
    let shards = u32::try_from(evidence.ledgers.len()).unwrap_or(u32::MAX);
    let ledger_of = |id: BookId| {
        let shard = usize::try_from(ShardId::of_book(id, shards).0).unwrap_or(usize::MAX);
        evidence.ledgers.get(shard)
    };
    let none = Account::default();
    for book in &evidence.books {
        let account = accounts.get(&book.id).unwrap_or(&none);
        let was_known = account.states.iter().any(|(index, state)| *index <= book.version && state.is_some());
        if !was_known || account.was_removed_before(book.version) {
            report.unproven.push(book.id);
            continue;
        }
        let balance = account.at(book.version);
        let expected = balance.and_then(Balance::left);
        if expected != Some(book.quantity) {
            let found = Some(book.quantity);
            report.faults.push(Fault::Stock { id: book.id, version: book.version, expected, found });
        }
        let balance = balance.unwrap_or_default();
        report.stocked += balance.stocked;
        report.sold += balance.sold;
        report.left += book.quantity;
    }
    let listed: BTreeSet<BookId> = evidence.books.iter().map(|book| book.id).collect();
    for (id, account) in accounts.iter().filter(|(id, _)| !listed.contains(id)) {
        let Some(ledger) = ledger_of(*id) else { continue };
        // There before the books were listed, and not touched until after: it should have been listed.
        let untouched = account.states.last().is_some_and(|(index, _)| *index <= ledger.known);
        if let Some(expected) = account.last().and_then(Balance::left).filter(|_| untouched) {
            let expected = Some(expected);
            report.faults.push(Fault::Stock { id: *id, version: ledger.end, expected, found: None });
        }
    }
}

fn judge_orders(evidence: &Evidence, report: &mut Report) {
    let mut sales: HashMap<&str, (&Order, bool)> = HashMap::new();
    for ShardLedger { moves, known, .. } in &evidence.ledgers {
        for (index, order) in moves.iter().filter_map(|change| Some((change.index, change.change.order()?))) {
            if sales.insert(&order.order_id, (order, index <= *known)).is_some() {
                report.faults.push(Fault::SoldTwice { order_id: order.order_id.clone() });
            }
        }
    }
    report.orders = sales.len() as u64;
    for (node, orders) in &evidence.orders {
        let mut seen = BTreeSet::new();
        for order in orders {
            let (node, order_id) = (node.clone(), order.order_id.clone());
            if !seen.insert(order.order_id.as_str()) {
                report.faults.push(Fault::OrderTwice { node, order_id });
                continue;
            }
            match sales.get(order.order_id.as_str()) {
                None => report.faults.push(Fault::OrderUnknown { node, order_id }),
                Some((sold, _)) if *sold != order => {
                    report.faults.push(Fault::OrderDiffers { node, order_id })
                }
                Some(_) => {}
            }
        }
        let missing = sales.iter().filter(|(id, (_, is_due))| *is_due && !seen.contains(**id));
        let mut missing: Vec<&str> = missing.map(|(id, _)| *id).collect();
        missing.sort_unstable();
        report.faults.extend(
            missing.into_iter().map(|id| Fault::OrderMissing { node: node.clone(), order_id: id.to_owned() }),
        );
    }
}

/// Members tell index, chain and digest in one breath, so that those at one index can be compared. Who is
/// not a member may have entries that are to be undone.
fn judge_replicas(shard: u32, replicas: &[ReplicaStatus], faults: &mut Vec<Fault>) {
    let members: Vec<_> = replicas.iter().filter(|replica| replica.state == ReplicaState::Member).collect();
    for (place, one) in members.iter().enumerate() {
        for other in &members[place + 1..] {
            let differs = (&one.chain, &one.digest) != (&other.chain, &other.digest);
            if one.last_index == other.last_index && differs {
                let nodes = [one.id.clone(), other.id.clone()];
                faults.push(Fault::Replicas { shard, index: one.last_index, nodes });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use common::api::{Book, LedgerMove, OrderItem, OrderStatus};

    use super::*;

    fn id(book: u64) -> BookId {
        book.try_into().unwrap()
    }

    fn order(name: &str, book: u64, quantity: u64) -> Order {
        let items = vec![OrderItem { id: id(book), title: "t".to_owned(), quantity, unit_cost_cents: 1 }];
        Order {
            order_id: name.to_owned(),
            status: OrderStatus::Sold,
            items,
            total_cents: quantity,
            created_at: String::new(),
        }
    }

    fn book(number: u64, quantity: u64, version: u64) -> Book {
        let text = format!(
            r#"{{"id":{number},"title":"t","topic":"t","cost_cents":1,"quantity":{quantity},"version":{version}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    /// Book 1: five copies put, two sold, three added, one sold; book 2: put and removed.
    fn good() -> Evidence {
        let changes = [
            StockChange::Put { id: id(1), quantity: 5 },
            StockChange::Sold { order: order("a", 1, 2) },
            StockChange::Added { id: id(1), amount: 3 },
            StockChange::Sold { order: order("b", 1, 1) },
            StockChange::Put { id: id(2), quantity: 9 },
            StockChange::Removed { id: id(2) },
        ];
        let moves = (1..).zip(changes).map(|(index, change)| LedgerMove { index, change });
        let ledger = ShardLedger { moves: moves.collect(), known: 4, end: 6, begins: 1 };
        let nodes =
            ["order-1", "order-2"].map(|node| (node.to_owned(), vec![order("b", 1, 1), order("a", 1, 2)]));
        Evidence {
            ledgers: vec![ledger],
            orders: nodes.into(),
            books: vec![book(1, 5, 4)],
            shards: Vec::new(),
        }
    }

    fn faults(evidence: &Evidence) -> Vec<Fault> {
        judge(evidence, None).unwrap().faults
    }

    #[test]
    fn sold_and_left_make_what_was_stocked() {
        let report = judge(&good(), None).unwrap();
        assert!(report.is_balanced(), "{report:?}");
        assert_eq!((report.stocked, report.sold, report.left), (8, 3, 5));
        assert_eq!((report.books, report.orders, report.unproven.len()), (1, 2, 0));
        // Listed before the last sale, it is compared with its own version.
        let mut earlier = good();
        earlier.books = vec![book(1, 6, 3)];
        assert_eq!(faults(&earlier), []);
    }

    #[test]
    fn a_copy_too_many_or_too_few_is_seen() {
        for (quantity, version) in [(4, 4), (6, 4), (5, 3), (5, 2)] {
            let mut evidence = good();
            evidence.books = vec![book(1, quantity, version)];
            let found = faults(&evidence);
            assert!(matches!(found[..], [Fault::Stock { .. }]), "{quantity} in {version}: {found:?}");
        }
    }

    #[test]
    fn a_book_that_should_not_or_should_be_there_is_seen() {
        let mut evidence = good();
        evidence.books.push(book(2, 9, 6));
        assert!(matches!(faults(&evidence)[..], [Fault::Stock { expected: None, found: Some(9), .. }]));
        evidence.books.clear();
        assert!(matches!(faults(&evidence)[..], [Fault::Stock { expected: Some(5), found: None, .. }]));
        // It may have gone while the books were listed.
        evidence.ledgers[0].known = 3;
        assert_eq!(faults(&evidence), []);
    }

    #[test]
    fn a_book_that_may_have_been_loaded_again_without_its_id_is_not_proven() {
        let mut evidence = good();
        evidence.books.push(book(2, 4, 7));
        evidence.ledgers[0].end = 8;
        evidence.ledgers[0]
            .moves
            .push(LedgerMove { index: 8, change: StockChange::Added { id: id(2), amount: 3 } });
        for version in [7, 8] {
            evidence.books[1] = book(2, if version == 7 { 4 } else { 7 }, version);
            let report = judge(&evidence, None).unwrap();
            assert_eq!((report.unproven, report.faults), (vec![id(2)], vec![]), "{version}");
            // The next audit knows what this one has seen.
            let end = report.end.unwrap();
            assert_eq!(end, Start { indexes: vec![8], books: [(id(1), 5), (id(2), 7)].into() }, "{version}");
        }
        let end = judge(&evidence, None).unwrap().end.unwrap();
        let later = judge(&evidence, Some(&end)).unwrap();
        assert!(later.is_balanced() && later.unproven.is_empty(), "{later:?}");
    }

    #[test]
    fn an_audit_is_saved_with_the_stocks_that_it_could_not_prove_but_see() {
        let mut evidence = good();
        evidence.ledgers[0].moves.remove(0);
        evidence.ledgers[0].begins = 2;
        let saved = |evidence: &Evidence| judge(evidence, None).unwrap().end.unwrap().books;
        assert_eq!(saved(&evidence), [(id(1), 5)].into());
        // Listed before the last sale, or before what the ledger has not.
        evidence.books = vec![book(1, 6, 3)];
        assert_eq!(saved(&evidence), [(id(1), 5)].into());
        evidence.ledgers[0].begins = 5;
        assert_eq!(saved(&evidence), BTreeMap::new());
    }

    #[test]
    fn orders_are_everywhere_once_and_as_they_were_sold() {
        let node = || "order-2".to_owned();
        let order_id = || "a".to_owned();
        let with = |change: &dyn Fn(&mut Vec<Order>)| {
            let mut evidence = good();
            change(evidence.orders.get_mut("order-2").unwrap());
            faults(&evidence)
        };
        assert_eq!(
            with(&|orders| drop(orders.pop())),
            [Fault::OrderMissing { node: node(), order_id: order_id() }]
        );
        assert_eq!(
            with(&|orders| orders.push(order("a", 1, 2))),
            [Fault::OrderTwice { node: node(), order_id: order_id() }]
        );
        assert_eq!(
            with(&|orders| orders[1].items[0].quantity = 3),
            [Fault::OrderDiffers { node: node(), order_id: order_id() }]
        );
        assert_eq!(
            with(&|orders| orders.push(order("c", 1, 2))),
            [Fault::OrderUnknown { node: node(), order_id: "c".to_owned() }]
        );
        let mut twice = good();
        twice.ledgers[0].moves[3].change = StockChange::Sold { order: order("a", 1, 1) };
        assert!(faults(&twice).contains(&Fault::SoldTwice { order_id: order_id() }));
        // Sold while the orders were listed, it need not be among them.
        let mut late = good();
        late.ledgers[0].known = 3;
        late.orders.values_mut().for_each(|orders| drop(orders.remove(0)));
        assert_eq!(faults(&late), []);
    }

    #[test]
    fn more_sold_than_there_was_is_seen() {
        let mut evidence = good();
        evidence.ledgers[0].moves[0].change = StockChange::Put { id: id(1), quantity: 1 };
        assert!(faults(&evidence).contains(&Fault::Oversold { id: id(1), index: 2 }));
    }

    #[test]
    fn a_start_takes_the_place_of_what_the_log_has_lost() {
        let mut evidence = good();
        evidence.ledgers[0].moves.remove(0);
        evidence.ledgers[0].begins = 2;
        let report = judge(&evidence, None).unwrap();
        assert_eq!((report.unproven, report.faults), (vec![id(1)], vec![]));
        let start = |index, quantity| Start { indexes: vec![index], books: [(id(1), quantity)].into() };
        for start in [start(1, 5), start(3, 6), start(6, 5)] {
            let report = judge(&evidence, Some(&start)).unwrap();
            assert!(report.is_balanced() && report.unproven.is_empty(), "{report:?}");
        }
        assert_eq!(judge(&evidence, Some(&start(3, 7))).unwrap().faults.len(), 1);
        assert!(matches!(judge(&evidence, Some(&start(0, 5))), Err(StartError::TooOld { .. })));
        assert!(matches!(judge(&evidence, Some(&start(9, 5))), Err(StartError::Ahead { .. })));
        let shards = Start { indexes: vec![1, 1], books: BTreeMap::new() };
        assert!(matches!(judge(&evidence, Some(&shards)), Err(StartError::Shards { .. })));
        // What one audit ends with, the next one begins with.
        let end = judge(&good(), None).unwrap().end.unwrap();
        assert_eq!(end, Start { indexes: vec![6], books: [(id(1), 5)].into() });
    }

    #[test]
    fn members_at_one_place_have_one_content() {
        let replica = |name: &str, digest: &str, state| ReplicaStatus {
            id: name.to_owned(),
            state,
            epoch: 1,
            last_index: 6,
            chain: "c".to_owned(),
            digest: digest.to_owned(),
            lag: 0,
        };
        let of = |state| {
            let mut faults = Vec::new();
            let replicas = [replica("one", "1", ReplicaState::Member), replica("two", "2", state)];
            judge_replicas(0, &replicas, &mut faults);
            faults.len()
        };
        assert_eq!((of(ReplicaState::Member), of(ReplicaState::Recovering)), (1, 0));
    }
}
