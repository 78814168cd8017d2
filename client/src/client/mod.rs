//! A client of the front ends: who they are, how long to wait for them, and the loop that tries a call
//! until it has an answer.
//!
//! The typed calls are in `calls`, a single attempt in `exchange`.

mod backup;
mod calls;
mod exchange;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::Url;
use reqwest::header::HeaderValue;

use self::exchange::{Answer, Failure, Patience, Request};
use crate::error::{BuildError, ClientError};
use crate::random::Random;
use crate::retry::{Budget, Policy};

pub use self::backup::Transfer;
pub use self::calls::{BulkFormat, IdempotencyKey, Search, Stored};

/// The front end of a store that was started with the shipped configuration.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// How long a call may take with all its retries: longer than a fail-over, shorter than patience.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long one attempt may take; a front end that needs more is as good as down.
const ATTEMPT_MAX: Duration = Duration::from_secs(6);
/// How long a connection may take to be made; on a network that works it is milliseconds.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How long one attempt at a part of a bulk load may take: it is thousands of books.
const BULK_ATTEMPT_MAX: Duration = Duration::from_secs(60);

/// The admin token. Its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token from its text; spaces and line ends around it are not part of it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What a [`Client`] is made from.
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    urls: Vec<String>,
    token: Option<Token>,
    deadline: Duration,
    policy: Policy,
}

impl ClientBuilder {
    /// Adds a front end. The first is asked first, the next when it fails.
    #[must_use]
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// The token that admin calls carry; no other call does.
    #[must_use]
    pub fn token(mut self, token: Option<Token>) -> Self {
        self.token = token;
        self
    }

    /// How long a call may take, with all its retries. Bulk loads have their own limit.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long to wait between attempts.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The client.
    ///
    /// # Errors
    /// If there is no address, or one that is not `http://host:port`, or a token that no header can hold.
    pub fn build(self) -> Result<Client, BuildError> {
        let urls = self.urls.iter().map(|url| parse_url(url)).collect::<Result<Vec<_>, _>>()?;
        if urls.is_empty() {
            return Err(BuildError::NoUrl);
        }
        let authorization = self.token.map(|token| bearer(&token)).transpose()?;
        let http = reqwest::Client::builder()
            .user_agent(concat!("bookends/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_MAX)
            .redirect(reqwest::redirect::Policy::none())
            // The front ends are named outright; a proxy of the environment has no place in between.
            .no_proxy()
            .build()
            .map_err(BuildError::Http)?;
        Ok(Client(Arc::new(Inner {
            http,
            urls,
            authorization,
            deadline: self.deadline,
            policy: self.policy,
            preferred: AtomicUsize::new(0),
            budget: Mutex::new(Budget::new(Instant::now())),
            random: Mutex::new(Random::new()),
            retries: AtomicU64::new(0),
        })))
    }
}

/// A client of one store. Cheap to clone; clones share connections, budget and the preferred front end.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    urls: Vec<Url>,
    authorization: Option<HeaderValue>,
    deadline: Duration,
    policy: Policy,
    /// The front end that answered last.
    preferred: AtomicUsize,
    budget: Mutex<Budget>,
    random: Mutex<Random>,
    retries: AtomicU64,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("urls", &self.0.urls).finish_non_exhaustive()
    }
}

impl Client {
    /// A client to be, with no front end yet.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder { urls: Vec::new(), token: None, deadline: DEADLINE, policy: Policy::default() }
    }

    /// Whether admin calls can be made at all.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.0.authorization.is_some()
    }

    /// How many attempts were made beyond the first ones, by all clones together.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.0.retries.load(Ordering::Relaxed)
    }

    /// Tries a call until it has an answer, one that is final, or patience ends.
    async fn send(&self, request: &Request<'_>) -> Result<Answer, ClientError> {
        let inner = &*self.0;
        let (limit, attempt_max) = match request.patience {
            Patience::Normal | Patience::Round => (inner.deadline, ATTEMPT_MAX),
            Patience::Within(patience) => (patience, BULK_ATTEMPT_MAX),
        };
        let deadline = Instant::now() + limit;
        inner.budget.lock().call();
        let first = inner.preferred.load(Ordering::Relaxed);
        let mut failed: u32 = 0;
        let mut place = first;
        let mut stated = None;
        let mut in_doubt = false;
        loop {
            let url = request.url(&inner.urls[place]);
            let left = deadline.saturating_duration_since(Instant::now());
            let outcome = exchange::attempt(inner, request, url, attempt_max.min(left)).await;
            let failure = match outcome {
                Err(failure) if failure.error.is_retryable() => failure,
                Ok(answer) => {
                    inner.preferred.store(place, Ordering::Relaxed);
                    return Ok(answer);
                }
                // A refusal is an answer as well: this front end works.
                Err(failure) => {
                    inner.preferred.store(place, Ordering::Relaxed);
                    return Err(failure.error);
                }
            };
            failed = failed.saturating_add(1);
            in_doubt |= request.key.is_some() && failure.error.leaves_doubt();
            let Some(wait) = inner.wait(request.patience, failed, &failure, deadline) else {
                // An attempt that the deadline cut off tells less than the refusal before it.
                let cut_off = left < attempt_max && matches!(failure.error, ClientError::Unreachable { .. });
                let refusal = stated.filter(|_| cut_off);
                let error = refusal.unwrap_or_else(|| inner.named(failure.error, failed));
                return Err(if in_doubt { error.in_doubt() } else { error });
            };
            if matches!(failure.error, ClientError::Problem(_)) {
                stated = Some(failure.error);
            }
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            inner.retries.fetch_add(1, Ordering::Relaxed);
            place = (place + 1) % inner.urls.len();
        }
    }
}

impl Inner {
    /// How long to wait before the next attempt, or `None` if there is to be none.
    fn wait(
        &self,
        patience: Patience,
        failed: u32,
        failure: &Failure,
        deadline: Instant,
    ) -> Option<Duration> {
        let urls = u32::try_from(self.urls.len()).unwrap_or(u32::MAX);
        if patience == Patience::Round && failed >= urls {
            return None;
        }
        let unit = self.random.lock().unit();
        let wait = self.policy.wait(failed, urls, failure.advice, unit)?;
        let now = Instant::now();
        (now + wait < deadline && self.budget.lock().retry(now)).then_some(wait)
    }

    /// An error that names all front ends that did not answer.
    fn named(&self, error: ClientError, failed: u32) -> ClientError {
        match error {
            ClientError::Unreachable { source, .. } if self.urls.len() > 1 && failed > 1 => {
                let urls: Vec<&str> =
                    self.urls.iter().map(|url| url.as_str().trim_end_matches('/')).collect();
                ClientError::Unreachable { urls: urls.join(", "), source }
            }
            other => other,
        }
    }
}

/// The address of a front end, with a path that ends in a slash.
pub(crate) fn parse_url(text: &str) -> Result<Url, BuildError> {
    let wrong = |problem: &str| BuildError::Url { url: text.to_owned(), problem: problem.to_owned() };
    let form = "it must have the form http://host:port";
    let mut url = Url::parse(text.trim()).map_err(|_| wrong(form))?;
    if url.scheme() == "https" {
        return Err(wrong("https is not built in, put a proxy in between"));
    }
    if url.scheme() != "http" || !url.has_host() {
        return Err(wrong(form));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("it must not hold a name or a password"));
    }
    url.set_query(None);
    url.set_fragment(None);
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

fn bearer(token: &Token) -> Result<HeaderValue, BuildError> {
    if token.0.is_empty() || !token.0.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(BuildError::Token);
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.0)).map_err(|_| BuildError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_use() {
        for good in ["http://127.0.0.1:8080", "http://store/", " http://[::1]:80 ", "http://a/books"] {
            assert!(parse_url(good).unwrap().path().ends_with('/'), "{good}");
        }
        for bad in ["", "127.0.0.1:8080", "localhost:8080", "https://a", "ftp://a", "http://", "http://u:p@a"]
        {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        let token = Token::new(" secret\n");
        assert_eq!(format!("{token:?}"), "Token(…)");
        let builder = Client::builder().url(DEFAULT_URL).token(Some(token));
        assert!(!format!("{builder:?}").contains("secret"));
        assert!(!format!("{:?}", builder.build().unwrap()).contains("secret"));
        assert!(Client::builder().url(DEFAULT_URL).token(Some(Token::new("a b"))).build().is_err());
        assert!(Client::builder().build().is_err());
    }
}
