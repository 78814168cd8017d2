//! What handlers are given: a call's arguments, whether the caller may make it, and under which key.
//!
//! Each refuses with a [`Problem`], so that a handler only ever sees what is valid.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Request};
use bytes::Bytes;
use common::api::FieldError;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use protocol::call::Trace;
use protocol::command::{CALLER_KEY_BYTES_MAX, CommandKey, Scope};
use uuid::Uuid;

use super::fields::{Call, Fields};
use super::json::Json;
use super::problem::{Problem, Token};
use super::trace::{self, RequestId};
use super::url;
use crate::app::App;

/// Makes a write safe to repeat.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Where a browser says from where a request comes.
pub(super) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// How long a body may take to arrive; less than a request may take in all, so that the caller hears why.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// The arguments of a call: of the URL for GET and DELETE, of the JSON body for POST.
pub(crate) struct Args<C>(pub(crate) C);

impl<C: Call> FromRequest<App> for Args<C> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if parts.method == Method::POST {
            let limit = app.config().limits.body_bytes;
            return of_body(&parts, body, limit).await.map(Self);
        }
        Ok(Self(of_url(&parts)?))
    }
}

fn of_url<C: Call>(parts: &Parts) -> Result<C, FieldError> {
    let template = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let mut pairs = url::path_pairs(template, parts.uri.path())?;
    pairs.extend(url::query_pairs(parts.uri.query().unwrap_or_default())?);
    Fields::of_url(pairs)?.into_call()
}

async fn of_body<C: Call>(parts: &Parts, body: Body, limit_bytes: u64) -> Result<C, Problem> {
    if !is_json(&parts.headers) {
        return Err(Problem::UnsupportedMediaType { expected: "application/json" });
    }
    if parts.uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(FieldError::new("query", "must be empty: a POST has its arguments in its body").into());
    }
    of_json(&collect(body, limit_bytes).await?)
}

/// The arguments of a call whose body has come whole.
pub(super) fn of_json<C: Call>(body: &[u8]) -> Result<C, Problem> {
    let object = Fields::of_json(Json::read(body)?);
    let fields = object
        .map_err(|kind| Problem::bad_request(format!("the body must be a JSON object, found {kind}")))?;
    Ok(fields.into_call()?)
}

async fn collect(body: Body, limit_bytes: u64) -> Result<Bytes, Problem> {
    let limit = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
    let whole = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await;
    match whole.map_err(|_| Problem::RequestTimeout)? {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::TooLarge { limit_bytes }),
        Err(_) => Err(Problem::bad_request("the body broke off")),
    }
}

/// Whether the body is JSON; parameters such as a charset don't matter, for JSON has but one.
fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|found| found.eq_ignore_ascii_case("application/json"))
}

/// The `Content-Type` without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    text.split(';').next().map(str::trim)
}

/// The request as logs name it.
pub(crate) struct Traced(pub(crate) Trace);

impl FromRequestParts<App> for Traced {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        Ok(Self(trace_of(parts)))
    }
}

fn trace_of(parts: &Parts) -> Trace {
    let id = parts.extensions.get::<RequestId>();
    id.map_or_else(Trace::default, |id| trace::trace_of(id, trace::traceparent(&parts.headers)))
}

/// The caller has shown the admin token.
pub(crate) struct Admin;

impl FromRequestParts<App> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        match bearer(&parts.headers) {
            None => Err(Problem::Unauthorized(Token::Missing)),
            Some(token) if app.is_admin(token) => Ok(Self),
            Some(_) => Err(Problem::Unauthorized(Token::Wrong)),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// A write that anyone may make.
pub(crate) struct Write {
    pub(crate) trace: Trace,
    pub(crate) key: WriteKey,
}

impl FromRequestParts<App> for Write {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        refuse_other_sites(&parts.headers)?;
        Ok(Self { trace: trace_of(parts), key: WriteKey::of(&parts.headers, Scope::Public)? })
    }
}

/// A write that needs the admin token.
pub(crate) struct AdminWrite {
    pub(crate) trace: Trace,
    pub(crate) key: WriteKey,
}

impl FromRequestParts<App> for AdminWrite {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        refuse_other_sites(&parts.headers)?;
        let Admin = Admin::from_request_parts(parts, app).await?;
        Ok(Self { trace: trace_of(parts), key: WriteKey::of(&parts.headers, Scope::Admin)? })
    }
}

/// A page of another site must not make its reader's browser buy or change anything here.
fn refuse_other_sites(headers: &HeaderMap) -> Result<(), Problem> {
    let crossed = headers.get_all(SEC_FETCH_SITE).iter().any(|site| site == "cross-site");
    if crossed { Err(Problem::Forbidden) } else { Ok(()) }
}

/// The key of a write, the caller's or one made here.
#[derive(Debug)]
pub(crate) struct WriteKey {
    scope: Scope,
    key: Vec<u8>,
}

impl WriteKey {
    fn of(headers: &HeaderMap, scope: Scope) -> Result<Self, FieldError> {
        let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
        let key = keys.next().map(HeaderValue::as_bytes);
        if keys.next().is_some() { Err(Self::unsound()) } else { Self::new(scope, key) }
    }

    /// The key that a caller has sent, or one made here.
    pub(super) fn new(scope: Scope, key: Option<&[u8]>) -> Result<Self, FieldError> {
        let Some(key) = key else {
            return Ok(Self { scope: Scope::Store, key: Uuid::now_v7().into_bytes().to_vec() });
        };
        let is_sound =
            (1..=CALLER_KEY_BYTES_MAX).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
        if is_sound { Ok(Self { scope, key: key.to_vec() }) } else { Err(Self::unsound()) }
    }

    fn unsound() -> FieldError {
        let problem = format!("must be one key of 1 to {CALLER_KEY_BYTES_MAX} visible ASCII characters");
        FieldError::new("Idempotency-Key", problem)
    }

    /// The key of a request that is one write.
    pub(crate) fn whole(&self) -> CommandKey {
        CommandKey::new(self.scope, &self.key)
    }

    /// The key of a part of a request that is several writes. The zero byte keeps it apart from every key
    /// that a caller can send.
    pub(crate) fn part(&self, number: u32) -> CommandKey {
        let mut key = self.key.clone();
        key.push(0);
        key.extend_from_slice(&number.to_be_bytes());
        CommandKey::new(self.scope, &key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn key(text: &str) -> Result<CommandKey, String> {
        let key = WriteKey::of(&headers(&[(IDEMPOTENCY_KEY, text)]), Scope::Public);
        key.map(|key| key.whole()).map_err(|error| error.field)
    }

    #[test]
    fn keys_have_edges() {
        for good in ["k", "a/b:c~!", &"x".repeat(255)] {
            assert_eq!(key(good), Ok(CommandKey::new(Scope::Public, good.as_bytes())), "{good}");
        }
        for bad in ["", "a b", "é", "a\tb", &"x".repeat(256)] {
            assert_eq!(key(bad), Err("Idempotency-Key".to_owned()), "{bad}");
        }
        let mut twice = headers(&[(IDEMPOTENCY_KEY, "a")]);
        twice.append(IDEMPOTENCY_KEY, HeaderValue::from_static("a"));
        assert!(WriteKey::of(&twice, Scope::Public).is_err());
    }

    #[test]
    fn a_write_without_a_key_gets_one_of_its_own() {
        let made = || WriteKey::of(&HeaderMap::new(), Scope::Public).unwrap().whole();
        assert_ne!(made(), made());
        assert!(made().as_bytes().starts_with(b"s"), "of the store's scope");
    }

    #[test]
    fn the_parts_of_a_key_are_stable_and_differ() {
        let key = || WriteKey::of(&headers(&[(IDEMPOTENCY_KEY, "k")]), Scope::Admin).unwrap();
        assert_eq!(key().part(1), key().part(1));
        assert_ne!(key().part(1), key().part(2));
        assert_ne!(key().part(0), key().whole());
    }

    #[test]
    fn tokens_are_found_behind_their_scheme() {
        let token = |text: &str| bearer(&headers(&[(AUTHORIZATION, text)])).map(<[u8]>::to_vec);
        assert_eq!(token("Bearer abc"), Some(b"abc".to_vec()));
        assert_eq!(token("bearer  abc "), Some(b"abc".to_vec()));
        assert_eq!(token("Bearer "), Some(Vec::new()));
        for none in ["", "Bearer", "Basic abc", "abc"] {
            assert_eq!(token(none), None, "{none}");
        }
    }

    #[test]
    fn only_other_sites_are_refused() {
        for (site, refused) in
            [("cross-site", true), ("same-origin", false), ("same-site", false), ("none", false)]
        {
            assert_eq!(refuse_other_sites(&headers(&[(SEC_FETCH_SITE, site)])).is_err(), refused, "{site}");
        }
        assert_eq!(refuse_other_sites(&HeaderMap::new()), Ok(()));
    }

    #[test]
    fn json_is_told_by_its_media_type() {
        for (text, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/json", false),
            ("application/problem+json", false),
            ("", false),
        ] {
            assert_eq!(is_json(&headers(&[(CONTENT_TYPE, text)])), expected, "{text}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn a_body_has_a_limit() {
        let body = |length: usize| Body::from("x".repeat(length));
        assert_eq!(collect(body(10), 10).await.unwrap().len(), 10);
        assert_eq!(collect(body(11), 10).await, Err(Problem::TooLarge { limit_bytes: 10 }));
    }
}
