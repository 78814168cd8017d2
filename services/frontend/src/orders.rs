//! The links to the order nodes.
//!
//! The nodes are interchangeable: each call goes to the next one that is connected, and, if that fails
//! or is late, to the other, with the same key.
//!
//! A buy comes back from an order node as a command for this front end's writer. Once that is committed, the
//! request that waits for it is here, and [`Orders::asked_here`] finds it: the outcome need not travel to the order
//! node and back.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use common::config::Config;
use common::exit::with_causes;
use common::link::{self, Backoff, Closed, Complaint, Credentials, LinkSender, Opened, Pending, Waiting};
use common::runfile;
use protocol::call::{CallId, OrderCall, OrderReply, Served, WriteFailure};
use protocol::command::Outcome;
use protocol::ids::{NodeId, RunId};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// The first and the longest pause between attempts to reach a node. A heartbeat cuts a pause short.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));
/// The first and the longest pause of a call that all nodes have failed, before it is made again.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// All order nodes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Orders(Arc<Nodes>);

#[derive(Debug)]
struct Nodes {
    run: RunId,
    links: BTreeMap<NodeId, OrderLink>,
    turn: AtomicUsize,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct OrderLink {
    sender: ArcSwapOption<LinkSender<OrderCall>>,
    calls: Pending<OrderReply>,
    poke: Notify,
}

/// A request of this front end that waits for an order node's answer.
#[derive(Debug)]
pub struct AskedHere {
    calls: Pending<OrderReply>,
    call: CallId,
}

impl AskedHere {
    /// Answers it, as the order node would.
    pub fn answer(self, outcome: Outcome) {
        let Self { calls, call } = self;
        calls.resolve(call, OrderReply::Bought { call, result: Ok(outcome) });
    }
}

/// What came of a call: an answer and whose it is, or why there is none.
pub type Called = Result<(OrderReply, NodeId), NoAnswer>;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnswer {
    /// Whether any node may have heard the call.
    pub sent: bool,
    /// What went wrong last.
    pub why: String,
}

impl Orders {
    /// The nodes of a configuration, not connected yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let links = config.orders.iter().map(|node| (node.id.clone(), OrderLink::default()));
        let (turn, changes) = (AtomicUsize::new(0), watch::Sender::new(0));
        let run = RunId(uuid::Uuid::new_v4().as_u128());
        Self(Arc::new(Nodes { run, links: links.collect(), turn, changes }))
    }

    /// This run of the front end, as order nodes are told.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.0.run
    }

    /// The request behind a buy that an order node brings, if it was this run that asked.
    #[must_use]
    pub fn asked_here(&self, node: &NodeId, served: Served) -> Option<AskedHere> {
        let link = self.0.links.get(node).filter(|_| served.run == self.0.run)?;
        Some(AskedHere { calls: link.calls.clone(), call: served.call })
    }

    /// Whether there is a link to this node.
    #[must_use]
    pub fn is_connected(&self, node: &NodeId) -> bool {
        self.0.links.get(node).is_some_and(|link| link.sender.load().is_some())
    }

    /// A node has been heard of: if there is no link to it, now is the time.
    pub fn poke(&self, node: &NodeId) {
        if let Some(link) = self.0.links.get(node) {
            link.poke.notify_one();
        }
    }

    /// Whether there is such a node.
    #[must_use]
    pub fn has(&self, node: &NodeId) -> bool {
        self.0.links.contains_key(node)
    }

    /// Asks nodes in turn until one gives an answer that `is_final`, each for as long as `patience`,
    /// until the deadline; or one node alone. `make` makes the call with a number.
    ///
    /// # Errors
    /// If there was no final answer until the deadline, and no other either.
    pub async fn call(
        &self,
        only: Option<&NodeId>,
        patience: Duration,
        deadline: Instant,
        make: impl Fn(CallId) -> OrderCall,
        is_final: impl Fn(&OrderReply) -> bool,
    ) -> Called {
        let mut sent = false;
        let mut changes = self.0.changes.subscribe();
        let mut why = "no order node is connected".to_owned();
        let mut answer = None;
        let mut failures = 0;
        let mut backoff = Backoff::new(ASK_AGAIN.0, ASK_AGAIN.1);
        let mut last = None;
        while Instant::now() < deadline {
            let Some((node, waiting)) = self.next(only, last.as_ref(), &make) else {
                if timeout_until(deadline, changes.changed()).await.is_none() {
                    break;
                }
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(patience.min(left), waiting).await {
                Ok(Some(reply)) if is_final(&reply) => return Ok((reply, node)),
                Ok(Some(reply)) => {
                    sent |= leaves_doubt(&reply);
                    answer = Some((reply, node.clone()));
                }
                Ok(None) => {
                    sent = true;
                    why = format!("the connection to {node} broke");
                }
                Err(_) => {
                    sent = true;
                    why = format!("{node} did not answer in time");
                }
            }
            last = Some(node);
            failures += 1;
            if failures >= if only.is_some() { 1 } else { self.0.links.len() } {
                // Each has failed: the next round waits for a change, or ever longer: a queue
                // that is full does not empty by being asked.
                failures = 0;
                let pause = deadline.min(Instant::now() + backoff.pause(link::spread()));
                timeout_until(pause, changes.changed()).await;
            }
        }
        match answer {
            // A later "not done" speaks of its own attempt only: an earlier one may have been heard.
            Some((reply, node)) if !sent || leaves_doubt(&reply) => Ok((reply, node)),
            Some(_) | None => Err(NoAnswer { sent, why }),
        }
    }

    fn next(
        &self,
        only: Option<&NodeId>,
        not: Option<&NodeId>,
        make: &impl Fn(CallId) -> OrderCall,
    ) -> Option<(NodeId, Waiting<OrderReply>)> {
        let links = &self.0.links;
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || {
            let all = links.iter().cycle().skip(turn % links.len().max(1)).take(links.len());
            all.filter(|(node, _)| only.is_none_or(|only| only == *node))
        };
        let others = in_turn().filter(|(node, _)| Some(*node) != not);
        let same = in_turn().filter(|(node, _)| Some(*node) == not);
        others.chain(same).find_map(|(node, link)| Some((node.clone(), link.send(make).ok()?)))
    }

    /// Keeps the link to a node up, for ever.
    pub async fn keep(&self, node: &NodeId, config: &Config, credentials: &Credentials, me: &NodeId) {
        let (Some(link), Some(known)) = (self.0.links.get(node), config.order(node)) else { return };
        let mut backoff = Backoff::new(RECONNECT.0, RECONNECT.1);
        let mut complaint = Complaint::default();
        loop {
            let began = Instant::now();
            let address = runfile::resolve(config, node, "listen", &known.listen);
            match link::connect(address.as_str(), credentials, me, link::HANDSHAKE_TIMEOUT).await {
                Ok(connected) => {
                    tracing::info!(%node, %address, "connected");
                    complaint.settle();
                    link.serve(link::open(connected), &self.0.changes).await;
                    tracing::warn!(%node, "the connection broke");
                    if began.elapsed() >= link::STABLE {
                        backoff.reset();
                        continue;
                    }
                }
                Err(problem) if complaint.is_news(&problem) => {
                    tracing::warn!(%node, problem = %with_causes(&problem), "not reached; trying on");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.pause(link::spread())) => {}
                () = link.poke.notified() => {}
            }
        }
    }
}

impl OrderLink {
    fn send(&self, make: &impl Fn(CallId) -> OrderCall) -> Result<Waiting<OrderReply>, Closed> {
        let sender = self.sender.load_full().ok_or(Closed)?;
        let (call, waiting) = self.calls.register();
        sender.send(&make(call))?;
        Ok(waiting)
    }

    async fn serve(&self, opened: Opened<OrderCall, OrderReply>, changes: &watch::Sender<u64>) {
        let Opened { sender, mut receiver, flush } = opened;
        self.sender.store(Some(Arc::new(sender)));
        changes.send_modify(|changes| *changes += 1);
        let receiving = async {
            loop {
                match receiver.recv_many().await {
                    Ok(replies) => {
                        replies.into_iter().for_each(|reply| self.calls.resolve(call_of(&reply), reply))
                    }
                    Err(problem) => return problem,
                }
            }
        };
        tokio::select! {
            problem = receiving => tracing::debug!(problem = %with_causes(&problem), "link ended"),
            () = flush.run() => {}
        }
        self.sender.store(None);
        self.calls.fail_all();
        changes.send_modify(|changes| *changes += 1);
    }
}

/// Whether a write may have been done for all that this says.
fn leaves_doubt(reply: &OrderReply) -> bool {
    matches!(reply, OrderReply::Bought { result: Err(WriteFailure::Unknown(_)), .. })
}

fn call_of(reply: &OrderReply) -> CallId {
    match reply {
        OrderReply::Bought { call, .. }
        | OrderReply::Order { call, .. }
        | OrderReply::Orders { call, .. } => *call,
    }
}

/// Whether a buy needs no other try: it has an outcome, or never can have one.
#[must_use]
pub fn buy_is_final(reply: &OrderReply) -> bool {
    matches!(reply, OrderReply::Bought { result: Ok(_) | Err(WriteFailure::BadRequest(_)), .. })
}

async fn timeout_until<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    tokio::time::timeout_at(deadline.into(), future).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_run_that_asked_is_answered_here() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, "").unwrap();
        let orders = Orders::new(&Config::load(&path).unwrap());
        let node = NodeId::from("order-1");
        let (call, waiting) = orders.0.links[&node].calls.register();
        let other = RunId(!orders.run().0);
        assert!(orders.asked_here(&node, Served { run: other, call }).is_none());
        let unknown = NodeId::from("order-9");
        assert!(orders.asked_here(&unknown, Served { run: orders.run(), call }).is_none());
        let request = orders.asked_here(&node, Served { run: orders.run(), call }).unwrap();
        request.answer(Outcome::Removed);
        assert_eq!(waiting.await, Some(OrderReply::Bought { call, result: Ok(Outcome::Removed) }));
    }
}
