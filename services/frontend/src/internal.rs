//! The internal listener: what order nodes ask of a front end.
//!
//! It has connections and limits of its own, so that however full the public side is, the calls that
//! its own requests depend on get through.

use std::collections::BTreeMap;
use std::time::Duration;

use common::exit::with_causes;
use common::link::{self, Connected, LinkSender, Opened, RecvError};
use protocol::call::{Content, Feed, InternalCall, InternalReply, Query, WriteFailure};
use protocol::ids::{Chain, Index, NodeId, ShardId};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

use crate::app::{App, Failure};
use crate::writers::{ShardEvent, Ticket};

/// How long sales gather before they are fed on, as long as nobody looks for an order. A feed costs every order node
/// a transaction, however many sales it has.
const GATHER: Duration = Duration::from_millis(20);
/// How many entries are looked at for a page of sales that is read from a replica for a follower.
const SALES_PAGE: u32 = 2000;

type Replies = LinkSender<InternalReply>;

/// Serves an order node's link until it closes.
pub async fn serve_link(connected: Connected, app: App) {
    let peer = connected.peer.clone();
    tracing::info!(%peer, "an order node is connected");
    let Opened { sender, mut receiver, flush } = link::open(connected);
    let mut tasks = JoinSet::new();
    let mut followers = BTreeMap::new();
    tasks.spawn(flush.run());
    let problem = loop {
        while tasks.try_join_next().is_some() {}
        match receiver.recv_many().await {
            Ok(calls) => dispatch(calls, &app, (&peer, &sender), &mut tasks, &mut followers).await,
            Err(problem) => break problem,
        }
    };
    if !matches!(problem, RecvError::Closed | RecvError::Io(_)) {
        tracing::warn!(%peer, problem = %with_causes(&problem), "link cut");
    }
    tracing::warn!(%peer, "an order node's connection closed");
}

async fn dispatch(
    calls: Vec<InternalCall>,
    app: &App,
    (peer, replies): (&NodeId, &Replies),
    tasks: &mut JoinSet<()>,
    followers: &mut BTreeMap<ShardId, AbortHandle>,
) {
    let mut writes: BTreeMap<ShardId, Vec<_>> = BTreeMap::new();
    for call in calls {
        match call {
            InternalCall::Submit { call, serves, trace, shard, command } => {
                tracing::debug!(request_id = %trace.request_id, %shard, "submitted");
                let asked_here = app.parts().orders.asked_here(peer, serves);
                let ticket = Ticket::Remote { link: replies.clone(), call, asked_here };
                if app.parts().shards.get(shard).is_some() {
                    writes.entry(shard).or_default().push((ticket, command));
                } else {
                    ticket.complete(Err(WriteFailure::BadRequest(format!("there is no shard {shard}"))));
                    replies.push();
                }
            }
            InternalCall::Follow { shard, after, chain } => {
                let (app, replies) = (app.clone(), replies.clone());
                let follower = tasks.spawn(follow(app, replies, shard, (after, chain)));
                // Whoever follows anew no longer wants what it followed before.
                if let Some(earlier) = followers.insert(shard, follower) {
                    earlier.abort();
                }
            }
            InternalCall::CommitIndex { call, shard } => {
                let state = app.parts().shards.get(shard);
                let result = match state {
                    Some(state) => match state.waits_for() {
                        None => Ok(state.commit_index()),
                        Some(what) => Err(format!("shard {shard} waits for {what}")),
                    },
                    None => Err(format!("there is no shard {shard}")),
                };
                // Whoever asks waits until its book is there.
                app.parts().feeds.want(shard);
                drop(replies.send(&InternalReply::CommitIndex { call, result }));
            }
        }
    }
    for (shard, submitted) in writes {
        app.parts().writers.tell(shard, ShardEvent::Submit(submitted)).await;
    }
}

/// Feeds a follower from its cursor on, until its link closes.
async fn follow(app: App, replies: Replies, shard: ShardId, (mut after, chain): (Index, Chain)) {
    let Some(state) = app.parts().shards.get(shard) else { return };
    // Before the writer has taken office, what is committed is not known.
    state.leading().await;
    if !is_same_history(&app, shard, after, chain).await {
        tracing::warn!(%shard, cursor = %after, "a follower knows another history, or one too old to compare: it starts over");
        drop(replies.send(&InternalReply::StartOver { shard }));
        return;
    }
    let mut wanted = app.parts().feeds.wanted(shard);
    let mut gathered_at = Instant::now();
    loop {
        state.committed_beyond(after).await;
        if let Some(wanted) = &mut wanted {
            // Either will do. That nobody can ask any more does not happen while the feeds are here.
            drop(timeout_at(gathered_at, wanted.changed()).await);
        }
        gathered_at = Instant::now() + GATHER;
        let feed = match app.parts().feeds.after(shard, after) {
            Some(feed) => Ok(feed),
            None => read_feed(&app, shard, after).await,
        };
        let feed = match feed {
            Ok(feed) => feed,
            Err(problem) => {
                // The read has waited for as long as reads wait; a follower is more patient.
                tracing::warn!(%shard, ?problem, "a follower has to wait");
                sleep(app.config().timeouts.read).await;
                continue;
            }
        };
        if feed.upto.0.saturating_sub(after.0) >= SALES_PAGE.into() {
            // A full page is followed by the next one at once.
            gathered_at = Instant::now();
        }
        after = feed.upto;
        if replies.send(&InternalReply::Feed(feed)).is_err() || replies.room().await.is_err() {
            return;
        }
    }
}

async fn is_same_history(app: &App, shard: ShardId, at: Index, chain: Chain) -> bool {
    if at == Index(0) {
        return true;
    }
    if app.parts().shards.get(shard).is_none_or(|state| at > state.commit_index()) {
        return false;
    }
    loop {
        match app.read(shard, Query::ChainAt(at)).await {
            Ok((Content::ChainAt(found), _)) => return found == Some(chain),
            Ok(_) => return false,
            Err(problem) => {
                tracing::warn!(%shard, ?problem, "a follower has to wait");
                sleep(app.config().timeouts.read).await;
            }
        }
    }
}

async fn read_feed(app: &App, shard: ShardId, after: Index) -> Result<Feed, Failure> {
    let query = Query::Sales { after, limit: SALES_PAGE };
    match app.read(shard, query.clone()).await?.0 {
        // Released by R1: everything up to there is committed.
        Content::Sales { sales, upto, chain } => Ok(Feed { shard, after, upto, chain, sales }),
        _ => Err(Failure::unexpected(&query)),
    }
}
