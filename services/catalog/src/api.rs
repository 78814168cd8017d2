//! What front ends and peers may ask of a catalog node over a link.
//!
//! All that has come in one read of the socket is handled together: the reads of books among it share
//! one look at the store, which is opened after the last of them arrived. SQL runs on blocking threads,
//! never on the runtime.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use common::exit::with_causes;
use common::link::{self, Connected, LinkSender, Opened, RecvError};
use protocol::call::{
    BackupFacts, CallId, CatalogCall, CatalogReply, LogPage, Query, ReadReply, SnapshotFacts,
};
use protocol::ids::{Epoch, Index, ShardId, StoreId};
use protocol::replica::may_be_read;
use tempfile::NamedTempFile;
use tokio::task::JoinSet;

use crate::shard::{Input, Shard};
use crate::store::{LogSlice, Readers, StoreError};

/// The most entries and bytes of a page of the log: large enough that a replica that missed much gets
/// on, small enough that to enter one holds up nobody who shares the machine for long.
const PAGE_ENTRIES_MAX: usize = 1024;
const PAGE_BYTES_MAX: usize = 4 << 20;
/// The size of a snapshot's parts.
const PART_BYTES: usize = 256 << 10;
/// How many pieces of work of one link may be under way. Further reads are turned away, so that the link
/// goes on to be read: it carries the appends as well.
const JOBS_MAX: usize = 256;

type Shards = Arc<BTreeMap<ShardId, Shard>>;
type Replies = LinkSender<CatalogReply>;

/// Serves a link until it closes.
pub async fn serve_link(connected: Connected, shards: Shards, connections: Arc<AtomicU32>) {
    let peer = connected.peer.clone();
    let open_now = connections.fetch_add(1, Ordering::Relaxed) + 1;
    tracing::debug!(%peer, open_now, "link opened");
    let Opened { sender, mut receiver, flush } = link::open(connected);
    let mut jobs = JoinSet::new();
    jobs.spawn(flush.run());
    let problem = loop {
        while jobs.try_join_next().is_some() {}
        match receiver.recv_many().await {
            Ok(calls) => dispatch(calls, &shards, &sender, &mut jobs),
            Err(problem) => break problem,
        }
    };
    if !matches!(problem, RecvError::Closed | RecvError::Io(_)) {
        tracing::warn!(%peer, problem = %with_causes(&problem), "link cut");
    }
    connections.fetch_sub(1, Ordering::Relaxed);
    tracing::debug!(%peer, "link closed");
}

/// By which view somebody reads.
struct Reader {
    store: StoreId,
    epoch: Epoch,
}

struct ReadCall {
    call: CallId,
    reader: Reader,
    query: Query,
}

fn dispatch(calls: Vec<CatalogCall>, shards: &Shards, replies: &Replies, jobs: &mut JoinSet<()>) {
    let mut lookups: BTreeMap<ShardId, Vec<ReadCall>> = BTreeMap::new();
    for call in calls {
        match call {
            CatalogCall::Replicate { shard, message } => {
                if let Some(shard) = shards.get(&shard) {
                    shard.send(Input::Message { from: replies.clone(), message });
                }
            }
            CatalogCall::Read { call, .. } if jobs.len() > JOBS_MAX => {
                reply(replies, call, ReadReply::Failed(format!("{JOBS_MAX} reads are under way")));
                replies.push();
            }
            CatalogCall::Read { call, shard, store, epoch, query } => {
                let read = ReadCall { call, reader: Reader { store, epoch }, query };
                match (shards.get(&shard), &read.query) {
                    (None, _) => {
                        reply(replies, call, ReadReply::NotHere);
                        replies.push();
                    }
                    (Some(_), Query::Book(_)) => lookups.entry(shard).or_default().push(read),
                    // Whatever may take longer must not hold up a look at one book.
                    (Some(shard), _) => spawn_reads(jobs, shard, vec![read], replies),
                }
            }
            CatalogCall::Pull { call, shard, after } => {
                let readers = shards.get(&shard).map(|shard| shard.readers.clone());
                let replies = replies.clone();
                jobs.spawn_blocking(move || {
                    let page = readers.map_or(LogPage::Gone, |readers| page(&readers, after));
                    drop(replies.send(&CatalogReply::Pulled { call, page }));
                });
            }
            CatalogCall::Snapshot { call, shard } => {
                let readers = shards.get(&shard).map(|shard| shard.readers.clone());
                jobs.spawn(send_snapshot(readers, call, replies.clone()));
            }
            CatalogCall::Backup { call, shard, store, epoch } => {
                let read = Reader { store, epoch };
                jobs.spawn(send_backup(shards.get(&shard).cloned(), call, read, replies.clone()));
            }
        }
    }
    for (shard, reads) in lookups {
        if let Some(shard) = shards.get(&shard) {
            spawn_reads(jobs, shard, reads, replies);
        }
    }
}

fn spawn_reads(jobs: &mut JoinSet<()>, shard: &Shard, reads: Vec<ReadCall>, replies: &Replies) {
    let (shard, replies) = (shard.clone(), replies.clone());
    jobs.spawn_blocking(move || {
        let (fit, unfit): (Vec<ReadCall>, Vec<ReadCall>) =
            reads.into_iter().partition(|read| refusal(&shard, &read.reader).is_none());
        for read in unfit {
            if let Some(refusal) = refusal(&shard, &read.reader) {
                reply(&replies, read.call, refusal);
            }
        }
        let installs = shard.installs();
        let queries: Vec<Query> = fit.iter().map(|read| read.query.clone()).collect();
        for (read, result) in fit.iter().zip(shard.readers.read_many(&queries)) {
            // The promise is looked at after the store was: a higher one that came in between means that
            // the answer may show what the reader's view no longer covers.
            let answer = refusal(&shard, &read.reader).unwrap_or_else(|| match result {
                Ok(answer) => ReadReply::Answer(answer),
                Err(problem) => {
                    tracing::error!(shard = %shard.id, problem = %with_causes(&problem), "a read failed");
                    if problem.is_damage() {
                        shard.send(Input::Counted { asked: None, installs, sound: Ok(false) });
                    }
                    ReadReply::Failed(problem.to_string())
                }
            });
            reply(&replies, read.call, answer);
        }
        replies.push();
    });
}

fn refusal(shard: &Shard, reader: &Reader) -> Option<ReadReply> {
    if shard.store() != reader.store {
        return Some(ReadReply::NotHere);
    }
    may_be_read(shard.promise(), reader.epoch).err().map(|promise| ReadReply::Sealed { promise })
}

fn reply(replies: &Replies, call: CallId, reply: ReadReply) {
    // A reader whose link has closed does not wait any more.
    drop(replies.put(&CatalogReply::Read { call, reply }));
}

fn page(readers: &Readers, after: Index) -> LogPage {
    match readers.entries(after, None, PAGE_ENTRIES_MAX, PAGE_BYTES_MAX) {
        Ok(LogSlice::Entries { entries, last }) => LogPage::Entries { entries, last },
        Ok(LogSlice::Gone) => LogPage::Gone,
        Err(problem) => LogPage::Failed(with_causes(&problem)),
    }
}

async fn send_snapshot(readers: Option<Readers>, call: CallId, replies: Replies) {
    let result = match readers {
        Some(readers) => copy_and_send(readers, call, &replies).await,
        None => Err("this node does not hold the shard".to_owned()),
    };
    if let Err(problem) = &result {
        tracing::warn!(%problem, "a snapshot could not be sent");
    }
    drop(replies.send(&CatalogReply::SnapshotEnd { call, result }));
}

async fn copy_and_send(readers: Readers, call: CallId, replies: &Replies) -> Result<SnapshotFacts, String> {
    let (copy, facts) = copy(readers, Readers::snapshot_to).await?;
    send_file(&copy, call, replies).await?;
    Ok(facts)
}

async fn send_backup(shard: Option<Shard>, call: CallId, reader: Reader, replies: Replies) {
    let result = match shard {
        Some(shard) => copy_for_backup(shard, reader).await,
        None => Err("this node does not hold the shard".to_owned()),
    };
    let begin = result.as_ref().map(|(_, facts)| facts.clone()).map_err(String::clone);
    drop(replies.send(&CatalogReply::BackupBegin { call, result: begin }));
    let Ok((copy, facts)) = result.inspect_err(|problem| tracing::warn!(%problem, "no copy for a backup"))
    else {
        return;
    };
    let sent = send_file(&copy, call, &replies).await;
    let result = sent.map(|()| facts.snapshot);
    drop(replies.send(&CatalogReply::SnapshotEnd { call, result }));
}

/// A copy of what the reader may read: like every read, it looks at the promise before and after.
async fn copy_for_backup(shard: Shard, reader: Reader) -> Result<(NamedTempFile, BackupFacts), String> {
    let check = |shard: &Shard| match refusal(shard, &reader) {
        Some(refused) => Err(format!("the caller's view is not in force here: {refused:?}")),
        None => Ok(()),
    };
    check(&shard)?;
    let copied = copy(shard.readers.clone(), Readers::backup_to).await?;
    check(&shard)?;
    Ok(copied)
}

async fn copy<F: Send + 'static>(
    readers: Readers,
    make: fn(&Readers, &Path) -> Result<F, StoreError>,
) -> Result<(NamedTempFile, F), String> {
    let copied = tokio::task::spawn_blocking(move || {
        let copy = readers.scratch_file()?;
        let facts = make(&readers, copy.path())?;
        Ok::<_, StoreError>((copy, facts))
    });
    copied.await.map_err(|problem| with_causes(&problem))?.map_err(|problem| with_causes(&problem))
}

/// Sends a file part by part, as fast as it is taken.
async fn send_file(copy: &NamedTempFile, call: CallId, replies: &Replies) -> Result<(), String> {
    let failed = |problem: &dyn std::error::Error| with_causes(problem);
    let mut file = File::open(copy.path()).map_err(|problem| failed(&problem))?;
    loop {
        replies.room().await.map_err(|problem| failed(&problem))?;
        let part = tokio::task::spawn_blocking(move || {
            let mut part = vec![0; PART_BYTES];
            let length = file.read(&mut part)?;
            part.truncate(length);
            Ok::<_, std::io::Error>((file, part))
        });
        let (rest, part) =
            part.await.map_err(|problem| failed(&problem))?.map_err(|problem| failed(&problem))?;
        file = rest;
        if part.is_empty() {
            return Ok(());
        }
        let part = CatalogReply::SnapshotPart { call, bytes: Bytes::from(part) };
        replies.send(&part).map_err(|problem| failed(&problem))?;
    }
}
