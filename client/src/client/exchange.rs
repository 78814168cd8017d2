//! One attempt at one front end: a request made, an answer read and sorted.

use std::time::Duration;

use bytes::Bytes;
use common::api::ProblemBody;
use reqwest::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;

use super::{BulkFormat, IdempotencyKey, Inner};
use crate::error::ClientError;
use crate::retry::Advice;

/// The header that makes a write safe to repeat.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The part of a foreign error page that is worth showing.
const FOREIGN_TEXT_MAX: usize = 200;

/// How long a call goes on trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until the deadline.
    Normal,
    /// Until each front end was asked once.
    Round,
    /// For so long, and each attempt as long as a large part of a file may take.
    Within(Duration),
}

/// What is sent.
pub(super) enum Body {
    /// Nothing.
    Empty,
    /// JSON, ready to go.
    Json(Bytes),
    /// Books, in one of the forms of a bulk load.
    Books { books: Bytes, format: BulkFormat },
}

/// A call, as it is made at whichever front end.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) path: Vec<&'a str>,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Body,
    pub(super) key: Option<&'a IdempotencyKey>,
    pub(super) admin: bool,
    pub(super) past_cache: bool,
    pub(super) patience: Patience,
}

impl<'a> Request<'a> {
    /// A read.
    pub(super) fn get(path: Vec<&'a str>) -> Self {
        Self {
            method: Method::GET,
            path,
            query: Vec::new(),
            body: Body::Empty,
            key: None,
            admin: false,
            past_cache: false,
            patience: Patience::Normal,
        }
    }

    /// A write.
    pub(super) fn post(path: Vec<&'a str>, body: Body, key: &'a IdempotencyKey) -> Self {
        Self { method: Method::POST, body, key: Some(key), ..Self::get(path) }
    }

    /// The same, for those who run the store.
    pub(super) fn admin(self) -> Self {
        Self { admin: true, ..self }
    }

    /// The same, answered by a replica and by no cache.
    pub(super) fn past_cache(self) -> Self {
        Self { past_cache: true, ..self }
    }

    /// Where it goes at a front end.
    pub(super) fn url(&self, base: &Url) -> Url {
        let mut url = base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(&self.path);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        url
    }
}

/// A good answer.
pub(super) struct Answer {
    url: Url,
    pub(super) status: u16,
    body: Bytes,
}

impl Answer {
    /// What it says.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body)
            .map_err(|e| ClientError::Malformed { url: self.url.to_string(), problem: e.to_string() })
    }
}

/// A failed attempt.
pub(super) struct Failure {
    pub(super) error: ClientError,
    pub(super) advice: Advice,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self { error, advice: Advice::default() }
    }
}

/// Makes a call once, and reads its answer to the end.
pub(super) async fn attempt(
    inner: &Inner,
    request: &Request<'_>,
    url: Url,
    limit: Duration,
) -> Result<Answer, Failure> {
    let response = open(inner, request, url.clone(), Some(limit)).await?;
    let status = response.status().as_u16();
    let body = response.bytes().await.map_err(|source| unreachable(&url, source))?;
    Ok(Answer { url, status, body })
}

/// Makes a call once, up to the head of a good answer.
pub(super) async fn open(
    inner: &Inner,
    request: &Request<'_>,
    url: Url,
    limit: Option<Duration>,
) -> Result<reqwest::Response, Failure> {
    let mut call = inner.http.request(request.method.clone(), url.clone());
    if let Some(limit) = limit {
        call = call.timeout(limit);
    }
    if let Some(key) = request.key {
        call = call.header(IDEMPOTENCY_KEY, key.as_str());
    }
    if let Some(authorization) = inner.authorization.as_ref().filter(|_| request.admin) {
        call = call.header(AUTHORIZATION, authorization.clone());
    }
    if request.past_cache {
        call = call.header(CACHE_CONTROL, "no-cache");
    }
    call = match &request.body {
        Body::Empty => call,
        Body::Json(json) => call.header(CONTENT_TYPE, "application/json").body(json.clone()),
        Body::Books { books, format } => call.header(CONTENT_TYPE, format.media_type()).body(books.clone()),
    };
    let response = call.send().await.map_err(|source| unreachable(&url, source))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let headers = response.headers().clone();
    let body = response.bytes().await.map_err(|source| unreachable(&url, source))?;
    let advice = Advice { retry_after: retry_after(&headers), about_caller: status.as_u16() == 429 };
    Err(Failure { error: ClientError::Problem(Box::new(problem(status, &body))), advice })
}

pub(super) fn unreachable(url: &Url, source: reqwest::Error) -> ClientError {
    ClientError::Unreachable { urls: url.origin().ascii_serialization(), source: source.without_url() }
}

/// Only the form in seconds: the store sends no dates.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// The problem that an answer states, or one made from what it is.
fn problem(status: reqwest::StatusCode, body: &[u8]) -> ProblemBody {
    if let Ok(stated) = serde_json::from_slice::<ProblemBody>(body) {
        return ProblemBody { status: status.as_u16(), ..stated };
    }
    let text = String::from_utf8_lossy(body);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    ProblemBody {
        kind: "about:blank".to_owned(),
        title: status.canonical_reason().unwrap_or("unknown status").to_owned(),
        status: status.as_u16(),
        detail: line.chars().take(FOREIGN_TEXT_MAX).collect(),
        more: serde_json::Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_wrote_stays_within_its_part_of_the_url() {
        let base = Url::parse("http://a/books/").unwrap();
        let mut request = Request::get(vec!["orders", "../x?y#z"]);
        request.query = vec![("q", "a&b c".to_owned())];
        assert_eq!(request.url(&base).as_str(), "http://a/books/orders/..%2Fx%3Fy%23z?q=a%26b+c");
    }

    #[test]
    fn an_answer_of_a_stranger_becomes_a_problem() {
        let status = reqwest::StatusCode::BAD_GATEWAY;
        let made = problem(status, b"<html>\n  bad   gateway</html>");
        assert_eq!((made.kind.as_str(), made.title.as_str()), ("about:blank", "Bad Gateway"));
        assert_eq!(made.detail, "<html> bad gateway</html>");
        let stated =
            problem(status, br#"{"type":"/problems/x","title":"t","status":1,"detail":"d","field":"f"}"#);
        assert_eq!((stated.status, stated.more["field"].as_str()), (502, Some("f")));
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        for (text, expected) in [("2", Some(2)), (" 0 ", Some(0)), ("-1", None), ("soon", None)] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers), expected.map(Duration::from_secs), "{text}");
        }
    }
}
