//! The answers of reads: ready bytes with their tag, and where they came from.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use protocol::ids::BookId;

use super::conditions::caller_has;
use super::problem::Problem;
use super::trace::{X_SERVED_BY, write_decimal};
use crate::app::{BookAnswer, CacheUse, FoundBook, Rendered, Served};

/// What the cache did for an answer: RFC 9211.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// Whoever keeps the answer must ask each time whether it still holds: it changes with each sale.
static NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Room for all headers of an answer, so that the map is made once.
const HEADERS: usize = 12;

/// Which side of a book is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The whole book.
    Book,
    /// Its stock.
    Quantity,
}

/// Shows a book, or says that there is none.
pub(crate) fn book(
    id: BookId,
    side: Side,
    answer: &BookAnswer,
    cache: CacheUse,
    asked: &HeaderMap,
) -> http::Response<Bytes> {
    let Some(found) = &answer.found else {
        let mut response = Problem::no_such_book(id).response();
        response.headers_mut().insert(X_SERVED_BY, answer.served_by.clone());
        response.headers_mut().insert(CACHE_STATUS, cache_status(cache));
        return response;
    };
    let (body, etag) = match side {
        Side::Book => (&found.body, &found.etag),
        Side::Quantity => (&found.quantity, &found.quantity_etag),
    };
    show(body, etag, &answer.served_by, cache, asked)
}

/// Shows a page.
pub(crate) fn page(served: &Served<Rendered>, asked: &HeaderMap) -> Response {
    let Rendered { body, etag, served_by } = &served.answer;
    routed(show(body, etag, served_by, served.cache, asked))
}

/// Shows a book that was read.
pub(crate) fn read_book(
    id: BookId,
    side: Side,
    served: &Served<Arc<BookAnswer>>,
    asked: &HeaderMap,
) -> Response {
    routed(book(id, side, &served.answer, served.cache, asked))
}

fn routed(response: http::Response<Bytes>) -> Response {
    response.map(Body::from)
}

fn show(
    body: &Bytes,
    etag: &HeaderValue,
    served_by: &HeaderValue,
    cache: CacheUse,
    asked: &HeaderMap,
) -> http::Response<Bytes> {
    let mut headers = HeaderMap::with_capacity(HEADERS);
    for (name, value) in fields(etag, served_by, &cache_status(cache)) {
        headers.insert(name, value.clone());
    }
    let mut response = http::Response::new(Bytes::new());
    if caller_has(asked, etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        headers.insert(CONTENT_TYPE, JSON);
        *response.body_mut() = body.clone();
    }
    *response.headers_mut() = headers;
    response
}

/// The headers that all answers have.
fn fields<'a>(
    etag: &'a HeaderValue,
    served_by: &'a HeaderValue,
    cache_status: &'a HeaderValue,
) -> [(HeaderName, &'a HeaderValue); 4] {
    [(ETAG, etag), (CACHE_CONTROL, &NO_CACHE), (X_SERVED_BY, served_by), (CACHE_STATUS, cache_status)]
}

/// Writes the head of the answer that [`book`] gives with a cached book that its caller has not, but for what
/// is not of the book: no empty line ends it.
pub(crate) fn write_head(found: &FoundBook, served_by: &HeaderValue, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    for (name, value) in fields(&found.etag, served_by, &cache_status(CacheUse::Hit)) {
        write_field(&name, value.as_bytes(), out);
    }
    write_field(&CONTENT_TYPE, JSON.as_bytes(), out);
    out.extend_from_slice(b"content-length: ");
    write_decimal(found.body.len() as u64, out);
    out.extend_from_slice(b"\r\n");
}

/// Writes a line of a head.
pub(crate) fn write_field(name: &HeaderName, value: &[u8], out: &mut Vec<u8>) {
    for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

fn cache_status(cache: CacheUse) -> HeaderValue {
    HeaderValue::from_static(match cache {
        CacheUse::Hit => "bookends; hit",
        CacheUse::Miss { stored: true, collapsed: false } => "bookends; fwd=miss; stored",
        CacheUse::Miss { stored: true, collapsed: true } => "bookends; fwd=miss; stored; collapsed",
        CacheUse::Miss { stored: false, collapsed: false } => "bookends; fwd=miss",
        CacheUse::Miss { stored: false, collapsed: true } => "bookends; fwd=miss; collapsed",
        CacheUse::Bypass => "bookends; fwd=request",
    })
}

#[cfg(test)]
mod tests {
    use http::header::{CONTENT_LENGTH, IF_NONE_MATCH};

    use super::*;

    fn answer(found: bool) -> BookAnswer {
        let found = found.then(|| FoundBook {
            body: Bytes::from_static(b"{book}"),
            quantity: Bytes::from_static(b"{quantity}"),
            etag: HeaderValue::from_static("\"7\""),
            quantity_etag: HeaderValue::from_static("\"7q\""),
        });
        BookAnswer { found, served_by: HeaderValue::from_static("catalog-1") }
    }

    fn id() -> BookId {
        7.try_into().unwrap()
    }

    #[test]
    fn each_side_has_its_body_and_tag() {
        let none = HeaderMap::new();
        let whole = book(id(), Side::Book, &answer(true), CacheUse::Hit, &none);
        assert_eq!(
            (whole.body().as_ref(), &whole.headers()[ETAG]),
            (b"{book}".as_slice(), &"\"7\"".parse().unwrap())
        );
        assert_eq!(whole.headers()[X_SERVED_BY], "catalog-1");
        assert_eq!(whole.headers()[CONTENT_TYPE], "application/json");
        let stock = book(id(), Side::Quantity, &answer(true), CacheUse::Hit, &none);
        assert_eq!(
            (stock.body().as_ref(), &stock.headers()[ETAG]),
            (b"{quantity}".as_slice(), &"\"7q\"".parse().unwrap())
        );
    }

    #[test]
    fn a_caller_that_has_it_is_sent_nothing() {
        let asked = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static("\"7\""))]);
        let same = book(id(), Side::Book, &answer(true), CacheUse::Hit, &asked);
        assert_eq!((same.status(), same.body().len()), (StatusCode::NOT_MODIFIED, 0));
        assert!(same.headers().contains_key(ETAG) && same.headers().contains_key(X_SERVED_BY));
        assert!(!same.headers().contains_key(CONTENT_LENGTH) && !same.headers().contains_key(CONTENT_TYPE));
        let other = book(id(), Side::Quantity, &answer(true), CacheUse::Hit, &asked);
        assert_eq!(other.status(), StatusCode::OK, "the tag is of the other side");
    }

    #[test]
    fn an_absence_is_a_problem_that_says_where_it_came_from() {
        let asked = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static("*"))]);
        let absent = book(id(), Side::Book, &answer(false), CacheUse::Bypass, &asked);
        assert_eq!(absent.status(), StatusCode::NOT_FOUND);
        assert_eq!(absent.headers()[X_SERVED_BY], "catalog-1");
        assert_eq!(absent.headers()[CACHE_STATUS], "bookends; fwd=request");
        assert_eq!(absent.headers()[CACHE_CONTROL], "no-store");
    }
}
