//! The links to the catalog nodes.
//!
//! One task per node keeps its link up. What replicas say goes to the shards' writers, answers to reads
//! go to whoever waits for them. A link that breaks is opened anew at once; if that is refused, the
//! writers hear that the node is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use common::config::Config;
use common::exit::with_causes;
use common::link::{
    self, Backoff, Closed, Complaint, ConnectError, Credentials, LinkSender, Opened, Pending, Waiting,
};
use common::runfile;
use protocol::call::{CatalogCall, CatalogReply, Query, ReadReply};
use protocol::ids::{Epoch, NodeId, ShardId, StoreId};
use protocol::message::ToReplica;
use tokio::sync::{Notify, watch};

use crate::writers::{ShardEvent, Writers};

/// The first and the longest pause between attempts to reach a node. A heartbeat cuts a pause short.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// All catalog nodes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalogs(Arc<Links>);

#[derive(Debug)]
struct Links {
    nodes: BTreeMap<NodeId, CatalogLink>,
    /// Rises with every link that is opened or closed.
    changes: watch::Sender<u64>,
}

/// The link to one node.
#[derive(Debug, Default)]
struct CatalogLink {
    sender: ArcSwapOption<LinkSender<CatalogCall>>,
    reads: Pending<ReadReply>,
    /// The node has been heard of: try to connect now.
    poke: Notify,
}

impl Catalogs {
    /// The nodes of a configuration, not connected yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let links = config.catalogs.iter().map(|node| (node.id.clone(), CatalogLink::default()));
        Self(Arc::new(Links { nodes: links.collect(), changes: watch::Sender::new(0) }))
    }

    /// Changes with every link that is opened or closed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Puts a message for a replica where [`Catalogs::push`] finds it; lost if there is no link.
    pub fn put(&self, node: &NodeId, shard: ShardId, message: ToReplica) {
        let Some(sender) = self.0.nodes.get(node).and_then(|link| link.sender.load_full()) else { return };
        // A link that has just closed loses it as well: the writer asks again on the next one.
        drop(sender.put(&CatalogCall::Replicate { shard, message }));
    }

    /// Sends a replica what was put.
    pub fn push(&self, node: &NodeId) {
        if let Some(sender) = self.0.nodes.get(node).and_then(|link| link.sender.load_full()) {
            sender.push();
        }
    }

    /// Asks a replica. The answer is `None` if the link breaks before it comes.
    ///
    /// # Errors
    /// If there is no link.
    pub fn read(
        &self,
        node: &NodeId,
        shard: ShardId,
        store: StoreId,
        epoch: Epoch,
        query: Query,
    ) -> Result<Waiting<ReadReply>, Closed> {
        let link = self.0.nodes.get(node).ok_or(Closed)?;
        let sender = link.sender.load_full().ok_or(Closed)?;
        let (call, waiting) = link.reads.register();
        sender.send(&CatalogCall::Read { call, shard, store, epoch, query })?;
        Ok(waiting)
    }

    /// A node has been heard of: if there is no link to it, now is the time.
    pub fn poke(&self, node: &NodeId) {
        if let Some(link) = self.0.nodes.get(node) {
            link.poke.notify_one();
        }
    }

    /// Keeps the link to a node up, for ever.
    pub async fn keep(
        &self,
        node: &NodeId,
        config: &Config,
        credentials: &Credentials,
        me: &NodeId,
        writers: &Writers,
    ) {
        let (Some(link), Some(known)) = (self.0.nodes.get(node), config.catalog(node)) else { return };
        let shards = config.shards_of(node);
        let mut backoff = Backoff::new(RECONNECT.0, RECONNECT.1);
        let (mut complaint, mut told) = (Complaint::default(), Told::Nothing);
        loop {
            let began = Instant::now();
            let address = runfile::resolve(config, node, "listen", &known.listen);
            match link::connect(address.as_str(), credentials, me, link::HANDSHAKE_TIMEOUT).await {
                Ok(connected) => {
                    tracing::info!(%node, %address, "connected");
                    complaint.settle();
                    told = Told::Nothing;
                    let opened = link::open(connected);
                    link.serve(opened, node, &shards, writers, &self.0.changes).await;
                    tracing::warn!(%node, "the connection broke");
                    if began.elapsed() >= link::STABLE {
                        // Once at once: a node that was restarted is not "gone".
                        backoff.reset();
                        continue;
                    }
                }
                Err(problem) => {
                    if complaint.is_news(&problem) {
                        tracing::warn!(%node, problem = %with_causes(&problem), "not reached; trying on");
                    }
                    let news = Told::of(&problem);
                    if news > told {
                        told = news;
                        for shard in &shards {
                            writers.tell(*shard, news.event(node)).await;
                        }
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.pause(link::spread())) => {}
                () = link.poke.notified() => {}
            }
        }
    }
}

/// What the writers have been told of a node that is not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Nothing,
    /// It takes connections, but says nothing.
    Silent,
    /// It takes none.
    Lost,
}

impl Told {
    fn of(problem: &ConnectError) -> Self {
        match problem {
            ConnectError::TimedOut { .. } => Self::Silent,
            ConnectError::Refused { .. }
            | ConnectError::Rejected { .. }
            | ConnectError::OtherShards { .. }
            | ConnectError::Io { .. } => Self::Lost,
        }
    }

    fn event(self, node: &NodeId) -> ShardEvent {
        match self {
            Self::Nothing | Self::Silent => ShardEvent::Silent(node.clone()),
            Self::Lost => ShardEvent::Lost(node.clone()),
        }
    }
}

impl CatalogLink {
    async fn serve(
        &self,
        opened: Opened<CatalogCall, CatalogReply>,
        node: &NodeId,
        shards: &[ShardId],
        writers: &Writers,
        changes: &watch::Sender<u64>,
    ) {
        let Opened { sender, mut receiver, flush } = opened;
        self.sender.store(Some(Arc::new(sender)));
        changes.send_modify(|changes| *changes += 1);
        let serving = async {
            for shard in shards {
                writers.tell(*shard, ShardEvent::Connected(node.clone())).await;
            }
            loop {
                let replies = match receiver.recv_many().await {
                    Ok(replies) => replies,
                    Err(problem) => return problem,
                };
                for reply in replies {
                    self.take(reply, node, writers).await;
                }
            }
        };
        tokio::select! {
            problem = serving => tracing::debug!(%node, problem = %with_causes(&problem), "link ended"),
            () = flush.run() => {}
        }
        self.sender.store(None);
        self.reads.fail_all();
        changes.send_modify(|changes| *changes += 1);
    }

    async fn take(&self, reply: CatalogReply, node: &NodeId, writers: &Writers) {
        match reply {
            CatalogReply::Replicate { shard, said } => {
                writers.tell(shard, ShardEvent::Said(node.clone(), said)).await;
            }
            CatalogReply::Read { call, reply } => self.reads.resolve(call, reply),
            CatalogReply::Pulled { .. }
            | CatalogReply::SnapshotPart { .. }
            | CatalogReply::SnapshotEnd { .. }
            | CatalogReply::BackupBegin { .. } => {
                tracing::debug!(%node, "an answer to what was not asked");
            }
        }
    }
}
