//! The place where a lane's thread reads and writes for whichever connection has its turn.
//!
//! One is enough for all of them, because nothing lies on it from one turn to the next. So a connection that has
//! nothing to say has no memory but its own few fields.

use std::cell::RefCell;
use std::time::{Duration, UNIX_EPOCH};

use common::clock;

/// What is read at once: many plain requests, or a large head whole.
pub(super) const READ_BYTES: usize = 16 * 1024;

thread_local! {
    static DESK: RefCell<Desk> = RefCell::new(Desk::new());
}

/// A thread's buffers, and the date that its answers have.
pub(super) struct Desk {
    /// What comes from the client.
    pub(super) read: Box<[u8]>,
    /// What goes to it.
    pub(super) out: Vec<u8>,
    /// The time of the answers, in the form of HTTP.
    pub(super) date: String,
    second: Option<u64>,
}

impl Desk {
    fn new() -> Self {
        Self { read: vec![0; READ_BYTES].into(), out: Vec::new(), date: String::new(), second: None }
    }

    /// Gives the thread's desk to a turn that waits for nothing.
    pub(super) fn with<T>(turn: impl FnOnce(&mut Self) -> T) -> T {
        DESK.with_borrow_mut(turn)
    }

    /// Sets the date, once for all answers of a turn.
    pub(super) fn set_date(&mut self) {
        let second = clock::now().0 / 1000;
        if self.second != Some(second) {
            self.second = Some(second);
            self.date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
        }
    }
}
