//! Plain lookups: the heads of requests for a book that ask for nothing else, read where they lie.
//!
//! Most of what comes is of this kind, and whoever serves it makes no request, no map of headers and no answer
//! of parts: see [`Front::plain`](super::front::Front::plain). What is said here of a head is said by its
//! bytes alone. A head that is not all there, not plain or not even HTTP is nobody's business here; hyper
//! reads all of it again, and knows what to say.

use std::mem::MaybeUninit;

use http::HeaderName;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, EXPECT, IF_NONE_MATCH, TRANSFER_ENCODING, UPGRADE,
};
use protocol::ids::BookId;

use super::trace::{TRACEPARENT, X_REQUEST_ID};

/// More headers than browsers send. A head with more of them is not plain.
const HEADERS_MAX: usize = 32;
/// What would change the answer, the body that follows, or the connection.
const NOT_PLAIN: [HeaderName; 6] =
    [CACHE_CONTROL, CONTENT_LENGTH, EXPECT, IF_NONE_MATCH, TRANSFER_ENCODING, UPGRADE];

/// A request for a book.
#[derive(Debug, PartialEq, Eq)]
pub struct PlainLookup<'b> {
    /// Which one.
    pub id: BookId,
    /// The caller's name for the request.
    pub request_id: Option<&'b [u8]>,
    /// The trace that it is a part of.
    pub traceparent: Option<&'b [u8]>,
}

impl<'b> PlainLookup<'b> {
    /// The request that some bytes begin with, if it is plain, and how long its head is.
    pub fn read(bytes: &'b [u8]) -> Option<(Self, usize)> {
        // For what is not, nothing more is done twice than this look.
        bytes.strip_prefix(b"GET /lookup/")?;
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut []);
        let read = request.parse_with_uninit_headers(bytes, &mut headers);
        let Ok(httparse::Status::Complete(length)) = read else { return None };
        if request.version != Some(1) {
            return None;
        }
        let id = request.path?.strip_prefix("/lookup/")?.parse().ok()?;
        let mut lookup = Self { id, request_id: None, traceparent: None };
        for httparse::Header { name, value } in &*request.headers {
            let is = |known: &HeaderName| name.eq_ignore_ascii_case(known.as_str());
            if is(&CONNECTION) {
                if !value.eq_ignore_ascii_case(b"keep-alive") {
                    return None;
                }
            } else if NOT_PLAIN.iter().any(is) {
                return None;
            } else if is(&X_REQUEST_ID) {
                // Of several, the first: as a map of headers has it.
                lookup.request_id.get_or_insert(value);
            } else if is(&TRACEPARENT) {
                lookup.traceparent.get_or_insert(value);
            }
        }
        Some((lookup, length))
    }
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
        assert_eq!((lookup.request_id, lookup.traceparent), (Some(b"a".as_slice()), Some(b"c".as_slice())));
    }
}
