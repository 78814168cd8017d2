//! Buys under way: who asked for each, over which link it went, and what happens when that breaks.
//!
//! A buy is one entry of a table from its arrival to its answer; no task waits for it. Links to front ends
//! come and go in the same table, under the same lock, so that at every moment each buy is either on its
//! way over a link that is up or waits for the next one. A buy whose link broke goes out again as it was,
//! with its key and its order id: the key makes that safe.
//!
//! A lock of a link's outbox is taken while the table's is held, never the other way round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::link::{LinkSender, Pending};
use common::shutdown::Shutdown;
use parking_lot::Mutex;
use protocol::call::{CallId, InternalCall, OrderReply, Served, Trace, WriteFailure};
use protocol::command::{Outcome, Refusal};
use protocol::entry::EncodedCommand;
use protocol::ids::{Index, ShardId};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::api::answer;

/// The most buys under way. More than a cluster has in flight when it is well; when it is not, callers
/// hear so at once instead of waiting in line.
const UNDER_WAY_MAX: usize = 1 << 16;

/// A buy that is to be carried out.
#[derive(Debug)]
pub struct Buy {
    /// Who gets the answer.
    pub caller: LinkSender<OrderReply>,
    /// The caller's run, and its number for it.
    pub serves: Served,
    /// For logs.
    pub trace: Trace,
    /// Where its books are.
    pub shard: ShardId,
    /// The command, made once: every attempt sends the same.
    pub command: EncodedCommand,
}

/// A link to a front end, for buys and for questions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Line {
    /// Sends to the front end.
    pub sender: LinkSender<InternalCall>,
    /// Questions for a commit index that wait for their answers.
    pub commits: Pending<Result<Index, String>>,
}

/// What a front end says of a buy.
#[derive(Debug)]
pub enum Answer {
    /// What became of it.
    Outcome(Result<Outcome, WriteFailure>),
    /// It has told the caller itself, for the caller is one of its own requests.
    Given,
}

/// A line's number; each one that comes up gets its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LineNumber(u64);

/// The table.
#[derive(Debug)]
pub struct Buys {
    table: Mutex<Table>,
    /// How long a buy may take, from its arrival to its answer.
    patience: Duration,
    begun: Notify,
    idle: Notify,
}

#[derive(Debug, Default)]
struct Table {
    /// By rank: the first one that is up carries the buys.
    lines: BTreeMap<usize, Up>,
    lines_made: u64,
    /// In the order of their arrival, which is the order of their deadlines.
    under_way: BTreeMap<CallId, UnderWay>,
    buys_made: u64,
    stopping: bool,
}

/// A line that is up.
#[derive(Debug)]
struct Up {
    number: LineNumber,
    line: Line,
    /// When an answer came over it last, or it came up.
    heard: Instant,
}

#[derive(Debug)]
struct UnderWay {
    caller: LinkSender<OrderReply>,
    call: CallId,
    request_id: String,
    submit: InternalCall,
    on: Option<LineNumber>,
    sends: u32,
    since: Instant,
}

impl Table {
    fn up(&self) -> Option<&Up> {
        self.lines.values().find(|up| up.is_open())
    }

    /// Sends whatever is on no line, in the order of arrival.
    fn send_waiting(&mut self) {
        let Self { lines, under_way, .. } = self;
        let Some(up) = lines.values().find(|up| up.is_open()) else { return };
        for buy in under_way.values_mut().filter(|buy| buy.on.is_none()) {
            buy.put(up);
        }
        up.line.sender.push();
    }

    /// Closes the lines of buys that were given up, unless others have been answered over them since: a
    /// front end that stands still must not keep the buys from one that works.
    fn close_silent(&self, given_up: &[UnderWay]) {
        for buy in given_up {
            let silent = |up: &&Up| buy.on == Some(up.number) && up.heard <= buy.since;
            if let Some(up) = self.lines.values().find(silent) {
                up.line.sender.cut();
            }
        }
    }
}

impl Up {
    fn is_open(&self) -> bool {
        !self.line.sender.is_closed()
    }
}

impl UnderWay {
    /// Puts it on a line, which is yet to be pushed. If the line has closed in this moment, its end is about to be
    /// noticed and sends the buy again.
    fn put(&mut self, up: &Up) {
        self.on = Some(up.number);
        if up.line.sender.put(&self.submit).is_ok() {
            self.sends += 1;
        }
    }

    fn finish(self, result: Result<Outcome, WriteFailure>, now: Instant) {
        // What one attempt was refused for says nothing about an earlier one whose answer was lost.
        let result = match result {
            Err(WriteFailure::NotDone(why)) if self.sends > 1 => Err(WriteFailure::Unknown(why)),
            other => other,
        };
        log(&self.request_id, &result, now - self.since);
        answer(&self.caller, &OrderReply::Bought { call: self.call, result });
    }
}

impl Buys {
    /// An empty table, for buys that may take so long.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self { table: Mutex::default(), patience, begun: Notify::new(), idle: Notify::new() }
    }

    /// Takes a buy: it is answered in any case, within the patience. It leaves with the next [`Buys::push`].
    pub fn submit(&self, buy: Buy, now: Instant) {
        let Buy { caller, serves, trace, shard, command } = buy;
        let mut table = self.table.lock();
        let number = CallId(table.buys_made);
        let request_id = trace.request_id.clone();
        let submit = InternalCall::Submit { call: number, serves, shard, trace, command };
        let mut buy =
            UnderWay { caller, call: serves.call, request_id, submit, on: None, sends: 0, since: now };
        let refusal = if table.stopping {
            Some("this order node is stopping")
        } else if table.under_way.len() >= UNDER_WAY_MAX {
            Some("this order node has too many buys under way")
        } else {
            None
        };
        if let Some(why) = refusal {
            drop(table);
            return buy.finish(Err(WriteFailure::NotDone(why.to_owned())), now);
        }
        table.buys_made += 1;
        if let Some(up) = table.up() {
            buy.put(up);
        }
        let is_first = table.under_way.is_empty();
        table.under_way.insert(number, buy);
        drop(table);
        if is_first {
            self.begun.notify_one();
        }
    }

    /// Sends what was taken.
    pub fn push(&self) {
        for up in self.table.lock().lines.values() {
            up.line.sender.push();
        }
    }

    fn answered(&self, rank: usize, answers: Vec<(CallId, Answer)>, now: Instant) {
        let mut table = self.table.lock();
        if let Some(up) = table.lines.get_mut(&rank) {
            up.heard = now;
        }
        // One that nobody waits for any more was answered when its patience was over.
        let known =
            answers.into_iter().filter_map(|(call, answer)| Some((table.under_way.remove(&call)?, answer)));
        let finished: Vec<(UnderWay, Answer)> = known.collect();
        let is_idle = table.under_way.is_empty();
        drop(table);
        for (buy, answer) in finished {
            match answer {
                Answer::Outcome(result) => buy.finish(result, now),
                Answer::Given => {
                    let took_us = (now - buy.since).as_micros();
                    tracing::debug!(request_id = buy.request_id, took_us, "answered by the front end");
                }
            }
        }
        if is_idle {
            self.idle.notify_waiters();
        }
    }

    /// A link to the front end of this rank is up; a lower rank is preferred. It counts until the guard
    /// is dropped.
    pub fn line_up(self: &Arc<Self>, rank: usize, line: Line, now: Instant) -> LineGuard {
        let mut table = self.table.lock();
        let number = LineNumber(table.lines_made);
        table.lines_made += 1;
        let commits = line.commits.clone();
        table.lines.insert(rank, Up { number, line, heard: now });
        table.send_waiting();
        drop(table);
        LineGuard { buys: self.clone(), rank, number, commits }
    }

    /// The link that carries buys now, if any is up.
    #[must_use]
    pub fn line(&self) -> Option<Line> {
        self.table.lock().up().map(|up| up.line.clone())
    }

    /// Answers what has waited too long, until shutdown.
    pub async fn expire(&self, mut shutdown: Shutdown) {
        loop {
            let first = self.table.lock().under_way.first_key_value().map(|(_, buy)| buy.since);
            let due = async {
                match first {
                    Some(since) => sleep_until(since + self.patience).await,
                    None => self.begun.notified().await,
                }
            };
            tokio::select! {
                () = due => self.give_up(Instant::now()),
                () = shutdown.wait() => return,
            }
        }
    }

    fn give_up(&self, now: Instant) {
        let mut late = Vec::new();
        let mut table = self.table.lock();
        while let Some(first) = table.under_way.first_entry() {
            if first.get().since + self.patience > now {
                break;
            }
            late.push(first.remove());
        }
        table.close_silent(&late);
        let is_idle = table.under_way.is_empty();
        drop(table);
        for buy in late {
            let failure = if buy.sends == 0 {
                WriteFailure::NotDone("no front end could be reached".to_owned())
            } else {
                WriteFailure::Unknown(format!("no front end has answered in {:?}", self.patience))
            };
            buy.finish(Err(failure), now);
        }
        if is_idle {
            self.idle.notify_waiters();
        }
    }

    /// Takes no further buys; returns once none is under way.
    pub async fn finish(&self) {
        self.table.lock().stopping = true;
        loop {
            let idle = self.idle.notified();
            if self.table.lock().under_way.is_empty() {
                return;
            }
            idle.await;
        }
    }
}

/// Holds a line in the table. When it is dropped, what was on its way over that line goes out again.
#[derive(Debug)]
pub struct LineGuard {
    buys: Arc<Buys>,
    rank: usize,
    number: LineNumber,
    commits: Pending<Result<Index, String>>,
}

impl LineGuard {
    /// Answers have come over the line: passes each on to whoever asked.
    pub fn answered(&self, answers: Vec<(CallId, Answer)>, now: Instant) {
        self.buys.answered(self.rank, answers, now);
    }
}

impl Drop for LineGuard {
    fn drop(&mut self) {
        let mut table = self.buys.table.lock();
        table.lines.remove(&self.rank);
        for buy in table.under_way.values_mut().filter(|buy| buy.on == Some(self.number)) {
            buy.on = None;
        }
        table.send_waiting();
        drop(table);
        self.commits.fail_all();
    }
}

fn log(request_id: &str, result: &Result<Outcome, WriteFailure>, took: Duration) {
    let took_us = took.as_micros();
    match result {
        Ok(Outcome::Sold(order)) => {
            tracing::debug!(request_id, order = %order.id, lines = order.items.len(), took_us, "sold");
        }
        Ok(Outcome::Refused(Refusal::KeyConflict)) => {
            tracing::info!(request_id, took_us, "not sold: the key was used for something else");
        }
        Ok(Outcome::Refused(refusal)) => tracing::info!(request_id, ?refusal, took_us, "not sold"),
        Ok(other) => {
            tracing::error!(request_id, ?other, took_us, "a buy has an outcome that is none of a buy")
        }
        Err(failure @ WriteFailure::BadRequest(_)) => {
            tracing::info!(request_id, %failure, took_us, "not sold")
        }
        Err(failure) => tracing::warn!(request_id, %failure, took_us, "not sold, as far as is known"),
    }
}
