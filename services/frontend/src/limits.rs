//! How often one client may ask: a bucket for each address, refilled by time.
//!
//! A bucket is one number, the time at which it will be full again (the generic cell rate algorithm): each
//! request moves it one interval on, and is refused where that would be more than a second ahead. A bucket
//! whose time has passed is full, and forgetting a full bucket changes nothing; that bounds the memory.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The parts that the clients are spread over, each under a lock of its own.
const PARTS: usize = 16;
/// The most clients that a part remembers. With all parts full, some 4 MB.
const CLIENTS_PER_PART: usize = 4096;
/// What a client may ask at once, expressed as the time in which it is earned.
const BURST: Duration = Duration::from_secs(1);

/// The buckets of all clients.
#[derive(Debug)]
pub struct RateLimit {
    interval: Duration,
    hasher: RandomState,
    parts: [Mutex<HashMap<IpAddr, Instant>>; PARTS],
}

impl RateLimit {
    /// So many requests in a second for each client.
    #[must_use]
    pub fn new(per_second: NonZeroU32) -> Self {
        let interval = BURST / per_second.get();
        Self { interval, hasher: RandomState::new(), parts: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// If it is one too many: how long to wait.
    pub fn take(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        let client = owner_of(client);
        let place = usize::try_from(self.hasher.hash_one(client)).unwrap_or_default() % PARTS;
        let Some(part) = self.parts.get(place) else { return Ok(()) };
        let mut part = part.lock();
        let full_at = part.get(&client).copied().unwrap_or(now).max(now);
        let next = full_at + self.interval;
        let allowed = now + BURST;
        if next > allowed {
            return Err(next.saturating_duration_since(allowed));
        }
        if part.len() >= CLIENTS_PER_PART && !part.contains_key(&client) {
            make_room(&mut part, now);
        }
        part.insert(client, next);
        Ok(())
    }
}

/// Forgets the full buckets; if none is, those that are nearly so go on being remembered and all others
/// are given up. A flood of addresses must not grow the map.
fn make_room(part: &mut HashMap<IpAddr, Instant>, now: Instant) {
    part.retain(|_, full_at| *full_at > now);
    if part.len() >= CLIENTS_PER_PART {
        part.clear();
    }
}

/// The client behind an address: one household or machine has a whole /64 of IPv6 to ask from.
fn owner_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per_second: u32) -> RateLimit {
        RateLimit::new(per_second.try_into().unwrap())
    }

    fn client(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_second_s_worth_may_come_at_once_and_then_one_by_one() {
        let (limit, a, now) = (limit(10), client("10.0.0.1"), Instant::now());
        for _ in 0..10 {
            assert_eq!(limit.take(a, now), Ok(()));
        }
        assert_eq!(limit.take(a, now), Err(Duration::from_millis(100)));
        assert_eq!(limit.take(client("10.0.0.2"), now), Ok(()), "another client has a bucket of its own");
        let later = now + Duration::from_millis(100);
        assert_eq!(limit.take(a, later), Ok(()));
        assert_eq!(limit.take(a, later), Err(Duration::from_millis(100)));
        let much_later = now + Duration::from_secs(60);
        assert_eq!(
            (0..20).filter(|_| limit.take(a, much_later).is_ok()).count(),
            10,
            "a bucket has a bottom"
        );
    }

    #[test]
    fn one_owner_of_many_addresses_is_one_client() {
        let (limit, now) = (limit(1), Instant::now());
        assert_eq!(limit.take(client("2001:db8::1"), now), Ok(()));
        assert!(limit.take(client("2001:db8::2"), now).is_err());
        assert_eq!(limit.take(client("2001:db8:0:1::1"), now), Ok(()));
        assert_eq!(limit.take(client("10.0.0.1"), now), Ok(()));
        assert!(limit.take(client("::ffff:10.0.0.1"), now).is_err());
    }

    #[test]
    fn a_flood_of_addresses_takes_bounded_room() {
        let (limit, now) = (limit(1), Instant::now());
        for number in 0..200_000_u32 {
            assert_eq!(limit.take(IpAddr::from(number.to_be_bytes()), now), Ok(()));
        }
        let remembered: usize = limit.parts.iter().map(|part| part.lock().len()).sum();
        assert!(remembered <= PARTS * CLIENTS_PER_PART, "{remembered}");
    }
}
