//! What is seen of a connection from outside, and how it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::Context;

use futures_util::task::AtomicWaker;

/// The life signs of a connection.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    beats: AtomicU64,
    busy: AtomicU32,
    /// Requests of which a part is still to come, and answers of which a part is still to go.
    halves: AtomicU32,
    /// The socket has not taken all that it was given.
    unwritten: AtomicBool,
    stop: AtomicBool,
    waker: AtomicWaker,
}

impl Pulse {
    /// The client has taken a part of an answer.
    pub(super) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has.
    pub(super) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Whether a request is being worked on.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// Whether all requests have come whole, and have been answered but for what the socket has yet to take.
    pub(super) fn is_between_requests(&self) -> bool {
        self.halves.load(Ordering::Relaxed) == 0 && !self.is_busy()
    }

    /// Whether the socket has yet to take something.
    pub(super) fn is_unwritten(&self) -> bool {
        self.unwritten.load(Ordering::Relaxed)
    }

    /// Notes whether it has.
    pub(super) fn set_unwritten(&self, unwritten: bool) {
        self.unwritten.store(unwritten, Ordering::Relaxed);
    }

    /// Has the connection end after the request that it is at.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether it is to end. If not, a task with this context is woken when it is.
    pub(super) fn is_stopped(&self, context: &Context<'_>) -> bool {
        self.waker.register(context.waker());
        self.has_stopped()
    }

    /// Whether it is to end.
    pub(super) fn has_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// A request is being worked on until this is dropped.
#[derive(Debug)]
pub(super) struct Busy(Arc<Pulse>);

impl Busy {
    pub(super) fn new(pulse: &Arc<Pulse>) -> Self {
        pulse.busy.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(pulse))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request of which a part is still to come, or an answer of which a part is still to go, until
/// [`Half::end`].
#[derive(Debug)]
pub(super) struct Half {
    pulse: Option<Arc<Pulse>>,
    at_drop: AtDrop,
}

/// What it means to drop a [`Half`] that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtDrop {
    /// That is its end.
    Ends,
    /// It has none: its connection stays amid a request for ever.
    Stays,
}

impl Half {
    pub(super) fn new(pulse: &Arc<Pulse>, at_drop: AtDrop) -> Self {
        pulse.halves.fetch_add(1, Ordering::Relaxed);
        Self { pulse: Some(Arc::clone(pulse)), at_drop }
    }

    /// Being worked on, if it is an answer: for a request that is no excuse, its client may well be silent.
    pub(super) fn busy(&self) -> Option<Busy> {
        self.pulse.as_ref().filter(|_| self.at_drop == AtDrop::Ends).map(Busy::new)
    }

    pub(super) fn end(&mut self) {
        if let Some(pulse) = self.pulse.take() {
            pulse.halves.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if self.at_drop == AtDrop::Ends {
            self.end();
        }
    }
}
