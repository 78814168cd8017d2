//! Requests as they come from a socket: HTTP heads and bodies, up to the back ends, of which there are none.
//!
//! What is wrong with a request is said at once. One that is not answered then has been understood, and waits
//! for replicas; nobody waits for it here.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Extension;
use axum::body::Body;
use common::config::Config;
use common::link::Credentials;
use common::{secret, shutdown};
use frontend::api::front::{Front, Reply};
use frontend::api::plain::{PlainBuy, PlainLookup};
use frontend::api::router;
use frontend::app::{App, Parts};
use frontend::cache::{Cache, Cached, Miss};
use frontend::catalogs::Catalogs;
use frontend::feed::Feeds;
use frontend::happenings::Happenings;
use frontend::heartbeats::{Heartbeats, Told};
use frontend::metrics::Metrics;
use frontend::orders::Orders;
use frontend::render::BookAnswer;
use frontend::shards::Shards;
use frontend::writers::Writers;
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use proptest::prelude::*;
use protocol::call::Query;
use protocol::catalogue::{Book, Facts};
use protocol::ids::{BookId, Index};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::Verdict;

/// What administrators show here.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// How often a connection is looked at: each answer that needs no back end is there long before.
const TURNS: usize = 24;
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

thread_local! {
    static STAGE: RefCell<Stage> = RefCell::new(Stage::open());
}

/// Has a connection bring these bytes and then wait for answers.
pub fn check(bytes: &[u8]) -> Verdict {
    STAGE.with_borrow(|stage| {
        stage.take_the_short_way(bytes);
        stage.buy_the_short_way(bytes);
        let Served { asked, broke, .. } = stage.serve(bytes);
        Verdict::of(asked > 0 && !broke)
    })
}

/// What became of a connection.
struct Served {
    asked: usize,
    broke: bool,
    answers: Vec<u8>,
}

/// A front end without back ends.
struct Stage {
    runtime: Runtime,
    front: Arc<Front>,
    _trigger: shutdown::Trigger,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn open() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let app = app(folder.path());
        // The first is there, the second is known not to be.
        for (id, is_there) in [(1, true), (2, false)] {
            cache(&app, id, is_there);
        }
        let (trigger, shutdown) = shutdown::channel();
        let metrics = Arc::new(Metrics::new());
        let router = router(app.clone()).layer(Extension(metrics.clone())).layer(Extension(shutdown));
        let front = Arc::new(Front::new(app, router, metrics));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime needs no more than memory");
        Self { runtime, front, _trigger: trigger, _folder: folder }
    }

    fn serve(&self, bytes: &[u8]) -> Served {
        let asked = Cell::new(0);
        let service = service_fn(|request: Request<Incoming>| {
            asked.set(asked.get() + 1);
            answer(Arc::clone(&self.front), request)
        });
        let mut answers = Vec::new();
        let client = Client { says: bytes, hears: &mut answers };
        let broke = self.runtime.block_on(async {
            let mut connection = std::pin::pin!(http1::Builder::new().serve_connection(client, service));
            for _ in 0..TURNS {
                let turn = poll_fn(|context| Poll::Ready(connection.as_mut().poll(context)));
                if let Poll::Ready(ended) = turn.await {
                    return ended.is_err();
                }
                tokio::task::yield_now().await;
            }
            false
        });
        assert!(answers.is_empty() || answers.starts_with(b"HTTP/1."), "{}", answers.escape_ascii());
        Served { asked: asked.get(), broke, answers }
    }

    /// What is begun without hyper is one request to hyper, too, and one that it understands.
    fn buy_the_short_way(&self, bytes: &[u8]) {
        let Some((buy, length)) = PlainBuy::read(bytes) else { return };
        let served = self.serve(&bytes[..length]);
        assert_eq!((served.asked, served.broke), (1, false), "{}", bytes.escape_ascii());
        let is_begun = self.front.buy(CLIENT, &buy).is_some();
        assert_eq!(is_begun, !served.answers.starts_with(b"HTTP/1.1 4"), "{}", bytes.escape_ascii());
    }

    /// What is answered without hyper is one request to hyper, too, and has the same answer.
    fn take_the_short_way(&self, bytes: &[u8]) {
        let Some((lookup, length)) = PlainLookup::read(bytes) else { return };
        let mut answer = Vec::new();
        if !self.front.plain(CLIENT, &lookup, b"now", &mut answer) {
            return assert!(answer.is_empty());
        }
        let served = self.serve(&bytes[..length]);
        assert_eq!((served.asked, served.broke), (1, false), "{}", bytes.escape_ascii());
        assert_eq!(comparable(&answer), comparable(&served.answers), "{}", bytes.escape_ascii());
    }
}

/// The lines of an answer, without those that no two answers share.
fn comparable(answer: &[u8]) -> Vec<&[u8]> {
    let lines = answer.split(|byte| *byte == b'\n');
    let mut lines: Vec<&[u8]> =
        lines.filter(|line| !line.starts_with(b"date: ") && !line.starts_with(b"x-request-id: ")).collect();
    lines.sort_unstable();
    lines
}

/// As the server has a request answered, with a look at what is said.
async fn answer(front: Arc<Front>, request: Request<Incoming>) -> Result<Response<Reply>, Infallible> {
    let response = match front.at_once(CLIENT, &request) {
        Some(response) => response,
        None => front.routed(request.map(Body::new)).await,
    };
    let status = response.status();
    assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(response.headers().contains_key("x-request-id"));
    if !status.is_client_error() && !status.is_server_error() {
        return Ok(response);
    }
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.expect("a problem is said whole").to_bytes();
    if !bytes.is_empty() {
        assert_eq!(
            head.headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes()),
            Some(&b"application/problem+json"[..])
        );
        let problem: Value = serde_json::from_slice(&bytes).expect("a problem is JSON");
        assert_eq!(problem.get("status"), Some(&Value::from(status.as_u16())));
    }
    Ok(Response::from_parts(head, Reply::Right(Body::from(bytes))))
}

/// A socket that brings some bytes, and takes all.
struct Client<'b> {
    says: &'b [u8],
    hears: &'b mut Vec<u8>,
}

impl Read for Client<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.says.is_empty() {
            return Poll::Pending;
        }
        let (now, later) = self.says.split_at(self.says.len().min(to.remaining()));
        to.put_slice(now);
        self.says = later;
        Poll::Ready(Ok(()))
    }
}

impl Write for Client<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.hears.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn app(folder: &std::path::Path) -> App {
    use std::os::unix::fs::OpenOptionsExt;
    let data = folder.join("data");
    std::fs::create_dir(&data).expect("the folder can be written");
    let token =
        std::fs::File::options().write(true).create_new(true).mode(0o600).open(data.join("admin.token"));
    io::Write::write_all(&mut token.expect("the folder can be written"), TOKEN.as_bytes())
        .expect("a file can be written");
    let path = folder.join("config.toml");
    let config = Config::parse(b"", &path, &path).expect("every key has a default");
    let config = Arc::new(config);
    let credentials = Arc::new(Credentials::of(&config).expect("a secret can be made"));
    let admin_token = secret::admin_token(&data).expect("it is there");
    let (writers, _) = Writers::new(config.shard_ids());
    let shards = Shards::new(config.shard_ids(), config.balancing.policy);
    let (catalogs, orders) = (Catalogs::new(&config), Orders::new(&config));
    let happenings = Happenings::default();
    let told = Told {
        shards: shards.clone(),
        writers: writers.clone(),
        catalogs: catalogs.clone(),
        orders: orders.clone(),
        happenings: happenings.clone(),
    };
    App::new(Parts {
        heartbeats: Heartbeats::new(config.clone(), told),
        cache: Arc::new(Cache::new(config.cache)),
        feeds: Feeds::new(config.shard_ids()),
        started: Instant::now(),
        id: config.frontends.first().expect("there is one").id.clone(),
        config,
        admin_token,
        credentials,
        backups: Arc::new(Semaphore::new(1)),
        shards,
        writers,
        catalogs,
        orders,
        happenings,
    })
}

fn cache(app: &App, id: u64, is_there: bool) {
    let id = BookId::try_from(id).expect("it is an id");
    let facts = Facts {
        title: "T".to_owned(),
        topic: "t".to_owned(),
        author: None,
        isbn: None,
        year: None,
        description: None,
    };
    let book = Book { id, facts, cost_cents: 500, quantity: 3, version: Index(9) };
    let answer = BookAnswer::new(is_there.then_some(book), &"catalog-1".into());
    match app.parts().cache.miss(&Query::Book(id)) {
        Some(Miss::Lead(flight)) => assert!(flight.fill(Cached::Book(Arc::new(answer))).stored),
        other => panic!("the cache is empty and nobody else fills it: {other:?}"),
    }
}

/// Requests of all kinds.
pub fn valid() -> BoxedStrategy<Vec<u8>> {
    let get = prop_oneof![
        Just("/lookup/1"),
        Just("/lookup/2"),
        Just("/lookup/3"),
        Just("/quantity/1"),
        Just("/list?page_size=5&page_token=p17"),
        Just("/search/distributed%20systems"),
        Just("/search?q=a+b&topic=x"),
        Just("/topics"),
        Just("/buy/1?quantity=2"),
        Just("/orders/01a1fc87-d8a6-75dc-a110-c91c000f8f98"),
        Just("/orders?node=order-1&page_size=3"),
        Just("/ledger?shard=0&after=1"),
        Just("/update_cost/1/500"),
        Just("/update_quantity/1/-5"),
        Just("/invalidate/1"),
        Just("/status"),
        Just("/healthz"),
        Just("/readyz"),
        Just("/livez"),
        Just("/metrics"),
        Just("/docs"),
        Just("/openapi.json"),
        Just("/"),
        Just("/backup/0"),
    ];
    let header = prop_oneof![
        Just("if-none-match: \"a\", W/\"b\"\r\n".to_owned()),
        Just("if-none-match: *\r\n".to_owned()),
        Just("cache-control: max-age=0, no-cache\r\n".to_owned()),
        Just("idempotency-key: my-first-order\r\n".to_owned()),
        Just("x-request-id: req/1\r\n".to_owned()),
        Just("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n".to_owned()),
        Just("sec-fetch-site: cross-site\r\n".to_owned()),
        Just(format!("authorization: Bearer {TOKEN}\r\n")),
        Just(String::new()),
    ];
    let body = prop_oneof![
        Just(("/buy", "application/json", r#"{"items":[{"id":1,"quantity":2},{"id":2}]}"#)),
        Just(("/buy", "application/json", r#"{"id":1}"#)),
        Just(("/lookup", "application/json; charset=utf-8", r#"{"id":1}"#)),
        Just(("/search", "application/json", r#"{"topic":"x","q":"a","page_size":7,"page_token":"p11"}"#)),
        Just(("/list", "application/json", "{}")),
        Just(("/update_cost", "application/json", r#"{"id":1,"cost_cents":5}"#)),
        Just(("/update_quantity", "application/json", r#"{"id":1,"amount":-5}"#)),
        Just((
            "/books",
            "application/json",
            r#"{"title":"t","topic":"x","cost_cents":1,"quantity":2,"year":-44}"#
        )),
        Just((
            "/books/bulk",
            "application/x-ndjson",
            "{\"title\":\"t\",\"topic\":\"x\",\"cost_cents\":1,\"quantity\":2}\n"
        )),
        Just(("/books/bulk", "text/csv", "title,topic,cost_cents,quantity\nt,x,1,2\n")),
    ];
    let asks =
        (prop_oneof![Just("GET"), Just("HEAD")], get, header.clone()).prop_map(|(method, path, header)| {
            format!("{method} {path} HTTP/1.1\r\nhost: store\r\n{header}\r\n")
        });
    let posts = (body, header.clone(), header, any::<bool>()).prop_map(|((path, kind, body), one, other, chunked)| {
        let (length, body) = if chunked {
            ("transfer-encoding: chunked".to_owned(), format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()))
        } else {
            (format!("content-length: {}", body.len()), body.to_owned())
        };
        let other = if other == one { "" } else { other.as_str() };
        format!("POST {path} HTTP/1.1\r\nhost: store\r\ncontent-type: {kind}\r\n{one}{other}{length}\r\n\r\n{body}")
    });
    let deletes =
        Just(format!("DELETE /books/1 HTTP/1.1\r\nhost: store\r\nauthorization: Bearer {TOKEN}\r\n\r\n"));
    let one = prop_oneof![5 => asks, 5 => posts, 1 => deletes];
    proptest::collection::vec(one, 1..3).prop_map(|requests| requests.concat().into_bytes()).boxed()
}
