//! Calls as HTTP requests, and HTTP answers as what they say. One attempt each, without retries.

use std::time::Duration;

use common::api::{Book, BookPage, BulkReport, Order, Quantity};
use history::{Answer, Call, NewRow, Seen};
use protocol::ids::{BookId, Index};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// How long an attempt may take: longer than a front end lets anybody wait for a good reason.
pub(crate) const ATTEMPT_MAX: Duration = Duration::from_secs(8);

/// A caller of the REST API.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    http: reqwest::Client,
    url: String,
    token: String,
}

/// What comes of an attempt.
#[derive(Clone, Debug)]
pub(super) enum Got {
    /// An answer; of a sale with its order.
    Answer(Answer, Option<Order>),
    /// A write that was not done and never will be.
    NotDone,
    /// No answer. A write may have been done.
    Nothing,
    /// An answer that there must not be.
    Strange(String),
}

/// How a call is made, beyond what it asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner<'a> {
    /// The `Idempotency-Key` of a write.
    pub(super) key: Option<&'a str>,
    /// Ask past the cache.
    pub(super) past_cache: bool,
    /// Ask a look for the stock alone; ask a page by search.
    pub(super) narrow: bool,
}

impl Wire {
    pub(super) fn new(url: &str, token: &str) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder().no_proxy().timeout(ATTEMPT_MAX).build()?;
        Ok(Self { http, url: url.to_owned(), token: token.to_owned() })
    }

    /// One attempt.
    pub(super) async fn attempt(&self, call: &Call, manner: Manner<'_>) -> Got {
        let (method, path, body) = request(call, manner);
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(key) = manner.key {
            request = request.header("idempotency-key", key);
        }
        if manner.past_cache {
            request = request.header("cache-control", "no-cache");
        }
        if !matches!(call, Call::Look(_) | Call::Page | Call::Buy(_)) {
            request = request.bearer_auth(&self.token);
        }
        if let Some(body) = body {
            let media_type =
                if matches!(call, Call::Load(_)) { "application/x-ndjson" } else { "application/json" };
            request = request.header("content-type", media_type).body(body);
        }
        let answer = async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status(), response.bytes().await?))
        };
        match answer.await {
            Ok((status, body)) => understand(call, manner, status, &body),
            Err(_) => Got::Nothing,
        }
    }

    /// An order: `None` if the store can't tell now.
    pub(super) async fn order(&self, id: &str) -> Option<Result<Order, String>> {
        let response = self.http.get(format!("{}/orders/{id}", self.url)).send().await.ok()?;
        let status = response.status();
        let body = response.bytes().await.ok()?;
        match status {
            StatusCode::OK => Some(serde_json::from_slice(&body).map_err(|problem| problem.to_string())),
            StatusCode::SERVICE_UNAVAILABLE => None,
            _ => Some(Err(said(status, &body))),
        }
    }
}

fn request(call: &Call, manner: Manner<'_>) -> (Method, String, Option<String>) {
    let post = |path: &str, body: Value| (Method::POST, path.to_owned(), Some(body.to_string()));
    match call {
        Call::Look(book) if manner.narrow => (Method::GET, format!("/quantity/{book}"), None),
        Call::Look(book) => (Method::GET, format!("/lookup/{book}"), None),
        Call::Page if manner.narrow => (Method::GET, "/search?q=book&page_size=6".to_owned(), None),
        Call::Page => (Method::GET, "/list?page_size=5".to_owned(), None),
        Call::Buy(lines) => {
            let item =
                |line: &protocol::catalogue::OrderLine| json!({"id": line.book, "quantity": line.quantity});
            let items: Vec<Value> = lines.iter().map(item).collect();
            post("/buy", json!({"items": items}))
        }
        Call::AddStock(book, amount) => post("/update_quantity", json!({"id": book, "amount": amount})),
        Call::SetPrice(book, cost) => post("/update_cost", json!({"id": book, "cost_cents": cost})),
        Call::Put(row) => post("/books", new_book(row)),
        Call::Load(rows) => {
            let lines: Vec<String> = rows.iter().map(|row| new_book(row).to_string()).collect();
            (Method::POST, "/books/bulk".to_owned(), Some(lines.join("\n")))
        }
        Call::Remove(book) => (Method::DELETE, format!("/books/{book}"), None),
    }
}

fn new_book(row: &NewRow) -> Value {
    let NewRow { book, cost_cents, quantity } = row;
    json!({"id": book, "title": format!("Book {book}"), "topic": "chaos", "cost_cents": cost_cents,
           "quantity": quantity})
}

fn understand(call: &Call, manner: Manner<'_>, status: StatusCode, body: &[u8]) -> Got {
    let strange = || Got::Strange(format!("{call}: {}", said(status, body)));
    let answer = match (call, status) {
        (_, StatusCode::SERVICE_UNAVAILABLE) => {
            let problem: Value = serde_json::from_slice(body).unwrap_or_default();
            return match (problem["outcome"].as_str(), manner.key) {
                (Some("not-done"), Some(_)) => Got::NotDone,
                (Some("unknown"), Some(_)) | (None, None) => Got::Nothing,
                // A write that fails says what became of it, a read has nothing to say of that.
                _ => strange(),
            };
        }
        (Call::Remove(_), StatusCode::NO_CONTENT) => Some(Answer::Done),
        (Call::Look(_), StatusCode::OK) if manner.narrow => {
            read(body).map(|Quantity { quantity, version, .. }| {
                Answer::Book(Seen { cost_cents: None, quantity, version: Index(version) })
            })
        }
        (Call::Look(_) | Call::AddStock(..) | Call::SetPrice(..) | Call::Put(_), StatusCode::OK) => {
            read(body).map(|book| Answer::Book(seen(&book)))
        }
        (Call::Put(_), StatusCode::CREATED) => read(body).map(|book| Answer::Added(seen(&book))),
        (Call::Load(rows), StatusCode::OK) => {
            let is_whole =
                |report: &BulkReport| report.rejected.is_empty() && report.loaded == rows.len() as u64;
            read(body).filter(is_whole).map(|_| Answer::Done)
        }
        (Call::Page, StatusCode::OK) => read(body).map(|BookPage { books, .. }| {
            Answer::Books(books.iter().map(|book| (book.id, seen(book))).collect())
        }),
        (Call::Buy(_), StatusCode::OK) => {
            return match read::<Order>(body) {
                Some(order) => {
                    let prices = order.items.iter().map(|item| item.unit_cost_cents).collect();
                    Got::Answer(Answer::Sold(prices), Some(order))
                }
                None => strange(),
            };
        }
        (_, StatusCode::NOT_FOUND) => named(body).map(|(book, _)| Answer::Absent(book)),
        (Call::Buy(_) | Call::AddStock(..), StatusCode::CONFLICT) => named(body)
            .and_then(|(book, problem)| Some(Answer::OutOfStock(book, problem["available"].as_u64()?))),
        _ => None,
    };
    answer.map_or_else(strange, |answer| Got::Answer(answer, None))
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

/// The book that a problem names.
fn named(body: &[u8]) -> Option<(BookId, Value)> {
    let problem: Value = read(body)?;
    let book = BookId::try_from(problem["id"].as_u64()?).ok()?;
    Some((book, problem))
}

pub(super) fn seen(book: &Book) -> Seen {
    Seen { cost_cents: Some(book.cost_cents), quantity: book.quantity, version: Index(book.version) }
}

fn said(status: StatusCode, body: &[u8]) -> String {
    format!("{status}: {}", String::from_utf8_lossy(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: Manner<'_> = Manner { key: Some("k"), past_cache: false, narrow: false };
    const READ: Manner<'_> = Manner { key: None, past_cache: false, narrow: false };

    fn book() -> BookId {
        BookId::try_from(1).unwrap()
    }

    #[test]
    fn a_failed_write_says_what_became_of_it() {
        let set = Call::SetPrice(book(), 5);
        let of =
            |body: &str, manner| understand(&set, manner, StatusCode::SERVICE_UNAVAILABLE, body.as_bytes());
        assert!(matches!(of(r#"{"outcome":"not-done"}"#, WRITE), Got::NotDone));
        assert!(matches!(of(r#"{"outcome":"unknown"}"#, WRITE), Got::Nothing));
        assert!(matches!(of("{}", WRITE), Got::Strange(_)));
        assert!(matches!(of("{}", READ), Got::Nothing));
    }

    #[test]
    fn refusals_name_their_book() {
        let buy = Call::Buy(Vec::new());
        let body = br#"{"id":1,"available":3}"#;
        let got = understand(&buy, WRITE, StatusCode::CONFLICT, body);
        assert!(matches!(got, Got::Answer(Answer::OutOfStock(id, 3), None) if id == book()), "{got:?}");
        let got = understand(&Call::Look(book()), READ, StatusCode::NOT_FOUND, br#"{"id":1}"#);
        assert!(matches!(got, Got::Answer(Answer::Absent(id), None) if id == book()), "{got:?}");
        for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::BAD_REQUEST, StatusCode::OK] {
            assert!(matches!(understand(&buy, WRITE, status, b"{}"), Got::Strange(_)), "{status}");
        }
    }
}
