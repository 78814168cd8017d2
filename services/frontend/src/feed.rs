//! What order nodes follow: the sales of each shard, in the order of its log, up to the commit index.
//!
//! What was committed of late is at hand; for what lies further back a replica is asked, under the same rules as
//! for any read, so that nothing is fed that might still be undone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::call::Feed;
use protocol::catalogue::Order;
use protocol::ids::{Chain, Index, ShardId};
use protocol::writer::Committed;
use tokio::sync::watch;

/// How many sales of a shard are kept at hand; a follower further behind is served by a replica.
const SALES_KEPT: usize = 16 * 1024;
/// How many commits are kept at hand: each may be of a single write.
const COMMITS_KEPT: usize = 16 * 1024;

/// How many sales a feed has at the most, but for a single commit's: a frame has its limits.
const FEED_SALES: usize = 1024;

/// The recent sales of all shards. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Feeds(Arc<BTreeMap<ShardId, ShardFeed>>);

#[derive(Debug, Default)]
struct ShardFeed {
    recent: Mutex<Recent>,
    /// Rises whenever somebody waits for what is committed to be fed.
    wanted: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Recent {
    commits: VecDeque<Recently>,
    sales: usize,
}

#[derive(Debug)]
struct Recently {
    after: Index,
    index: Index,
    chain: Chain,
    sales: Vec<(Index, Order)>,
}

impl Feeds {
    /// Feeds of these shards.
    #[must_use]
    pub fn new(shards: impl Iterator<Item = ShardId>) -> Self {
        Self(Arc::new(shards.map(|shard| (shard, ShardFeed::default())).collect()))
    }

    /// Something was committed.
    pub fn push(&self, shard: ShardId, committed: Committed) {
        let Some(feed) = self.0.get(&shard) else { return };
        let mut recent = feed.recent.lock();
        let Committed { after, index, chain, sales } = committed;
        let Some(sales) = sales else {
            // A new writer found entries whose sales it has not seen: a replica knows them.
            *recent = Recent::default();
            return;
        };
        recent.sales += sales.len();
        recent.commits.push_back(Recently { after, index, chain, sales });
        while recent.commits.len() > COMMITS_KEPT || recent.sales > SALES_KEPT && recent.commits.len() > 1 {
            let gone = recent.commits.pop_front().map_or(0, |oldest| oldest.sales.len());
            recent.sales -= gone;
        }
    }

    /// What was committed after an index, up to a bounded number of sales, if it is at hand from there on.
    #[must_use]
    pub fn after(&self, shard: ShardId, after: Index) -> Option<Feed> {
        let recent = self.0.get(&shard)?.recent.lock();
        let start = recent.commits.partition_point(|commit| commit.after < after);
        if recent.commits.get(start)?.after != after {
            return None;
        }
        let mut feed = Feed { shard, after, upto: after, chain: None, sales: Vec::new() };
        for commit in recent.commits.iter().skip(start) {
            feed.sales.extend(commit.sales.iter().cloned());
            feed.upto = commit.index;
            feed.chain = Some(commit.chain);
            if feed.sales.len() >= FEED_SALES {
                break;
            }
        }
        Some(feed)
    }

    /// Somebody waits for what is committed of a shard: it is fed without gathering.
    pub fn want(&self, shard: ShardId) {
        if let Some(feed) = self.0.get(&shard) {
            feed.wanted.send_modify(|wanted| *wanted += 1);
        }
    }

    /// Changes whenever somebody waits.
    #[must_use]
    pub fn wanted(&self, shard: ShardId) -> Option<watch::Receiver<u64>> {
        self.0.get(&shard).map(|feed| feed.wanted.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(after: u64, index: u64) -> Committed {
        let (after, index) = (Index(after), Index(index));
        Committed { after, index, chain: Chain(u128::from(index.0)), sales: Some(Vec::new()) }
    }

    #[test]
    fn a_follower_gets_all_from_where_it_stands_or_nothing() {
        let shard = ShardId(0);
        let feeds = Feeds::new([shard].into_iter());
        for (after, index) in [(5, 7), (7, 8), (8, 12)] {
            feeds.push(shard, commit(after, index));
        }
        let upto = |after| feeds.after(shard, Index(after)).map(|feed| feed.upto.0);
        assert_eq!([upto(5), upto(7), upto(8)], [Some(12); 3]);
        assert_eq!([upto(4), upto(6), upto(12)], [None; 3]);
        feeds.push(shard, Committed { sales: None, ..commit(12, 13) });
        assert_eq!(upto(5), None, "a new writer's first commit hides what came before");
    }
}
