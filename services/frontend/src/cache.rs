//! The cache: finished answers by key, dropped by the writes that touch them.
//!
//! An entry is for a [`CacheKey`]: a book, or all cached pages of a topic, of lists and word searches,
//! or the topics. So a write names what it touches without knowing which pages of it were asked for.
//!
//! A hit takes no lock but the map's own. All that may make an answer stale, and all that stores one,
//! happens under one mutex together with the [`FillTable`]: a fill is stored if its token is not void,
//! and an invalidation voids the tokens and drops the entries, each as one step (C1, C2). Misses for
//! one thing share a request while its token is not void (C3).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::api::CacheStatus;
use common::config;
use moka::sync::Cache as Map;
use parking_lot::Mutex;
use protocol::call::{PageQuery, Query};
use protocol::fill::{Begin, FillTable, FlightId, Token, Verdict};
use protocol::ids::BookId;
use protocol::message::{CacheKey, Touched};
use tokio::sync::oneshot;

use crate::render::{BookAnswer, Rendered};

/// How many pages of one key are kept. Whoever pages through more of a large catalogue drops the rest,
/// and with each write of the topic they would all go anyway.
const PAGES_OF_A_KEY_MAX: usize = 64;

/// An answer that can be cached.
#[derive(Clone, Debug)]
pub enum Cached {
    /// About one book.
    Book(Arc<BookAnswer>),
    /// A page, or the topics.
    Rendered(Rendered),
}

#[derive(Clone, Debug)]
enum Entry {
    Book(Arc<BookAnswer>),
    Pages(Arc<BTreeMap<PageQuery, Rendered>>),
    Topics(Rendered),
}

impl Entry {
    fn weight(&self) -> u32 {
        let bytes = match self {
            Self::Book(answer) => answer.weight(),
            Self::Pages(pages) => pages.values().map(Rendered::weight).sum(),
            Self::Topics(topics) => topics.weight(),
        };
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// The cache of a front end.
#[derive(Debug)]
pub struct Cache {
    map: Map<(u64, CacheKey), Entry>,
    /// Part of every key: a higher one leaves all entries behind at once, in no time.
    generation: AtomicU64,
    enabled: bool,
    fills: Mutex<Fills>,
    hits: AtomicU64,
    misses: AtomicU64,
    invalidations: AtomicU64,
}

#[derive(Debug, Default)]
struct Fills {
    table: FillTable<Query>,
    waiters: HashMap<FlightId, Vec<oneshot::Sender<Filled>>>,
}

/// What a flight brings to those who joined it.
#[derive(Clone, Debug)]
pub struct Filled {
    /// The answer.
    pub answer: Cached,
    /// Whether it was stored.
    pub stored: bool,
}

/// What a miss is to do.
#[derive(Debug)]
pub enum Miss {
    /// Make the request, and bring its answer to [`Flight::fill`].
    Lead(Flight),
    /// Wait for another's. An error means that it came to nothing: look again.
    Join(oneshot::Receiver<Filled>),
}

/// The duty to end a flight; dropped without an answer, it is abandoned.
#[derive(Debug)]
pub struct Flight {
    cache: Arc<Cache>,
    query: Query,
    token: Option<Token>,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(config: config::Cache) -> Self {
        let map = Map::builder()
            .max_capacity(config.capacity_bytes)
            .weigher(|_, entry: &Entry| entry.weight())
            .build();
        Self {
            map,
            generation: AtomicU64::new(0),
            enabled: config.enabled,
            fills: Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            invalidations: AtomicU64::new(0),
        }
    }

    /// The answer about a book, if it is here: one look into the map. Whoever answers with it calls
    /// [`Cache::hit`].
    #[must_use]
    pub fn book(&self, id: BookId) -> Option<Arc<BookAnswer>> {
        match self.map.get(&self.at(CacheKey::Book(id))) {
            Some(Entry::Book(answer)) => Some(answer),
            _ => None,
        }
    }

    /// Counts a read that was answered from here.
    pub fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// The answer to a query, if it is here.
    #[must_use]
    pub fn get(&self, query: &Query) -> Option<Cached> {
        let found = match (self.map.get(&self.at(key_of(query)?))?, query) {
            (Entry::Book(answer), _) => Cached::Book(answer),
            (Entry::Pages(pages), Query::Page(page)) => Cached::Rendered(pages.get(page)?.clone()),
            (Entry::Topics(topics), _) => Cached::Rendered(topics),
            (Entry::Pages(_), _) => return None,
        };
        self.hit();
        Some(found)
    }

    /// A miss begins. `None` for what is never cached.
    pub fn miss(self: &Arc<Self>, query: &Query) -> Option<Miss> {
        if !self.enabled {
            return None;
        }
        let key = key_of(query)?;
        self.misses.fetch_add(1, Ordering::Relaxed);
        let mut fills = self.fills.lock();
        Some(match fills.table.begin(&key, query.clone()) {
            Begin::Lead(token) => {
                Miss::Lead(Flight { cache: self.clone(), query: query.clone(), token: Some(token) })
            }
            Begin::Join(flight) => {
                let (sender, receiver) = oneshot::channel();
                fills.waiters.entry(flight).or_default().push(sender);
                Miss::Join(receiver)
            }
        })
    }

    /// Drops what a write has touched, and voids the fills of it that are under way.
    pub fn invalidate(&self, touched: &Touched) {
        let mut fills = self.fills.lock();
        fills.table.invalidate(touched);
        match touched {
            Touched::Keys(keys) => {
                for key in keys {
                    self.map.invalidate(&self.at(key.clone()));
                }
                self.invalidations.fetch_add(keys.len() as u64, Ordering::Relaxed);
            }
            Touched::Everything => self.drop_all(),
        }
    }

    /// Voids all fills under way: the view has changed.
    pub fn void_fills(&self) {
        self.fills.lock().table.void_all();
    }

    /// Begins empty: a new term.
    pub fn clear(&self) {
        let mut fills = self.fills.lock();
        fills.table.void_all();
        self.drop_all();
    }

    /// Drops a book by hand. Whether it was there.
    pub fn drop_book(&self, id: BookId) -> bool {
        let key = CacheKey::Book(id);
        let mut fills = self.fills.lock();
        fills.table.invalidate(&Touched::Keys(vec![key.clone()]));
        self.map.remove(&self.at(key)).is_some()
    }

    fn at(&self, key: CacheKey) -> (u64, CacheKey) {
        (self.generation.load(Ordering::Acquire), key)
    }

    /// Called with the fills locked, like all that stores: nothing is stored under the old generation
    /// after this. The map's own "all" gives back the memory in its own time; it goes by time stamps,
    /// so an entry of this very instant might outlive it.
    fn drop_all(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.invalidations.fetch_add(self.map.entry_count(), Ordering::Relaxed);
        self.map.invalidate_all();
    }

    /// How it does.
    #[must_use]
    pub fn status(&self) -> CacheStatus {
        // The map counts in the background; a status is worth bringing it up to date.
        self.map.run_pending_tasks();
        CacheStatus {
            entries: self.map.entry_count(),
            bytes: self.map.weighted_size(),
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            invalidations: self.invalidations.load(Ordering::Relaxed),
            voided_fills: self.fills.lock().table.voided_fills(),
        }
    }

    fn store(&self, query: &Query, answer: &Cached) {
        let Some(key) = key_of(query).map(|key| self.at(key)) else { return };
        let entry = match (answer, query) {
            (Cached::Book(answer), _) => Entry::Book(answer.clone()),
            (Cached::Rendered(page), Query::Page(query)) => {
                let mut pages = match self.map.get(&key) {
                    Some(Entry::Pages(pages)) if pages.len() < PAGES_OF_A_KEY_MAX => (*pages).clone(),
                    _ => BTreeMap::new(),
                };
                pages.insert(query.clone(), page.clone());
                Entry::Pages(Arc::new(pages))
            }
            (Cached::Rendered(topics), _) => Entry::Topics(topics.clone()),
        };
        self.map.insert(key, entry);
    }
}

impl Flight {
    /// Ends the flight with its answer: stored if it may be, and given to all who joined.
    pub fn fill(mut self, answer: Cached) -> Filled {
        let Some(token) = self.token.take() else { return Filled { answer, stored: false } };
        let mut fills = self.cache.fills.lock();
        let waiters = fills.waiters.remove(&token.flight()).unwrap_or_default();
        let stored = fills.table.finish(token) == Verdict::Store;
        if stored {
            self.cache.store(&self.query, &answer);
        }
        drop(fills);
        let filled = Filled { answer, stored };
        for waiter in waiters {
            // One that has gone does not miss it.
            drop(waiter.send(filled.clone()));
        }
        filled
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            let mut fills = self.cache.fills.lock();
            let waiters = fills.waiters.remove(&token.flight());
            fills.table.abandon(token);
            drop(fills);
            drop(waiters);
        }
    }
}

/// What makes the answer to a query stale.
fn key_of(query: &Query) -> Option<CacheKey> {
    match query {
        Query::Book(id) => Some(CacheKey::Book(*id)),
        Query::Page(PageQuery { topic: Some(topic), words: None, .. }) => {
            Some(CacheKey::Topic(topic.clone()))
        }
        Query::Page(_) => Some(CacheKey::Pages),
        Query::Topics => Some(CacheKey::Topics),
        Query::Sales { .. } | Query::ChainAt(_) | Query::Ledger { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use protocol::ids::NodeId;

    use super::*;

    fn cache() -> Arc<Cache> {
        Arc::new(Cache::new(config::Cache { capacity_bytes: 1 << 20, enabled: true }))
    }

    fn id(id: u64) -> BookId {
        BookId::try_from(id).unwrap()
    }

    fn absence() -> Cached {
        Cached::Book(Arc::new(BookAnswer::new(None, &NodeId::from("catalog-1"))))
    }

    fn lead(cache: &Arc<Cache>, query: &Query) -> Flight {
        match cache.miss(query) {
            Some(Miss::Lead(flight)) => flight,
            other => panic!("expected to lead, found {other:?}"),
        }
    }

    #[test]
    fn a_fill_is_found_again_until_a_write_touches_it() {
        let cache = cache();
        let query = Query::Book(id(1));
        assert!(lead(&cache, &query).fill(absence()).stored);
        assert!(cache.book(id(1)).is_some());
        cache.invalidate(&Touched::Keys(vec![CacheKey::Book(id(2))]));
        assert!(cache.book(id(1)).is_some());
        cache.invalidate(&Touched::Keys(vec![CacheKey::Book(id(1))]));
        assert!(cache.book(id(1)).is_none());
    }

    #[test]
    fn a_fill_that_a_write_has_overtaken_is_answered_but_not_stored() {
        for touched in [Touched::Keys(vec![CacheKey::Book(id(1))]), Touched::Everything] {
            let cache = cache();
            let flight = lead(&cache, &Query::Book(id(1)));
            cache.invalidate(&touched);
            assert!(!flight.fill(absence()).stored);
            assert!(cache.book(id(1)).is_none());
            assert_eq!(cache.status().voided_fills, 1);
        }
    }

    #[tokio::test]
    async fn misses_at_one_time_share_a_request_but_not_one_from_before_a_write() {
        let cache = cache();
        let query = Query::Book(id(1));
        let flight = lead(&cache, &query);
        let Some(Miss::Join(early)) = cache.miss(&query) else { panic!("expected to join") };
        cache.invalidate(&Touched::Keys(vec![CacheKey::Book(id(1))]));
        let newer = lead(&cache, &query);
        assert!(!flight.fill(absence()).stored);
        assert!(!early.await.unwrap().stored);
        assert!(newer.fill(absence()).stored);
    }

    #[tokio::test]
    async fn a_flight_that_comes_to_nothing_lets_go_of_all_who_joined() {
        let cache = cache();
        let query = Query::Topics;
        let flight = lead(&cache, &query);
        let Some(Miss::Join(joined)) = cache.miss(&query) else { panic!("expected to join") };
        drop(flight);
        assert!(joined.await.is_err());
        drop(lead(&cache, &query));
    }

    #[test]
    fn all_pages_of_a_topic_go_together() {
        let cache = cache();
        let topic = protocol::catalogue::TopicKey::of("x");
        let page = |after: Option<u64>| {
            let after = after.map(id);
            Query::Page(PageQuery { topic: Some(topic.clone()), words: None, after, limit: 5 })
        };
        let rendered = || Cached::Rendered(Rendered::page(Vec::new(), false, &NodeId::from("catalog-1")));
        for after in [None, Some(5)] {
            assert!(lead(&cache, &page(after)).fill(rendered()).stored);
        }
        assert!(cache.get(&page(None)).is_some() && cache.get(&page(Some(5))).is_some());
        cache.invalidate(&Touched::Keys(vec![CacheKey::Topic(topic.clone())]));
        assert!(cache.get(&page(None)).is_none() && cache.get(&page(Some(5))).is_none());
    }

    #[test]
    fn it_begins_empty_in_a_new_term() {
        let cache = cache();
        for book in 1..100 {
            assert!(lead(&cache, &Query::Book(id(book))).fill(absence()).stored);
        }
        cache.clear();
        assert!((1..100).all(|book| cache.book(id(book)).is_none()));
    }

    #[test]
    fn it_is_bounded_in_bytes() {
        let cache = Arc::new(Cache::new(config::Cache { capacity_bytes: 10_000, enabled: true }));
        for book in 1..1000 {
            let _stored = lead(&cache, &Query::Book(id(book))).fill(absence()).stored;
        }
        let status = cache.status();
        assert!(status.bytes <= 10_000 && status.entries > 10, "{status:?}");
    }
}
