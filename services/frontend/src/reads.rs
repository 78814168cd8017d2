//! Reads: by the view, from one of its members, and released only when they are committed.
//!
//! R1 A read is released to its caller only once the commit index known here has reached its version,
//! and only if the view has not changed since it was sent; else it is asked again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::try_join_all;
use protocol::call::{Answer, Content, LedgerPage, PageQuery, Query, ReadReply, TopicCount};
use protocol::catalogue::Book;
use protocol::ids::{BookId, Epoch, Index, NodeId, ShardId};
use protocol::release::{Release, release};
use protocol::view::View;
use tokio::sync::watch;
use tokio::time::{timeout, timeout_at};

use crate::app::{App, CacheUse, Failure, Freshness, Served};
use crate::cache::{Cached, Miss};
use crate::render::{BookAnswer, Rendered};
use crate::shards::ShardState;

/// How many read timeouts a caller waits: one for a replica that is late, one for another, and the
/// time to find that a replica is gone.
const PATIENCE_TIMEOUTS: u32 = 4;

enum Attempt {
    Answered(Answer, NodeId),
    /// The view has changed, or there is none: wait for another, and ask again.
    ViewChanged,
    /// This replica did not answer; another may.
    Failed(NodeId, String),
}

/// Why a read had no answer: what its shard waits for, if that is known, else why the last replica gave none.
fn cause(state: &ShardState, last: String) -> String {
    state.trouble().map_or(last, |what| format!("it waits for {what}"))
}

/// What may make a read possible that was not.
struct News {
    views: watch::Receiver<Option<Arc<View>>>,
    links: watch::Receiver<u64>,
}

impl News {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.views.changed() => {}
            _ = self.links.changed() => {}
        }
    }
}

impl App {
    /// The answer about a book, if it is cached: one look into the map. Whoever answers with it calls
    /// [`App::cache_hit`].
    #[must_use]
    pub fn cached_book(&self, id: BookId) -> Option<Arc<BookAnswer>> {
        self.parts().cache.book(id)
    }

    /// Counts an answer from the cache.
    pub fn cache_hit(&self) {
        self.parts().cache.hit();
    }

    /// A book.
    ///
    /// # Errors
    /// If no replica that may be asked answers.
    pub async fn book(&self, id: BookId, freshness: Freshness) -> Result<Served<Arc<BookAnswer>>, Failure> {
        let served = self.cached(Query::Book(id), freshness).await?;
        match served.answer {
            Cached::Book(answer) => Ok(Served { answer, cache: served.cache }),
            Cached::Rendered(_) => Err(Failure::unexpected(&Query::Book(id))),
        }
    }

    /// A page of books.
    ///
    /// # Errors
    /// If no replica that may be asked answers.
    pub async fn page(&self, query: PageQuery, freshness: Freshness) -> Result<Served<Rendered>, Failure> {
        self.rendered(Query::Page(query), freshness).await
    }

    /// All topics.
    ///
    /// # Errors
    /// If no replica that may be asked answers.
    pub async fn topics(&self, freshness: Freshness) -> Result<Served<Rendered>, Failure> {
        self.rendered(Query::Topics, freshness).await
    }

    async fn rendered(&self, query: Query, freshness: Freshness) -> Result<Served<Rendered>, Failure> {
        let served = self.cached(query.clone(), freshness).await?;
        match served.answer {
            Cached::Rendered(answer) => Ok(Served { answer, cache: served.cache }),
            Cached::Book(_) => Err(Failure::unexpected(&query)),
        }
    }

    async fn cached(&self, query: Query, freshness: Freshness) -> Result<Served<Cached>, Failure> {
        let cache = &self.parts().cache;
        let deadline = self.read_deadline();
        if freshness == Freshness::PastCache {
            let answer = self.fetch(&query, deadline).await?;
            return Ok(Served { answer, cache: CacheUse::Bypass });
        }
        loop {
            if let Some(answer) = cache.get(&query) {
                return Ok(Served { answer, cache: CacheUse::Hit });
            }
            match cache.miss(&query) {
                None => {
                    let answer = self.fetch(&query, deadline).await?;
                    return Ok(Served { answer, cache: CacheUse::Miss { stored: false, collapsed: false } });
                }
                Some(Miss::Lead(flight)) => {
                    let filled = flight.fill(self.fetch(&query, deadline).await?);
                    let cache = CacheUse::Miss { stored: filled.stored, collapsed: false };
                    return Ok(Served { answer: filled.answer, cache });
                }
                Some(Miss::Join(joined)) => {
                    // If it comes to nothing, its failure was another's: look again, while there is time.
                    match timeout_at(deadline.into(), joined).await {
                        Ok(Ok(filled)) => {
                            let cache = CacheUse::Miss { stored: filled.stored, collapsed: true };
                            return Ok(Served { answer: filled.answer, cache });
                        }
                        Ok(Err(_)) if Instant::now() < deadline => {}
                        Ok(Err(_)) | Err(_) => {
                            let detail = "no replica has answered in time".to_owned();
                            return Err(Failure::Unavailable { detail });
                        }
                    }
                }
            }
        }
    }

    /// Until when a read that begins now may take.
    fn read_deadline(&self) -> Instant {
        Instant::now() + self.config().timeouts.read * PATIENCE_TIMEOUTS
    }

    async fn fetch(&self, query: &Query, deadline: Instant) -> Result<Cached, Failure> {
        match query {
            Query::Book(id) => {
                let shard = ShardId::of_book(*id, self.config().shards.count.get());
                let (content, node) = self.read_until(deadline, shard, query.clone()).await?;
                match content {
                    Content::Book(book) => Ok(Cached::Book(Arc::new(BookAnswer::new(book, &node)))),
                    _ => Err(Failure::unexpected(query)),
                }
            }
            Query::Page(page) => self.fetch_page(page, deadline).await.map(Cached::Rendered),
            Query::Topics => self.fetch_topics(deadline).await.map(Cached::Rendered),
            Query::Sales { .. } | Query::ChainAt(_) | Query::Ledger { .. } => Err(Failure::unexpected(query)),
        }
    }

    /// A page over all shards: each gives its first books behind the token, and the lowest ids of all
    /// are the page.
    async fn fetch_page(&self, page: &PageQuery, deadline: Instant) -> Result<Rendered, Failure> {
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let mut all: Vec<Book> = Vec::new();
        let mut any_more = false;
        let mut served_by = self.id().clone();
        for (content, node) in self.read_all_shards(&Query::Page(page.clone()), deadline).await? {
            let Content::Page { books, more } = content else {
                return Err(Failure::unexpected(&Query::Page(page.clone())));
            };
            all.extend(books);
            any_more |= more;
            served_by = node;
        }
        all.sort_by_key(|book| book.id);
        any_more |= all.len() > limit;
        all.truncate(limit);
        Ok(Rendered::page(all, any_more, &served_by))
    }

    async fn fetch_topics(&self, deadline: Instant) -> Result<Rendered, Failure> {
        let mut all = BTreeMap::new();
        let mut served_by = self.id().clone();
        for (content, node) in self.read_all_shards(&Query::Topics, deadline).await? {
            let Content::Topics(topics) = content else { return Err(Failure::unexpected(&Query::Topics)) };
            for topic in topics {
                let more = topic.books;
                let known = all.entry(topic.key.clone());
                known.and_modify(|known: &mut TopicCount| known.books += more).or_insert(topic);
            }
            served_by = node;
        }
        Ok(Rendered::topics(all.into_values().collect(), &served_by))
    }

    /// What has changed the stock of a shard's books after an index.
    ///
    /// # Errors
    /// If no replica that may be asked answers.
    pub async fn ledger(
        &self,
        shard: ShardId,
        after: Index,
        limit: u32,
    ) -> Result<(LedgerPage, NodeId), Failure> {
        let query = Query::Ledger { after, limit };
        match self.read(shard, query.clone()).await? {
            (Content::Ledger(page), node) => Ok((page, node)),
            _ => Err(Failure::unexpected(&query)),
        }
    }

    async fn read_all_shards(
        &self,
        query: &Query,
        deadline: Instant,
    ) -> Result<Vec<(Content, NodeId)>, Failure> {
        let shards: Vec<ShardId> = self.config().shard_ids().collect();
        let reads = shards.into_iter().map(|shard| self.read_until(deadline, shard, query.clone()));
        try_join_all(reads).await
    }

    /// Reads from a member of a shard's view, and holds the answer back until it may be shown.
    ///
    /// # Errors
    /// If nobody who may be asked answers in time.
    pub async fn read(&self, shard: ShardId, query: Query) -> Result<(Content, NodeId), Failure> {
        self.read_until(self.read_deadline(), shard, query).await
    }

    async fn read_until(
        &self,
        deadline: Instant,
        shard: ShardId,
        query: Query,
    ) -> Result<(Content, NodeId), Failure> {
        let unavailable =
            |why: &str| Failure::Unavailable { detail: format!("shard {shard} can't be read: {why}") };
        let Some(state) = self.parts().shards.get(shard) else { return Err(unavailable("there is none")) };
        // Listened to from before the first attempt, so that no change is missed in between.
        let mut news = News { views: state.views(), links: self.parts().catalogs.changes() };
        let mut why = "no replica has answered".to_owned();
        let mut not = None;
        let mut failures = 0_u32;
        loop {
            let attempt = timeout_at(deadline.into(), self.attempt(state, &query, not.as_ref())).await;
            match attempt {
                Ok(Attempt::Answered(answer, node)) => return Ok((answer.content, node)),
                Ok(Attempt::ViewChanged) => not = None,
                Ok(Attempt::Failed(node, problem)) => {
                    why = format!("{node}: {problem}");
                    not = Some(node);
                    failures += 1;
                }
                Err(_) => return Err(unavailable(&cause(state, why))),
            }
            // One retry at once, on another member. After that only something new can help.
            if failures > 0
                && failures.is_multiple_of(2)
                && timeout_at(deadline.into(), news.next()).await.is_err()
            {
                return Err(unavailable(&cause(state, why)));
            }
        }
    }

    async fn attempt(&self, state: &ShardState, query: &Query, not: Option<&NodeId>) -> Attempt {
        let Some(view) = state.view() else {
            state.view_above(Epoch(0)).await;
            return Attempt::ViewChanged;
        };
        let Some(slot) = state.next_replica(&view, not).or_else(|| state.next_replica(&view, None)) else {
            state.view_above(view.epoch).await;
            return Attempt::ViewChanged;
        };
        let node = slot.node.clone();
        let read = self.parts().catalogs.read(&node, state.id, slot.store, view.epoch, query.clone());
        let Ok(waiting) = read else {
            slot.end(false);
            return Attempt::Failed(node, "not connected".to_owned());
        };
        let reply = timeout(self.config().timeouts.read, waiting).await;
        match reply {
            Ok(Some(ReadReply::Answer(answer))) => {
                slot.end(true);
                self.release(state, &view, answer, node).await
            }
            Ok(Some(ReadReply::Sealed { .. })) => {
                slot.end(true);
                Attempt::Failed(node, "has promised a newer view".to_owned())
            }
            Ok(Some(ReadReply::NotHere)) => {
                slot.end(false);
                Attempt::Failed(node, "holds another store".to_owned())
            }
            Ok(Some(ReadReply::Failed(problem))) => {
                slot.end(false);
                Attempt::Failed(node, problem)
            }
            Ok(None) => {
                slot.end(false);
                Attempt::Failed(node, "the connection broke".to_owned())
            }
            Err(_) => {
                slot.end(false);
                Attempt::Failed(node, "did not answer in time".to_owned())
            }
        }
    }

    /// R1: held back until its version is committed, and dropped if the view has changed by then.
    async fn release(&self, state: &ShardState, view: &Arc<View>, answer: Answer, node: NodeId) -> Attempt {
        loop {
            let now = state.view().map(|now| now.epoch);
            match release(answer.version, view.epoch, now, state.commit_index()) {
                Release::Show => return Attempt::Answered(answer, node),
                Release::AskAgain => return Attempt::ViewChanged,
                Release::Hold => tokio::select! {
                    () = state.committed(answer.version.index) => {}
                    () = state.view_above(view.epoch) => {}
                },
            }
        }
    }
}
