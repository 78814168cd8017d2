//! Whether the ports of the nodes are free, asked before anything is started: a clash is then one line
//! that names the node and the key, and not a node that dies again and again.

use std::io;
use std::net::TcpListener;

use crate::node::Node;

/// What is wrong with the addresses of the nodes, all in one line; none if all can be had.
pub(crate) fn problem<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Option<String> {
    let mut problems = Vec::new();
    for node in nodes {
        for listener in &node.listeners {
            let address = listener.address.as_str();
            // Bound and let go at once; port 0 always succeeds, unless the host is not ours.
            if let Err(error) = TcpListener::bind(address) {
                let why = match error.kind() {
                    io::ErrorKind::AddrInUse => "is in use".to_owned(),
                    _ => format!("can't be had ({error})"),
                };
                let (id, key, port) = (&node.id, listener.key, listener.address.port());
                problems.push(format!("{id}: port {port} of `{key}` ({address}) {why}"));
            }
        }
    }
    (!problems.is_empty()).then(|| problems.join("; "))
}
