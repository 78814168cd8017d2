//! Orders: each one that was acknowledged is in every order node's book exactly once, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};

use order::book::Readers;
use protocol::call::Feed;
use protocol::catalogue::Order;
use protocol::ids::{Index, OrderId};

use crate::oracle::model::Model;

#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// Those that a buyer was told of.
    told: BTreeSet<OrderId>,
}

impl Orders {
    pub(crate) fn told(&mut self, order: OrderId) {
        self.told.insert(order);
    }

    /// What is fed is committed: it can't be undone any more.
    pub(crate) fn fed(&self, feed: &Feed, model: &Model) {
        let upto = feed.upto;
        assert!(upto <= model.last(), "an order node is fed up to {upto}, which is not committed");
        for (index, order) in &feed.sales {
            let sale = model.sale(order.id);
            let (first, expected) = sale.unwrap_or_else(|| panic!("{} was never sold, and is fed", order.id));
            assert_eq!(order, expected, "an order is fed otherwise than it was sold");
            assert!(first <= index, "an order is fed at {index}, and was sold at {first}");
        }
    }

    /// An order node hears of a sale ahead of the log.
    pub(crate) fn sold(&self, order: &Order, model: &Model) {
        let sale = model.sale(order.id).map(|(_, order)| order);
        assert_eq!(sale, Some(order), "an order node is told of a sale that there was not");
    }

    /// Somebody who knows of an order looks it up, where all that was sold up to an entry has to be.
    pub(crate) fn shown(&self, id: OrderId, shown: Option<&Order>, upto: Index, model: &Model) {
        let (sold, order) = model.sale(id).expect("its buyer was told of it");
        let must_be_there = *sold <= upto;
        if shown.is_some() || must_be_there {
            assert_eq!(shown, Some(order), "the order {id}, of which its buyer was told");
        }
    }

    pub(crate) fn look_at_the_end(&self, node: usize, book: &Readers, model: &Model) {
        let mut found: BTreeMap<OrderId, Order> = BTreeMap::new();
        let mut before = None;
        loop {
            let (orders, more) = book.page(before, 1000).expect("a book in memory can be read");
            before = orders.last().map(|order| order.id);
            for order in orders {
                let id = order.id;
                assert!(found.insert(id, order).is_none(), "o{node} has the order {id} twice");
            }
            if !more {
                break;
            }
        }
        let lost: Vec<&OrderId> = self.told.iter().filter(|id| !found.contains_key(id)).collect();
        assert!(lost.is_empty(), "o{node} lacks the acknowledged orders {lost:?}");
        let expected: BTreeMap<OrderId, &Order> = model.sales().map(|order| (order.id, order)).collect();
        assert_eq!(
            found.iter().collect::<Vec<_>>(),
            expected.iter().map(|(id, order)| (id, *order)).collect::<Vec<_>>(),
            "the book of orders of o{node}"
        );
    }
}
