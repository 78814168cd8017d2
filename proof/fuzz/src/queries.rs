//! The arguments in a URL: its query, and the named parts of its path.
//!
//! What stands before the first `?` is the path.

use frontend::api::url::{path_pairs, query_pairs};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{Verdict, values};

/// As the router has them, with one name and with two.
const TEMPLATES: [&str; 3] = ["/lookup/{id}", "/update_cost/{id}/{cost_cents}", "/list"];

/// Decodes the arguments; what is accepted is decoded again from what it is encoded as.
pub fn check(bytes: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Refused };
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    for template in TEMPLATES {
        let Ok(pairs) = path_pairs(template, path) else { continue };
        assert!(pairs.len() <= 2);
        let mut parts: Vec<String> = template.split('/').map(str::to_owned).collect();
        for (name, value) in &pairs {
            let place = parts.iter_mut().find(|part| **part == format!("{{{name}}}"));
            *place.expect("a name is one of the template's") = encoded(value);
        }
        assert_eq!(path_pairs(template, &parts[..=pairs.len() + 1].join("/")), Ok(pairs), "{template}");
    }
    let Ok(pairs) = query_pairs(query) else { return Verdict::Refused };
    assert!(pairs.len() <= query.len());
    let written: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    assert_eq!(query_pairs(&written.join("&")), Ok(pairs));
    Verdict::Accepted
}

/// Every byte that is no letter or digit, in its escaped form.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02x}"),
    };
    text.bytes().map(byte).collect()
}

/// Queries of up to five arguments.
pub fn valid() -> BoxedStrategy<Vec<u8>> {
    let name = prop_oneof![Just("id".to_owned()), Just("q".to_owned()), Just("page_size".to_owned())];
    let value = prop_oneof![values::text().prop_map(|text| encoded(&text)), "[a-z+]{0,9}"];
    ("(/[a-z0-9]{1,6}){1,3}", vec((name, value), 0..6))
        .prop_map(|(path, pairs)| {
            let pairs: Vec<String> =
                pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{path}?{}", pairs.join("&")).into_bytes()
        })
        .boxed()
}
