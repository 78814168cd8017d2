//! The checks themselves: what was asked and what was answered go in, a complaint comes out. Pure.

use std::collections::{HashMap, HashSet};

use common::api::{Book, BookPage, Order, OrderStatus, Quantity, Topic};
use protocol::catalogue::{OrderLine, TopicKey};
use protocol::ids::BookId;

use crate::client::Search;

/// A check's outcome: in words what is wrong, if anything is.
pub(super) type Check = Result<(), String>;

fn ensure(holds: bool, complaint: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(complaint()) }
}

/// What a thread has seen of the books so far: later answers must not contradict it.
#[derive(Debug, Default)]
pub(super) struct Memory(HashMap<BookId, (u64, u64)>);

impl Memory {
    /// Takes in the stock of a book at a version.
    pub(super) fn see(&mut self, id: BookId, version: u64, quantity: u64) -> Check {
        let Some((seen, stock)) = self.0.insert(id, (version, quantity)) else { return Ok(()) };
        ensure(version >= seen, || format!("book {id} went back from version {seen} to {version}"))?;
        ensure(version > seen || quantity == stock, || {
            format!("book {id} has {quantity} copies at version {version}, and had {stock} at the same")
        })
    }

    /// Takes in a book.
    pub(super) fn see_book(&mut self, book: &Book) -> Check {
        self.see(book.id, book.version, book.quantity)
    }

    /// Takes in the books of a page.
    pub(super) fn see_page(&mut self, page: &BookPage) -> Check {
        page.books.iter().try_for_each(|book| self.see_book(book))
    }
}

/// The answer is about the book that was asked for.
pub(super) fn book(asked: BookId, answer: &Book) -> Check {
    ensure(answer.id == asked, || format!("asked for book {asked}, got book {}", answer.id))
}

/// The answer is about the book that was asked for.
pub(super) fn stock(asked: BookId, answer: &Quantity) -> Check {
    ensure(answer.id == asked, || format!("asked for the stock of book {asked}, got that of {}", answer.id))
}

/// The books of a page come by id, after the page before, and not too many.
pub(super) fn page(after: Option<BookId>, size: u32, page: &BookPage) -> Check {
    let count = page.books.len();
    ensure(u32::try_from(count).is_ok_and(|count| count <= size), || {
        format!("{count} books on a page of {size}")
    })?;
    let mut last = after;
    for book in &page.books {
        ensure(last.is_none_or(|last| last < book.id), || {
            format!(
                "book {} follows book {}",
                book.id,
                last.map_or_else(String::new, |last| last.to_string())
            )
        })?;
        last = Some(book.id);
    }
    Ok(())
}

/// Each book that was found is of the topic and has the words.
pub(super) fn found(search: &Search, page: &BookPage) -> Check {
    for book in &page.books {
        if let Some(topic) = &search.topic {
            ensure(TopicKey::of(&book.topic) == TopicKey::of(topic), || {
                format!("a search for topic `{topic}` found book {} of `{}`", book.id, book.topic)
            })?;
        }
        let text = [&book.title, &book.topic, book.author.as_ref().unwrap_or(&book.title)]
            .map(|part| part.to_lowercase())
            .join(" ");
        // Full-text search folds accents, which this does not know how to.
        if let Some(word) = search.words.as_ref().filter(|_| text.is_ascii()) {
            ensure(text.contains(&word.to_lowercase()), || {
                format!("a search for `{word}` found book {}, which does not have it", book.id)
            })?;
        }
    }
    Ok(())
}

/// Each topic is named once, in whatever spelling, and has books.
pub(super) fn topics(topics: &[Topic]) -> Check {
    let mut seen = HashSet::new();
    for Topic { topic, books } in topics {
        ensure(seen.insert(TopicKey::of(topic)), || format!("topic `{topic}` is listed twice"))?;
        ensure(*books > 0, || format!("topic `{topic}` is listed and has no books"))?;
    }
    Ok(())
}

/// An order is what was asked for, and adds up.
pub(super) fn order(asked: OrderLine, order: &Order) -> Check {
    let id = &order.order_id;
    ensure(order.status == OrderStatus::Sold, || format!("order {id} is not sold"))?;
    let [item] = order.items.as_slice() else {
        return Err(format!("order {id} has {} lines instead of one", order.items.len()));
    };
    ensure(item.id == asked.book && item.quantity == asked.quantity, || {
        let OrderLine { book, quantity } = asked;
        format!("asked for {quantity} of book {book}, order {id} has {} of book {}", item.quantity, item.id)
    })?;
    let sum = item.unit_cost_cents.checked_mul(item.quantity);
    ensure(sum == Some(order.total_cents), || {
        let (total, unit) = (order.total_cents, item.unit_cost_cents);
        format!("order {id} has a total of {total} for {} copies at {unit}", item.quantity)
    })
}

/// A book before and after an order of it: its version rose, its stock did not, the price was its price.
/// `no_restock` tells that nobody here added stock meanwhile.
pub(super) fn sale(before: &Book, order: &Order, after: &Book, no_restock: bool) -> Check {
    let (id, order_id) = (before.id, &order.order_id);
    let Some(item) = order.items.first() else { return Err(format!("order {order_id} has no lines")) };
    ensure(after.version > before.version, || {
        format!("book {id} has version {} after order {order_id}, as before it", after.version)
    })?;
    if after.version == before.version + 1 {
        // Nothing but this order has changed it.
        let expected = before.quantity.checked_sub(item.quantity);
        ensure(expected == Some(after.quantity), || {
            let (was, is, sold) = (before.quantity, after.quantity, item.quantity);
            format!("book {id} had {was} copies, order {order_id} took {sold}, {is} are left")
        })?;
    }
    ensure(!no_restock || after.quantity <= before.quantity, || {
        let (was, is) = (before.quantity, after.quantity);
        format!("book {id} had {was} copies before order {order_id} and {is} after it")
    })?;
    let is_steady = before.cost_cents == after.cost_cents;
    ensure(!is_steady || item.unit_cost_cents == before.cost_cents, || {
        let (price, paid) = (before.cost_cents, item.unit_cost_cents);
        format!("book {id} costs {price} cents, order {order_id} says {paid}")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn id(number: u64) -> BookId {
        number.try_into().unwrap()
    }

    fn a_book(number: u64, version: u64, quantity: u64) -> Book {
        serde_json::from_value(
            json!({"id": number, "title": "RPCs for Dummies", "topic": "Distributed Systems",
            "cost_cents": 500, "quantity": quantity, "version": version}),
        )
        .unwrap()
    }

    fn an_order(quantity: u64, unit: u64, total: u64) -> Order {
        serde_json::from_value(
            json!({"order_id": "o", "status": "sold", "total_cents": total, "created_at": "now",
            "items": [{"id": 1, "title": "t", "quantity": quantity, "unit_cost_cents": unit}]}),
        )
        .unwrap()
    }

    #[test]
    fn a_version_never_goes_back_and_has_one_stock() {
        let mut memory = Memory::default();
        assert!(memory.see(id(1), 5, 10).is_ok());
        assert!(memory.see(id(1), 5, 10).is_ok());
        assert!(memory.see(id(2), 4, 3).is_ok());
        assert!(memory.see(id(1), 6, 9).is_ok());
        assert!(memory.see(id(1), 6, 8).is_err());
        assert!(memory.see(id(1), 5, 8).is_err());
    }

    #[test]
    fn pages_are_in_order() {
        let of = |ids: &[u64]| BookPage {
            books: ids.iter().map(|n| a_book(*n, 1, 1)).collect(),
            next_page_token: None,
        };
        assert!(page(None, 3, &of(&[1, 2, 5])).is_ok());
        assert!(page(Some(id(1)), 3, &of(&[2])).is_ok());
        assert!(page(Some(id(2)), 3, &of(&[2])).is_err());
        assert!(page(None, 3, &of(&[2, 1])).is_err());
        assert!(page(None, 1, &of(&[1, 2])).is_err());
    }

    #[test]
    fn what_is_found_fits_the_search() {
        let page = BookPage { books: vec![a_book(1, 1, 1)], next_page_token: None };
        let fits = |topic: Option<&str>, words: Option<&str>| {
            let own = |text: &str| text.to_owned();
            found(&Search { topic: topic.map(own), words: words.map(own) }, &page).is_ok()
        };
        assert!(fits(Some("distributed-systems"), None));
        assert!(fits(Some("DISTRIBUTED_systems"), Some("rpc")));
        assert!(!fits(Some("distributed"), None));
        assert!(!fits(None, Some("cooking")));
    }

    #[test]
    fn topics_are_named_once() {
        let of = |names: &[(&str, u64)]| -> Vec<Topic> {
            names.iter().map(|(name, books)| Topic { topic: (*name).to_owned(), books: *books }).collect()
        };
        assert!(topics(&of(&[("a b", 1), ("b", 2)])).is_ok());
        assert!(topics(&of(&[("a b", 1), ("A-B", 2)])).is_err());
        assert!(topics(&of(&[("a", 0)])).is_err());
    }

    #[test]
    fn an_order_fits_and_adds_up() {
        let asked = OrderLine { book: id(1), quantity: 2 };
        assert!(order(asked, &an_order(2, 500, 1000)).is_ok());
        assert!(order(asked, &an_order(1, 500, 500)).is_err());
        assert!(order(asked, &an_order(2, 500, 999)).is_err());
        assert!(order(asked, &an_order(2, u64::MAX, 0)).is_err());
        assert!(order(OrderLine { book: id(2), quantity: 2 }, &an_order(2, 500, 1000)).is_err());
    }

    #[test]
    fn a_sale_lowers_the_stock_by_what_was_sold() {
        let sold = an_order(2, 500, 1000);
        let holds = |before: (u64, u64), after: (u64, u64), no_restock| {
            sale(&a_book(1, before.0, before.1), &sold, &a_book(1, after.0, after.1), no_restock).is_ok()
        };
        assert!(holds((7, 10), (8, 8), true));
        assert!(!holds((7, 10), (8, 9), true), "two were sold");
        assert!(!holds((7, 10), (8, 12), false), "no other change came between");
        assert!(holds((7, 10), (11, 3), true), "others buy as well");
        assert!(!holds((7, 10), (11, 11), true), "stock from nowhere");
        assert!(holds((7, 10), (11, 11), false));
        assert!(!holds((7, 10), (7, 10), true), "the version must rise");
        let dear = an_order(2, 600, 1200);
        assert!(sale(&a_book(1, 7, 10), &dear, &a_book(1, 8, 8), true).is_err(), "not its price");
    }
}
