//! The ledger: every change of a stock once, and nothing else.

use protocol::call::{Content, LedgerPage, Query, StockMove};
use protocol::catalogue::OrderLine;
use protocol::command::{Action, Outcome};
use protocol::ids::{Index, OrderId};

use super::super::StoreError;
use super::{Fixture, book_id, new_book};

fn ledger(fixture: &Fixture, after: u64, limit: u32) -> LedgerPage {
    let answer = fixture.read(&Query::Ledger { after: Index(after), limit });
    assert_eq!(answer.version.index, fixture.history.last().0);
    let Content::Ledger(page) = answer.content else { panic!("{answer:?}") };
    page
}

fn buy(order: u128, quantity: u64) -> Action {
    Action::Buy { order: OrderId(order), lines: vec![OrderLine { book: book_id(1), quantity }] }
}

#[test]
fn every_change_is_there_once_and_what_changed_nothing_is_not() {
    let mut fixture = Fixture::stocked();
    let add = |amount| Action::AddStock { book: book_id(1), amount };
    fixture.apply("add", add(3));
    fixture.apply("add", add(3)); // The same once more: a retry.
    fixture.apply("add", add(4)); // Refused: the key has other content.
    fixture.apply("too-much", add(-100)); // Refused for want of copies.
    fixture.run(Action::SetPrice { book: book_id(1), cost_cents: 5 });
    fixture.run(buy(9, 2));
    fixture.run(buy(10, 100)); // Refused.
    let Outcome::Added(new) = fixture.run(Action::PutBook(Box::new(new_book(None, "t", "x")))) else {
        panic!("it is new")
    };
    fixture.run(Action::RemoveBook { book: new.id });
    fixture.run(Action::RemoveBook { book: new.id }); // Refused.
    let page = ledger(&fixture, 0, 100);
    assert_eq!((page.upto, page.last, page.begins), (Index(11), Index(11), Index(1)));
    let moves: Vec<_> = page.moves.iter().map(|(index, change)| (index.0, change)).collect();
    for (place, book) in (1..=4).map(book_id).enumerate() {
        assert_eq!(moves[place], (1, &StockMove::Put { book, quantity: 5 }));
    }
    assert_eq!(moves[4], (2, &StockMove::Added { book: book_id(1), amount: 3 }));
    let (7, StockMove::Sold(order)) = moves[5] else { panic!("{moves:?}") };
    assert_eq!((order.id, order.items[0].quantity), (OrderId(9), 2));
    assert_eq!(moves[6], (9, &StockMove::Put { book: new.id, quantity: new.quantity }));
    assert_eq!(moves[7..], [(10, &StockMove::Removed { book: new.id })]);
}

#[test]
fn parts_of_any_size_make_the_same_ledger() {
    let mut fixture = Fixture::stocked();
    for order in 0..20 {
        fixture.run(buy(order, 1));
        fixture.run(Action::AddStock { book: book_id(1), amount: 1 });
    }
    let whole = ledger(&fixture, 0, 1000);
    assert_eq!((whole.moves.len(), whole.upto), (44, Index(41)));
    for limit in [1, 2, 3, 7, 40] {
        let mut moves = Vec::new();
        let mut after = 0;
        while after < 41 {
            let page = ledger(&fixture, after, limit);
            assert!(page.upto.0 > after, "no way forward from {after} by {limit}");
            after = page.upto.0;
            moves.extend(page.moves);
        }
        assert_eq!(moves, whole.moves, "by {limit}");
    }
    assert_eq!(ledger(&fixture, 41, 5).moves, []);
    assert_eq!(ledger(&fixture, 99, 5).upto, Index(99));
}

#[test]
fn a_log_that_was_cut_still_has_its_sales() {
    let mut fixture = Fixture::keeping(1000);
    fixture.stock();
    fixture.run(buy(1, 1));
    for _ in 0..60 {
        let entries: Vec<_> = (0..50)
            .map(|_| fixture.history.add_fresh(Action::SetPrice { book: book_id(2), cost_cents: 7 }))
            .collect();
        let commit = entries[0].index;
        fixture.append_knowing(entries, commit);
    }
    let page = ledger(&fixture, 0, 100);
    assert!(page.begins > Index(100), "{:?}", page.begins);
    assert!(matches!(page.moves[..], [(Index(2), StockMove::Sold(_))]), "{:?}", page.moves);
}

#[test]
fn an_entry_that_is_missing_is_damage_and_not_nothing() {
    let mut fixture = Fixture::stocked();
    fixture.run(buy(1, 1));
    fixture.run(Action::AddStock { book: book_id(1), amount: 1 });
    fixture.run(buy(2, 1));
    fixture.store.conn.execute("DELETE FROM log WHERE first = 3", []).unwrap();
    let read = fixture.readers.read(&Query::Ledger { after: Index(0), limit: 100 });
    assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
}
