//! Copies of whole shards for backups, passed on from a member while they come in.
//!
//! A copy is released like any read (R1): once the shard is committed up to its last entry, and only if the
//! view has not changed since it was asked for. What it then holds is history that nothing can undo. Each copy
//! has a link of its own, so that a caller who takes it slowly holds up nothing else; what is not taken yet
//! waits at the member, in the file that it made for this.

use std::time::Duration;

use bytes::Bytes;
use common::backup::SnapshotInfo;
use common::exit::with_causes;
use common::link::{self, LinkReceiver, LinkSender, Opened};
use common::runfile;
use futures_util::{Stream, stream};
use protocol::call::{BackupFacts, CallId, CatalogCall, CatalogReply};
use protocol::ids::ShardId;
use protocol::view::View;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::app::{App, Failure};
use crate::shards::ShardState;

/// How many copies may be under way: each takes a shard's size of a member's disk for as long as it takes.
pub const BACKUPS_MAX: usize = 2;
/// How long a member may take to make and check a copy: seconds for a million books.
const MAKING: Duration = Duration::from_secs(300);
/// How long the next part may take.
const PART: Duration = Duration::from_secs(30);
/// There is one call on each link.
const CALL: CallId = CallId(1);

/// A copy that is ready to be taken.
#[derive(Debug)]
pub struct Backup {
    /// What it holds.
    pub info: SnapshotInfo,
    link: Link,
}

#[derive(Debug)]
struct Link {
    // Dropped first: without its sender, the link ends.
    _sender: LinkSender<CatalogCall>,
    receiver: LinkReceiver<CatalogReply>,
    /// Writes the link's outbox; ends with this value.
    _flush: JoinSet<()>,
    _place: OwnedSemaphorePermit,
}

impl App {
    /// A copy of a shard, as a member has it now.
    ///
    /// # Errors
    /// If no member gives one, or too many are under way.
    pub async fn backup(&self, shard: ShardId) -> Result<Backup, Failure> {
        let unavailable = |detail: String| Failure::Unavailable { detail };
        let place = self.parts().backups.clone().try_acquire_owned();
        let place = place.map_err(|_| unavailable(format!("{BACKUPS_MAX} backups are under way")))?;
        let state = self.parts().shards.get(shard);
        let state = state.ok_or_else(|| unavailable(format!("there is no shard {shard}")))?;
        let view = state.view().ok_or_else(|| unavailable(format!("shard {shard} has no view yet")))?;
        let slot = state.next_replica(&view, None);
        let slot = slot.ok_or_else(|| unavailable(format!("shard {shard} has no member to be asked")))?;
        let node = slot.node.clone();
        let failed =
            |problem: String| unavailable(format!("{node} gave no copy of shard {shard}: {problem}"));
        let known = self.config().catalog(&node).ok_or_else(|| failed("it is not configured".to_owned()))?;
        let address = runfile::resolve(self.config(), &node, "listen", &known.listen);
        let connected =
            link::connect(address.as_str(), &self.parts().credentials, self.id(), link::HANDSHAKE_TIMEOUT);
        let connected = connected.await.map_err(|problem| failed(with_causes(&problem)))?;
        let Opened { sender, receiver, flush } = link::open(connected);
        let mut flushing = JoinSet::new();
        flushing.spawn(flush.run());
        let call = CatalogCall::Backup { call: CALL, shard, store: slot.store, epoch: view.epoch };
        sender.send(&call).map_err(|problem| failed(with_causes(&problem)))?;
        let mut link = Link { _sender: sender, receiver, _flush: flushing, _place: place };
        let facts = timeout(MAKING, link.begin()).await;
        let facts = facts.map_err(|_| failed("it takes too long".to_owned()))?.map_err(&failed)?;
        self.released(state, &view, &facts).await.map_err(failed)?;
        let info = SnapshotInfo {
            shard: shard.0,
            shards: self.config().shards.count.get(),
            node: node.to_string(),
            last_index: facts.snapshot.last.0,
            chain: facts.snapshot.chain.to_string(),
            digest: facts.snapshot.digest.to_string(),
            bytes: facts.snapshot.bytes,
            blake3: blake3::Hash::from_bytes(facts.blake3).to_hex().to_string(),
        };
        tracing::info!(%shard, node = %info.node, last_index = info.last_index, bytes = info.bytes, "a backup begins");
        Ok(Backup { info, link })
    }

    /// R1, for a copy.
    async fn released(&self, state: &ShardState, view: &View, facts: &BackupFacts) -> Result<(), String> {
        let patience = self.config().timeouts.read * 4;
        let changed = || "the view has changed since it was asked for".to_owned();
        tokio::select! {
            biased;
            () = state.view_above(view.epoch) => Err(changed()),
            committed = timeout(patience, state.committed(facts.snapshot.last)) => {
                committed.map_err(|_| "its last entry is not committed yet".to_owned())?;
                let same = state.view().is_some_and(|now| now.epoch == view.epoch);
                if same { Ok(()) } else { Err(changed()) }
            }
        }
    }
}

impl Link {
    async fn begin(&mut self) -> Result<BackupFacts, String> {
        loop {
            let reply = self.receiver.recv().await.map_err(|problem| with_causes(&problem))?;
            if let CatalogReply::BackupBegin { call: CALL, result } = reply {
                return result;
            }
        }
    }

    /// The next bytes; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            let reply = timeout(PART, self.receiver.recv()).await;
            let reply = reply.map_err(|_| "the member is silent".to_owned())?;
            match reply.map_err(|problem| with_causes(&problem))? {
                CatalogReply::SnapshotPart { call: CALL, bytes } => return Ok(Some(bytes)),
                CatalogReply::SnapshotEnd { call: CALL, result } => return result.map(|_| None),
                _ => {}
            }
        }
    }
}

impl Backup {
    /// Its bytes, as they come.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
        stream::try_unfold(self.link, |mut link| async move {
            let next = link.next().await.map_err(|problem| {
                tracing::warn!(problem, "a backup broke off");
                std::io::Error::other(problem)
            })?;
            Ok(next.map(|bytes| (bytes, link)))
        })
    }
}
