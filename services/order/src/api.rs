//! What front ends may ask of an order node over a link.
//!
//! All that has come in one read of the socket is handled at once. A buy is handed to the table of
//! [`crate::buys`] and answered from there; a look at the orders is a task of its own, for it may wait.

use std::num::NonZeroU32;
use std::sync::Arc;

use common::clock;
use common::exit::with_causes;
use common::link::{self, Connected, LinkSender, Opened, RecvError};
use common::shutdown::Shutdown;
use protocol::call::{OrderCall, OrderReply, Served, Trace};
use protocol::catalogue::OrderLine;
use protocol::command::{Action, Command, CommandKey};
use protocol::entry::EncodedCommand;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::buys::{Buy, Buys};
use crate::checks;
use crate::lookup::Lookup;
use crate::order_ids::OrderIds;

/// How many looks at the orders of one link may be under way; further ones are turned away.
const LOOKS_MAX: usize = 256;

/// What calls are served from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk {
    /// Into how many shards the catalogue is cut.
    pub shards: NonZeroU32,
    /// Numbers orders.
    pub ids: Arc<OrderIds>,
    /// Carries out buys.
    pub buys: Arc<Buys>,
    /// Finds orders.
    pub lookup: Lookup,
    /// How many links are open.
    pub links: watch::Sender<u32>,
}

/// Serves a link until it closes, or until `closing`: then what is under way is still answered.
pub async fn serve_link(connected: Connected, desk: Desk, mut closing: Shutdown) {
    let peer = connected.peer.clone();
    let _open = OpenLink::count(&desk.links);
    tracing::debug!(%peer, "link opened");
    let Opened { sender, mut receiver, flush } = link::open(connected);
    let mut flushing = JoinSet::new();
    flushing.spawn(flush.run());
    let mut looks = JoinSet::new();
    let problem = loop {
        while looks.try_join_next().is_some() {}
        tokio::select! {
            calls = receiver.recv_many() => match calls {
                Ok(calls) => desk.take(calls, &sender, &mut looks),
                Err(problem) => break problem,
            },
            () = closing.wait() => {
                while looks.join_next().await.is_some() {}
                sender.close();
                flushing.join_next().await;
                return;
            }
        }
    };
    if !matches!(problem, RecvError::Closed | RecvError::Io(_)) {
        tracing::warn!(%peer, problem = %with_causes(&problem), "link cut");
    }
    tracing::debug!(%peer, "link closed");
}

impl Desk {
    fn take(&self, calls: Vec<OrderCall>, replies: &LinkSender<OrderReply>, looks: &mut JoinSet<()>) {
        let now = Instant::now();
        for call in calls {
            match call {
                OrderCall::Buy { call, run, trace, key, lines } => {
                    self.buy(Served { run, call }, trace, key, lines, replies, now);
                }
                OrderCall::Order { call, .. } if looks.len() > LOOKS_MAX => {
                    answer(replies, &OrderReply::Order { call, result: Err(busy()) });
                }
                OrderCall::Orders { call, .. } if looks.len() > LOOKS_MAX => {
                    answer(replies, &OrderReply::Orders { call, result: Err(busy()) });
                }
                OrderCall::Order { call, trace, order } => {
                    let (lookup, replies) = (self.lookup.clone(), replies.clone());
                    looks.spawn(async move {
                        let result = lookup.order(order).await;
                        let (request_id, problem) = (trace.request_id, result.as_ref().err());
                        let found = matches!(result, Ok(Some(_)));
                        let took_us = now.elapsed().as_micros();
                        tracing::info!(request_id, %order, found, problem, took_us, "looked up an order");
                        answer(&replies, &OrderReply::Order { call, result });
                    });
                }
                OrderCall::Orders { call, trace, before, limit } => {
                    let (lookup, replies) = (self.lookup.clone(), replies.clone());
                    looks.spawn(async move {
                        let result = lookup.orders(before, limit).await;
                        let (request_id, problem) = (trace.request_id, result.as_ref().err());
                        let found = result.as_ref().map_or(0, |(orders, _)| orders.len());
                        let took_us = now.elapsed().as_micros();
                        tracing::info!(request_id, found, problem, took_us, "listed orders");
                        answer(&replies, &OrderReply::Orders { call, result });
                    });
                }
            }
        }
        self.buys.push();
    }

    fn buy(
        &self,
        serves: Served,
        trace: Trace,
        key: CommandKey,
        lines: Vec<OrderLine>,
        replies: &LinkSender<OrderReply>,
        now: Instant,
    ) {
        let shard = match checks::shard_of(&lines, self.shards) {
            Ok(shard) => shard,
            Err(failure) => {
                tracing::info!(request_id = trace.request_id, %failure, "an order that can't be");
                answer(replies, &OrderReply::Bought { call: serves.call, result: Err(failure) });
                return;
            }
        };
        let at = clock::now();
        let order = self.ids.next(at);
        let command = Command { key, at, action: Action::Buy { order, lines } };
        let command = EncodedCommand::of(&command);
        self.buys.submit(Buy { caller: replies.clone(), serves, trace, shard, command }, now);
    }
}

/// Why a look into the book is turned away: the link goes on to be read, for it carries the buys as well.
fn busy() -> String {
    format!("{LOOKS_MAX} looks into the book of orders are under way")
}

/// Answers a caller. One whose link has closed asks again, here or elsewhere.
pub(crate) fn answer(caller: &LinkSender<OrderReply>, reply: &OrderReply) {
    if caller.send(reply).is_err() {
        tracing::debug!("a caller has gone before its answer");
    }
}

/// Counts a link for as long as it is open, however it ends.
struct OpenLink(watch::Sender<u32>);

impl OpenLink {
    fn count(links: &watch::Sender<u32>) -> Self {
        links.send_modify(|open| *open += 1);
        Self(links.clone())
    }
}

impl Drop for OpenLink {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open = open.saturating_sub(1));
    }
}
