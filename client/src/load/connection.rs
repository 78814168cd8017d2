//! A connection of the load: takes the next request, sends it, waits for the whole answer.
//!
//! hyper's connection is used without a pool above it, and polled by the same task that makes the
//! requests: no hand-over between tasks, no look-up of a connection.

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use reqwest::Url;
use tokio::net::TcpStream;
use tokio::sync::{Barrier, Semaphore};
use tokio::time::timeout;
use uuid::Uuid;

use super::plan::{Kind, Length, Mix, Plan, Schedule};
use super::report::{Failure, Recorder};
use super::{LoadError, OVERTIME, Progress};
use crate::client::parse_url;
use crate::random::Random;

/// How long an answer may take; what takes longer has failed.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// The first wait after a connection that failed; it doubles with each further one.
const BACKOFF: Duration = Duration::from_millis(10);
/// How often the wait doubles: up to 640 ms.
const DOUBLINGS_MAX: u32 = 6;

/// A front end, with all that is asked of it made ready.
pub(super) struct Target {
    host: String,
    port: u16,
    authority: HeaderValue,
    lookups: Vec<Uri>,
    quantities: Vec<Uri>,
    searches: Vec<Uri>,
    list: Uri,
    topics: Uri,
    buy: Uri,
    buys: Vec<Bytes>,
}

impl Target {
    /// A front end, with the requests that a plan may make of it.
    pub(super) fn new(url: &str, plan: &Plan) -> Result<Self, LoadError> {
        let base = parse_url(url).map_err(LoadError::Url)?;
        let of_books = [Kind::Lookup, Kind::Quantity, Kind::Buy];
        let lacks_books = plan.books.is_empty() && of_books.into_iter().any(|kind| plan.mix.has(kind));
        if lacks_books || (plan.topics.is_empty() && plan.mix.has(Kind::Search)) {
            return Err(LoadError::NoBooks);
        }
        let of_each = |call: &str| plan.books.iter().map(|id| uri(&base, &[call, &id.to_string()])).collect();
        let host = base.host_str().unwrap_or_default();
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: base.port_or_known_default().unwrap_or(80),
            authority: HeaderValue::from_str(base.authority())
                .unwrap_or(HeaderValue::from_static("bookends")),
            lookups: of_each("lookup"),
            quantities: of_each("quantity"),
            searches: plan.topics.iter().map(|topic| uri(&base, &["search", topic])).collect(),
            list: uri(&base, &["list"]),
            topics: uri(&base, &["topics"]),
            buy: uri(&base, &["buy"]),
            buys: plan.books.iter().map(|id| format!(r#"{{"id":{id},"quantity":1}}"#).into()).collect(),
        })
    }

    fn request(&self, kind: Kind, random: &mut Random) -> Request<Full<Bytes>> {
        let uri = match kind {
            Kind::Lookup => random.pick(&self.lookups),
            Kind::Quantity => random.pick(&self.quantities),
            Kind::Search => random.pick(&self.searches),
            Kind::List => Some(&self.list),
            Kind::Topics => Some(&self.topics),
            Kind::Buy => Some(&self.buy),
        };
        let mut request = Request::new(Full::default());
        // Never empty: `new` refuses a plan that has nothing to choose from.
        request.uri_mut().clone_from(uri.unwrap_or(&self.list));
        request.headers_mut().insert(HOST, self.authority.clone());
        if kind == Kind::Buy {
            *request.method_mut() = Method::POST;
            *request.body_mut() = Full::new(random.pick(&self.buys).cloned().unwrap_or_default());
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let mut text = Uuid::encode_buffer();
            let key = Uuid::now_v7().hyphenated().encode_lower(&mut text);
            if let Ok(key) = HeaderValue::from_str(key) {
                request.headers_mut().insert("idempotency-key", key);
            }
        }
        request
    }
}

/// The path and query of a call, as a request line has it.
fn uri(base: &Url, segments: &[&str]) -> Uri {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    // A path that `Url` has encoded is always a good one.
    url.path().parse().unwrap_or_default()
}

/// What all connections of a load share.
pub(super) struct Shared {
    pub(super) targets: Vec<Target>,
    pub(super) mix: Mix,
    pub(super) length: Length,
    pub(super) rate: Option<NonZeroU32>,
    /// How many requests there are, where that is known.
    pub(super) total: Option<u64>,
    /// How many have been taken; goes beyond the total at the end.
    pub(super) taken: AtomicU64,
    /// A permit for each request that is due. Open loop only.
    pub(super) due: Semaphore,
    pub(super) ready: Barrier,
    pub(super) start: OnceLock<Instant>,
    pub(super) progress: Arc<Progress>,
}

impl Shared {
    /// When the load began: when it was first asked for this.
    pub(super) fn start(&self) -> Instant {
        *self.start.get_or_init(Instant::now)
    }

    /// The next request: when it was due, or `None` in its place in a closed loop. `None` at the end.
    async fn next(&self) -> Option<Ticket> {
        let schedule = match self.rate {
            Some(rate) => {
                self.due.acquire().await.ok()?.forget();
                Some(Schedule { start: self.start(), rate })
            }
            None => None,
        };
        if self.is_over() {
            return None;
        }
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        if self.total.is_some_and(|total| number >= total) {
            // Taken back, so that the count stays that of the requests.
            self.taken.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Ticket { due: schedule.map(|schedule| schedule.due_at(number)) })
    }

    fn is_over(&self) -> bool {
        let overtime = if self.rate.is_some() { OVERTIME } else { Duration::ZERO };
        let is_late = match self.length {
            Length::Time(time) => self.start().elapsed() >= time + overtime,
            Length::Requests(_) => false,
        };
        is_late || self.progress.is_stopped()
    }
}

/// The right to make one request.
#[derive(Clone, Copy)]
struct Ticket {
    due: Option<Instant>,
}

/// How the use of a connection ended.
enum End {
    /// Nothing is left to do.
    Done,
    /// The front end closed it between two requests, as it may.
    Closed,
    /// A request failed on it.
    Failed,
}

type Sender = SendRequest<Full<Bytes>>;
type Connection = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

/// One connection, made anew as often as it breaks.
pub(super) struct Driver {
    shared: Arc<Shared>,
    recorder: Arc<Mutex<Recorder>>,
    random: Random,
    target: usize,
    /// A request that was taken and could not be sent yet.
    held: Option<Ticket>,
    /// How many connections in a row came to nothing.
    failures: u32,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        recorder: Arc<Mutex<Recorder>>,
        random: Random,
        place: usize,
    ) -> Self {
        let target = place % shared.targets.len();
        Self { shared, recorder, random, target, held: None, failures: 0 }
    }

    /// Makes requests until there are none left.
    pub(super) async fn run(mut self) {
        let mut link = self.connect().await;
        self.shared.ready.wait().await;
        self.shared.start();
        loop {
            let Some((sender, connection)) = link.take() else {
                let Some(ticket) = self.take().await else { return };
                link = self.connect().await;
                if link.is_some() {
                    self.held = Some(ticket);
                } else {
                    self.fail(Failure::Connect).await;
                }
                continue;
            };
            match self.session(sender, connection).await {
                End::Done => return,
                End::Closed => self.recorder.lock().reconnect(),
                End::Failed => {}
            }
        }
    }

    /// Uses a connection as long as it lasts.
    async fn session(&mut self, sender: Sender, connection: Connection) -> End {
        let mut connection = Box::pin(connection);
        let mut requests = pin!(self.requests(sender));
        tokio::select! {
            biased;
            _ = &mut connection => {}
            end = &mut requests => return end,
        }
        // Only once it is dropped do the requests hear of its end; they know what that means for them.
        drop(connection);
        requests.await
    }

    async fn requests(&mut self, mut sender: Sender) -> End {
        let mut is_fresh = true;
        loop {
            let Some(ticket) = self.take().await else { return End::Done };
            let kind = self.shared.mix.choose(&mut self.random);
            let request = self.shared.targets[self.target].request(kind, &mut self.random);
            let since = ticket.due.unwrap_or_else(Instant::now);
            let failure = match timeout(ANSWER_MAX, exchange(&mut sender, request)).await {
                Ok(Ok(status)) => {
                    let now = Instant::now();
                    let at = now.duration_since(self.shared.start());
                    self.recorder.lock().answer(kind, status, now.duration_since(since), at);
                    self.shared.progress.answered.fetch_add(1, Ordering::Relaxed);
                    (is_fresh, self.failures) = (false, 0);
                    continue;
                }
                // Never sent, because the connection had been closed: no failure unless that goes on.
                Ok(Err(error)) if (error.is_canceled() || error.is_closed()) && !is_fresh => {
                    self.held = Some(ticket);
                    return End::Closed;
                }
                Ok(Err(_)) => Failure::Closed,
                Err(_) => Failure::Timeout,
            };
            self.fail(failure).await;
            return End::Failed;
        }
    }

    async fn take(&mut self) -> Option<Ticket> {
        match self.held.take() {
            Some(ticket) => Some(ticket),
            None => self.shared.next().await,
        }
    }

    /// Counts a request that got no answer, and goes on to the next front end after a while.
    async fn fail(&mut self, failure: Failure) {
        self.recorder.lock().failure(failure);
        self.shared.progress.failed.fetch_add(1, Ordering::Relaxed);
        self.target = (self.target + 1) % self.shared.targets.len();
        let wait = BACKOFF * 2_u32.pow(self.failures.min(DOUBLINGS_MAX));
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(wait.mul_f64(0.5 + self.random.unit() / 2.0)).await;
    }

    async fn connect(&self) -> Option<(Sender, Connection)> {
        let target = &self.shared.targets[self.target];
        let connecting = TcpStream::connect((target.host.as_str(), target.port));
        let stream = timeout(CONNECT_MAX, connecting).await.ok()?.ok()?;
        stream.set_nodelay(true).ok()?;
        http1::handshake(TokioIo::new(stream)).await.ok()
    }
}

/// Sends a request and reads the whole answer, of which only the status counts.
async fn exchange(sender: &mut Sender, request: Request<Full<Bytes>>) -> hyper::Result<u16> {
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        drop(frame?);
    }
    Ok(status)
}
