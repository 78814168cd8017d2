//! The audit: what was sold and what is left make what there was.
//!
//! A shard's *ledger* says what has changed the stock of its books, entry by entry: sales, deliveries, books
//! that came and went. It is made from the write log and the stored sales. The audit compares it with what
//! the store says elsewhere:
//!
//! - Each book, as it is listed with its version, has the copies that the ledger comes to at that version.
//! - Each order node has each sale of the ledger once, as it was made, and no other order.
//! - Replicas at one index have one chain and one digest.
//!
//! **While the store lives**, all of this moves. A listed book names the version at which it has its stock,
//! so that it can be compared however much is sold meanwhile. Orders are listed between two readings of the
//! ledger: what the first has must be among them, and they must all be in the second. An order node that
//! can't catch up with the shards lists what it has, so what does not fit is looked at again, some times.
//!
//! **The beginning.** A log is cut at its old end, and with it goes what is known of deliveries. An audit can
//! be saved as a [`Start`] for later ones. Of a book whose beginning is neither in the log nor in a start,
//! the stock is not proven; the report says of how many. It is saved as it was seen: what comes after is proven.

mod account;
mod evidence;
mod report;
mod start;

use std::time::Duration;

use crate::client::Client;
use crate::error::ClientError;

pub use self::evidence::{Evidence, Progress, ShardLedger};
pub use self::report::{Fault, Report};
pub use self::start::{Start, StartError};

/// How often the evidence is gathered anew before what does not fit is believed.
const ROUNDS: u32 = 4;
/// What is between two rounds: time for an order node to follow what was sold.
const PAUSE: Duration = Duration::from_millis(500);

/// Why there is no audit.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A call failed.
    #[error("{0}")]
    Call(#[source] ClientError),
    /// The start does not belong to this store, or is too old.
    #[error("{0}")]
    Start(#[source] StartError),
}

/// Audits a store, from a start if there is one. Gives what was found, and what it was found in.
///
/// # Errors
/// If the store can't be asked, or the start is of no use. What does not fit is in the report.
pub async fn run(
    client: &Client,
    start: Option<&Start>,
    progress: &Progress<'_>,
) -> Result<(Report, Evidence), AuditError> {
    let mut round = 1;
    loop {
        let evidence = Evidence::gather(client, progress).await.map_err(AuditError::Call)?;
        let report = account::judge(&evidence, start).map_err(AuditError::Start)?;
        if report.is_balanced() || round == ROUNDS {
            return Ok((report, evidence));
        }
        round += 1;
        tokio::time::sleep(PAUSE).await;
    }
}
