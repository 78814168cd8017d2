//! The nodes of a store, as the sentinel sees them: a name, a program and addresses.

use std::fs;

use common::api::Role;
use common::config::{Address, Config};
use protocol::ids::NodeId;

/// A process of the store.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its name in the configuration.
    pub(crate) id: NodeId,
    /// What it is.
    pub(crate) role: Role,
    /// Where it listens; the first is the one to show.
    pub(crate) listeners: Vec<Listener>,
    /// The machine it runs on, if that is another one.
    pub(crate) host: Option<String>,
}

/// An address that a node listens on.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// Its key in the configuration.
    pub(crate) key: &'static str,
    /// As configured; port 0 means any.
    pub(crate) address: Address,
}

impl Node {
    /// All nodes in the order in which they are started: those that others depend on first.
    pub(crate) fn all(config: &Config) -> Vec<Self> {
        let listener = |key, address: &Address| Listener { key, address: address.clone() };
        let catalogs = config.catalogs.iter().map(|node| Self {
            id: node.id.clone(),
            role: Role::Catalog,
            listeners: vec![listener("listen", &node.listen)],
            host: elsewhere(node.host.as_deref()),
        });
        let orders = config.orders.iter().map(|node| Self {
            id: node.id.clone(),
            role: Role::Order,
            listeners: vec![listener("listen", &node.listen)],
            host: elsewhere(node.host.as_deref()),
        });
        let frontends = config.frontends.iter().map(|node| Self {
            id: node.id.clone(),
            role: Role::Frontend,
            listeners: vec![
                listener("public", &node.public),
                listener("internal", &node.internal),
                listener("heartbeat", &node.heartbeat),
            ],
            host: elsewhere(node.host.as_deref()),
        });
        catalogs.chain(orders).chain(frontends).collect()
    }
}

/// The host of a node, unless that is this machine.
fn elsewhere(host: Option<&str>) -> Option<String> {
    let own = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let is_here = |host: &str| ["localhost", "127.0.0.1", "::1", own.trim()].contains(&host);
    host.filter(|host| !is_here(host)).map(str::to_owned)
}

/// The roles in the order in which they are stopped: front ends first, so that they drain while what
/// they need is still there.
pub(crate) const STOP_ORDER: [Role; 3] = [Role::Frontend, Role::Order, Role::Catalog];

/// The program that plays a role.
pub(crate) fn program(role: Role) -> &'static str {
    match role {
        Role::Frontend => "frontend",
        Role::Catalog => "catalog",
        Role::Order => "order",
    }
}
