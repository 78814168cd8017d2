//! What a test thread counts.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::ThreadReport;
use crate::error::ClientError;

/// How many faults are kept in words; more are only counted.
const FAULTS_SHOWN: usize = 10;
/// The longest latency that is told from longer ones: no call is tried for longer. A histogram without
/// a bound would hold every latency to what it holds at first.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Two digits are enough to compare runs.
const DIGITS: u8 = 2;

/// Why a check did not pass.
#[derive(Debug)]
pub(super) enum Fault {
    /// The answer is not what the contract promises.
    Wrong(String),
    /// There was no answer, or a refusal that nothing explains.
    Failed(ClientError),
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Malformed { .. } => Self::Wrong(error.to_string()),
            other => Self::Failed(other),
        }
    }
}

/// The counts of a thread.
#[derive(Debug)]
pub(super) struct Tally {
    latencies: Histogram<u64>,
    pub(super) calls: u64,
    pub(super) orders: u64,
    pub(super) out_of_stock: u64,
    wrong: u64,
    failed: u64,
    faults: Vec<String>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            latencies: Histogram::new_with_max(LATENCY_US_MAX, DIGITS)
                .expect("two digits up to ten minutes are within what a histogram can have"),
            calls: 0,
            orders: 0,
            out_of_stock: 0,
            wrong: 0,
            failed: 0,
            faults: Vec::new(),
        }
    }

    pub(super) fn call(&mut self, latency: Duration) {
        self.calls += 1;
        self.latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn fault(&mut self, doing: &str, fault: &Fault) {
        let text = match fault {
            Fault::Wrong(text) => {
                self.wrong += 1;
                format!("wrong, {doing}: {text}")
            }
            Fault::Failed(error) => {
                self.failed += 1;
                format!("failed, {doing}: {error}")
            }
        };
        self.keep(text);
    }

    fn keep(&mut self, text: String) {
        if self.faults.len() < FAULTS_SHOWN {
            self.faults.push(text);
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        // Equal bounds, so every value fits.
        self.latencies += &other.latencies;
        self.calls += other.calls;
        self.orders += other.orders;
        self.out_of_stock += other.out_of_stock;
        self.wrong += other.wrong;
        self.failed += other.failed;
        for text in &other.faults {
            self.keep(text.clone());
        }
    }

    pub(super) fn report(&self) -> ThreadReport {
        ThreadReport {
            calls: self.calls,
            orders: self.orders,
            out_of_stock: self.out_of_stock,
            wrong: self.wrong,
            failed: self.failed,
            p50_us: self.latencies.value_at_quantile(0.5),
            p99_us: self.latencies.value_at_quantile(0.99),
            faults: self.faults.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_call_is_told_as_long_as_it_was() {
        let mut tally = Tally::new();
        for ms in [1, 40, 3000] {
            tally.call(Duration::from_millis(ms));
        }
        let mut sum = Tally::new();
        sum.add(&tally);
        let report = sum.report();
        assert!((39_000..41_000).contains(&report.p50_us), "{}", report.p50_us);
        assert!((2_900_000..3_100_000).contains(&report.p99_us), "{}", report.p99_us);
    }
}
