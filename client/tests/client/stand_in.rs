//! A stand-in for a front end. It holds books in memory and knows just enough of the contract to be
//! told apart from a wrong answer.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use common::api::{Book, BulkReport, NewBook, Order, OrderItem, OrderStatus, RejectedLine};
use futures_util::stream;
use parking_lot::Mutex;
use protocol::catalogue::TopicKey;
use protocol::ids::BookId;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The token that the stand-in's admin calls need.
pub(crate) const TOKEN: &str = "stand-in-token";

/// What is to happen to one of the next requests instead of a good answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Refused with a status, `Retry-After` in seconds.
    Refuse(u16, Option<u64>),
    /// Carried out, and the connection breaks within the answer.
    LoseAnswer,
    /// Answered with this.
    Say(&'static str),
    /// Answered well, and the connection closed in good order.
    CloseAfter,
    /// Answered well, but only after a while.
    Stall(Duration),
}

/// A way in which the stand-in is wrong all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A key is not remembered.
    SellsTwice,
    /// Orders do not add up.
    WrongTotal,
    /// Sold copies stay in stock.
    KeepsStock,
    /// A lookup gives another book.
    WrongBook,
    /// A search gives every book.
    FindsAll,
    /// A search gives no book.
    FindsNone,
    /// An unknown book is made up.
    InventsBooks,
    /// An empty shelf is no obstacle.
    SellsAir,
    /// Orders read back are other orders.
    WrongOrder,
    /// Versions fall.
    VersionsFall,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) key: Option<String>,
    pub(crate) has_token: bool,
    pub(crate) past_cache: bool,
    pub(crate) body: String,
}

#[derive(Default)]
struct Store {
    books: BTreeMap<u64, Book>,
    orders: Vec<Order>,
    keys: HashMap<String, (u16, Value)>,
    version: u64,
    faults: VecDeque<Fault>,
    always: Option<Fault>,
    bug: Option<Bug>,
    seen: Vec<Seen>,
}

/// A running stand-in; it ends when it is dropped.
pub(crate) struct StandIn {
    address: SocketAddr,
    store: Arc<Mutex<Store>>,
    _server: JoinSet<()>,
}

impl StandIn {
    /// One that holds seven books.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut store = Store { version: 7, ..Store::default() };
        for id in 1..=7 {
            let topic = ["distributed systems", "graduate school"][usize::from(id > 4)];
            let book = json!({"id": id, "title": format!("Volume{id} of all"), "topic": topic,
                "cost_cents": 100 * id, "quantity": 40, "version": id});
            store.books.insert(id, serde_json::from_value(book).unwrap());
        }
        let store = Arc::new(Mutex::new(store));
        let router = Router::new().fallback(serve).with_state(Arc::clone(&store));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, store, _server: server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What happens to the next requests, one after the other.
    pub(crate) fn then(&self, fault: Fault) -> &Self {
        self.store.lock().faults.push_back(fault);
        self
    }

    /// What happens to all requests from now on.
    pub(crate) fn always(&self, fault: Fault) -> &Self {
        self.store.lock().always = Some(fault);
        self
    }

    pub(crate) fn with_bug(&self, bug: Bug) -> &Self {
        self.store.lock().bug = Some(bug);
        self
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.store.lock().seen.clone()
    }

    pub(crate) fn stock(&self, id: u64) -> u64 {
        self.store.lock().books[&id].quantity
    }

    pub(crate) fn orders(&self) -> usize {
        self.store.lock().orders.len()
    }
}

/// An address at which nobody listens.
pub(crate) async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

async fn serve(State(store): State<Arc<Mutex<Store>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let header = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let has_token = header("authorization").is_some_and(|value| value == format!("Bearer {TOKEN}"));
    let fault = {
        let mut store = store.lock();
        store.seen.push(Seen {
            path: parts.uri.path().to_owned(),
            key: header("idempotency-key"),
            has_token,
            past_cache: header("cache-control").is_some_and(|value| value == "no-cache"),
            body: String::from_utf8_lossy(&body).into_owned(),
        });
        store.faults.pop_front().or_else(|| store.always.clone())
    };
    let answer = || {
        let query: HashMap<String, String> =
            axum::extract::Query::try_from_uri(&parts.uri).map(|query| query.0).unwrap();
        let path = percent(parts.uri.path());
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        store.lock().keyed(&parts.method, &segments, &query, &parts.headers, &body, has_token)
    };
    match fault {
        Some(Fault::Refuse(status, retry_after)) => refusal(status, retry_after),
        Some(Fault::LoseAnswer) => {
            answer();
            let broken = std::io::Error::other("the answer is lost on purpose");
            Body::from_stream(stream::iter([Ok(Bytes::from("{")), Err(broken)])).into_response()
        }
        Some(Fault::Say(text)) => text.into_response(),
        Some(Fault::CloseAfter) => {
            let mut response = respond(answer());
            response.headers_mut().insert("connection", HeaderValue::from_static("close"));
            response
        }
        Some(Fault::Stall(time)) => {
            tokio::time::sleep(time).await;
            respond(answer())
        }
        None => respond(answer()),
    }
}

fn respond((status, body): (u16, Value)) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    if body.is_null() { status.into_response() } else { (status, body.to_string()).into_response() }
}

fn refusal(status: u16, retry_after: Option<u64>) -> Response {
    let (_, body) = problem(status, "told-to", "told to refuse", json!({"outcome": "not-done"}));
    let mut response = respond((status, body));
    if let Some(seconds) = retry_after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}

fn problem(status: u16, name: &str, detail: &str, more: Value) -> (u16, Value) {
    let mut body =
        json!({"type": format!("/problems/{name}"), "title": name, "status": status, "detail": detail});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    (status, body)
}

/// Decodes the spaces of a path, which is all that the tests put there.
fn percent(path: &str) -> String {
    path.replace("%20", " ")
}

impl Store {
    /// Answers, and remembers the answers to writes.
    fn keyed(
        &mut self,
        method: &Method,
        path: &[&str],
        query: &HashMap<String, String>,
        headers: &HeaderMap,
        body: &[u8],
        has_token: bool,
    ) -> (u16, Value) {
        let key = headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
        if let Some(known) = key.as_ref().and_then(|key| self.keys.get(key)) {
            return known.clone();
        }
        if is_admin(path, method) && !has_token {
            return problem(401, "unauthorized", "the call needs the admin token", json!({}));
        }
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let answer = match (method.as_str(), path) {
            ("GET", ["search"]) => self.page(query, |book| fits(book, query)),
            ("GET", ["list"]) => self.page(query, |_| true),
            ("GET", ["search", topic]) => {
                let query = HashMap::from([("topic".to_owned(), (*topic).to_owned())]);
                self.page(&query, |book| fits(book, &query))
            }
            ("GET", ["lookup" | "quantity", id]) => self.lookup(id.parse().unwrap()),
            ("GET", ["topics"]) => self.topics(),
            ("GET", ["orders", id]) => self.order(id),
            ("GET", ["orders"]) => (200, json!({"orders": self.orders, "next_page_token": null})),
            ("GET", ["status"]) => (200, json!(common::api::Status::default())),
            ("GET", ["readyz"]) => (200, json!("ready")),
            ("POST", ["buy"]) => self.buy(&json),
            ("POST", ["update_cost"]) => {
                self.change(&json, |book, json| book.cost_cents = number(json, "cost_cents"))
            }
            ("POST", ["update_quantity"]) => self.change(&json, |book, json| {
                book.quantity = book.quantity.checked_add_signed(json["amount"].as_i64().unwrap()).unwrap();
            }),
            ("POST", ["books"]) => self.put(serde_json::from_value(json).unwrap()),
            ("POST", ["books", "bulk"]) => self.bulk(headers["content-type"].to_str().unwrap(), body),
            ("POST", ["invalidate"]) => (200, json!({"id": json["id"], "dropped": true})),
            ("DELETE", ["books", id]) => {
                let removed = self.books.remove(&id.parse().unwrap());
                removed.map_or_else(|| not_found(id), |_| (204, Value::Null))
            }
            _ => problem(404, "not-found", "no such call", json!({})),
        };
        if let Some(key) = key.filter(|_| self.bug != Some(Bug::SellsTwice)) {
            self.keys.insert(key, answer.clone());
        }
        answer
    }

    fn page(&self, query: &HashMap<String, String>, fits: impl Fn(&Book) -> bool) -> (u16, Value) {
        let searches = query.contains_key("topic") || query.contains_key("q");
        let fits = |book: &Book| match self.bug.filter(|_| searches) {
            Some(Bug::FindsAll) => true,
            Some(Bug::FindsNone) => false,
            _ => fits(book),
        };
        let parse = |name: &str| query.get(name).map(|text| text.parse::<u64>().unwrap());
        let (size, after) = (parse("page_size").unwrap_or(100), parse("page_token").unwrap_or(0));
        let books: Vec<&Book> =
            self.books.range(after + 1..).map(|(_, book)| book).filter(|b| fits(b)).collect();
        let size = usize::try_from(size).unwrap().min(books.len());
        let next = (size < books.len()).then(|| books[size - 1].id.to_string());
        (200, json!({"books": books[..size], "next_page_token": next}))
    }

    fn lookup(&mut self, id: u64) -> (u16, Value) {
        let other = if self.bug == Some(Bug::WrongBook) { id % 7 + 1 } else { id };
        let invented = self.books.first_key_value().filter(|_| self.bug == Some(Bug::InventsBooks));
        let mut book = match self.books.get(&other).or_else(|| Some(invented?.1)) {
            Some(book) => book.clone(),
            None => return not_found(&id.to_string()),
        };
        if self.bug == Some(Bug::InventsBooks) {
            book.id = BookId::try_from(id).unwrap();
        }
        if self.bug == Some(Bug::VersionsFall) {
            self.version = self.version.saturating_sub(1);
            book.version = self.version;
        }
        (200, json!(book))
    }

    fn topics(&self) -> (u16, Value) {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for book in self.books.values() {
            *counts.entry(&book.topic).or_default() += 1;
        }
        let topics: Vec<Value> =
            counts.iter().map(|(topic, books)| json!({"topic": topic, "books": books})).collect();
        (200, json!({"topics": topics}))
    }

    fn order(&self, id: &str) -> (u16, Value) {
        let found = self.orders.iter().position(|order| order.order_id == id);
        let wrong = usize::from(self.bug == Some(Bug::WrongOrder));
        match found.map(|place| place.saturating_sub(wrong)) {
            Some(place) => (200, json!(self.orders[place])),
            None => problem(404, "not-found", &format!("order {id} not found"), json!({})),
        }
    }

    fn buy(&mut self, json: &Value) -> (u16, Value) {
        let lines = json["items"].as_array().cloned().unwrap_or_else(|| vec![json.clone()]);
        let mut items = Vec::new();
        for line in &lines {
            let (id, wanted) = (number(line, "id"), number(line, "quantity"));
            let Some(book) = self.books.get(&id) else { return not_found(&id.to_string()) };
            if book.quantity < wanted && self.bug != Some(Bug::SellsAir) {
                let detail = format!("book {id} has {} copies", book.quantity);
                return problem(409, "out-of-stock", &detail, json!({"available": book.quantity}));
            }
            let (title, unit_cost_cents) = (book.title.clone(), book.cost_cents);
            items.push(OrderItem { id: book.id, title, quantity: wanted, unit_cost_cents });
        }
        self.version += 1;
        for item in &items {
            let book = self.books.get_mut(&item.id.get()).unwrap();
            book.version = self.version;
            if self.bug != Some(Bug::KeepsStock) {
                book.quantity = book.quantity.saturating_sub(item.quantity);
            }
        }
        let wrong = u64::from(self.bug == Some(Bug::WrongTotal));
        let order = Order {
            order_id: format!("order-{}", self.orders.len()),
            status: OrderStatus::Sold,
            total_cents: wrong + items.iter().map(|item| item.quantity * item.unit_cost_cents).sum::<u64>(),
            items,
            created_at: "2026-01-02T03:04:05.678Z".to_owned(),
        };
        self.orders.push(order.clone());
        (200, json!(order))
    }

    fn change(&mut self, json: &Value, change: impl Fn(&mut Book, &Value)) -> (u16, Value) {
        let id = number(json, "id");
        let Some(book) = self.books.get_mut(&id) else { return not_found(&id.to_string()) };
        self.version += 1;
        book.version = self.version;
        change(book, json);
        (200, json!(book))
    }

    fn put(&mut self, book: NewBook) -> (u16, Value) {
        let next = self.books.last_key_value().map_or(1, |(id, _)| id + 1);
        let id = book.id.map_or(next, BookId::get);
        self.version += 1;
        let mut json = json!(book);
        json["id"] = id.into();
        json["version"] = self.version.into();
        let known = self.books.insert(id, serde_json::from_value(json.clone()).unwrap());
        (if known.is_some() { 200 } else { 201 }, json)
    }

    fn bulk(&mut self, media_type: &str, body: &[u8]) -> (u16, Value) {
        let rows: Vec<Result<NewBook, String>> = match media_type {
            "text/csv" => csv::Reader::from_reader(body)
                .deserialize::<NewBook>()
                .map(|row| row.map_err(|e| e.to_string()))
                .collect(),
            "application/x-ndjson" => {
                let text = std::str::from_utf8(body).unwrap();
                text.lines().map(|line| serde_json::from_str(line).map_err(|e| e.to_string())).collect()
            }
            other => return problem(415, "unsupported-media-type", other, json!({})),
        };
        let first = if media_type == "text/csv" { 2 } else { 1 };
        let mut report = BulkReport::default();
        for (line, row) in (first..).zip(rows) {
            match row {
                Ok(book) => {
                    self.put(book);
                    report.loaded += 1;
                }
                Err(reason) => report.rejected.push(RejectedLine { line, reason }),
            }
        }
        (200, json!(report))
    }
}

fn is_admin(path: &[&str], method: &Method) -> bool {
    matches!(path, ["update_cost" | "update_quantity" | "books" | "invalidate", ..])
        || (method == Method::GET && path == ["orders"])
}

fn fits(book: &Book, query: &HashMap<String, String>) -> bool {
    let topic = query.get("topic").is_none_or(|topic| TopicKey::of(topic) == TopicKey::of(&book.topic));
    let text = format!("{} {}", book.title, book.topic).to_lowercase();
    topic && query.get("q").is_none_or(|words| text.contains(&words.to_lowercase()))
}

fn number(json: &Value, name: &str) -> u64 {
    json[name].as_u64().unwrap()
}

fn not_found(id: &str) -> (u16, Value) {
    problem(404, "not-found", &format!("book {id} not found"), json!({}))
}
