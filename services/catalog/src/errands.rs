//! What a replica needs from elsewhere, fetched off its thread: pages of a peer's log, a snapshot, and
//! a recount of its own rows.
//!
//! One errand at a time, in order; a replica in resync waits for each before it asks for the next. The
//! link to the peer is kept from one page to the next.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use common::config::Config;
use common::exit::with_causes;
use common::link::{self, Credentials, LinkReceiver, LinkSender, Opened};
use common::runfile;
use common::shutdown::Shutdown;
use protocol::call::{CallId, CatalogCall, CatalogReply, LogPage, SnapshotFacts};
use protocol::ids::{Epoch, Index, NodeId, ShardId};
use tempfile::TempPath;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::pace::Pace;
use crate::shard::Input;
use crate::store::{Readers, StoreError};
use crate::upkeep;

/// How many errands may wait; a replica has one or two under way.
const ERRANDS_MAX: usize = 16;
/// How long a peer may take for a page or for the next part of a snapshot. Making a snapshot of a large
/// store takes seconds before its first part comes.
const PEER_PATIENCE: Duration = Duration::from_secs(30);

/// Something to fetch.
#[derive(Debug)]
pub enum Errand {
    /// A page of a peer's log.
    Pull {
        /// For which of the replica's resyncs.
        resync: u64,
        /// Whose.
        source: NodeId,
        /// After which index.
        after: Index,
    },
    /// A snapshot of a peer.
    Snapshot {
        /// Whose.
        source: NodeId,
        /// One that ends before this is of no use.
        at_least: Index,
    },
    /// A recount of the own rows, which the writer asked for.
    Recount {
        /// The epoch of the call.
        epoch: Epoch,
        /// How many snapshots had been installed.
        installs: u64,
    },
}

/// Why an errand came to nothing.
#[derive(Debug, thiserror::Error)]
enum ErrandError {
    #[error("{0} is not in the configuration")]
    UnknownPeer(NodeId),
    #[error(transparent)]
    Connect(#[from] link::ConnectError),
    #[error("the peer closed the link")]
    Closed(#[from] link::Closed),
    #[error("the peer's answer can't be read")]
    Recv(#[from] link::RecvError),
    #[error("the peer did not answer in time")]
    TimedOut,
    #[error("the peer has no snapshot: {0}")]
    NoSnapshot(String),
    #[error("the snapshot ends at {last}, before our committed {at_least}")]
    TooOld { last: Index, at_least: Index },
    #[error("the snapshot came with {found} bytes instead of {expected}")]
    Incomplete { found: u64, expected: u64 },
    #[error("the snapshot can't be used")]
    Unusable(#[source] StoreError),
    #[error("{}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("checking the snapshot failed")]
    Panicked(#[from] tokio::task::JoinError),
}

/// Carries out a shard's errands.
#[derive(Debug)]
pub struct Errands {
    shard: ShardId,
    readers: Readers,
    requests: mpsc::Receiver<Errand>,
    inputs: SyncSender<Input>,
    /// The resync that goes on, and its pace.
    pace: Option<(u64, Pace)>,
}

struct Peer {
    node: NodeId,
    sender: LinkSender<CatalogCall>,
    receiver: LinkReceiver<CatalogReply>,
    /// Writes the link's outbox; ends with the link.
    _flush: JoinSet<()>,
}

impl Errands {
    /// The errands of a shard, and where to ask for them.
    pub fn new(shard: ShardId, readers: Readers, inputs: SyncSender<Input>) -> (Self, mpsc::Sender<Errand>) {
        let (sender, requests) = mpsc::channel(ERRANDS_MAX);
        (Self { shard, readers, requests, inputs, pace: None }, sender)
    }

    /// Carries out errands until shutdown.
    pub async fn run(
        mut self,
        config: Arc<Config>,
        credentials: Arc<Credentials>,
        me: NodeId,
        mut shutdown: Shutdown,
    ) {
        let mut peer = None;
        loop {
            let errand = tokio::select! {
                errand = self.requests.recv() => errand,
                () = shutdown.wait() => None,
            };
            let Some(errand) = errand else { return };
            let input = tokio::select! {
                input = self.carry_out(errand, &config, &credentials, &me, &mut peer) => input,
                () = shutdown.wait() => return,
            };
            let inputs = self.inputs.clone();
            // The thread may be busy with a large batch: its queue is waited for off the runtime.
            let handed_over = tokio::task::spawn_blocking(move || inputs.send(input)).await;
            if !matches!(handed_over, Ok(Ok(()))) {
                return;
            }
        }
    }

    async fn carry_out(
        &mut self,
        errand: Errand,
        config: &Config,
        credentials: &Credentials,
        me: &NodeId,
        peer: &mut Option<Peer>,
    ) -> Input {
        match errand {
            Errand::Pull { resync, source, after } => {
                // It is asked for once the last one is entered.
                let before = self.pace.take().filter(|(of, _)| *of == resync).map(|(_, pace)| pace);
                if let Some(pace) = before {
                    sleep(pace.rest(Instant::now())).await;
                }
                let asked = Instant::now();
                let page = self.pull(config, credentials, me, peer, &source, after).await;
                if let Ok(LogPage::Entries { entries, last }) = &page {
                    let upto = entries.last().map_or(after, |entry| entry.index);
                    self.pace = Some((resync, Pace::with_page(before, asked, entries.len(), upto, *last)));
                }
                self.or_failed(page.map(|page| Input::Pulled { resync, source, page }), peer)
            }
            Errand::Snapshot { source, at_least } => {
                self.pace = None;
                let snapshot = self.snapshot(config, credentials, me, peer, &source, at_least).await;
                self.or_failed(snapshot, peer)
            }
            Errand::Recount { epoch, installs } => {
                let sound = upkeep::count(self.shard, self.readers.clone(), Readers::recount).await;
                Input::Counted { asked: Some(epoch), installs, sound }
            }
        }
    }

    fn or_failed(&self, result: Result<Input, ErrandError>, peer: &mut Option<Peer>) -> Input {
        result.unwrap_or_else(|problem| {
            tracing::warn!(shard = %self.shard, problem = %with_causes(&problem), "a peer's log could not be had; trying again");
            *peer = None;
            Input::PullFailed
        })
    }

    async fn pull(
        &self,
        config: &Config,
        credentials: &Credentials,
        me: &NodeId,
        peer: &mut Option<Peer>,
        source: &NodeId,
        after: Index,
    ) -> Result<LogPage, ErrandError> {
        let peer = reach(config, credentials, me, peer, source).await?;
        let call = CallId(after.0);
        peer.sender.send(&CatalogCall::Pull { call, shard: self.shard, after })?;
        loop {
            let reply =
                timeout(PEER_PATIENCE, peer.receiver.recv()).await.map_err(|_| ErrandError::TimedOut)??;
            match reply {
                CatalogReply::Pulled { call: answered, page } if answered == call => return Ok(page),
                _ => {}
            }
        }
    }

    async fn snapshot(
        &self,
        config: &Config,
        credentials: &Credentials,
        me: &NodeId,
        peer: &mut Option<Peer>,
        source: &NodeId,
        at_least: Index,
    ) -> Result<Input, ErrandError> {
        let (file, facts) = self.fetch_snapshot(config, credentials, me, peer, source, at_least).await?;
        // Row by row, which takes long: not on the thread of the shard.
        let readers = self.readers.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let snapshot = readers.check_snapshot(&file, &facts)?;
            Ok(Input::Snapshot { file, snapshot })
        });
        checked.await?.map_err(ErrandError::Unusable)
    }

    async fn fetch_snapshot(
        &self,
        config: &Config,
        credentials: &Credentials,
        me: &NodeId,
        peer: &mut Option<Peer>,
        source: &NodeId,
        at_least: Index,
    ) -> Result<(TempPath, SnapshotFacts), ErrandError> {
        let peer = reach(config, credentials, me, peer, source).await?;
        // A name that no other has: what a process that died had begun beside its own, a journal too, is not
        // taken for this one's, and goes at the next start.
        let (file, path) = self.readers.scratch_file().map_err(ErrandError::Unusable)?.into_parts();
        let file_error = |source| ErrandError::File { path: path.to_path_buf(), source };
        let mut file = tokio::fs::File::from_std(file);
        let call = CallId(u64::MAX);
        peer.sender.send(&CatalogCall::Snapshot { call, shard: self.shard })?;
        let mut found = 0;
        loop {
            let reply =
                timeout(PEER_PATIENCE, peer.receiver.recv()).await.map_err(|_| ErrandError::TimedOut)??;
            match reply {
                CatalogReply::SnapshotPart { call: of, bytes } if of == call => {
                    found += bytes.len() as u64;
                    file.write_all(&bytes).await.map_err(file_error)?;
                }
                CatalogReply::SnapshotEnd { call: of, result } if of == call => {
                    let facts = result.map_err(ErrandError::NoSnapshot)?;
                    file.flush().await.map_err(file_error)?;
                    if found != facts.bytes {
                        return Err(ErrandError::Incomplete { found, expected: facts.bytes });
                    }
                    if facts.last < at_least {
                        return Err(ErrandError::TooOld { last: facts.last, at_least });
                    }
                    return Ok((path, facts));
                }
                _ => {}
            }
        }
    }
}

/// The link to a peer, opened if there is none.
async fn reach<'a>(
    config: &Config,
    credentials: &Credentials,
    me: &NodeId,
    peer: &'a mut Option<Peer>,
    node: &NodeId,
) -> Result<&'a mut Peer, ErrandError> {
    if peer.as_ref().is_some_and(|peer| peer.node != *node || peer.sender.is_closed()) {
        *peer = None;
    }
    if peer.is_none() {
        let known = config.catalog(node).ok_or_else(|| ErrandError::UnknownPeer(node.clone()))?;
        let address = runfile::resolve(config, node, "listen", &known.listen);
        let connected = link::connect(address.as_str(), credentials, me, link::HANDSHAKE_TIMEOUT).await?;
        let Opened { sender, receiver, flush } = link::open(connected);
        let mut task = JoinSet::new();
        task.spawn(flush.run());
        *peer = Some(Peer { node: node.clone(), sender, receiver, _flush: task });
    }
    peer.as_mut().ok_or(ErrandError::TimedOut)
}
