//! The time of day, for what people and orders are told. Durations are never measured with it.

use std::time::{SystemTime, UNIX_EPOCH};

use protocol::ids::Timestamp;

/// The time of day; the beginning of 1970 if the clock stands before it.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
