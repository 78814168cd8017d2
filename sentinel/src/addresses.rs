//! Where a node really listens: what it wrote into its `.addr` file, for a configured port may be 0.

use std::fs;

use crate::layout::Layout;
use crate::node::Node;

/// The address behind a key of a node (`public`, `listen`, …); none if the configured port is 0 and the node
/// has not said which one it got.
pub(crate) fn actual(layout: &Layout, node: &Node, key: &str) -> Option<String> {
    let written = fs::read(layout.addr(node.id.as_str())).ok();
    let written = written.and_then(|text| field(&text, key));
    written.or_else(|| {
        let listener = node.listeners.iter().find(|listener| listener.key == key)?;
        (listener.address.port() != 0).then(|| listener.address.to_string())
    })
}

/// The address that people know a node by.
pub(crate) fn main(layout: &Layout, node: &Node) -> Option<String> {
    actual(layout, node, node.listeners.first()?.key)
}

/// The URL of an address, as seen from this machine: one that listens everywhere is asked at home.
pub(crate) fn url(address: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "80"));
    let host = match host {
        "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        other => other,
    };
    format!("http://{host}:{port}")
}

fn field(json: &[u8], key: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(json).ok()?;
    Some(value.get(key)?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_file_is_read_by_key_and_may_be_anything() {
        let text = br#"{"public":"127.0.0.1:3456","pid":7}"#;
        assert_eq!(field(text, "public").as_deref(), Some("127.0.0.1:3456"));
        for (text, key) in
            [(&text[..], "pid"), (&text[..], "listen"), (b"{\"pub", "public"), (b"[]", "public")]
        {
            assert_eq!(field(text, key), None, "{key}");
        }
    }

    #[test]
    fn what_listens_everywhere_is_asked_at_home() {
        for (address, expected) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:80", "http://[::1]:80"),
            ("shop.example:80", "http://shop.example:80"),
        ] {
            assert_eq!(url(address), expected);
        }
    }
}
