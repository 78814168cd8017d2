//! How the store stands, and waiting until it stands well.

use std::time::{Duration, Instant};

use common::api::{NodeState, ReplicaState, ShardStatus, Status};

use super::{LOOK, Store};
use crate::error::ChaosError;

/// How long a look at the store may take.
const LOOK_MAX: Duration = Duration::from_secs(2);

impl Store {
    /// Waits until the store is whole: ready, every node up, every replica a member. Says what was missing in
    /// the end if it is not, after so long.
    pub(crate) async fn whole(&mut self, within: Duration) -> Result<(), String> {
        self.wait(within, whole).await
    }

    /// Waits until the store is whole, and all replicas have the same entries and content.
    pub(crate) async fn level(&mut self, within: Duration) -> Result<(), String> {
        self.wait(within, |status| {
            whole(status)?;
            status.shards.iter().try_for_each(level)
        })
        .await
    }

    /// Waits until a replica is no member any more, so that it may come back with less than it had.
    pub(crate) async fn dropped(&mut self, node: &str, within: Duration) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            let missing = match self.status().await {
                Ok(status) if status.shards.iter().all(|shard| !shard.members.iter().any(|m| m == node)) => {
                    return Ok(());
                }
                Ok(_) => format!("{node} is a member still"),
                Err(problem) => problem.to_string(),
            };
            if begin.elapsed() > within {
                return Err(missing);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn wait(
        &mut self,
        within: Duration,
        is_well: impl Fn(&Status) -> Result<(), String>,
    ) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            let missing = match self.status().await {
                Ok(status) => match self.all_are_ours(&status).and_then(|()| is_well(&status)) {
                    Ok(()) => return Ok(()),
                    Err(missing) => missing,
                },
                Err(problem) => problem.to_string(),
            };
            let ended =
                self.processes.iter_mut().filter_map(|(node, process)| Some((*node, process.ended()?)));
            if let Some((node, status)) = ended.last() {
                return Err(format!("{node} has ended by itself: {status}"));
            }
            if begin.elapsed() > within {
                return Err(missing);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn status(&self) -> Result<Status, ChaosError> {
        let client = self.client(LOOK_MAX)?;
        client.status().await.map_err(|problem| ChaosError::Call(problem.to_string()))
    }

    /// What is said of a process that is gone says nothing of the one in its place.
    fn all_are_ours(&self, status: &Status) -> Result<(), String> {
        for node in &status.nodes {
            let process = self.processes.get(node.id.as_str()).map(super::Process::pid);
            if node.state != NodeState::Up || node.pid != process {
                return Err(format!("{} is {:?} with pid {:?}", node.id, node.state, node.pid));
            }
        }
        Ok(())
    }
}

fn whole(status: &Status) -> Result<(), String> {
    for shard in &status.shards {
        if let Some(waits) = &shard.waiting_for {
            return Err(format!("shard {} waits for {waits}", shard.shard));
        }
        let strange = shard.replicas.iter().find(|replica| replica.state != ReplicaState::Member);
        if let Some(replica) = strange {
            return Err(format!("{} is {:?}, {} behind", replica.id, replica.state, replica.lag));
        }
    }
    Ok(())
}

fn level(shard: &ShardStatus) -> Result<(), String> {
    let mut places =
        shard.replicas.iter().map(|replica| (replica.last_index, &replica.chain, &replica.digest));
    let first = places.next();
    let is_level = first.is_some_and(|(index, ..)| index == shard.commit_index)
        && places.all(|place| Some(place) == first);
    if is_level { Ok(()) } else { Err(format!("the replicas are not level: {:?}", shard.replicas)) }
}
