//! What must hold when all is over.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use common::api::Order;
use history::{Call, CallNumber, History, Moment, Verdict, check};

use crate::audits::{Audits, Ledger, Sums};
use crate::ledger::consult;
use crate::load::wire::ATTEMPT_MAX;
use crate::load::{Counts, Seen};
use crate::store::Store;

/// How long an audit's calls may take with their retries.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long replicas may take to be level once nobody writes.
const LEVEL_MAX: Duration = Duration::from_secs(60);
/// How many of what may be many complaints of one kind are shown.
const SHOWN: usize = 10;

/// What a round has found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What decided the faults and the calls.
    pub seed: u64,
    /// How many faults there were, by kind.
    pub faults: Vec<(String, u32)>,
    /// Why no disk could be filled, if so.
    pub no_full_disks: Option<String>,
    /// The longest time that the store took to recover from one.
    pub healed_after_max: Duration,
    /// How often a harmed file had to be removed by hand.
    pub by_hand: u32,
    /// How many audits were held.
    pub audits: u32,
    /// What they come to.
    pub sums: Sums,
    /// How many calls were sent, answered, failed, unknown.
    pub calls: [u64; 4],
    /// How many orders were acknowledged.
    pub orders: u64,
    /// How many calls the history has, each of which was judged.
    pub judged: u64,
    /// What must not be.
    pub complaints: Vec<String>,
    /// Where the history and the logs are, if they were kept.
    pub kept: Option<PathBuf>,
}

/// A time in which reads might fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Excuse {
    pub(crate) from: Moment,
    pub(crate) to: Moment,
}

impl Report {
    /// Whether everything that must hold does.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.complaints.is_empty()
    }
}

/// Audits the store, at work or at rest.
pub(crate) async fn audit(store: &Store, audits: &mut Audits, report: &mut Report) {
    match store.client(PATIENCE) {
        Ok(client) => some(&mut report.complaints, audits.hold(&client).await.into_iter()),
        Err(problem) => report.complaints.push(problem.to_string()),
    }
    report.audits = audits.count;
    report.sums = audits.sums();
}

/// Judges the store at rest beside what was seen of it, and notes in the history what the ledger says of it.
pub(crate) async fn judge(store: &mut Store, mut audits: Audits, seen: &mut Seen, report: &mut Report) {
    let Counts { sent, answered, failed, unknown } = seen.counts;
    report.calls = [sent, answered, failed, unknown];
    report.orders = seen.orders.len() as u64;
    some(
        &mut report.complaints,
        seen.strange.iter().map(|what| format!("an answer that must not be: {what}")),
    );
    if let Err(missing) = store.level(LEVEL_MAX).await {
        report.complaints.push(format!("the store at rest is not level: {missing}"));
    }
    let before = audits.count;
    audit(store, &mut audits, report).await;
    if audits.count > before {
        some(&mut report.complaints, acknowledged(&seen.orders, audits.ledger()).into_iter());
        some(&mut report.complaints, consult(audits.ledger(), &seen.orders, &mut seen.history).into_iter());
    }
}

/// Each read is answered, but for those that were under way while there was an excuse.
pub(crate) fn judge_reads(history: &History, excuses: &[Excuse], report: &mut Report) {
    let attempt = u64::try_from(ATTEMPT_MAX.as_nanos()).unwrap_or(u64::MAX);
    let failed = history.calls().iter().filter(|call| {
        let is_read = matches!(call.call, Call::Look(_) | Call::Page);
        let end = Moment(call.sent.0.saturating_add(attempt));
        let is_excused = excuses.iter().any(|excuse| excuse.from <= end && call.sent <= excuse.to);
        is_read && call.answered.is_none() && !is_excused
    });
    let failed: Vec<String> =
        failed.map(|call| format!("a read failed that nothing stood in the way of: {call}")).collect();
    some(&mut report.complaints, failed.into_iter());
}

/// Judges the history.
pub(crate) fn judge_history(history: &History, report: &mut Report) {
    report.judged = history.calls().len() as u64;
    match check(history) {
        Verdict::Linearizable => {}
        verdict @ Verdict::Wrong(_) => {
            report.complaints.push(format!("the history is not linearizable: {verdict}"));
        }
        verdict @ Verdict::Contradicted(_) => report.complaints.push(verdict.to_string()),
        verdict @ Verdict::Undecided(_) => {
            report.complaints.push(format!("it is undecided whether the history is linearizable: {verdict}"));
        }
    }
}

fn some(complaints: &mut Vec<String>, found: impl ExactSizeIterator<Item = String>) {
    let more = found.len().saturating_sub(SHOWN);
    complaints.extend(found.take(SHOWN));
    if more > 0 {
        complaints.push(format!("… and {more} more like the last"));
    }
}

/// Each order that was acknowledged is in the ledger, as it was acknowledged, and to one caller only.
fn acknowledged(orders: &[(CallNumber, Order)], ledger: &Ledger) -> Vec<String> {
    let sales: HashMap<&str, &Order> =
        ledger.sales().map(|(_, order)| (order.order_id.as_str(), order)).collect();
    let mut told: HashMap<&str, u32> = HashMap::new();
    let mut complaints = Vec::new();
    for (_, order) in orders {
        let id = order.order_id.as_str();
        match sales.get(id) {
            None => complaints.push(format!("order {id} was acknowledged and is not in the ledger")),
            Some(sale) if *sale != order => {
                complaints.push(format!("order {id} was acknowledged as {order:?}, the ledger has {sale:?}"));
            }
            Some(_) => {}
        }
        let times = told.entry(id).or_default();
        *times += 1;
        if *times == 2 {
            complaints.push(format!("order {id} was the answer to two purchases"));
        }
    }
    complaints
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [sent, answered, failed, unknown] = self.calls;
        let Sums { stocked, sold, left } = self.sums;
        let kinds = self.faults.iter().map(|(kind, count)| format!("{count} {kind}"));
        let missing = self.no_full_disks.iter().map(|why| format!("no full disks ({why})"));
        let kinds: Vec<String> = kinds.chain(missing).collect();
        writeln!(f, "seed {}", self.seed)?;
        writeln!(f, "faults: {}", kinds.join(", "))?;
        writeln!(
            f,
            "longest until whole again: {:.1?}; files removed by hand: {}",
            self.healed_after_max, self.by_hand
        )?;
        writeln!(
            f,
            "calls: {sent} sent, {answered} answered, {failed} reads failed, {unknown} writes unknown, {} judged; \
             {} orders",
            self.judged, self.orders
        )?;
        writeln!(f, "audits: {} held; {sold} copies sold + {left} left = {stocked} stocked", self.audits)?;
        if self.is_good() {
            writeln!(f, "linearizable, balanced, level: every promise was kept")?;
        }
        for complaint in &self.complaints {
            writeln!(f, "WRONG: {complaint}")?;
        }
        match &self.kept {
            Some(path) => writeln!(f, "kept: {}", path.display()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use common::api::{OrderStatus, StockChange};
    use history::ClientId;

    use super::*;
    use crate::audits::tests::evidence;

    fn order(id: &str, total_cents: u64) -> Order {
        let created_at = String::new();
        Order {
            order_id: id.to_owned(),
            status: OrderStatus::Sold,
            items: Vec::new(),
            total_cents,
            created_at,
        }
    }

    #[test]
    fn a_read_fails_with_an_excuse_only() {
        let mut history = History::default();
        let second = 1_000_000_000;
        let send = |history: &mut History, sent: u64, call| {
            history.send(ClientId(0), Moment(sent * second), call);
        };
        send(&mut history, 50, Call::Page);
        send(&mut history, 50, Call::Remove(1.try_into().unwrap()));
        let complaints = |from: u64, to: u64| {
            let mut report = Report::default();
            let excuse = Excuse { from: Moment(from * second), to: Moment(to * second) };
            judge_reads(&history, &[excuse], &mut report);
            report.complaints.len()
        };
        assert_eq!(
            [(40, 49), (40, 50), (57, 60), (59, 60)].map(|(from, to)| complaints(from, to)),
            [1, 0, 0, 1]
        );
    }

    #[test]
    fn an_acknowledged_order_is_in_the_ledger_once_as_it_was() {
        let mut ledger = Ledger::default();
        ledger.read_on(evidence(1, vec![StockChange::Sold { order: order("a", 5) }]));
        let complaints = |orders: &[Order]| {
            let orders: Vec<_> = (0..).map(CallNumber).zip(orders.iter().cloned()).collect();
            acknowledged(&orders, &ledger).len()
        };
        assert_eq!(complaints(&[order("a", 5)]), 0);
        assert_eq!(complaints(&[order("a", 6)]), 1);
        assert_eq!(complaints(&[order("b", 5)]), 1);
        assert_eq!(complaints(&[order("a", 5), order("a", 5)]), 1);
    }
}
