//! Load: buyers and readers who remember what they were told, and an audit of the store against it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bookends::IdempotencyKey;
use common::api::{Book, Order};
use parking_lot::Mutex;
use protocol::catalogue::OrderLine;
use protocol::ids::{BookId, ShardId};
use reqwest::Method;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::cluster::Door;
use super::{Cluster, Http, wait_for};

const BUYERS: u64 = 4;
const READERS: u64 = 3;
/// The pause of each between two calls: load enough to be hit at any moment, and a machine with room.
const PACE: Duration = Duration::from_millis(4);
/// How long a buyer asks again under the same key before that is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// Buyers and readers at work. Dropping it ends them.
pub(crate) struct Shopping {
    people: JoinSet<()>,
    closing: watch::Sender<bool>,
    ledger: Arc<Ledger>,
}

/// What all of them know together.
#[derive(Debug, Default)]
struct Ledger {
    books: BTreeMap<BookId, Known>,
    shards: u32,
    sales: Mutex<Vec<(Vec<OrderLine>, Order)>>,
    unanswered: Mutex<Vec<String>>,
    failed_reads: Mutex<Vec<String>>,
    wrong: Mutex<Vec<String>>,
    bought: AtomicU64,
    read: AtomicU64,
}

/// What is known of a book.
#[derive(Debug, Default)]
struct Known {
    /// Copies before anybody bought.
    start: u64,
    /// Copies of sales that were acknowledged.
    sold: AtomicU64,
    /// The highest version that anybody was shown.
    version: AtomicU64,
}

/// What came of it all.
#[derive(Debug)]
pub(crate) struct Receipts {
    /// Sales that were acknowledged, and what was asked for.
    pub(crate) sales: Vec<(Vec<OrderLine>, Order)>,
    /// Calls of the typed client that it gave up; the buyer asked again with the same key.
    pub(crate) unanswered: Vec<String>,
    /// Reads that failed; nobody asked again.
    pub(crate) failed_reads: Vec<String>,
    /// Answers that can't be right.
    wrong: Vec<String>,
}

impl Shopping {
    /// Opens the shop for all books of the store.
    pub(crate) async fn start(cluster: &Cluster) -> Self {
        let client = cluster.client();
        let page = client.list(Some(1000), None).await.unwrap();
        let known = |book: Book| {
            (book.id, Known { start: book.quantity, version: book.version.into(), ..Known::default() })
        };
        let books = page.books.into_iter().map(known).collect();
        let shards = u32::try_from(client.status().await.unwrap().shards.len()).unwrap();
        let ledger = Arc::new(Ledger { books, shards, ..Ledger::default() });
        let closing = watch::Sender::new(false);
        let mut people = JoinSet::new();
        for number in 0..BUYERS {
            let buyer =
                Person { number, ledger: ledger.clone(), door: cluster.door(), closing: closing.subscribe() };
            people.spawn(buyer.buy());
        }
        for number in 0..READERS {
            let reader =
                Person { number, ledger: ledger.clone(), door: cluster.door(), closing: closing.subscribe() };
            people.spawn(reader.read());
        }
        Self { people, closing, ledger }
    }

    /// Waits until so many more buys, and as many reads, have been answered.
    pub(crate) async fn goes_on(&self, more: u64) {
        let count = || (self.ledger.bought.load(Ordering::SeqCst), self.ledger.read.load(Ordering::SeqCst));
        let (bought, read) = count();
        wait_for(&format!("{more} more buys and reads"), async || {
            let now = count();
            if now.0 >= bought + more && now.1 >= read + more {
                Ok(())
            } else {
                Err(format!("from {bought} buys and {read} reads to {now:?}; {:?}", self.last_trouble()))
            }
        })
        .await;
    }

    fn last_trouble(&self) -> (Option<String>, Option<String>) {
        (self.ledger.unanswered.lock().last().cloned(), self.ledger.failed_reads.lock().last().cloned())
    }

    /// Everybody finishes what they are at.
    pub(crate) async fn close(mut self) -> Receipts {
        self.closing.send_replace(true);
        while let Some(ended) = self.people.join_next().await {
            ended.unwrap();
        }
        let take = |texts: &Mutex<Vec<String>>| std::mem::take(&mut *texts.lock());
        Receipts {
            sales: std::mem::take(&mut *self.ledger.sales.lock()),
            unanswered: take(&self.ledger.unanswered),
            failed_reads: take(&self.ledger.failed_reads),
            wrong: take(&self.ledger.wrong),
        }
    }
}

/// A buyer, or a reader.
struct Person {
    number: u64,
    ledger: Arc<Ledger>,
    door: Door,
    closing: watch::Receiver<bool>,
}

impl Person {
    fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Every third order is one of two books: of neighbours in one shard, for an order lies in one.
    fn lines(&self, turn: u64) -> Vec<OrderLine> {
        let books = &self.ledger.books;
        let place = usize::try_from(self.number + turn).unwrap() % books.len();
        let shard = |book: BookId| ShardId::of_book(book, self.ledger.shards);
        let mut round = books.keys().copied().cycle().skip(place);
        let first = round.next().unwrap();
        let mut lines = vec![OrderLine { book: first, quantity: 1 + turn % 3 }];
        if turn.is_multiple_of(3) {
            let other = round.take(books.len() - 1).find(|book| shard(*book) == shard(first));
            lines.extend(other.map(|book| OrderLine { book, quantity: 1 }));
        }
        lines
    }

    async fn buy(self) {
        let mut turn = 0;
        while !self.is_closing() {
            let lines = self.lines(turn);
            let Some(order) = self.buy_once(&lines).await else { return };
            for line in &lines {
                self.ledger.books[&line.book].sold.fetch_add(line.quantity, Ordering::SeqCst);
            }
            self.ledger.sales.lock().push((lines, order));
            self.ledger.bought.fetch_add(1, Ordering::SeqCst);
            turn += 1;
            tokio::time::sleep(PACE).await;
        }
    }

    /// Buys under one key, however often that has to be asked for.
    async fn buy_once(&self, lines: &[OrderLine]) -> Option<Order> {
        let key = IdempotencyKey::new();
        let begin = Instant::now();
        loop {
            let (url, client) = self.door.read().clone().unwrap();
            let answer = tokio::select! {
                answer = client.buy_keyed(lines, &key) => answer,
                // Nobody answers there any more, and the client would go on asking.
                () = self.moved(&url) => {
                    self.ledger.unanswered.lock().push(format!("no front end at {url} any more"));
                    continue;
                }
            };
            match answer {
                Ok(order) => return Some(order),
                Err(problem) if problem.is_retryable() && begin.elapsed() < PATIENCE => {
                    self.ledger.unanswered.lock().push(problem.to_string());
                }
                Err(problem) => {
                    self.ledger.wrong.lock().push(format!("a buy of {lines:?} failed: {problem}"));
                    return None;
                }
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// Returns when the front end is not at this address any more.
    async fn moved(&self, url: &str) {
        while self.door.read().as_ref().is_some_and(|(now, _)| now == url) {
            tokio::time::sleep(PACE).await;
        }
    }

    async fn read(self) {
        let books: Vec<BookId> = self.ledger.books.keys().copied().collect();
        let mut turn = usize::try_from(self.number).unwrap();
        let mut at: Option<(String, Http)> = None;
        while !self.is_closing() {
            let (url, _) = self.door.read().clone().unwrap();
            if at.as_ref().is_none_or(|(known, _)| *known != url) {
                at = Some((url.clone(), Http::new(url)));
            }
            let (_, http) = at.as_ref().unwrap();
            turn += 1;
            self.read_once(http, books[turn % books.len()], turn.is_multiple_of(2)).await;
            tokio::time::sleep(PACE).await;
        }
    }

    /// One read without retries: it shows at least what was known before it was sent.
    async fn read_once(&self, http: &Http, id: BookId, past_cache: bool) {
        let known = &self.ledger.books[&id];
        let sold = known.sold.load(Ordering::SeqCst);
        let version = known.version.load(Ordering::SeqCst);
        let headers: &[(&str, &str)] = if past_cache { &[("cache-control", "no-cache")] } else { &[] };
        let begin = Instant::now();
        let answer = match http.send(Method::GET, &format!("/lookup/{id}"), headers, None).await {
            Ok(answer) if answer.status.is_success() => answer,
            other => {
                let failure = format!("after {:?}: {other:?}", begin.elapsed());
                return self.ledger.failed_reads.lock().push(failure);
            }
        };
        let shown: Book = answer.json();
        if shown.version < version || shown.quantity + sold > known.start {
            let start = known.start;
            self.ledger.wrong.lock().push(format!(
                "stale: {sold} of {start} copies were sold and version {version} was seen before: {answer:?}"
            ));
        }
        known.version.fetch_max(shown.version, Ordering::SeqCst);
        self.ledger.read.fetch_add(1, Ordering::SeqCst);
    }
}

impl Receipts {
    /// What the store promises on any day.
    fn check(&self) {
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
        assert!(!self.sales.is_empty());
        for (lines, order) in &self.sales {
            let sold = order.items.iter().map(|item| OrderLine { book: item.id, quantity: item.quantity });
            assert_eq!(&sold.collect::<Vec<_>>(), lines);
        }
    }

    /// With further sales, which were made by hand.
    pub(crate) fn with(mut self, sales: impl Iterator<Item = (Vec<OrderLine>, Order)>) -> Self {
        self.sales.extend(sales);
        self
    }

    /// What it promises while one front end and one of each back-end node live: nobody notices.
    pub(crate) fn nobody_noticed(&self) {
        assert!(self.failed_reads.is_empty(), "{:#?}", self.failed_reads);
        assert!(self.unanswered.is_empty(), "{:#?}", self.unanswered);
    }
}

/// Compares a store with what people were told: each acknowledged order is there once, on every order
/// node, nothing else is, and the stock is what remains.
pub(crate) async fn audit(cluster: &Cluster, receipts: &[&Receipts], start: u64) {
    cluster.level().await;
    let mut expected: BTreeMap<String, &Order> = BTreeMap::new();
    for receipt in receipts {
        receipt.check();
        for (_, order) in &receipt.sales {
            assert!(expected.insert(order.order_id.clone(), order).is_none(), "{order:?} was sold to two");
        }
    }
    let client = cluster.client();
    let (report, evidence) = bookends::audit::run(&client, None, &|_, _, _| {}).await.unwrap();
    assert!(report.is_balanced() && report.unproven.is_empty(), "{report:?}");
    assert_eq!(evidence.orders.len(), cluster.order_nodes().len(), "{:?}", evidence.orders.keys());
    // Every order node has what the ledger has, says the audit; and the ledger has what people were told.
    let sold: BTreeMap<String, &Order> =
        evidence.sales().map(|(_, order)| (order.order_id.clone(), order)).collect();
    assert_eq!(sold, expected);
    for (node, orders) in &evidence.orders {
        let ordered = orders.windows(2).all(|pair| pair[0].order_id > pair[1].order_id);
        assert!(ordered, "{node} does not list the newest first");
    }
    let mut copies: BTreeMap<BookId, u64> = BTreeMap::new();
    for item in expected.values().flat_map(|order| &order.items) {
        *copies.entry(item.id).or_default() += item.quantity;
    }
    let http = cluster.http();
    for (id, sold) in copies {
        let answer = http.get_with(&format!("/lookup/{id}"), &[("cache-control", "no-cache")]).await;
        assert_eq!(answer.json::<Book>().quantity + sold, start, "copies of {id}");
        assert_eq!(client.lookup(id).await.unwrap().quantity + sold, start, "copies of {id} as cached");
    }
}
