//! What addresses must be like once the nodes of a store are on several machines.
//!
//! On one machine a node with port 0 writes down what it got, and the others read that. Another machine does
//! not see that file, and an address such as 127.0.0.1 is another place there.

use common::api::Role;

use crate::node::{Listener, Node};

/// Hosts at which nobody from another machine can come, or that are no place to go to.
const HOSTS_HERE: [&str; 5] = ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::]"];

/// What is wrong with the addresses, a line for each; none if the others can reach all of them.
pub(crate) fn problem(nodes: &[Node]) -> Option<String> {
    if nodes.iter().all(|node| node.host.is_none()) {
        return None;
    }
    let mut lines = Vec::new();
    for node in nodes {
        for Listener { key, address } in &node.listeners {
            // Clients ask a front end of this machine, which may choose its port and be for this machine alone.
            if node.role == Role::Frontend && *key == "public" && node.host.is_none() {
                continue;
            }
            let right = if address.port() == 0 {
                "must name a fixed port"
            } else if HOSTS_HERE.contains(&address.host().to_ascii_lowercase().as_str()) {
                "must name an address that the other machines reach"
            } else {
                continue;
            };
            let id = &node.id;
            lines.push(format!("`{key}` of {id} ({address}) {right}: nodes of this store have a `host`"));
        }
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, role: Role, host: Option<&str>, listeners: &[(&'static str, &str)]) -> Node {
        let listener =
            |(key, address): &(&'static str, &str)| Listener { key, address: address.parse().unwrap() };
        let listeners = listeners.iter().map(listener).collect();
        Node { id: id.into(), role, listeners, host: host.map(str::to_owned) }
    }

    #[test]
    fn a_store_on_one_machine_may_leave_its_ports_open() {
        let nodes = [node("catalog-1", Role::Catalog, None, &[("listen", "127.0.0.1:0")])];
        assert_eq!(problem(&nodes), None);
    }

    #[test]
    fn with_another_machine_each_address_is_told_that_can_not_be_reached() {
        let front = [("public", "127.0.0.1:0"), ("internal", "127.0.0.1:8081"), ("heartbeat", "10.0.0.1:0")];
        let cases = [
            (node("f", Role::Frontend, None, &front), vec!["`internal` of f", "`heartbeat` of f"]),
            (node("f", Role::Frontend, Some("m"), &front[..1]), vec!["`public` of f"]),
            (node("a", Role::Catalog, Some("m"), &[("listen", "0.0.0.0:80")]), vec!["`listen` of a"]),
            (node("b", Role::Catalog, None, &[("listen", "LOCALHOST:80")]), vec!["`listen` of b"]),
            (node("c", Role::Catalog, Some("m"), &[("listen", "10.0.0.2:80")]), vec![]),
        ];
        for (case, expected) in cases {
            let other = node("o", Role::Order, Some("m"), &[("listen", "10.0.0.3:81")]);
            let found = problem(&[case, other]).unwrap_or_default();
            let lines: Vec<&str> = found.lines().collect();
            assert_eq!(lines.len(), expected.len(), "{found}");
            assert!(lines.iter().zip(expected).all(|(line, part)| line.starts_with(part)), "{found}");
        }
    }
}
