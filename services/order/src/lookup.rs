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
    /// An order, if there is one. That there is none is said only after catching up.
    ///
    /// # Errors
    /// If it can't be told now, and why.
    pub async fn order(&self, id: OrderId) -> Result<Option<Order>, String> {
        let find = move |readers: &Readers| readers.order(id);
        if let Some(order) = self.read(find).await? {
            return Ok(Some(order));
        }
        self.catch_up().await?;
        self.read(find).await
    }

    /// A page of orders, newest first, and whether more follow. Where catching up is not possible, what
    /// the book has is shown.
    ///
    /// # Errors
    /// If the book can't be read.
    pub async fn orders(&self, before: Option<OrderId>, limit: u32) -> Result<(Vec<Order>, bool), String> {
        if let Err(problem) = self.catch_up().await {
            tracing::debug!(problem, "orders are listed as far as they are known here");
        }
        self.read(move |readers| readers.page(before, limit)).await
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
