//! Finished answers: what the cache holds and a hit sends as it is.

use std::ops::Range;

use bytes::Bytes;
use common::api;
use http::HeaderValue;
use protocol::call::TopicCount;
use protocol::catalogue::Book;
use protocol::ids::{BookId, NodeId};
use serde::Serialize;

/// An answer about one book: the book, or that there is none.
#[derive(Clone, Debug)]
pub struct BookAnswer {
    /// The book, if there is one.
    pub found: Option<FoundBook>,
    /// Which node it comes from.
    pub served_by: HeaderValue,
}

/// A book, in the forms in which it is asked for. All of them are parts of one buffer: what a cache holds lies
/// far apart, and each piece more is one more that has to be fetched.
#[derive(Clone, Debug)]
pub struct FoundBook {
    /// The whole book as JSON.
    pub body: Bytes,
    /// Its stock as JSON.
    pub quantity: Bytes,
    /// The tag of the whole book.
    pub etag: HeaderValue,
    /// The tag of its stock.
    pub quantity_etag: HeaderValue,
}

/// Any other answer.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The JSON.
    pub body: Bytes,
    /// Its tag.
    pub etag: HeaderValue,
    /// Which node it comes from.
    pub served_by: HeaderValue,
}

impl BookAnswer {
    /// Renders what a replica answered.
    #[must_use]
    pub fn new(book: Option<Book>, served_by: &NodeId) -> Self {
        Self { found: book.map(FoundBook::new), served_by: node_header(served_by) }
    }

    /// What it takes up in the cache, roughly.
    #[must_use]
    pub fn weight(&self) -> usize {
        let found = self.found.as_ref().map_or(0, |found| found.body.len() + found.quantity.len());
        ENTRY_OVERHEAD + found
    }
}

impl FoundBook {
    fn new(book: Book) -> Self {
        let stock = api::Quantity { id: book.id, quantity: book.quantity, version: book.version.0 };
        let mut all = Vec::with_capacity(BOOK_BYTES);
        let quantity = write(&mut all, |all| write_json(&stock, all));
        let body = write(&mut all, |all| write_json(&api::Book::from(book), all));
        let [body_hash, quantity_hash] = [&body, &quantity].map(|part| blake3::hash(&all[part.clone()]));
        let etag = write(&mut all, |all| write_etag(body_hash, all));
        let quantity_etag = write(&mut all, |all| write_etag(quantity_hash, all));
        // Exactly as much as there is to keep.
        let all = Bytes::copy_from_slice(&all);
        Self {
            body: all.slice(body),
            quantity: all.slice(quantity),
            etag: header(all.slice(etag)),
            quantity_etag: header(all.slice(quantity_etag)),
        }
    }
}

impl Rendered {
    /// A page of books.
    #[must_use]
    pub fn page(books: Vec<Book>, more: bool, served_by: &NodeId) -> Self {
        let last = books.last().map(|book| book.id);
        let next_page_token = last.filter(|_| more).map(encode_token);
        let page = api::BookPage { books: books.into_iter().map(api::Book::from).collect(), next_page_token };
        Self::new(&page, served_by)
    }

    /// All topics.
    #[must_use]
    pub fn topics(topics: Vec<TopicCount>, served_by: &NodeId) -> Self {
        let topics = topics.into_iter().map(|topic| api::Topic { topic: topic.topic, books: topic.books });
        Self::new(&api::Topics { topics: topics.collect() }, served_by)
    }

    fn new<T: Serialize>(value: &T, served_by: &NodeId) -> Self {
        let (mut body, mut etag) = (Vec::new(), Vec::new());
        write_json(value, &mut body);
        write_etag(blake3::hash(&body), &mut etag);
        Self { body: body.into(), etag: header(etag.into()), served_by: node_header(served_by) }
    }

    /// What it takes up in the cache, roughly.
    #[must_use]
    pub fn weight(&self) -> usize {
        ENTRY_OVERHEAD + self.body.len()
    }
}

/// What an entry of the cache takes up beside its bodies.
const ENTRY_OVERHEAD: usize = 256;

/// Room for a book without a description, in all its forms.
const BOOK_BYTES: usize = 512;
/// How much of a hash is in a tag.
const TAG_DIGITS: usize = 20;

/// Where in the bytes a part of them is written.
fn write(all: &mut Vec<u8>, part: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
    let begin = all.len();
    part(all);
    begin..all.len()
}

fn write_json<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("the bodies of the API have text keys and finite numbers only");
}

fn write_etag(hash: blake3::Hash, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend(hash.to_hex().bytes().take(TAG_DIGITS));
    out.push(b'"');
}

fn header(tag: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(tag).expect("a quoted hexadecimal number is a header's value")
}

/// A node's name as a header.
#[must_use]
pub fn node_header(node: &NodeId) -> HeaderValue {
    HeaderValue::from_str(node.as_str()).expect("the configuration lets no other characters into names")
}

/// The first characters of a page token: a later form will have others.
const TOKEN_FORM: &str = "p1";

/// What to ask for the page behind a book with.
#[must_use]
pub fn encode_token(last: BookId) -> String {
    format!("{TOKEN_FORM}{:x}", last.get())
}

/// The book that a token stands behind; nothing if it is no token.
#[must_use]
pub fn decode_token(token: &str) -> Option<BookId> {
    let digits = token.strip_prefix(TOKEN_FORM)?;
    if digits.is_empty() || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_what_it_writes_and_nothing_else() {
        for id in [1, 7, protocol::ids::BOOK_ID_MAX] {
            let id = BookId::try_from(id).unwrap();
            assert_eq!(decode_token(&encode_token(id)), Some(id));
        }
        for bad in ["", "p1", "p10", "p1g", "p1+1", "1", "p120000000000000", "P11"] {
            assert_eq!(decode_token(bad), None, "{bad}");
        }
    }
}
