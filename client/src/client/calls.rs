//! A typed call for each call of the REST API.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use common::api::{
    Book, BookPage, BulkReport, Invalidated, Ledger, NewBook, Order, OrderPage, Quantity, Status, Topic,
    Topics,
};
use protocol::catalogue::OrderLine;
use protocol::ids::BookId;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use super::Client;
use super::exchange::{Body, Patience, Request};
use crate::error::ClientError;

/// The name of a write: however often it is sent under it, it is carried out once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// A new one, a UUID of version 7.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7().to_string())
    }

    /// A key that the caller has made, of visible ASCII characters.
    pub(crate) fn of(text: String) -> Self {
        Self(text)
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for IdempotencyKey {
    fn default() -> Self {
        Self::new()
    }
}

/// What is searched for; with both parts, both must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// The whole topic, in any spelling.
    pub topic: Option<String>,
    /// Words in title, author and topic, the last of which may be a beginning.
    pub words: Option<String>,
}

/// A book that was added or replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The book, as the store has it now.
    pub book: Book,
    /// Whether there was none before.
    pub created: bool,
}

/// The forms of a bulk load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkFormat {
    /// A JSON object a line.
    Ndjson,
    /// A table with a header line.
    Csv,
}

impl BulkFormat {
    /// The form of a file, by the ending of its name: `.csv`, `.ndjson` or `.jsonl`.
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            _ => None,
        }
    }

    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
        }
    }
}

impl fmt::Display for BulkFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ndjson => "NDJSON",
            Self::Csv => "CSV",
        })
    }
}

/// All calls fail as [`ClientError`] says: with the problem that the front end stated, or, after all
/// retries, for want of an answer.
#[expect(clippy::missing_errors_doc, reason = "said once for all, above")]
impl Client {
    /// A page of all books by id.
    pub async fn list(
        &self,
        page_size: Option<u32>,
        page_token: Option<&str>,
    ) -> Result<BookPage, ClientError> {
        let mut request = Request::get(vec!["list"]);
        request.query = paging(page_size, page_token);
        self.send(&request).await?.read()
    }

    /// The same, as a replica has it in its file at that moment.
    pub async fn list_past_cache(
        &self,
        page_size: Option<u32>,
        page_token: Option<&str>,
    ) -> Result<BookPage, ClientError> {
        let mut request = Request::get(vec!["list"]).past_cache();
        request.query = paging(page_size, page_token);
        self.send(&request).await?.read()
    }

    /// A book.
    pub async fn lookup(&self, id: BookId) -> Result<Book, ClientError> {
        self.send(&Request::get(vec!["lookup", &id.to_string()])).await?.read()
    }

    /// The stock of a book.
    pub async fn quantity(&self, id: BookId) -> Result<Quantity, ClientError> {
        self.send(&Request::get(vec!["quantity", &id.to_string()])).await?.read()
    }

    /// A page of the books that a search finds.
    pub async fn search(
        &self,
        search: &Search,
        page_size: Option<u32>,
        page_token: Option<&str>,
    ) -> Result<BookPage, ClientError> {
        let mut request = Request::get(vec!["search"]);
        request.query.extend(search.topic.clone().map(|topic| ("topic", topic)));
        request.query.extend(search.words.clone().map(|words| ("q", words)));
        request.query.extend(paging(page_size, page_token));
        self.send(&request).await?.read()
    }

    /// All topics.
    pub async fn topics(&self) -> Result<Vec<Topic>, ClientError> {
        let Topics { topics } = self.send(&Request::get(vec!["topics"])).await?.read()?;
        Ok(topics)
    }

    /// Buys copies of one book.
    pub async fn buy(&self, id: BookId, quantity: u64) -> Result<Order, ClientError> {
        self.buy_many(&[OrderLine { book: id, quantity }]).await
    }

    /// Buys copies of several books, all or none.
    pub async fn buy_many(&self, lines: &[OrderLine]) -> Result<Order, ClientError> {
        self.buy_keyed(lines, &IdempotencyKey::new()).await
    }

    /// Buys under a key of the caller's own: the same key with the same lines gives the same order.
    pub async fn buy_keyed(&self, lines: &[OrderLine], key: &IdempotencyKey) -> Result<Order, ClientError> {
        let body = match lines {
            [line] => json!({"id": line.book, "quantity": line.quantity}),
            lines => {
                let items = lines.iter().map(|line| json!({"id": line.book, "quantity": line.quantity}));
                json!({"items": items.collect::<Vec<_>>()})
            }
        };
        self.send(&Request::post(vec!["buy"], body_of(&body), key)).await?.read()
    }

    /// An order.
    pub async fn order(&self, order_id: &str) -> Result<Order, ClientError> {
        self.send(&Request::get(vec!["orders", order_id])).await?.read()
    }

    /// A page of all orders, newest first. Needs the token.
    pub async fn orders(
        &self,
        page_size: Option<u32>,
        page_token: Option<&str>,
    ) -> Result<OrderPage, ClientError> {
        let mut request = Request::get(vec!["orders"]).admin();
        request.query = paging(page_size, page_token);
        self.send(&request).await?.read()
    }

    /// A page of all orders as one order node has them, newest first. Needs the token.
    pub async fn orders_of(
        &self,
        node: &str,
        page_size: Option<u32>,
        page_token: Option<&str>,
    ) -> Result<OrderPage, ClientError> {
        let mut request = Request::get(vec!["orders"]).admin();
        request.query = paging(page_size, page_token);
        request.query.push(("node", node.to_owned()));
        self.send(&request).await?.read()
    }

    /// What has changed the stock of a shard's books after an index. Needs the token.
    pub async fn ledger(
        &self,
        shard: u32,
        after: u64,
        page_size: Option<u32>,
    ) -> Result<Ledger, ClientError> {
        let mut request = Request::get(vec!["ledger"]).admin();
        request.query = paging(page_size, None);
        request.query.push(("shard", shard.to_string()));
        request.query.push(("after", after.to_string()));
        self.send(&request).await?.read()
    }

    /// Sets a price. Needs the token.
    pub async fn set_cost(&self, id: BookId, cost_cents: u64) -> Result<Book, ClientError> {
        self.admin_write("update_cost", &json!({"id": id, "cost_cents": cost_cents})).await
    }

    /// Adds copies to a book's stock, or takes some away. Needs the token.
    pub async fn add_stock(&self, id: BookId, amount: i64) -> Result<Book, ClientError> {
        self.admin_write("update_quantity", &json!({"id": id, "amount": amount})).await
    }

    /// Adds a book, or replaces the one of its id. Needs the token.
    pub async fn put_book(&self, book: &NewBook) -> Result<Stored, ClientError> {
        let key = IdempotencyKey::new();
        let answer = self.send(&Request::post(vec!["books"], body_of(&json!(book)), &key).admin()).await?;
        Ok(Stored { created: answer.status == 201, book: answer.read()? })
    }

    /// Removes a book. Needs the token.
    pub async fn delete_book(&self, id: BookId) -> Result<(), ClientError> {
        let (id, key) = (id.to_string(), IdempotencyKey::new());
        let request = Request::post(vec!["books", &id], Body::Empty, &key).admin();
        self.send(&Request { method: Method::DELETE, ..request }).await.map(drop)
    }

    /// Loads books, whole records of a form, within a time of their own. Needs the token.
    pub async fn bulk(
        &self,
        books: Bytes,
        format: BulkFormat,
        key: &IdempotencyKey,
        patience: Duration,
    ) -> Result<BulkReport, ClientError> {
        let body = Body::Books { books, format };
        let request = Request::post(vec!["books", "bulk"], body, key).admin();
        self.send(&Request { patience: Patience::Within(patience), ..request }).await?.read()
    }

    /// Drops a book from the cache of the front end that answers. Needs the token.
    pub async fn invalidate(&self, id: BookId) -> Result<Invalidated, ClientError> {
        self.admin_write("invalidate", &json!({"id": id})).await
    }

    /// How the store stands, as the front end that answers sees it.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.send(&Request::get(vec!["status"])).await?.read()
    }

    /// Whether a front end can serve reads and writes; its problem says why not. Asks each front end
    /// once and does not wait.
    pub async fn ready(&self) -> Result<(), ClientError> {
        let request = Request { patience: Patience::Round, ..Request::get(vec!["readyz"]) };
        self.send(&request).await.map(drop)
    }

    async fn admin_write<T: serde::de::DeserializeOwned>(
        &self,
        call: &str,
        body: &serde_json::Value,
    ) -> Result<T, ClientError> {
        let key = IdempotencyKey::new();
        self.send(&Request::post(vec![call], body_of(body), &key).admin()).await?.read()
    }
}

fn body_of(value: &serde_json::Value) -> Body {
    Body::Json(Bytes::from(value.to_string()))
}

fn paging(page_size: Option<u32>, page_token: Option<&str>) -> Vec<(&'static str, String)> {
    let size = page_size.map(|size| ("page_size", size.to_string()));
    let token = page_token.map(|token| ("page_token", token.to_owned()));
    size.into_iter().chain(token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_of_a_file_names_its_form() {
        let cases = [
            ("a.csv", Some(BulkFormat::Csv)),
            ("x/a.CSV", Some(BulkFormat::Csv)),
            ("a.ndjson", Some(BulkFormat::Ndjson)),
            ("a.jsonl", Some(BulkFormat::Ndjson)),
            ("a.json", None),
            ("csv", None),
        ];
        for (path, expected) in cases {
            assert_eq!(BulkFormat::of_path(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn each_key_is_new() {
        assert_ne!(IdempotencyKey::new(), IdempotencyKey::new());
    }
}
