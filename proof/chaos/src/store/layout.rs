//! Who is in the store, who calls whom, and the configuration by which each calls through a proxy.
//!
//! Each node has a folder of its own with its own `config.toml` and its own data directory. It listens where
//! the system lets it; for the addresses of the others it is given those of proxies.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Client of all; the other end of the way on which callers come.
pub const CLIENTS: &str = "clients";
/// The one front end.
pub const FRONTEND: &str = "frontend-1";
/// The catalog nodes: two, of which each is enough.
pub const CATALOGS: [&str; 2] = ["catalog-1", "catalog-2"];
/// The order nodes.
pub const ORDERS: [&str; 2] = ["order-1", "order-2"];
/// All nodes, in the order in which they are started.
pub const NODES: [&str; 5] = [FRONTEND, CATALOGS[0], CATALOGS[1], ORDERS[0], ORDERS[1]];

/// A way from one process to a listener of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// Who calls.
    pub from: &'static str,
    /// Who is called.
    pub to: &'static str,
    /// At which listener.
    pub listener: &'static str,
}

/// All ways that there are.
pub const LINKS: [Link; 13] = [
    link(CLIENTS, FRONTEND, "public"),
    link(FRONTEND, CATALOGS[0], "listen"),
    link(FRONTEND, CATALOGS[1], "listen"),
    link(FRONTEND, ORDERS[0], "listen"),
    link(FRONTEND, ORDERS[1], "listen"),
    link(ORDERS[0], FRONTEND, "internal"),
    link(ORDERS[1], FRONTEND, "internal"),
    link(CATALOGS[0], FRONTEND, "heartbeat"),
    link(CATALOGS[1], FRONTEND, "heartbeat"),
    link(ORDERS[0], FRONTEND, "heartbeat"),
    link(ORDERS[1], FRONTEND, "heartbeat"),
    link(CATALOGS[0], CATALOGS[1], "listen"),
    link(CATALOGS[1], CATALOGS[0], "listen"),
];

const fn link(from: &'static str, to: &'static str, listener: &'static str) -> Link {
    Link { from, to, listener }
}

/// The listeners of a node.
#[must_use]
pub fn listeners(node: &str) -> &'static [&'static str] {
    if node == FRONTEND { &["public", "internal", "heartbeat"] } else { &["listen"] }
}

/// The program of a node: the part of its name before the number.
#[must_use]
pub fn program(node: &str) -> &str {
    node.split_once('-').map_or(node, |(program, _)| program)
}

/// The configuration of a node that finds the others at these addresses and keeps so many entries of the log.
#[must_use]
pub fn config(of: &str, ways: &BTreeMap<Link, SocketAddr>, keep_entries: u32) -> String {
    let mut text = "[cluster]\nname = \"chaos\"\ndata_dir = \"data\"\n".to_owned();
    text += &format!("\n[log]\nkeep_entries = {keep_entries}\n");
    for node in NODES {
        text += &format!("\n[[{}]]\nid = \"{node}\"\n", program(node));
        for listener in listeners(node) {
            let leads_there = |link: &Link| (link.from, link.to, link.listener) == (of, node, *listener);
            let way = ways.iter().find(|(link, _)| leads_there(link));
            // Without a way it is its own, or one that it never calls.
            let address = way.map_or_else(|| "127.0.0.1:0".to_owned(), |(_, address)| address.to_string());
            text += &format!("{listener} = \"{address}\"\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_calls_the_others_through_its_own_proxies_and_listens_by_itself() {
        let ways: BTreeMap<Link, SocketAddr> =
            (1..).zip(LINKS).map(|(port, link)| (link, SocketAddr::from(([127, 0, 0, 1], port)))).collect();
        let frontend = config(FRONTEND, &ways, 2000);
        assert!(frontend.contains("public = \"127.0.0.1:0\"\ninternal = \"127.0.0.1:0\""), "{frontend}");
        assert!(frontend.contains("id = \"catalog-2\"\nlisten = \"127.0.0.1:3\""), "{frontend}");
        let catalog = config("catalog-2", &ways, 2000);
        assert!(catalog.contains("[log]\nkeep_entries = 2000\n"), "{catalog}");
        assert!(catalog.contains("internal = \"127.0.0.1:0\"\nheartbeat = \"127.0.0.1:9\""), "{catalog}");
        assert!(catalog.contains("id = \"catalog-1\"\nlisten = \"127.0.0.1:13\""), "{catalog}");
        assert!(catalog.contains("id = \"catalog-2\"\nlisten = \"127.0.0.1:0\""), "{catalog}");
    }
}
