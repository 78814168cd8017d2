//! Every kind of bad input, and the good input beside it, against a running store: what is answered, and
//! that nothing bad has changed anything.
//!
//! The table is data: a request, and the status, problem and field that it gets.

use std::collections::BTreeMap;

use reqwest::header::HeaderValue;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    Anyone,
    Admin,
}
use Caller::{Admin, Anyone};

/// What is sent.
#[derive(Clone, Copy)]
enum Body {
    /// Nothing.
    Empty,
    /// This text as `application/json`.
    Json(&'static str),
    /// These bytes with this content type, or with none if it is empty.
    Raw(&'static str, &'static [u8]),
    /// So many spaces as `application/json`.
    Spaces(usize),
}
use Body::{Empty, Json, Raw, Spaces};

/// Status, name of the problem, and the field to blame, empty if there is none.
type Refusal = (u16, &'static str, &'static str);

const BAD_ID: Refusal = (400, "bad-request", "id");
const BAD_QUANTITY: Refusal = (400, "bad-request", "quantity");
const BAD_AMOUNT: Refusal = (400, "bad-request", "amount");
const BAD_COST: Refusal = (400, "bad-request", "cost_cents");
const BAD_TOKEN: Refusal = (400, "bad-request", "page_token");
const BAD_SIZE: Refusal = (400, "bad-request", "page_size");
const BAD_BODY: Refusal = (400, "bad-request", "");
const ABSENT: Refusal = (404, "not-found", "");
const NO_TOKEN: Refusal = (401, "unauthorized", "");
const WRONG_TYPE: Refusal = (415, "unsupported-media-type", "");
const WRONG_METHOD: Refusal = (405, "method-not-allowed", "");
const TOO_LARGE: Refusal = (413, "too-large", "");
const TOO_FEW: Refusal = (409, "out-of-stock", "");

/// All of it is refused. Book 1 is there, with fewer than a million copies.
const REFUSED: &[(Caller, &str, &str, Body, Refusal)] = &[
    // Ids: 0, -1, 2^53, beyond 64 bits, words, not whole, not UTF-8.
    (Anyone, "GET", "/lookup/0", Empty, BAD_ID),
    (Anyone, "GET", "/lookup/-1", Empty, BAD_ID),
    (Anyone, "GET", "/lookup/9007199254740992", Empty, BAD_ID),
    (Anyone, "GET", "/lookup/99999999999999999999999999", Empty, BAD_ID),
    (Anyone, "GET", "/lookup/one", Empty, BAD_ID),
    (Anyone, "GET", "/lookup/1.0", Empty, BAD_ID),
    (Anyone, "GET", "/lookup/+1", Empty, BAD_ID),
    (Anyone, "GET", "/lookup/%31%00", Empty, BAD_ID),
    (Anyone, "GET", "/lookup/%ff", Empty, BAD_ID),
    (Anyone, "GET", "/lookup/%zz", Empty, BAD_ID),
    (Anyone, "GET", "/lookup/9007199254740991", Empty, ABSENT),
    (Anyone, "GET", "/quantity/0", Empty, BAD_ID),
    (Anyone, "GET", "/quantity/-1", Empty, BAD_ID),
    (Anyone, "GET", "/quantity/9007199254740992", Empty, BAD_ID),
    (Anyone, "GET", "/quantity/one", Empty, BAD_ID),
    (Anyone, "GET", "/quantity/9007199254740991", Empty, ABSENT),
    (Anyone, "POST", "/lookup", Json(r#"{"id":0}"#), BAD_ID),
    (Anyone, "POST", "/lookup", Json(r#"{"id":-1}"#), BAD_ID),
    (Anyone, "POST", "/lookup", Json(r#"{"id":9007199254740992}"#), BAD_ID),
    (Anyone, "POST", "/lookup", Json(r#"{"id":"1"}"#), BAD_ID),
    (Anyone, "POST", "/lookup", Json(r#"{"id":1.5}"#), BAD_ID),
    (Anyone, "POST", "/lookup", Json(r#"{"id":null}"#), BAD_ID),
    (Anyone, "POST", "/lookup", Json("{}"), BAD_ID),
    (Anyone, "POST", "/lookup", Json(r#"{"id":9007199254740991}"#), ABSENT),
    // Arguments that no call knows, that come twice, that can't be decoded.
    (Anyone, "GET", "/lookup/1?color=red", Empty, (400, "bad-request", "color")),
    (Anyone, "GET", "/lookup/1?id=1", Empty, BAD_ID),
    (Anyone, "GET", "/topics?page_size=1", Empty, BAD_SIZE),
    (Anyone, "GET", "/search?q=a&q=a", Empty, (400, "bad-request", "q")),
    (Anyone, "GET", "/search?q=%ff", Empty, (400, "bad-request", "q")),
    (Anyone, "POST", "/lookup", Json(r#"{"id":1,"color":"red"}"#), (400, "bad-request", "color")),
    (Anyone, "POST", "/lookup?id=1", Json(r#"{"id":1}"#), (400, "bad-request", "query")),
    // Pages.
    (Anyone, "GET", "/list?page_size=0", Empty, BAD_SIZE),
    (Anyone, "GET", "/list?page_size=1001", Empty, BAD_SIZE),
    (Anyone, "GET", "/list?page_size=-1", Empty, BAD_SIZE),
    (Anyone, "GET", "/list?page_size=many", Empty, BAD_SIZE),
    (Anyone, "GET", "/list?page_token=x", Empty, BAD_TOKEN),
    (Anyone, "GET", "/list?page_token=%00", Empty, BAD_TOKEN),
    (Anyone, "GET", "/search?q=a&page_token=1", Empty, BAD_TOKEN),
    (Anyone, "POST", "/list", Json(r#"{"page_size":0}"#), BAD_SIZE),
    (Anyone, "POST", "/list", Json(r#"{"page_size":"1"}"#), BAD_SIZE),
    (Anyone, "POST", "/list", Json(r#"{"page_token":"?"}"#), BAD_TOKEN),
    (Anyone, "POST", "/list", Json(r#"{"page_token":7}"#), BAD_TOKEN),
    (Admin, "GET", "/orders?page_token=x", Empty, BAD_TOKEN),
    (Admin, "GET", "/orders?page_size=0", Empty, BAD_SIZE),
    // Searches for nothing.
    (Anyone, "GET", "/search", Empty, (400, "bad-request", "topic")),
    (Anyone, "GET", "/search?topic=&q=", Empty, (400, "bad-request", "topic")),
    (Anyone, "GET", "/search/%20-_", Empty, (400, "bad-request", "topic")),
    (Anyone, "GET", "/search?q=%21%22", Empty, (400, "bad-request", "q")),
    (Anyone, "POST", "/search", Json("{}"), (400, "bad-request", "topic")),
    (Anyone, "POST", "/search", Json(r#"{"topic":1}"#), (400, "bad-request", "topic")),
    // Buying.
    (Anyone, "GET", "/buy/0", Empty, BAD_ID),
    (Anyone, "GET", "/buy/-1", Empty, BAD_ID),
    (Anyone, "GET", "/buy/9007199254740992", Empty, BAD_ID),
    (Anyone, "GET", "/buy/one", Empty, BAD_ID),
    (Anyone, "GET", "/buy/9007199254740991", Empty, ABSENT),
    (Anyone, "GET", "/buy/1?quantity=0", Empty, BAD_QUANTITY),
    (Anyone, "GET", "/buy/1?quantity=-1", Empty, BAD_QUANTITY),
    (Anyone, "GET", "/buy/1?quantity=1000001", Empty, BAD_QUANTITY),
    (Anyone, "GET", "/buy/1?quantity=all", Empty, BAD_QUANTITY),
    (Anyone, "GET", "/buy/1?quantity=1.5", Empty, BAD_QUANTITY),
    (Anyone, "GET", "/buy/1?quantity=1000000", Empty, TOO_FEW),
    (Anyone, "POST", "/buy", Json(r#"{"id":1,"quantity":0}"#), BAD_QUANTITY),
    (Anyone, "POST", "/buy", Json(r#"{"id":1,"quantity":"1"}"#), BAD_QUANTITY),
    (Anyone, "POST", "/buy", Json(r#"{"id":1,"quantity":18446744073709551616}"#), BAD_QUANTITY),
    (Anyone, "POST", "/buy", Json("{}"), BAD_ID),
    (Anyone, "POST", "/buy", Json(r#"{"items":[]}"#), (400, "bad-request", "items")),
    (Anyone, "POST", "/buy", Json(r#"{"items":{}}"#), (400, "bad-request", "items")),
    (Anyone, "POST", "/buy", Json(r#"{"items":[7]}"#), (400, "bad-request", "items[0]")),
    (Anyone, "POST", "/buy", Json(r#"{"id":1,"items":[{"id":1}]}"#), BAD_ID),
    (Anyone, "POST", "/buy", Json(r#"{"items":[{"id":1},{"id":1}]}"#), (400, "bad-request", "items[1].id")),
    (
        Anyone,
        "POST",
        "/buy",
        Json(r#"{"items":[{"id":1,"quantity":0}]}"#),
        (400, "bad-request", "items[0].quantity"),
    ),
    (Anyone, "POST", "/buy", Json(r#"{"items":[{"id":1},{"id":0}]}"#), (400, "bad-request", "items[1].id")),
    (
        Anyone,
        "POST",
        "/buy",
        Json(r#"{"items":[{"id":1,"gift":true}]}"#),
        (400, "bad-request", "items[0].gift"),
    ),
    (Anyone, "GET", "/orders/one", Empty, (400, "bad-request", "order_id")),
    (Anyone, "GET", "/orders/01935a2b-7c00-7abc-8def-0123456789ab", Empty, ABSENT),
    // Prices and stock.
    (Admin, "GET", "/update_cost/1/-1", Empty, BAD_COST),
    (Admin, "GET", "/update_cost/1/100000001", Empty, BAD_COST),
    (Admin, "GET", "/update_cost/1/free", Empty, BAD_COST),
    (Admin, "GET", "/update_cost/1/%ff", Empty, BAD_COST),
    (Admin, "GET", "/update_cost/0/1", Empty, BAD_ID),
    (Admin, "GET", "/update_cost/9007199254740991/1", Empty, ABSENT),
    (Admin, "POST", "/update_cost", Json(r#"{"id":1}"#), BAD_COST),
    (Admin, "POST", "/update_cost", Json(r#"{"id":1,"cost_cents":"1"}"#), BAD_COST),
    (Admin, "POST", "/update_cost", Json(r#"{"id":1,"cost_cents":1.5}"#), BAD_COST),
    (Admin, "GET", "/update_quantity/1/0", Empty, BAD_AMOUNT),
    (Admin, "GET", "/update_quantity/1/1000000001", Empty, BAD_AMOUNT),
    (Admin, "GET", "/update_quantity/1/-1000000001", Empty, BAD_AMOUNT),
    (Admin, "GET", "/update_quantity/1/some", Empty, BAD_AMOUNT),
    (Admin, "GET", "/update_quantity/1/1000000000", Empty, BAD_AMOUNT),
    (Admin, "GET", "/update_quantity/1/-1000000000", Empty, TOO_FEW),
    (Admin, "GET", "/update_quantity/9007199254740991/1", Empty, ABSENT),
    (Admin, "POST", "/update_quantity", Json(r#"{"id":1,"amount":0}"#), BAD_AMOUNT),
    (Admin, "POST", "/update_quantity", Json(r#"{"id":1,"amount":9223372036854775808}"#), BAD_AMOUNT),
    (Admin, "POST", "/update_quantity", Json(r#"{"id":1,"amount":-1000000000}"#), TOO_FEW),
    (Admin, "GET", "/invalidate/0", Empty, BAD_ID),
    // Books.
    (Admin, "POST", "/books", Json("{}"), (400, "bad-request", "title")),
    (
        Admin,
        "POST",
        "/books",
        Json(r#"{"title":"","topic":"x","cost_cents":1,"quantity":1}"#),
        (400, "bad-request", "title"),
    ),
    (
        Admin,
        "POST",
        "/books",
        Json(r#"{"title":"t","topic":"-","cost_cents":1,"quantity":1}"#),
        (400, "bad-request", "topic"),
    ),
    (Admin, "POST", "/books", Json(r#"{"title":"t","topic":"x","cost_cents":-1,"quantity":1}"#), BAD_COST),
    (
        Admin,
        "POST",
        "/books",
        Json(r#"{"title":"t","topic":"x","cost_cents":1,"quantity":1000000001}"#),
        BAD_QUANTITY,
    ),
    (
        Admin,
        "POST",
        "/books",
        Json(r#"{"id":0,"title":"t","topic":"x","cost_cents":1,"quantity":1}"#),
        BAD_ID,
    ),
    (
        Admin,
        "POST",
        "/books",
        Json(r#"{"title":"t","topic":"x","cost_cents":1,"quantity":1,"version":1}"#),
        (400, "bad-request", "version"),
    ),
    (
        Admin,
        "POST",
        "/books",
        Json(r#"{"title":"t","topic":"x","cost_cents":1,"quantity":1,"year":"2001"}"#),
        (400, "bad-request", "year"),
    ),
    (Admin, "DELETE", "/books/0", Empty, BAD_ID),
    (Admin, "DELETE", "/books/9007199254740991", Empty, ABSENT),
    (Admin, "POST", "/books/bulk", Json("{}"), WRONG_TYPE),
    (Admin, "POST", "/books/bulk", Raw("text/csv", b"title,topic\n"), (400, "bad-request", "header")),
    // Bodies: broken, empty, of another shape, of another type, not UTF-8, too large.
    (Anyone, "POST", "/buy", Json(r#"{"id":1"#), BAD_BODY),
    (Anyone, "POST", "/buy", Json("{'id':1}"), BAD_BODY),
    (Anyone, "POST", "/buy", Json(r#"{"id":1} {"id":1}"#), BAD_BODY),
    (Anyone, "POST", "/buy", Json(r#"{"id":1,"id":2}"#), BAD_BODY),
    (Anyone, "POST", "/buy", Json(""), BAD_BODY),
    (Anyone, "POST", "/buy", Json("[1]"), BAD_BODY),
    (Anyone, "POST", "/buy", Json("1"), BAD_BODY),
    (Anyone, "POST", "/buy", Json("null"), BAD_BODY),
    (Anyone, "POST", "/buy", Raw("application/json", b"{\"id\":\"\xff\xfe\"}"), BAD_BODY),
    (Anyone, "POST", "/buy", Raw("text/plain", b"{\"id\":1}"), WRONG_TYPE),
    (Anyone, "POST", "/buy", Raw("application/x-www-form-urlencoded", b"id=1"), WRONG_TYPE),
    (Anyone, "POST", "/buy", Raw("", b"{\"id\":1}"), WRONG_TYPE),
    (Anyone, "POST", "/buy", Spaces(10_000_000), TOO_LARGE),
    (Anyone, "POST", "/lookup", Spaces(10_000_000), TOO_LARGE),
    (Admin, "POST", "/books", Spaces(10_000_000), TOO_LARGE),
    // Methods and paths.
    (Anyone, "GET", "/lookup", Empty, WRONG_METHOD),
    (Anyone, "POST", "/lookup/1", Empty, WRONG_METHOD),
    (Anyone, "PUT", "/lookup/1", Empty, WRONG_METHOD),
    (Anyone, "DELETE", "/list", Empty, WRONG_METHOD),
    (Anyone, "POST", "/topics", Json("{}"), WRONG_METHOD),
    (Anyone, "PATCH", "/buy/1", Empty, WRONG_METHOD),
    (Anyone, "GET", "/books/1", Empty, WRONG_METHOD),
    (Anyone, "GET", "/books/bulk", Empty, WRONG_METHOD),
    (Anyone, "GET", "/", Empty, ABSENT),
    (Anyone, "GET", "/lookup/1/1", Empty, ABSENT),
    (Anyone, "GET", "/lookup/1/", Empty, ABSENT),
    (Anyone, "GET", "/Lookup/1", Empty, ABSENT),
    // Without the token.
    (Anyone, "GET", "/orders", Empty, NO_TOKEN),
    (Anyone, "GET", "/update_cost/1/1", Empty, NO_TOKEN),
    (Anyone, "POST", "/update_cost", Json(r#"{"id":1,"cost_cents":1}"#), NO_TOKEN),
    (Anyone, "GET", "/update_quantity/1/1", Empty, NO_TOKEN),
    (Anyone, "POST", "/update_quantity", Json(r#"{"id":1,"amount":1}"#), NO_TOKEN),
    (Anyone, "POST", "/books", Json(r#"{"title":"t","topic":"x","cost_cents":1,"quantity":1}"#), NO_TOKEN),
    (Anyone, "DELETE", "/books/1", Empty, NO_TOKEN),
    (Anyone, "POST", "/books/bulk", Raw("text/csv", b"x"), NO_TOKEN),
    (Anyone, "GET", "/invalidate/1", Empty, NO_TOKEN),
];

/// Asks for every edge, and panics with all that were answered otherwise than they should.
///
/// The store needs book 1, with at least one copy and fewer than a million, and no other callers.
pub(crate) async fn every_edge(base_url: &str, admin_token: &str) {
    let http = Client::builder().no_proxy().build().expect("a client without options can be made");
    let store = Store { http, base_url: base_url.trim_end_matches('/'), admin_token };
    let before = store.stock().await;
    assert!((1..1_000_000).contains(&before[&1]), "book 1 has {} copies", before[&1]);
    let mut wrong = Vec::new();
    for (caller, method, target, body, expected) in REFUSED {
        if let Err(found) = store.refused(*caller, method, target, *body, *expected).await {
            wrong.push(found);
        }
    }
    assert!(wrong.is_empty(), "{} of {} edges:\n{}", wrong.len(), REFUSED.len(), wrong.join("\n"));
    assert_eq!(store.stock().await, before, "what was refused has changed nothing");
    store.headers_have_edges().await;
    store.problems_say_what_helps().await;
    store.reads_are_lenient_where_they_should_be().await;
    store.keys_are_kept().await;
    store.books_come_and_go().await;
    store.bad_lines_are_listed().await;
    assert_eq!(store.stock().await, before, "what was bought was put back");
}

struct Store<'a> {
    http: Client,
    base_url: &'a str,
    admin_token: &'a str,
}

impl Store<'_> {
    async fn ask(
        &self,
        caller: Caller,
        method: &str,
        target: &str,
        headers: &[(&str, &[u8])],
        body: Body,
    ) -> Response {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, format!("{}{target}", self.base_url));
        if caller == Admin {
            request = request.bearer_auth(self.admin_token);
        }
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(value).unwrap());
        }
        request = match body {
            Empty => request,
            Json(text) => request.header("content-type", "application/json").body(text),
            Raw("", bytes) => request.body(bytes),
            Raw(kind, bytes) => request.header("content-type", kind).body(bytes),
            Spaces(count) => request.header("content-type", "application/json").body(" ".repeat(count)),
        };
        request.send().await.unwrap_or_else(|error| panic!("{target}: {error:?}"))
    }

    async fn get(&self, target: &str) -> Response {
        self.ask(Anyone, "GET", target, &[], Empty).await
    }

    async fn get_json(&self, target: &str) -> Value {
        let answer = self.get(target).await;
        assert_eq!(answer.status(), StatusCode::OK, "{target}");
        answer.json().await.unwrap()
    }

    /// All books with their stock, by pages of two.
    async fn stock(&self) -> BTreeMap<u64, u64> {
        let mut stock = BTreeMap::new();
        let mut target = "/list?page_size=2".to_owned();
        loop {
            let page = self.get_json(&target).await;
            for book in page["books"].as_array().unwrap() {
                let id = book["id"].as_u64().unwrap();
                let quantity = self.get_json(&format!("/quantity/{id}")).await["quantity"].as_u64().unwrap();
                assert_eq!(stock.insert(id, quantity), None, "book {id} is on two pages");
            }
            match page["next_page_token"].as_str() {
                Some(token) => target = format!("/list?page_size=2&page_token={token}"),
                None => return stock,
            }
        }
    }

    async fn refused(
        &self,
        caller: Caller,
        method: &str,
        target: &str,
        body: Body,
        expected: Refusal,
    ) -> Result<(), String> {
        let answer = self.ask(caller, method, target, &[], body).await;
        let sent = match body {
            Empty | Spaces(_) => String::new(),
            Json(text) => text.to_owned(),
            Raw(kind, bytes) => format!("{kind} {}", bytes.escape_ascii()),
        };
        check(answer, expected).await.map_err(|found| format!("{method} {target} {sent}: {found}"))
    }

    async fn headers_have_edges(&self) {
        let long_key = [b'k'; 256];
        let cases: &[(&str, &[u8], Refusal)] = &[
            ("idempotency-key", &long_key, (400, "bad-request", "Idempotency-Key")),
            ("idempotency-key", b"a key", (400, "bad-request", "Idempotency-Key")),
            ("idempotency-key", b"k\xc3\xa9y", (400, "bad-request", "Idempotency-Key")),
            ("idempotency-key", b"", (400, "bad-request", "Idempotency-Key")),
            ("sec-fetch-site", b"cross-site", (403, "forbidden", "")),
        ];
        for (name, value, expected) in cases {
            for (caller, target) in
                [(Anyone, "/buy/1"), (Admin, "/update_quantity/1/1"), (Admin, "/invalidate/1")]
            {
                let answer = self.ask(caller, "GET", target, &[(name, value)], Empty).await;
                let found = check(answer, *expected).await;
                assert_eq!(found, Ok(()), "{target} with {name}: {}", value.escape_ascii());
            }
        }
        for token in ["Bearer wrong", "Basic d3Jvbmc6", "Bearer"] {
            let answer =
                self.ask(Anyone, "GET", "/orders", &[("authorization", token.as_bytes())], Empty).await;
            assert!(answer.headers().contains_key("www-authenticate"), "{token}");
            assert_eq!(check(answer, NO_TOKEN).await, Ok(()), "{token}");
        }
        let long_id = [b'x'; 129];
        for (id, is_kept) in
            [(b"mine".as_slice(), true), (&[b'x'; 128], true), (&long_id, false), (b"a b", false)]
        {
            let answer = self.ask(Anyone, "GET", "/lookup/1", &[("x-request-id", id)], Empty).await;
            assert_eq!(answer.headers()["x-request-id"].as_bytes() == id, is_kept, "{}", id.escape_ascii());
        }
    }

    async fn problems_say_what_helps(&self) {
        let available = self.get_json("/quantity/1").await["quantity"].clone();
        let problem: Value = self.get("/buy/1?quantity=1000000").await.json().await.unwrap();
        assert_eq!((&problem["id"], &problem["available"]), (&json!(1), &available));
        let allow = |answer: Response| answer.headers()["allow"].to_str().unwrap().to_owned();
        assert_eq!(allow(self.get("/lookup").await), "POST");
        assert_eq!(allow(self.ask(Anyone, "HEAD", "/buy/1", &[], Empty).await), "GET", "a HEAD buys nothing");
        let broken = self.ask(Anyone, "POST", "/buy", &[], Json("{\n  \"id\": }")).await;
        let broken: Value = broken.json().await.unwrap();
        assert_eq!(broken["line"], json!(2), "{broken}");
    }

    async fn reads_are_lenient_where_they_should_be(&self) {
        let book = self.get("/lookup/1").await;
        let etag = book.headers()["etag"].clone();
        let book: Value = book.json().await.unwrap();
        for tags in [etag.as_bytes(), b"*", &[b"\"x\", W/", etag.as_bytes()].concat()] {
            let same = self.ask(Anyone, "GET", "/lookup/1", &[("if-none-match", tags)], Empty).await;
            assert_eq!(same.status(), StatusCode::NOT_MODIFIED, "{}", tags.escape_ascii());
        }
        let past = self.ask(Anyone, "GET", "/lookup/1", &[("cache-control", b"no-cache")], Empty).await;
        assert_eq!(past.headers()["cache-status"], "bookends; fwd=request");
        assert_eq!(past.json::<Value>().await.unwrap(), book);
        let posted = self.ask(Anyone, "POST", "/lookup", &[], Json(r#" {"id": 1} "#)).await;
        assert_eq!(posted.json::<Value>().await.unwrap(), book);
        let head = self.ask(Anyone, "HEAD", "/lookup/1", &[], Empty).await;
        assert_eq!((head.status(), &head.headers()["etag"]), (StatusCode::OK, &etag));

        let topic = book["topic"].as_str().unwrap();
        let found = self.get_json(&format!("/search?topic={}", topic.replace(' ', "+"))).await;
        assert!(found["books"].as_array().unwrap().contains(&book), "{found}");
        for spelling in
            [topic.replace(' ', "%20"), topic.replace(' ', "-"), topic.to_uppercase().replace(' ', "_")]
        {
            assert_eq!(self.get_json(&format!("/search/{spelling}")).await, found, "{spelling}");
        }
        let nothing = self.get_json("/search?q=nosuchwordanywhere").await;
        assert_eq!(nothing, json!({"books": [], "next_page_token": null}));
        assert_eq!(self.get_json("/list?page_size=&page_token=").await, self.get_json("/list").await);
    }

    /// Under one key a write happens once, and other content is refused.
    async fn keys_are_kept(&self) {
        let key = format!("edges-{}", std::process::id());
        let longest = format!("{key}-{}", "k".repeat(254 - key.len()));
        let keyed = async |caller: Caller, target: &str, key: &str| {
            let answer = self.ask(caller, "GET", target, &[("idempotency-key", key.as_bytes())], Empty).await;
            let status = answer.status().as_u16();
            (status, answer.json::<Value>().await.unwrap())
        };
        let stock = async || self.get_json("/quantity/1").await["quantity"].as_u64().unwrap();
        let before = stock().await;
        let first = keyed(Anyone, "/buy/1?quantity=1", &longest).await;
        assert_eq!((first.0, &first.1["status"]), (200, &json!("sold")), "{}", first.1);
        assert_eq!(keyed(Anyone, "/buy/1", &longest).await, first, "one is the default");
        assert_eq!(stock().await, before - 1, "sold once");
        let conflict = keyed(Anyone, "/buy/1?quantity=2", &longest).await;
        assert_eq!((conflict.0, &conflict.1["type"]), (422, &json!("/problems/idempotency-conflict")));
        let order_id = first.1["order_id"].as_str().unwrap();
        assert_eq!(self.get_json(&format!("/orders/{order_id}")).await, first.1);

        let added = keyed(Admin, "/update_quantity/1/1", &key).await;
        assert_eq!((added.0, &added.1["quantity"]), (200, &json!(before)), "{}", added.1);
        assert_eq!(keyed(Admin, "/update_quantity/1/1", &key).await, added);
        assert_eq!(keyed(Admin, "/update_quantity/1/2", &key).await.0, 422);
        assert_eq!(keyed(Admin, "/update_cost/1/1", &key).await.0, 422, "another call is other content");
        assert_eq!(stock().await, before, "added once");

        let refused = keyed(Anyone, "/buy/1?quantity=1000000", &format!("{key}-r")).await;
        assert_eq!(refused.0, 409);
        assert_eq!(keyed(Anyone, "/buy/1?quantity=1000000", &format!("{key}-r")).await, refused);
    }

    /// A book is added, changed at its limits, and removed.
    async fn books_come_and_go(&self) {
        let new = r#"{"title":"Edges","topic":"Edge_cases","cost_cents":100000000,"quantity":1000000000}"#;
        let added = self.ask(Admin, "POST", "/books", &[], Json(new)).await;
        assert_eq!(added.status(), StatusCode::CREATED);
        let location = added.headers()["location"].to_str().unwrap().to_owned();
        let book: Value = added.json().await.unwrap();
        assert_eq!(self.get_json(&location).await, book);
        let id = book["id"].as_u64().unwrap();
        let over = self.ask(Admin, "GET", &format!("/update_quantity/{id}/1"), &[], Empty).await;
        assert_eq!(check(over, BAD_AMOUNT).await, Ok(()), "there is a most");
        let none = self.ask(Admin, "GET", &format!("/update_quantity/{id}/-1000000000"), &[], Empty).await;
        assert_eq!(none.json::<Value>().await.unwrap()["quantity"], json!(0));
        assert_eq!(check(self.get(&format!("/buy/{id}")).await, TOO_FEW).await, Ok(()), "none is left");
        let mixed =
            self.http.post(format!("{}/buy", self.base_url)).json(&json!({"items": [{"id": 1}, {"id": id}]}));
        assert_eq!(check(mixed.send().await.unwrap(), TOO_FEW).await, Ok(()), "all or none");
        let free = self.ask(Admin, "GET", &format!("/update_cost/{id}/0"), &[], Empty).await;
        assert_eq!(free.json::<Value>().await.unwrap()["cost_cents"], json!(0));
        for expected in [204, 404] {
            let removed = self.ask(Admin, "DELETE", &format!("/books/{id}"), &[], Empty).await;
            assert_eq!(removed.status().as_u16(), expected);
        }
        assert_eq!(self.get(&location).await.status(), StatusCode::NOT_FOUND);
    }

    async fn bad_lines_are_listed(&self) {
        let csv = b"quantity,title,topic,cost_cents\n-1,t,x,1\n1,,x,1\n1,t,x\n";
        let json = b"{\"title\":1}\n\n{\n[]\n{\"title\":\"\xff\"}\n";
        for (kind, bytes, lines) in [
            ("text/csv", csv.as_slice(), json!([2, 3, 4])),
            ("application/x-ndjson", json.as_slice(), json!([1, 3, 4, 5])),
        ] {
            let request =
                self.http.post(format!("{}/books/bulk", self.base_url)).bearer_auth(self.admin_token);
            let answer = request.header("content-type", kind).body(bytes).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "{kind}");
            let report: Value = answer.json().await.unwrap();
            let found: Vec<Value> = report["rejected"]
                .as_array()
                .unwrap()
                .iter()
                .map(|rejected| rejected["line"].clone())
                .collect();
            assert_eq!((&report["loaded"], json!(found)), (&json!(0), lines), "{kind}");
        }
    }
}

/// Compares an answer with what it should be; the error says what it was.
async fn check(answer: Response, (status, name, field): Refusal) -> Result<(), String> {
    let found = answer.status().as_u16();
    let missing =
        ["x-request-id", "x-served-by"].into_iter().find(|name| !answer.headers().contains_key(*name));
    let kind = answer.headers().get("content-type").cloned();
    let body = answer.bytes().await.map_err(|error| error.to_string())?;
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    let expected = (
        json!(format!("/problems/{name}")),
        json!(status),
        if field.is_empty() { Value::Null } else { json!(field) },
    );
    let is_as_expected = found == status
        && missing.is_none()
        && kind.is_some_and(|kind| kind == "application/problem+json")
        && (problem["type"].clone(), problem["status"].clone(), problem["field"].clone()) == expected
        && problem["title"].is_string()
        && problem["detail"].is_string();
    if is_as_expected {
        return Ok(());
    }
    let body = String::from_utf8_lossy(&body);
    Err(format!("expected {status} {name} {field}, found {found} {body} (missing header: {missing:?})"))
}
