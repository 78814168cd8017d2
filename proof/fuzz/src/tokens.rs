//! Short texts that stand for something: page tokens, ids of books and orders, addresses.

use common::config::Address;
use frontend::render::{decode_token, encode_token};
use proptest::prelude::*;
use protocol::ids::{BOOK_ID_MAX, BookId, OrderId};

use crate::Verdict;

/// Reads a text as each of them; what is accepted is written in one form, and that is accepted as well.
pub fn check(bytes: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Refused };
    let token = decode_token(text);
    if let Some(book) = token {
        assert!((1..=BOOK_ID_MAX).contains(&book.get()));
        assert_eq!(decode_token(&encode_token(book)), Some(book));
    }
    let book = text.parse::<BookId>();
    if let Ok(book) = book {
        assert_eq!(book.to_string(), text.trim_start_matches('0'));
        assert_eq!(book.to_string().parse(), Ok(book));
    }
    let order = text.parse::<OrderId>();
    if let Ok(order) = order {
        assert_eq!(order.to_string(), text.to_ascii_lowercase());
    }
    let address = text.parse::<Address>();
    if let Ok(address) = &address {
        assert_eq!(address.as_str(), text);
        assert!(!address.host().is_empty() && text.starts_with(address.host()), "{address}");
        let port = text.rsplit(':').next().and_then(|port| port.parse().ok());
        assert_eq!(Some(address.port()), port);
    }
    Verdict::of(token.is_some() || book.is_ok() || order.is_ok() || address.is_ok())
}

/// One of each.
pub fn valid() -> BoxedStrategy<Vec<u8>> {
    let book =
        || (1..=BOOK_ID_MAX).prop_map(|id| BookId::try_from(id).expect("it is within the limits of an id"));
    prop_oneof![
        book().prop_map(encode_token),
        book().prop_map(|book| book.to_string()),
        any::<u128>().prop_map(|order| OrderId(order).to_string()),
        ("[a-z][a-z0-9-]{0,8}(\\.[a-z]{1,3})?", any::<u16>())
            .prop_map(|(host, port)| format!("{host}:{port}")),
        (any::<[u8; 4]>(), any::<u16>())
            .prop_map(|(ip, port)| format!("{}:{port}", std::net::Ipv4Addr::from(ip))),
        (any::<[u8; 16]>(), any::<u16>())
            .prop_map(|(ip, port)| format!("[{}]:{port}", std::net::Ipv6Addr::from(ip))),
    ]
    .prop_map(String::into_bytes)
    .boxed()
}
