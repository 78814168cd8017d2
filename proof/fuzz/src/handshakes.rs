//! How a link begins: the head of the request at one end, the head of the answer at the other.
//!
//! The first byte says which end reads.

use std::fmt::Debug;

use common::link::{Head, Request, answer, request};
use proptest::prelude::*;

use crate::{Verdict, values};

/// How many bytes before the end of a head are looked at one by one.
const CUTS: usize = 64;

/// Reads a head, also while it is still on its way.
pub fn check(bytes: &[u8]) -> Verdict {
    match bytes.split_first() {
        Some((0, bytes)) => {
            if let Head::Whole(Request::Link { secret, peer, .. }, length) = request(bytes) {
                assert!(secret.len() < length && peer.as_str().len() <= length);
            }
            head(bytes, request)
        }
        Some((1, bytes)) => head(bytes, answer),
        _ => Verdict::Refused,
    }
}

fn head<T: PartialEq + Debug>(bytes: &[u8], read: impl Fn(&[u8]) -> Head<T>) -> Verdict {
    let found = read(bytes);
    let Head::Whole(_, length) = found else { return Verdict::Refused };
    assert!((1..=bytes.len()).contains(&length), "{length} of {}", bytes.len());
    let (head, rest) = bytes.split_at(length);
    assert_eq!(read(head), found, "without what follows it");
    assert_eq!(read(&[head, rest, b"more"].concat()), found, "with more behind it");
    for cut in length.saturating_sub(CUTS)..length {
        let part = head.get(..cut).unwrap_or_default();
        assert_eq!(read(part), Head::Partial, "after {cut} bytes");
    }
    Verdict::Accepted
}

/// What a process of the store sends, and what it is answered.
pub fn valid() -> BoxedStrategy<Vec<u8>> {
    let asked = (values::node(), "[a-z0-9]{1,40}", any::<u16>(), "[A-Za-z-]{1,12}: [ -~]{0,20}").prop_map(
        |(node, secret, shards, header)| {
            format!(
                "\0GET /link HTTP/1.1\r\nHost: 127.0.0.1:8101\r\nConnection: Upgrade\r\nUpgrade: bookends/1\r\n\
                 Authorization: Bearer {secret}\r\nX-Node: {node}\r\nX-Shards: {shards}\r\n{header}\r\n\r\n"
            )
        },
    );
    let lives = Just("\0GET /livez HTTP/1.1\r\nHost: x\r\n\r\n".to_owned());
    let answered = (100..600_u16, "[ -~]{0,20}").prop_map(|(status, reason)| {
        format!("\x01HTTP/1.1 {status} {reason}\r\nConnection: Upgrade\r\n\r\n")
    });
    prop_oneof![asked, lives, answered].prop_map(String::into_bytes).boxed()
}
