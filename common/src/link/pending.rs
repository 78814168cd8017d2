//! Which caller waits for which answer on a link.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use protocol::call::CallId;
use tokio::sync::oneshot;

/// The calls of a link that wait for their answers. Cheap to clone.
#[derive(Debug)]
pub struct Pending<R>(Arc<Mutex<Table<R>>>);

#[derive(Debug)]
struct Table<R> {
    next: u64,
    waiting: HashMap<CallId, oneshot::Sender<R>>,
}

impl<R> Clone for Pending<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R> Default for Pending<R> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Table { next: 0, waiting: HashMap::new() })))
    }
}

impl<R> Pending<R> {
    /// A new call, and what its answer will come out of.
    #[must_use]
    pub fn register(&self) -> (CallId, Waiting<R>) {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.0.lock();
        let call = CallId(table.next);
        table.next += 1;
        table.waiting.insert(call, sender);
        drop(table);
        (call, Waiting { call, receiver, pending: self.clone() })
    }

    /// The answer to a call has come. One that nobody waits for any more is dropped.
    pub fn resolve(&self, call: CallId, answer: R) {
        let sender = self.0.lock().waiting.remove(&call);
        if let Some(sender) = sender {
            // The caller may have gone in this very moment; then nobody misses the answer.
            drop(sender.send(answer));
        }
    }

    /// The link is closed: nobody gets an answer any more.
    pub fn fail_all(&self) {
        let waiting = std::mem::take(&mut self.0.lock().waiting);
        drop(waiting);
    }
}

/// A call that waits for its answer: `None` if the link closed before it came. Whoever drops it waits
/// no longer.
#[derive(Debug)]
pub struct Waiting<R> {
    call: CallId,
    receiver: oneshot::Receiver<R>,
    pending: Pending<R>,
}

impl<R> Future for Waiting<R> {
    type Output = Option<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<R>> {
        Pin::new(&mut self.receiver).poll(cx).map(Result::ok)
    }
}

impl<R> Drop for Waiting<R> {
    fn drop(&mut self) {
        self.pending.0.lock().waiting.remove(&self.call);
    }
}
