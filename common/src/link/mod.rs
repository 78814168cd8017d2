//! Framed links between processes: one TCP connection, messages in both directions.
//!
//! A link begins as an HTTP/1.1 request with `Upgrade: bookends/1`, the cluster secret and the count of
//! shards, so that a stranger at an internal port, a person with curl included, gets an answer that says
//! what is wrong. After the `101` both sides send frames: a length of four bytes, little-endian, and a
//! message in postcard's encoding.
//!
//! Sending never waits: a message is encoded into the link's outbox, and whatever has gathered there is
//! written with one system call, by the link's own task or by the sender. So many messages that are sent
//! at about the same time cost one write here and one read there, without a timer.
//!
//! - `credentials`: what is shown at the beginning.
//! - `handshake`: both ends of the beginning; [`connect`] and [`accept`].
//! - `frame`: [`open`], and reading.
//! - `outbox`: sending, and who writes to the socket.
//! - `pending`: which caller waits for which answer.
//! - `serve`: accepting links until the process stops.

mod credentials;
mod frame;
mod handshake;
mod outbox;
mod pending;
mod serve;

pub use credentials::Credentials;
pub use frame::{FRAME_BYTES_MAX, LinkReceiver, Opened, RecvError, next_frame, open};
pub use handshake::{
    ConnectError, Connected, HANDSHAKE_TIMEOUT, Head, Request, accept, answer, connect, request,
};
pub use outbox::{Closed, Flush, LinkSender, OUTBOX_BYTES_MAX, Unsent, detached};
pub use pending::{Pending, Waiting};
pub use serve::serve;

use std::mem::{self, Discriminant};
use std::time::Duration;

/// A link that has held for so long was a good one: when it breaks, the next attempt is made at once. One
/// that breaks sooner may break again, and is given time.
pub const STABLE: Duration = Duration::from_secs(1);

/// Growing pauses between attempts to connect, with a spread that keeps many callers apart.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    first: Duration,
    max: Duration,
}

impl Backoff {
    /// Pauses from `first`, doubling, to `max`.
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { next: first, first, max }
    }

    /// The next pause: between a half and the whole of the step. `spread` is any changing number.
    pub fn pause(&mut self, spread: u64) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        let thousandths = u32::try_from(500 + spread % 501).unwrap_or(1000);
        step * thousandths / 1000
    }

    /// Begins again with the first step.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// What has been said of a peer that is not reached: attempts follow each other for as long as it is away, and only
/// a change is news.
#[derive(Debug, Default)]
pub struct Complaint(Option<Discriminant<ConnectError>>);

impl Complaint {
    /// Whether this problem is of another kind than the last one.
    pub fn is_news(&mut self, problem: &ConnectError) -> bool {
        let kind = mem::discriminant(problem);
        self.0.replace(kind) != Some(kind)
    }

    /// The peer was reached.
    pub fn settle(&mut self) {
        self.0 = None;
    }
}

/// A number that differs from call to call, good enough to spread attempts.
#[must_use]
pub fn spread() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    high ^ low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_maximum_and_begin_again() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(20), ms(100));
        let steps: Vec<Duration> = (0..4).map(|_| backoff.pause(500)).collect();
        assert_eq!(steps, [ms(20), ms(40), ms(80), ms(100)]);
        backoff.reset();
        assert_eq!(backoff.pause(0), ms(10));
    }

    #[test]
    fn a_problem_is_news_until_it_has_been_told() {
        let refused = || ConnectError::Refused { address: "there".to_owned() };
        let late = ConnectError::TimedOut { address: "there".to_owned() };
        let mut complaint = Complaint::default();
        let mut news =
            [refused(), refused(), late, refused()].map(|problem| complaint.is_news(&problem)).to_vec();
        complaint.settle();
        news.push(complaint.is_news(&refused()));
        assert_eq!(news, [true, false, true, true, true]);
    }
}
