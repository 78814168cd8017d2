//! The numbers of orders: they rise with time, so that "newest first" is "highest first".
//!
//! The time of day may be set back, and then a new order must not come to stand behind older ones. So a
//! number's time is never below that of an order that this node knows, of whichever node: it goes on just
//! behind those until the clock has caught up. What an order says of when it was made is the clock's alone.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use protocol::ids::{OrderId, Timestamp};
use uuid::{ContextV7, Uuid};

/// Where the milliseconds begin in a number.
const TIME_BITS_BELOW: u32 = 80;

/// Makes numbers of orders.
#[derive(Debug, Default)]
pub struct OrderIds {
    /// Numbers of one process rise also within a millisecond.
    context: Mutex<ContextV7>,
    /// The time of the newest order that is known, in milliseconds.
    seen_ms: AtomicU64,
}

impl OrderIds {
    /// An order is known: further ones are to come behind it.
    pub fn saw(&self, order: OrderId) {
        let ms = u64::try_from(order.0 >> TIME_BITS_BELOW).unwrap_or(u64::MAX);
        self.seen_ms.fetch_max(ms, Ordering::Relaxed);
    }

    /// The number of an order that is made at this time of day.
    pub fn next(&self, now: Timestamp) -> OrderId {
        let seen = self.seen_ms.load(Ordering::Relaxed);
        // Within one millisecond, orders of several nodes have no order anyway.
        let ms = if now.0 >= seen { now.0 } else { seen + 1 };
        let nanos = u32::try_from(ms % 1000).unwrap_or(0) * 1_000_000;
        let context = self.context.lock();
        OrderId(Uuid::new_v7(uuid::Timestamp::from_unix(&*context, ms / 1000, nanos)).as_u128())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp(1_795_262_400_000);
    const HOUR_BEFORE: Timestamp = Timestamp(NOON.0 - 3_600_000);

    #[test]
    fn numbers_rise_also_within_a_millisecond_and_when_the_clock_is_set_back() {
        let ids = OrderIds::default();
        let times = [NOON, NOON, NOON, HOUR_BEFORE, HOUR_BEFORE, Timestamp(NOON.0 + 1)];
        let made: Vec<OrderId> = times.into_iter().map(|now| ids.next(now)).collect();
        assert!(made.is_sorted_by(|one, next| one < next), "{made:?}");
        assert_eq!(made[0].0 >> TIME_BITS_BELOW, u128::from(NOON.0));
    }

    #[test]
    fn a_new_process_and_another_node_go_on_behind_what_they_know() {
        let (one, other) = (OrderIds::default(), OrderIds::default());
        let mut last = one.next(NOON);
        for turn in 0..100 {
            let ids = if turn % 2 == 0 { &other } else { &one };
            ids.saw(last);
            let next = ids.next(HOUR_BEFORE);
            assert!(next > last, "{turn}: {last} {next}");
            last = next;
        }
        assert!(other.next(Timestamp(NOON.0 + 1_000)).0 >> TIME_BITS_BELOW == u128::from(NOON.0 + 1_000));
    }
}
