//! Finished answers: what the cache holds and a hit sends as it is.

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

/// A book, in the forms in which it is asked for.
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
        let quantity = json(&stock);
        let body = json(&api::Book::from(book));
        Self { etag: etag(&body), quantity_etag: etag(&quantity), body, quantity }
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
        let body = json(value);
        Self { etag: etag(&body), body, served_by: node_header(served_by) }
    }

    /// What it takes up in the cache, roughly.
    #[must_use]
    pub fn weight(&self) -> usize {
        ENTRY_OVERHEAD + self.body.len()
    }
}

/// What an entry of the cache takes up beside its bodies.
const ENTRY_OVERHEAD: usize = 256;

fn json<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).expect("the bodies of the API have text keys and finite numbers only").into()
}

fn etag(body: &[u8]) -> HeaderValue {
    let hash = blake3::hash(body).to_hex();
    let tag = format!("\"{}\"", hash.get(..20).unwrap_or_default());
    HeaderValue::from_str(&tag).expect("a quoted hexadecimal number is a header's value")
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
