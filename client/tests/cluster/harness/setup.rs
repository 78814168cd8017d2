//! What a cluster is made of.

use std::fmt::Write;

use protocol::ids::BookId;

/// The configuration and the first books of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// How many catalog nodes.
    pub(crate) catalogs: usize,
    /// How many order nodes.
    pub(crate) orders: usize,
    /// Further sections of the configuration.
    pub(crate) more: &'static str,
    /// The text of `catalogue.csv`.
    pub(crate) catalogue: String,
}

impl Default for Setup {
    /// What is shipped: two catalog nodes and two order nodes; and more copies than any test can sell.
    fn default() -> Self {
        Self { catalogs: 2, orders: 2, more: "", catalogue: catalogue(8, 1_000_000) }
    }
}

impl Setup {
    /// The names of all nodes, front end first.
    pub(crate) fn nodes(&self) -> Vec<String> {
        let catalogs = (1..=self.catalogs).map(|number| format!("catalog-{number}"));
        let orders = (1..=self.orders).map(|number| format!("order-{number}"));
        std::iter::once("frontend-1".to_owned()).chain(catalogs).chain(orders).collect()
    }

    /// The configuration: the system chooses all ports.
    pub(crate) fn config(&self) -> String {
        let mut text = format!("[cluster]\nname = \"test\"\ndata_dir = \"data\"\n{}\n", self.more);
        for node in self.nodes() {
            let (kind, _) = node.split_once('-').unwrap();
            write!(text, "[[{kind}]]\nid = \"{node}\"\n").unwrap();
            let listeners: &[&str] =
                if kind == "frontend" { &["public", "internal", "heartbeat"] } else { &["listen"] };
            for listener in listeners {
                writeln!(text, "{listener} = \"127.0.0.1:0\"").unwrap();
            }
        }
        text
    }
}

/// So many books, ids from 1, of four topics in turn, with so many copies of each.
pub(crate) fn catalogue(books: u64, copies: u64) -> String {
    let mut text = "id,title,topic,author,isbn,year,description,cost_cents,quantity\n".to_owned();
    for id in 1..=books {
        writeln!(text, "{id},Book number {id},topic {},,,,,{},{copies}", id % 4, 100 + id).unwrap();
    }
    text
}

/// A book's id.
pub(crate) fn book(id: u64) -> BookId {
    BookId::try_from(id).unwrap()
}
