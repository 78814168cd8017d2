//! Looking up orders, and catching up with the shards before saying that there is none.

use std::sync::Arc;
use std::time::Duration;

use common::exit::with_causes;
use protocol::call::InternalCall;
use protocol::catalogue::Order;
use protocol::ids::{Index, OrderId, ShardId};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::book::{BookError, Readers};
use crate::buys::Buys;
use crate::projection::{Input, Places};

/// What a look at the orders needs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The book.
    pub readers: Readers,
    /// Knows the link on which the shards' commit indexes are asked for.
    pub buys: Arc<Buys>,
    /// How far the book has followed the shards.
    pub places: watch::Receiver<Places>,
    /// Hears of a damaged book.
    pub damage: mpsc::Sender<Input>,
    /// How long catching up may take.
    pub patience: Duration,
}

impl Lookup {
    /// An order, if there is one. That there is none is said only after catching up, and of a book that has not
    /// begun anew meanwhile.
    ///
    /// # Errors
    /// If it can't be told now, and why.
    pub async fn order(&self, id: OrderId) -> Result<Option<Order>, String> {
        let find = move |readers: &Readers| readers.order(id);
        if let Some(order) = self.read(find).await? {
            return Ok(Some(order));
        }
        loop {
            let restarts = self.restarts();
            self.catch_up().await?;
            let found = self.read(find).await?;
            if found.is_some() || self.restarts() == restarts {
                return Ok(found);
            }
        }
    }

    /// A page of orders, newest first, and whether more follow. Where catching up is not possible, what
    /// the book has is shown.
    ///
    /// # Errors
    /// If the book can't be read.
    pub async fn orders(&self, before: Option<OrderId>, limit: u32) -> Result<(Vec<Order>, bool), String> {
        loop {
            let restarts = self.restarts();
            if let Err(problem) = self.catch_up().await {
                tracing::debug!(problem, "orders are listed as far as they are known here");
            }
            let page = self.read(move |readers| readers.page(before, limit)).await?;
            if self.restarts() == restarts {
                return Ok(page);
            }
        }
    }

    /// Waits until the book has what was committed in all shards when this was called.
    async fn catch_up(&self) -> Result<(), String> {
        let follow = async {
            let goals = self.commit_indexes().await?;
            let mut places = self.places.clone();
            let there = |places: &Places| goals.iter().all(|(shard, goal)| reached(places, *shard) >= *goal);
            places.wait_for(there).await.map_err(|_| "this order node is stopping".to_owned())?;
            Ok(())
        };
        timeout(self.patience, follow).await.unwrap_or_else(|_| {
            Err(format!("the book of orders has not caught up with the shards in {:?}", self.patience))
        })
    }

    fn restarts(&self) -> u64 {
        self.places.borrow().values().map(|place| place.restarts).sum()
    }

    async fn commit_indexes(&self) -> Result<Vec<(ShardId, Index)>, String> {
        let line = self.buys.line().ok_or("no front end can be reached")?;
        let shards: Vec<ShardId> = self.places.borrow().keys().copied().collect();
        let mut asked = Vec::with_capacity(shards.len());
        for shard in shards {
            let (call, waiting) = line.commits.register();
            let sent = line.sender.send(&InternalCall::CommitIndex { call, shard });
            sent.map_err(|problem| problem.to_string())?;
            asked.push((shard, waiting));
        }
        let mut goals = Vec::with_capacity(asked.len());
        for (shard, waiting) in asked {
            let answer = waiting.await.ok_or("the link to the front end broke")?;
            goals.push((shard, answer?));
        }
        Ok(goals)
    }

    /// Reads the book on a thread that may block.
    async fn read<T, F>(&self, read: F) -> Result<T, String>
    where
        T: Send + 'static,
        F: FnOnce(&Readers) -> Result<T, BookError> + Send + 'static,
    {
        let readers = self.readers.clone();
        let result = tokio::task::spawn_blocking(move || read(&readers)).await;
        let failure = "the book of orders can't be read now".to_owned();
        match result {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(problem)) => {
                tracing::error!(problem = %with_causes(&problem), "the book of orders can't be read");
                if problem.is_damage() {
                    // A full queue holds whatever else will find the damage.
                    drop(self.damage.try_send(Input::Damaged(problem)));
                }
                Err(failure)
            }
            Err(problem) => {
                tracing::error!(%problem, "a look at the book of orders failed");
                Err(failure)
            }
        }
    }
}

fn reached(places: &Places, shard: ShardId) -> Index {
    places.get(&shard).map(|place| place.reached).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use common::link::{self, Pending, Unsent};
    use tokio::task::{JoinSet, yield_now};
    use tokio::time::Instant;

    use super::*;
    use crate::book::Book;
    use crate::buys::Line;
    use crate::projection::Place;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// The book is where it must be, after so many restarts.
    fn at(restarts: u64) -> Places {
        let mut place = Place::default();
        (place.restarts, place.reached) = (restarts, Index(7));
        BTreeMap::from([(ShardId(0), place)])
    }

    async fn next_call(unsent: &Unsent<InternalCall>) -> InternalCall {
        let taken = async {
            loop {
                if let Some(call) = unsent.take().unwrap().pop() {
                    return call;
                }
                yield_now().await;
            }
        };
        timeout(PATIENCE, taken).await.unwrap()
    }

    #[tokio::test]
    async fn a_book_that_began_anew_is_caught_up_with_again() {
        let dir = tempfile::tempdir().unwrap();
        let buys = Arc::new(Buys::new(PATIENCE));
        let (sender, unsent) = link::detached();
        let line = Line { sender, commits: Pending::default() };
        let commits = line.commits.clone();
        let _up = buys.line_up(0, line, Instant::now());
        let (published, places) = watch::channel(at(0));
        let lookup = Lookup {
            readers: Book::open(dir.path(), 1).unwrap().readers,
            buys,
            places,
            damage: mpsc::channel(1).0,
            patience: PATIENCE,
        };
        let mut looking = JoinSet::new();
        looking.spawn(async move { lookup.order(OrderId(1)).await });
        for restarts in [1, 1] {
            let InternalCall::CommitIndex { call, .. } = next_call(&unsent).await else {
                panic!("a commit index is asked for")
            };
            published.send_replace(at(restarts));
            commits.resolve(call, Ok(Index(7)));
        }
        let found = timeout(PATIENCE, looking.join_next()).await.unwrap().unwrap().unwrap();
        assert_eq!(found, Ok(None));
    }
}
