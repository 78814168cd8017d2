//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// How long a condition may take to hold. Far more than any takes on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until `look` finds what is waited for; else it says what is still missing.
pub(crate) async fn wait_for<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(missing) => {
                assert!(begin.elapsed() < LIMIT, "not after {LIMIT:?}: {what}; in the end: {missing}");
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}
