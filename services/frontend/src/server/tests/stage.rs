//! A front end without back ends, on a port of its own: books are put into its cache by hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::config::Config;
use common::link::Credentials;
use common::{secret, shutdown};
use protocol::call::Query;
use protocol::catalogue::{Book, Facts};
use protocol::ids::{BookId, Index};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::super::serve;
use crate::app::{App, Parts};
use crate::cache::{Cache, Cached, Miss};
use crate::catalogs::Catalogs;
use crate::feed::Feeds;
use crate::happenings::Happenings;
use crate::heartbeats::{Heartbeats, Told};
use crate::metrics::Metrics;
use crate::orders::Orders;
use crate::render::BookAnswer;
use crate::shards::Shards;
use crate::writers::Writers;

/// Longer than anything here takes: reaching it means that a test has failed.
pub(in crate::server) const DEADLINE: Duration = Duration::from_secs(20);

pub(in crate::server) struct Stage {
    pub(in crate::server) app: App,
    pub(in crate::server) address: String,
    pub(in crate::server) token: String,
    pub(in crate::server) trigger: shutdown::Trigger,
    pub(in crate::server) serving: JoinSet<()>,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// Serves, with these limits.
    pub(in crate::server) async fn open(limits: &str) -> Self {
        let (app, token, folder) = app(limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (trigger, shutdown) = shutdown::channel();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, app.clone(), Arc::new(Metrics::new()), shutdown));
        Self { app, address, token, trigger, serving, _folder: folder }
    }

    /// Puts a book into the cache, or the absence of one.
    pub(in crate::server) fn cache(&self, id: u64, is_there: bool) {
        let book = is_there.then(|| book(id));
        let answer = BookAnswer::new(book, &"catalog-1".into());
        let query = Query::Book(id.try_into().unwrap());
        match self.app.parts().cache.miss(&query) {
            Some(Miss::Lead(flight)) => assert!(flight.fill(Cached::Book(Arc::new(answer))).stored),
            other => panic!("the cache is empty and nobody else fills it: {other:?}"),
        }
    }

    pub(in crate::server) async fn connect(&self) -> Connection {
        Connection { stream: TcpStream::connect(&self.address).await.unwrap(), read: Vec::new() }
    }

    /// One request on a connection of its own.
    pub(in crate::server) async fn ask(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut connection = self.connect().await;
        connection.send(method, target, headers, body).await;
        connection.answer(method == "HEAD").await
    }

    pub(in crate::server) async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[], b"").await
    }

    pub(in crate::server) async fn post(&self, target: &str, json: &str) -> Answer {
        self.ask("POST", target, &[("content-type", "application/json")], json.as_bytes()).await
    }

    /// Returns once serving has ended.
    pub(in crate::server) async fn ended(&mut self) {
        within(self.serving.join_next()).await.unwrap().unwrap();
    }
}

pub(in crate::server) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("it takes too long")
}

fn app(limits: &str) -> (App, String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, format!("[timeouts]\nread_ms = 50\nwrite_ms = 200\n[limits]\n{limits}\n")).unwrap();
    let config = Arc::new(Config::load(&path).unwrap());
    let credentials = Arc::new(Credentials::of(&config).unwrap());
    let admin_token = secret::admin_token(&config.cluster.data_dir).unwrap();
    let token = admin_token.expose().to_owned();
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
    let app = App::new(Parts {
        heartbeats: Heartbeats::new(config.clone(), told),
        cache: Arc::new(Cache::new(config.cache)),
        feeds: Feeds::new(config.shard_ids()),
        started: Instant::now(),
        id: config.frontends[0].id.clone(),
        config,
        admin_token,
        credentials,
        backups: Arc::new(Semaphore::new(1)),
        shards,
        writers,
        catalogs,
        orders,
        happenings,
    });
    (app, token, folder)
}

fn book(id: u64) -> Book {
    let facts = Facts {
        title: format!("Book {id}"),
        topic: "tests".to_owned(),
        author: None,
        isbn: None,
        year: None,
        description: None,
    };
    Book { id: BookId::try_from(id).unwrap(), facts, cost_cents: 500, quantity: 3, version: Index(9) }
}

pub(in crate::server) struct Connection {
    pub(in crate::server) stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    /// Sends a request whole. The server may have answered and stopped to read before its end.
    pub(in crate::server) async fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) {
        let mut bytes = format!("{method} {target} HTTP/1.1\r\nhost: store\r\n").into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if !body.is_empty() || method == "POST" {
            bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        self.stream.write_all(&bytes).await.unwrap();
    }

    pub(in crate::server) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Reads the next answer.
    pub(in crate::server) async fn answer(&mut self, is_head: bool) -> Answer {
        let head_end = self.read_until(b"\r\n\r\n").await;
        let head: Vec<u8> = self.read.drain(..head_end).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers: Vec<(String, String)> =
            headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        if !is_head {
            while self.read.len() < length {
                assert!(self.read_more().await, "the body breaks off");
            }
            answer.body = self.read.drain(..length).collect();
        }
        answer
    }

    /// Reads up to and with some bytes, and says where they end.
    pub(in crate::server) async fn read_until(&mut self, mark: &[u8]) -> usize {
        loop {
            if let Some(at) = self.read.windows(mark.len()).position(|window| window == mark) {
                return at + mark.len();
            }
            assert!(self.read_more().await, "the answer breaks off: {}", String::from_utf8_lossy(&self.read));
        }
    }

    /// All that comes until the server closes its side, or says this.
    pub(in crate::server) async fn all_until_closed_or(&mut self, mark: &str) -> String {
        while !String::from_utf8_lossy(&self.read).contains(mark) && self.read_more().await {}
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// Returns once the server has closed its side.
    pub(in crate::server) async fn closed(&mut self) {
        while self.read_more().await {}
    }

    async fn read_more(&mut self) -> bool {
        // A reset is an end as well.
        within(self.stream.read_buf(&mut self.read)).await.unwrap_or(0) > 0
    }
}

#[derive(Debug)]
pub(in crate::server) struct Answer {
    pub(in crate::server) status: u16,
    headers: Vec<(String, String)>,
    pub(in crate::server) body: Vec<u8>,
}

impl Answer {
    pub(in crate::server) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The names of all headers, in their order by the alphabet.
    pub(in crate::server) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    pub(in crate::server) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Every value of a header.
    pub(in crate::server) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The problem's name and field.
    pub(in crate::server) fn problem(&self) -> (String, Option<String>) {
        let json = self.json();
        let name = json["type"].as_str().and_then(|kind| kind.strip_prefix("/problems/")).unwrap_or_default();
        (name.to_owned(), json["field"].as_str().map(str::to_owned))
    }
}
