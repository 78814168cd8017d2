//! Errors as callers see them: RFC 9457 problems, one variant for each `/problems/<name>`.
//!
//! The rest of the front end knows no status codes; its failures and the store's refusals become
//! problems here, and nowhere else. A problem says what helps the caller and nothing of the inside.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use common::api::{FieldError, ProblemBody};
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use protocol::call::WriteFailure;
use protocol::command::Refusal;
use protocol::ids::BookId;
use serde_json::{Map, Value, json};

use super::json::Broken;
use crate::app::Failure;

/// When a caller may come again after a 503: a fail-over takes about a second.
const RETRY_AFTER_SECONDS: u64 = 1;

/// What is wrong with a request, or keeps it from being served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// 400: the request can't be understood, or asks for what can't be.
    BadRequest { detail: String, field: Option<String>, place: Option<(usize, usize)> },
    /// 401: the call needs the admin token.
    Unauthorized(Token),
    /// 403: a browser sends a write from another site.
    Forbidden,
    /// 404: there is no such path, book or order.
    NotFound { detail: String, id: Option<BookId> },
    /// 405: the path has other methods.
    MethodNotAllowed { allow: String },
    /// 408: the body did not come in time.
    RequestTimeout,
    /// 409: there are too few copies.
    OutOfStock { id: BookId, asked: u64, available: u64 },
    /// 413: the body is too large.
    TooLarge { limit_bytes: u64 },
    /// 415: the body is of another type.
    UnsupportedMediaType { expected: &'static str },
    /// 422: the key was used with other content.
    IdempotencyConflict,
    /// 429: the caller asks too often.
    TooManyRequests { retry_after_s: u64 },
    /// 503: not now.
    Unavailable { detail: String, more: Unavailable },
}

/// What the `Authorization` of a request lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Missing,
    Wrong,
}

/// What else is known when the store can't serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unavailable {
    /// What became of a write.
    pub(crate) outcome: Option<WriteOutcome>,
    /// What the front end waits for.
    pub(crate) waiting_for: Vec<String>,
    /// How many books a bulk load had loaded before.
    pub(crate) loaded: Option<u64>,
}

/// What is known of a write that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
    /// It was not done and will not be.
    NotDone,
    /// It may have been done: ask again with the same key.
    Unknown,
}

impl Problem {
    /// A bad request of which no field is to blame.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::BadRequest { detail: detail.into(), field: None, place: None }
    }

    /// The store can't answer a read.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::Unavailable { detail: detail.into(), more: Unavailable::default() }
    }

    /// The store can't answer a write.
    pub(crate) fn write_failed(detail: impl Into<String>, outcome: WriteOutcome) -> Self {
        let more = Unavailable { outcome: Some(outcome), ..Unavailable::default() };
        Self::Unavailable { detail: detail.into(), more }
    }

    /// There is no book of this id.
    pub(crate) fn no_such_book(id: BookId) -> Self {
        Self::NotFound { detail: format!("there is no book {id}"), id: Some(id) }
    }

    /// Its HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        self.kind().0
    }

    /// Status, name and title: the row of the table of errors.
    fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadRequest { .. } => (StatusCode::BAD_REQUEST, "bad-request", "The request is not valid"),
            Self::Unauthorized(_) => (StatusCode::UNAUTHORIZED, "unauthorized", "The admin token is needed"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "The request is not allowed"),
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, "not-found", "There is nothing here"),
            Self::MethodNotAllowed { .. } => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The path has other methods")
            }
            Self::RequestTimeout => {
                (StatusCode::REQUEST_TIMEOUT, "request-timeout", "The request came too slowly")
            }
            Self::OutOfStock { .. } => (StatusCode::CONFLICT, "out-of-stock", "There are too few copies"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large"),
            Self::UnsupportedMediaType { .. } => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body is of another type")
            }
            Self::IdempotencyConflict => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-conflict",
                "The key was used for another request",
            ),
            Self::TooManyRequests { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "The caller asks too often")
            }
            Self::Unavailable { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The store can't do this now")
            }
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::BadRequest { detail, .. }
            | Self::NotFound { detail, .. }
            | Self::Unavailable { detail, .. } => detail.clone(),
            Self::Unauthorized(Token::Missing) => {
                "send the admin token as `Authorization: Bearer <token>`".to_owned()
            }
            Self::Unauthorized(Token::Wrong) => "the token is not this store's admin token".to_owned(),
            Self::Forbidden => "a browser may not send writes from another site".to_owned(),
            Self::MethodNotAllowed { allow } => format!("this path has {allow}"),
            Self::RequestTimeout => "the body did not arrive in time".to_owned(),
            Self::OutOfStock { id, asked, available } => {
                format!("book {id} has {available} copies, {asked} were asked for")
            }
            Self::TooLarge { limit_bytes } => format!("a body may have at most {limit_bytes} bytes"),
            Self::UnsupportedMediaType { expected } => format!("the Content-Type must be {expected}"),
            Self::IdempotencyConflict => {
                "this Idempotency-Key was used before, for a request with other content".to_owned()
            }
            Self::TooManyRequests { retry_after_s } => {
                format!("come again in {retry_after_s} s, and ask less often")
            }
        }
    }

    /// What else helps.
    fn more(&self) -> Map<String, Value> {
        let mut more = Map::new();
        let mut add = |name: &str, value: Value| drop(more.insert(name.to_owned(), value));
        match self {
            Self::BadRequest { detail: _, field, place } => {
                if let Some(field) = field {
                    add("field", json!(field));
                }
                if let Some((line, column)) = place {
                    add("line", json!(line));
                    add("column", json!(column));
                }
            }
            Self::NotFound { detail: _, id: Some(id) } => add("id", json!(id)),
            Self::OutOfStock { id, asked, available } => {
                add("id", json!(id));
                add("asked", json!(asked));
                add("available", json!(available));
            }
            Self::TooLarge { limit_bytes } => add("limit_bytes", json!(limit_bytes)),
            Self::Unavailable { detail: _, more: Unavailable { outcome, waiting_for, loaded } } => {
                match outcome {
                    Some(WriteOutcome::NotDone) => add("outcome", json!("not-done")),
                    Some(WriteOutcome::Unknown) => add("outcome", json!("unknown")),
                    None => {}
                }
                if !waiting_for.is_empty() {
                    add("waiting_for", json!(waiting_for));
                }
                if let Some(loaded) = loaded {
                    add("loaded", json!(loaded));
                }
            }
            Self::NotFound { detail: _, id: None }
            | Self::Unauthorized(_)
            | Self::Forbidden
            | Self::MethodNotAllowed { .. }
            | Self::RequestTimeout
            | Self::UnsupportedMediaType { .. }
            | Self::IdempotencyConflict
            | Self::TooManyRequests { .. } => {}
        }
        more
    }

    /// The body.
    pub(crate) fn body(&self) -> ProblemBody {
        let (status, name, title) = self.kind();
        ProblemBody {
            kind: format!("/problems/{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail(),
            more: self.more(),
        }
    }

    fn add_headers(&self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::Unauthorized(token) => {
                let asked = match token {
                    Token::Missing => r#"Bearer realm="bookends""#,
                    Token::Wrong => r#"Bearer realm="bookends", error="invalid_token""#,
                };
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(asked));
            }
            Self::MethodNotAllowed { allow } => {
                headers.extend(HeaderValue::from_str(allow).ok().map(|allow| (ALLOW, allow)));
            }
            Self::TooManyRequests { retry_after_s } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(*retry_after_s));
            }
            Self::Unavailable { .. } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
            }
            Self::RequestTimeout => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Self::BadRequest { .. }
            | Self::Forbidden
            | Self::NotFound { .. }
            | Self::OutOfStock { .. }
            | Self::TooLarge { .. }
            | Self::UnsupportedMediaType { .. }
            | Self::IdempotencyConflict => {}
        }
    }

    /// The whole answer.
    pub(crate) fn response(&self) -> http::Response<Bytes> {
        let body = serde_json::to_vec(&self.body()).expect("a problem's keys are text and its values JSON");
        let mut response = http::Response::new(Bytes::from(body));
        *response.status_mut() = self.status();
        self.add_headers(response.headers_mut());
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.response().map(axum::body::Body::from)
    }
}

impl From<FieldError> for Problem {
    fn from(error: FieldError) -> Self {
        Self::BadRequest { detail: error.to_string(), field: Some(error.field), place: None }
    }
}

impl From<Broken> for Problem {
    fn from(Broken { problem, place }: Broken) -> Self {
        let place_shown = place.map(|(line, column)| format!(" at line {line}, column {column}"));
        let detail = format!("the body can't be read: {problem}{}", place_shown.unwrap_or_default());
        Self::BadRequest { detail, field: None, place }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable { detail } => Self::unavailable(detail),
            Failure::Write(failure) => {
                let detail = failure.to_string();
                match failure {
                    WriteFailure::NotDone(_) => Self::write_failed(detail, WriteOutcome::NotDone),
                    WriteFailure::Unknown(_) => Self::write_failed(detail, WriteOutcome::Unknown),
                    WriteFailure::BadRequest(_) => Self::bad_request(detail),
                }
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchBook { book } => Self::no_such_book(book),
            Refusal::OutOfStock { book, asked, available } => Self::OutOfStock { id: book, asked, available },
            Refusal::StockLimit { book } => {
                let most = protocol::catalogue::STOCK_MAX;
                FieldError::new("amount", format!("would leave book {book} with more than {most} copies"))
                    .into()
            }
            Refusal::KeyConflict => Self::IdempotencyConflict,
            Refusal::NoFreeId => {
                FieldError::new("id", "must be given, for no id is free above the highest").into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(id: u64) -> BookId {
        id.try_into().unwrap()
    }

    fn shown(problem: &Problem) -> (u16, Value, HeaderMap) {
        let response = problem.response();
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["status"], json!(response.status().as_u16()));
        (response.status().as_u16(), body, response.headers().clone())
    }

    #[test]
    fn each_problem_has_its_status_and_name() {
        let cases: [(Problem, u16, &str); 12] = [
            (Problem::bad_request("x"), 400, "bad-request"),
            (Problem::Unauthorized(Token::Missing), 401, "unauthorized"),
            (Problem::Forbidden, 403, "forbidden"),
            (Problem::no_such_book(book(9)), 404, "not-found"),
            (Problem::MethodNotAllowed { allow: "GET, HEAD".to_owned() }, 405, "method-not-allowed"),
            (Problem::RequestTimeout, 408, "request-timeout"),
            (Problem::OutOfStock { id: book(1), asked: 2, available: 1 }, 409, "out-of-stock"),
            (Problem::TooLarge { limit_bytes: 10 }, 413, "too-large"),
            (Problem::UnsupportedMediaType { expected: "text/csv" }, 415, "unsupported-media-type"),
            (Problem::IdempotencyConflict, 422, "idempotency-conflict"),
            (Problem::TooManyRequests { retry_after_s: 1 }, 429, "too-many-requests"),
            (Problem::unavailable("x"), 503, "unavailable"),
        ];
        for (problem, status, name) in cases {
            let (found, body, headers) = shown(&problem);
            assert_eq!(found, status, "{name}");
            assert_eq!(body["type"], json!(format!("/problems/{name}")));
            assert!(body["title"].is_string() && body["detail"].is_string());
            assert_eq!(headers[CONTENT_TYPE], "application/problem+json");
            assert_eq!(headers[CACHE_CONTROL], "no-store");
            assert_eq!(headers.contains_key(RETRY_AFTER), status == 503 || status == 429, "{name}");
            assert_eq!(headers.contains_key(WWW_AUTHENTICATE), status == 401, "{name}");
            assert_eq!(headers.contains_key(ALLOW), status == 405, "{name}");
        }
    }

    #[test]
    fn a_refusal_says_what_helps() {
        let refused = |refusal: Refusal| shown(&refusal.into());
        let (status, body, _) = refused(Refusal::OutOfStock { book: book(3), asked: 5, available: 2 });
        assert_eq!((status, &body["id"], &body["available"]), (409, &json!(3), &json!(2)));
        let (status, body, _) = refused(Refusal::NoSuchBook { book: book(3) });
        assert_eq!((status, &body["id"]), (404, &json!(3)));
        let (status, body, _) = refused(Refusal::StockLimit { book: book(3) });
        assert_eq!((status, &body["field"]), (400, &json!("amount")));
        assert_eq!(refused(Refusal::KeyConflict).0, 422);
        let (status, body, _) = refused(Refusal::NoFreeId);
        assert_eq!((status, &body["field"]), (400, &json!("id")));
    }

    #[test]
    fn a_failed_write_says_whether_it_was_done() {
        let failed = |failure: WriteFailure| shown(&Failure::Write(failure).into());
        let (status, body, _) = failed(WriteFailure::NotDone("no member".to_owned()));
        assert_eq!((status, &body["outcome"]), (503, &json!("not-done")));
        let (status, body, _) = failed(WriteFailure::Unknown("cut off".to_owned()));
        assert_eq!((status, &body["outcome"]), (503, &json!("unknown")));
        assert_eq!(failed(WriteFailure::BadRequest("x".to_owned())).0, 400);
        let (status, body, _) = shown(&Failure::Unavailable { detail: "x".to_owned() }.into());
        assert_eq!((status, body.get("outcome")), (503, None));
    }

    #[test]
    fn broken_json_has_line_and_column() {
        let (status, body, _) = shown(&super::super::json::Json::read(b"{\n x").unwrap_err().into());
        assert_eq!((status, &body["line"], &body["column"]), (400, &json!(2), &json!(2)));
    }
}
