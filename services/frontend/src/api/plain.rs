//! Plain requests: lookups of a book, and buys, that ask for nothing else, read where they lie.
//!
//! Most of what comes is of these kinds, and whoever serves it makes no request, no map of headers and no route:
//! see [`Front::plain`](super::front::Front::plain) and [`Front::buy`](super::front::Front::buy). What is said
//! here of a request is said by its bytes alone. One that is not all there, not plain or not even HTTP is nobody's
//! business here; hyper reads all of it again, and knows what to say.

use std::mem::MaybeUninit;

use http::HeaderName;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, IF_NONE_MATCH, TRANSFER_ENCODING,
    UPGRADE,
};
use httparse::Header;
use protocol::ids::BookId;

use super::extract::{IDEMPOTENCY_KEY, SEC_FETCH_SITE};
use super::trace::{TRACEPARENT, X_REQUEST_ID};

/// More headers than browsers send. A head with more of them is not plain.
const HEADERS_MAX: usize = 32;
/// What would change the body that follows, or the connection.
const NOT_PLAIN: [HeaderName; 3] = [EXPECT, TRANSFER_ENCODING, UPGRADE];
/// What would change the answer to a lookup, or give it a body.
const NOT_PLAIN_OF_LOOKUPS: [HeaderName; 3] = [CACHE_CONTROL, CONTENT_LENGTH, IF_NONE_MATCH];

/// The caller's names for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names<'b> {
    /// The one in the logs.
    pub request_id: Option<&'b [u8]>,
    /// The trace that it is a part of.
    pub traceparent: Option<&'b [u8]>,
}

/// A request for a book.
#[derive(Debug, PartialEq, Eq)]
pub struct PlainLookup<'b> {
    /// Which one.
    pub id: BookId,
    /// What it is called.
    pub names: Names<'b>,
}

/// A request to buy, with its body.
#[derive(Debug, PartialEq, Eq)]
pub struct PlainBuy<'b> {
    /// What it is called.
    pub names: Names<'b>,
    /// What makes it safe to repeat.
    pub key: Option<&'b [u8]>,
    /// What is to be bought, said in JSON.
    pub body: &'b [u8],
}

impl<'b> PlainLookup<'b> {
    /// The request that some bytes begin with, if it is plain, and how long it is.
    pub fn read(bytes: &'b [u8]) -> Option<(Self, usize)> {
        // For what is not, nothing more is done twice than this look.
        bytes.strip_prefix(b"GET /lookup/")?;
        let head = Head::read(bytes, |header| !is_one_of(header, &NOT_PLAIN_OF_LOOKUPS))?;
        let id = head.path.strip_prefix("/lookup/")?.parse().ok()?;
        Some((Self { id, names: head.names }, head.length))
    }
}

impl<'b> PlainBuy<'b> {
    /// The request that some bytes begin with, if it is plain and all there, and how long it is.
    pub fn read(bytes: &'b [u8]) -> Option<(Self, usize)> {
        bytes.strip_prefix(b"POST /buy ")?;
        let (mut length, mut is_json, mut key) = (None, false, None);
        let head = Head::read(bytes, |header| {
            if is(header, &CONTENT_LENGTH) {
                // Two of them are two opinions on where the body ends.
                length.replace(header.value).is_none()
            } else if is(header, &CONTENT_TYPE) {
                !std::mem::replace(&mut is_json, true)
                    && header.value.eq_ignore_ascii_case(b"application/json")
            } else if is(header, &IDEMPOTENCY_KEY) {
                key.replace(header.value).is_none()
            } else {
                !is(header, &SEC_FETCH_SITE)
            }
        })?;
        let end = head.length.checked_add(digits(length?)?)?;
        let body = bytes.get(head.length..end)?;
        is_json.then_some((Self { names: head.names, key, body }, end))
    }
}

/// A number that is written as digits and nothing else.
fn digits(text: &[u8]) -> Option<usize> {
    let is_number = text.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// What of a head all kinds of requests have.
struct Head<'b> {
    path: &'b str,
    names: Names<'b>,
    length: usize,
}

impl<'b> Head<'b> {
    /// The head that some bytes begin with, if nothing in it would change the connection or where the body ends.
    /// `take` is shown each header that means nothing here, and says whether it is plain.
    fn read(bytes: &'b [u8], mut take: impl FnMut(&Header<'b>) -> bool) -> Option<Self> {
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut []);
        let read = request.parse_with_uninit_headers(bytes, &mut headers);
        let Ok(httparse::Status::Complete(length)) = read else { return None };
        if request.version != Some(1) {
            return None;
        }
        let mut names = Names::default();
        for header in &*request.headers {
            if is(header, &CONNECTION) {
                if !header.value.eq_ignore_ascii_case(b"keep-alive") {
                    return None;
                }
            } else if is(header, &X_REQUEST_ID) {
                // Of several, the first: as a map of headers has it.
                names.request_id.get_or_insert(header.value);
            } else if is(header, &TRACEPARENT) {
                names.traceparent.get_or_insert(header.value);
            } else if is_one_of(header, &NOT_PLAIN) || !take(header) {
                return None;
            }
        }
        Some(Self { path: request.path?, names, length })
    }
}

fn is(header: &Header<'_>, known: &HeaderName) -> bool {
    header.name.eq_ignore_ascii_case(known.as_str())
}

fn is_one_of(header: &Header<'_>, known: &[HeaderName]) -> bool {
    known.iter().any(|known| is(header, known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Option<(u64, usize)> {
        PlainLookup::read(head.as_bytes()).map(|(lookup, length)| (lookup.id.get(), length))
    }

    #[test]
    fn a_lookup_with_headers_that_change_nothing_is_plain() {
        let bare = "GET /lookup/7 HTTP/1.1\r\n\r\n";
        assert_eq!(read(bare), Some((7, bare.len())));
        let browser = "GET /lookup/9007199254740991 HTTP/1.1\r\nHost: s\r\nAccept: */*\r\nconnection: Keep-Alive\r\n\r\n";
        assert_eq!(read(&format!("{browser}GET /lookup/1")), Some((9_007_199_254_740_991, browser.len())));
    }

    #[test]
    fn anything_else_is_left_to_hyper() {
        for head in [
            "",
            "GET /lookup/7",
            "GET /lookup/7 HTTP/1.1\r\nhost: s\r\n",
            "GET /lookup/7 HTTP/1.0\r\n\r\n",
            "HEAD /lookup/7 HTTP/1.1\r\n\r\n",
            "POST /lookup/7 HTTP/1.1\r\n\r\n",
            "GET http://store/lookup/7 HTTP/1.1\r\n\r\n",
            "GET /lookup/7? HTTP/1.1\r\n\r\n",
            "GET /lookup/7?a=1 HTTP/1.1\r\n\r\n",
            "GET /lookup/%37 HTTP/1.1\r\n\r\n",
            "GET /lookup/0 HTTP/1.1\r\n\r\n",
            "GET /lookup/+7 HTTP/1.1\r\n\r\n",
            "GET /lookup/7/ HTTP/1.1\r\n\r\n",
            "GET /lookup/7 HTTP/1.1\r\nbad header: 1\r\n\r\n",
            "GET /lookup/7 HTTP/1.1\r\nfolded: 1\r\n 2\r\n\r\n",
        ] {
            assert_eq!(read(head), None, "{head}");
        }
        for header in [
            "Cache-Control: no-cache",
            "content-length: 0",
            "Content-Length: 5",
            "Transfer-Encoding: chunked",
            "If-None-Match: *",
            "Expect: 100-continue",
            "Upgrade: h2c",
            "Connection: close",
            "Connection: keep-alive, upgrade",
        ] {
            assert_eq!(read(&format!("GET /lookup/7 HTTP/1.1\r\n{header}\r\n\r\n")), None, "{header}");
        }
        let many = "a: b\r\n".repeat(HEADERS_MAX + 1);
        assert_eq!(read(&format!("GET /lookup/7 HTTP/1.1\r\n{many}\r\n")), None);
    }

    #[test]
    fn the_names_of_a_request_are_its_first_ones() {
        let head = b"GET /lookup/7 HTTP/1.1\r\nX-Request-ID: a\r\nx-request-id: b\r\ntraceparent: c\r\n\r\n";
        let (lookup, _) = PlainLookup::read(head).unwrap();
        let names = Names { request_id: Some(b"a"), traceparent: Some(b"c") };
        assert_eq!(lookup.names, names);
    }

    fn buy(headers: &str, rest: &str) -> Option<(Option<String>, String, usize)> {
        let request = format!("POST /buy HTTP/1.1\r\nhost: s\r\n{headers}\r\n{rest}");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (buy, length) = PlainBuy::read(request.as_bytes())?;
        Some((buy.key.map(text), text(buy.body), request.len() - length))
    }

    const JSON: &str = "Content-Type: application/json\r\n";

    #[test]
    fn a_buy_is_plain_once_all_of_it_is_there() {
        let asked = format!("{JSON}content-length: 8\r\n");
        assert_eq!(buy(&asked, r#"{"id":7}"#), Some((None, r#"{"id":7}"#.to_owned(), 0)));
        assert_eq!(buy(&asked, r#"{"id":7"#), None);
        let keyed = format!("{asked}Idempotency-Key: k\r\nuser-agent: x\r\nConnection: keep-alive\r\n");
        let next = r#"{"id":7}POST"#;
        assert_eq!(buy(&keyed, next), Some((Some("k".to_owned()), r#"{"id":7}"#.to_owned(), 4)));
        assert_eq!(buy(&format!("{JSON}content-length: 0\r\n"), ""), Some((None, String::new(), 0)));
    }

    #[test]
    fn any_other_buy_is_left_to_hyper() {
        let asked = format!("{JSON}content-length: 8\r\n");
        for header in [
            "content-length: 8",
            "content-type: application/json",
            "Transfer-Encoding: chunked",
            "Expect: 100-continue",
            "Upgrade: h2c",
            "Connection: close",
            "Sec-Fetch-Site: same-origin",
            "idempotency-key: a\r\nidempotency-key: b",
        ] {
            assert_eq!(buy(&format!("{asked}{header}\r\n"), r#"{"id":7}"#), None, "{header}");
        }
        for headers in [
            "content-length: 8\r\n",
            "content-type: text/json\r\ncontent-length: 8\r\n",
            "content-type: application/json; charset=utf-8\r\ncontent-length: 8\r\n",
            JSON,
            "content-type: application/json\r\ncontent-length: +8\r\n",
            "content-type: application/json\r\ncontent-length: \r\n",
            "content-type: application/json\r\ncontent-length: 99999999999999999999999\r\n",
        ] {
            assert_eq!(buy(headers, r#"{"id":7}"#), None, "{headers}");
        }
        for line in
            ["POST /buy HTTP/1.0", "POST /buy?id=1 HTTP/1.1", "GET /buy HTTP/1.1", "POST /buy/7 HTTP/1.1"]
        {
            let request = format!("{line}\r\n{asked}\r\n{{\"id\":7}}");
            assert_eq!(PlainBuy::read(request.as_bytes()), None, "{line}");
        }
    }
}
