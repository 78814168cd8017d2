//! The ledger as a witness: where the calls that were recorded stand in the log.
//!
//! A sale that was answered is known by its order, a delivery by the version that it gave its book. What is left of
//! the ledger then can only be calls of which the outcome stayed unknown. Which of several that asked for the same
//! makes no difference but for when it was sent: the earliest leaves most room to the others.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;

use common::api::{Order, StockChange};
use history::{Answer, Call, CallNumber, History, Logged};
use protocol::ids::{BookId, Index};

use crate::audits::Ledger;

/// A change of stock, as who asked for it and the ledger both name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Deed {
    Sale(Vec<(BookId, u64)>),
    Delivery(BookId, i64),
}

/// Notes with each sale and each delivery where the ledger has it. Says what the ledger has and nobody can have
/// asked for. `orders` are those that were acknowledged, with their calls.
pub(crate) fn consult(ledger: &Ledger, orders: &[(CallNumber, Order)], history: &mut History) -> Vec<String> {
    let moves = ledger.moves.iter();
    let mut entries: BTreeMap<Index, Deed> =
        moves.filter_map(|(entry, change)| Some((*entry, done(change)?))).collect();
    for (number, entry) in answered(ledger, orders, history) {
        if entries.remove(&entry).is_some() {
            history.look_up(number, Logged::At(entry));
        }
    }
    let mut unknown: HashMap<Deed, VecDeque<CallNumber>> = HashMap::new();
    for (number, call) in (0..).map(CallNumber).zip(history.calls()) {
        if call.answer == Answer::Unknown
            && let Some(deed) = asked(&call.call)
        {
            unknown.entry(deed).or_default().push_back(number);
        }
    }
    let mut complaints = Vec::new();
    for (entry, deed) in entries {
        match unknown.get_mut(&deed).and_then(VecDeque::pop_front) {
            Some(number) => history.look_up(number, Logged::At(entry)),
            None => complaints.push(format!(
                "entry {entry} of the ledger, {deed}, is nobody's, or of a call that was answered otherwise"
            )),
        }
    }
    let is_known = |deed: &Deed| ledger.is_whole() || matches!(deed, Deed::Sale(_));
    let undone = unknown.into_iter().filter(|(deed, _)| is_known(deed));
    undone.flat_map(|(_, numbers)| numbers).for_each(|number| history.look_up(number, Logged::Never));
    complaints
}

/// The entries of the calls that were answered.
fn answered(ledger: &Ledger, orders: &[(CallNumber, Order)], history: &History) -> Vec<(CallNumber, Index)> {
    let sales: HashMap<&str, Index> =
        ledger.sales().map(|(entry, order)| (order.order_id.as_str(), entry)).collect();
    let sold = orders.iter().filter_map(|(number, order)| Some((*number, *sales.get(&*order.order_id)?)));
    let delivered =
        (0..).zip(history.calls()).filter_map(|(number, call)| match (&call.call, &call.answer) {
            (Call::AddStock(..), Answer::Book(seen)) => Some((CallNumber(number), seen.version)),
            _ => None,
        });
    sold.chain(delivered).collect()
}

fn done(change: &StockChange) -> Option<Deed> {
    match change {
        StockChange::Sold { order } => {
            Some(Deed::Sale(order.items.iter().map(|item| (item.id, item.quantity)).collect()))
        }
        StockChange::Added { id, amount } => Some(Deed::Delivery(*id, *amount)),
        StockChange::Put { .. } | StockChange::Removed { .. } => None,
    }
}

fn asked(call: &Call) -> Option<Deed> {
    match call {
        Call::Buy(lines) => Some(Deed::Sale(lines.iter().map(|line| (line.book, line.quantity)).collect())),
        Call::AddStock(book, amount) => Some(Deed::Delivery(*book, *amount)),
        Call::Look(_) | Call::Page | Call::SetPrice(..) | Call::Put(_) | Call::Load(_) | Call::Remove(_) => {
            None
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sale(lines) => {
                write!(f, "a sale of")?;
                lines.iter().try_for_each(|(book, quantity)| write!(f, " {quantity} of book {book}"))
            }
            Self::Delivery(book, amount) => write!(f, "{amount} copies more of book {book}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use common::api::{OrderItem, OrderStatus};
    use history::{ClientId, Moment, Seen};
    use protocol::catalogue::OrderLine;

    use super::*;
    use crate::audits::tests::evidence;

    fn id(book: u64) -> BookId {
        BookId::try_from(book).unwrap()
    }

    fn order(name: &str, quantity: u64) -> Order {
        let items = vec![OrderItem { id: id(1), title: "t".to_owned(), quantity, unit_cost_cents: 1 }];
        Order {
            order_id: name.to_owned(),
            status: OrderStatus::Sold,
            items,
            total_cents: quantity,
            created_at: String::new(),
        }
    }

    fn buy(quantity: u64) -> Call {
        Call::Buy(vec![OrderLine { book: id(1), quantity }])
    }

    fn ledger(begins: u64, changes: Vec<StockChange>) -> Ledger {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.read_on(evidence(begins, changes)), Vec::<String>::new());
        ledger
    }

    /// Calls with their answers, in the order of their sending.
    fn history(calls: Vec<(Call, Answer)>) -> History {
        let mut history = History::default();
        for (moment, (call, answer)) in (0..).map(Moment).zip(calls) {
            let number = history.send(ClientId(0), moment, call);
            if answer != Answer::Unknown {
                history.answer(number, moment, answer);
            }
        }
        history
    }

    fn logged(history: &History) -> Vec<Option<Logged>> {
        history.calls().iter().map(|call| call.logged).collect()
    }

    #[test]
    fn each_call_is_found_where_it_stands() {
        let seen = Seen { cost_cents: Some(1), quantity: 9, version: Index(2) };
        let add = Call::AddStock(id(1), 3);
        let mut history = history(vec![
            (buy(2), Answer::Sold(vec![1])),
            (buy(2), Answer::Unknown),
            (buy(2), Answer::Unknown),
            (buy(5), Answer::Unknown),
            (add.clone(), Answer::Unknown),
            (add.clone(), Answer::Book(seen)),
            (add, Answer::Unknown),
            (buy(7), Answer::NotDone),
        ]);
        let added = || StockChange::Added { id: id(1), amount: 3 };
        let sold = |name, quantity| StockChange::Sold { order: order(name, quantity) };
        let ledger = ledger(1, vec![sold("b", 2), added(), sold("a", 2), added()]);
        let complaints = consult(&ledger, &[(CallNumber(0), order("a", 2))], &mut history);
        assert_eq!(complaints, Vec::<String>::new());
        let at = |entry| Some(Logged::At(Index(entry)));
        let never = Some(Logged::Never);
        assert_eq!(logged(&history), [at(3), at(1), never, never, at(4), at(2), never, None]);
    }

    #[test]
    fn what_nobody_asked_for_is_told() {
        for (call, answer) in
            [(buy(3), Answer::Unknown), (buy(2), Answer::NotDone), (buy(2), Answer::OutOfStock(id(1), 0))]
        {
            let mut history = history(vec![(call, answer)]);
            let ledger = ledger(1, vec![StockChange::Sold { order: order("a", 2) }]);
            assert_eq!(consult(&ledger, &[], &mut history).len(), 1);
        }
    }

    #[test]
    fn what_was_cut_off_from_the_log_is_not_taken_for_undone() {
        let mut history =
            history(vec![(buy(2), Answer::Unknown), (Call::AddStock(id(1), 3), Answer::Unknown)]);
        assert_eq!(consult(&ledger(5, Vec::new()), &[], &mut history), Vec::<String>::new());
        assert_eq!(logged(&history), [Some(Logged::Never), None]);
    }
}
