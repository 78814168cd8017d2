//! The outbox of a link: what waits to be written, and who writes it.
//!
//! Two may write. The flush task does whenever it is told that there is something. A sender that has
//! several messages to send puts them all here and writes them itself ([`LinkSender::push`]), as far as
//! the socket takes them at once; that saves waking the flush task, which may sleep on another core. Whoever
//! writes has taken the [`Pen`]; nobody ever waits for it.

use std::io::{self, ErrorKind};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

use crate::link::frame::{FRAME_BYTES_MAX, LENGTH_BYTES, RecvError, next_frame};

/// The most that may wait in an outbox. A peer that lets so much gather does not read: the link is cut,
/// for waiting would make this process as slow as that one.
pub const OUTBOX_BYTES_MAX: usize = 128 << 20;
/// Up to so much waits before [`LinkSender::room`] lets more come.
const ROOM_BYTES: usize = 1 << 20;

/// The link is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the link is closed")]
pub struct Closed;

#[derive(Debug)]
struct Outbox {
    buffer: Mutex<Buffer>,
    /// Absent while somebody writes, and for ever once the flush task has ended.
    pen: Mutex<Option<Pen>>,
    /// There is something for the flush task to do.
    filled: Notify,
    emptied: Notify,
    cut: Notify,
    /// Nothing more is taken in.
    closed: AtomicBool,
    /// The flush task is gone, and the socket with it.
    ended: AtomicBool,
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: BytesMut,
    /// The flush task was told of them; what was put without a push it knows nothing of.
    told: bool,
}

/// The right to write to the socket, with what the socket has not taken yet.
#[derive(Debug)]
struct Pen {
    stream: OwnedWriteHalf,
    page: BytesMut,
    written: usize,
}

/// The two ends of an outbox: who sends, and the task that writes.
pub(super) fn outbox<Out>(stream: OwnedWriteHalf) -> (LinkSender<Out>, Flush) {
    let outbox = Arc::new(Outbox::new(Some(Pen { stream, page: BytesMut::new(), written: 0 })));
    (LinkSender { outbox: outbox.clone(), message: PhantomData }, Flush { outbox })
}

/// A sending end without a connection, and what is put into its outbox: for simulations, which carry the
/// messages themselves.
#[must_use]
pub fn detached<Out>() -> (LinkSender<Out>, Unsent<Out>) {
    let outbox = Arc::new(Outbox::new(None));
    (LinkSender { outbox: outbox.clone(), message: PhantomData }, Unsent { outbox, message: PhantomData })
}

/// The outbox of a sending end without a connection.
#[derive(Debug)]
pub struct Unsent<Out> {
    outbox: Arc<Outbox>,
    message: PhantomData<fn() -> Out>,
}

impl<Out: DeserializeOwned> Unsent<Out> {
    /// Takes all messages that were put into the outbox, in their order.
    ///
    /// # Errors
    /// If what is there is no message.
    pub fn take(&self) -> Result<Vec<Out>, RecvError> {
        let mut buffer = std::mem::take(&mut self.outbox.buffer.lock().bytes);
        let mut messages = Vec::new();
        while let Some(message) = next_frame(&mut buffer)? {
            messages.push(message);
        }
        Ok(messages)
    }
}

impl Pen {
    /// Turns to what waits, if all before it is written. Whether there is anything to write.
    fn turn(&mut self, outbox: &Outbox) -> bool {
        if self.written < self.page.len() {
            return true;
        }
        self.page.clear();
        self.written = 0;
        if self.page.capacity() > ROOM_BYTES {
            // A large message came by: its memory is not kept for ever.
            self.page = BytesMut::new();
        }
        let mut buffer = outbox.buffer.lock();
        std::mem::swap(&mut buffer.bytes, &mut self.page);
        buffer.told = false;
        drop(buffer);
        !self.page.is_empty()
    }

    /// Writes what the socket takes at once.
    fn write(&mut self, outbox: &Outbox) -> io::Result<()> {
        let rest = self.page.get(self.written..).unwrap_or_default();
        self.written += self.stream.try_write(rest)?;
        if self.written == self.page.len() {
            outbox.emptied.notify_waiters();
        }
        Ok(())
    }
}

impl Outbox {
    fn new(pen: Option<Pen>) -> Self {
        Self {
            buffer: Mutex::default(),
            pen: Mutex::new(pen),
            filled: Notify::new(),
            emptied: Notify::new(),
            cut: Notify::new(),
            closed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }

    fn take_pen(&self) -> Option<Pen> {
        self.pen.lock().take()
    }

    fn put_back(&self, pen: Pen) {
        let unwritten = pen.written < pen.page.len();
        let mut place = self.pen.lock();
        if self.ended.load(Ordering::Acquire) {
            return;
        }
        *place = Some(pen);
        drop(place);
        // Whoever came while the pen was away has left it to the flush task.
        if unwritten || !self.buffer.lock().bytes.is_empty() || self.closed.load(Ordering::Acquire) {
            self.filled.notify_one();
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.filled.notify_one();
        self.emptied.notify_waiters();
    }

    /// Closes without another byte, also while a write waits for a peer that does not read.
    fn cut(&self) {
        self.cut.notify_one();
        self.close();
    }
}

/// The sending end of a link. Cheap to clone.
#[derive(Debug)]
pub struct LinkSender<Out> {
    outbox: Arc<Outbox>,
    message: PhantomData<fn(Out)>,
}

impl<Out> Clone for LinkSender<Out> {
    fn clone(&self) -> Self {
        Self { outbox: self.outbox.clone(), message: PhantomData }
    }
}

impl<Out: Serialize> LinkSender<Out> {
    /// Sends a message by way of the flush task. That it was sent does not mean that it arrives.
    ///
    /// # Errors
    /// If the link is closed.
    pub fn send(&self, message: &Out) -> Result<(), Closed> {
        if !std::mem::replace(&mut self.enter(message)?.told, true) {
            self.outbox.filled.notify_one();
        }
        Ok(())
    }

    /// Puts a message into the outbox, where it stays until somebody's [`LinkSender::push`] or the next
    /// [`LinkSender::send`].
    ///
    /// # Errors
    /// If the link is closed.
    pub fn put(&self, message: &Out) -> Result<(), Closed> {
        self.enter(message).map(drop)
    }

    /// Puts a message into the outbox.
    fn enter(&self, message: &Out) -> Result<MutexGuard<'_, Buffer>, Closed> {
        if self.is_closed() {
            return Err(Closed);
        }
        let mut guard = self.outbox.buffer.lock();
        let buffer = &mut guard.bytes;
        let start = buffer.len();
        buffer.extend_from_slice(&[0; LENGTH_BYTES]);
        let encoded = postcard::to_io(message, BufferWriter(buffer)).is_ok();
        let length = buffer.len() - start - LENGTH_BYTES;
        let too_much = length > FRAME_BYTES_MAX || buffer.len() > OUTBOX_BYTES_MAX;
        if !encoded || too_much {
            buffer.truncate(start);
            drop(guard);
            tracing::warn!(bytes = length, "the link is cut: its outbox is full or the message too long");
            self.outbox.cut();
            return Err(Closed);
        }
        let header = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        if let Some(place) = buffer.get_mut(start..start + LENGTH_BYTES) {
            place.copy_from_slice(&header);
        }
        Ok(guard)
    }
}

impl<Out> LinkSender<Out> {
    /// Writes what is in the outbox, as far as the socket takes it at once; the rest is for the flush task.
    /// May be called from any thread.
    pub fn push(&self) {
        let outbox = &*self.outbox;
        let Some(mut pen) = outbox.take_pen() else {
            // Whoever has it may have looked into the outbox already.
            outbox.filled.notify_one();
            return;
        };
        while pen.turn(outbox) {
            // What can't be written now, or never, is found by the flush task as well.
            if pen.write(outbox).is_err() {
                break;
            }
        }
        outbox.put_back(pen);
    }

    /// Waits until there is room in the outbox, for senders of much.
    ///
    /// # Errors
    /// If the link is closed.
    pub async fn room(&self) -> Result<(), Closed> {
        loop {
            let emptied = self.outbox.emptied.notified();
            if self.is_closed() {
                return Err(Closed);
            }
            if self.outbox.buffer.lock().bytes.len() < ROOM_BYTES {
                return Ok(());
            }
            emptied.await;
        }
    }

    /// Whether this sends on the same link as another.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.outbox, &other.outbox)
    }

    /// Whether the link is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.outbox.closed.load(Ordering::Acquire)
    }

    /// Closes the link, once what is in the outbox has been written.
    pub fn close(&self) {
        self.outbox.close();
    }

    /// Cuts the link at once, whatever is in the outbox.
    pub fn cut(&self) {
        self.outbox.cut();
    }
}

struct BufferWriter<'a>(&'a mut BytesMut);

impl io::Write for BufferWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What writes a link's outbox to its socket.
#[derive(Debug)]
pub struct Flush {
    outbox: Arc<Outbox>,
}

impl Drop for Flush {
    /// Whoever ends the task ends the link, and closes the socket.
    fn drop(&mut self) {
        self.outbox.close();
        self.outbox.ended.store(true, Ordering::Release);
        drop(self.outbox.take_pen());
    }
}

impl Flush {
    /// Writes until the link is closed or the connection fails.
    pub async fn run(self) {
        let outbox = &*self.outbox;
        loop {
            let Some(pen) = outbox.take_pen() else {
                outbox.filled.notified().await;
                continue;
            };
            // A pen that is not put back closes the socket.
            let Some(pen) = write_all(outbox, pen).await else { return };
            // Looked at before the pen is back: whatever came in before the end is written.
            let closed = outbox.closed.load(Ordering::Acquire) && outbox.buffer.lock().bytes.is_empty();
            if closed {
                return;
            }
            outbox.put_back(pen);
            outbox.filled.notified().await;
            // Whoever else is ready to run may have something to send as well: it all goes with one write.
            tokio::task::yield_now().await;
        }
    }
}

/// Writes until the outbox is empty. `None` if the link was cut, or the connection failed.
async fn write_all(outbox: &Outbox, mut pen: Pen) -> Option<Pen> {
    while pen.turn(outbox) {
        tokio::select! {
            biased;
            () = outbox.cut.notified() => return None,
            writable = pen.stream.writable() => writable.ok()?,
        }
        match pen.write(outbox) {
            Err(problem) if problem.kind() == ErrorKind::WouldBlock => {}
            written => written.ok()?,
        }
    }
    Some(pen)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::ids::NodeId;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use super::*;
    use crate::link::{Connected, LinkReceiver, Opened, open};

    /// Far beyond what anything here takes.
    const DEADLINE: Duration = Duration::from_secs(10);

    async fn pair(tasks: &mut JoinSet<()>) -> (LinkSender<Vec<u8>>, LinkReceiver<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let far = listener.accept().await.unwrap().0;
        let connected =
            |stream| Connected { peer: NodeId::from("peer".to_owned()), stream, read: BytesMut::new() };
        let near: Opened<Vec<u8>, ()> = open(connected(near));
        let far: Opened<(), Vec<u8>> = open(connected(far));
        tasks.spawn(near.flush.run());
        tasks.spawn(far.flush.run());
        (near.sender, far.receiver)
    }

    #[tokio::test]
    async fn what_was_put_goes_with_the_push_or_with_what_is_sent() {
        let mut tasks = JoinSet::new();
        let (sender, mut receiver) = pair(&mut tasks).await;
        sender.put(&vec![1]).unwrap();
        sender.put(&vec![2]).unwrap();
        sender.push();
        let first = timeout(DEADLINE, receiver.recv_many()).await.unwrap().unwrap();
        assert_eq!(first, [vec![1], vec![2]], "one push is one write");
        sender.put(&vec![3]).unwrap();
        sender.send(&vec![4]).unwrap();
        for expected in [3, 4] {
            assert_eq!(timeout(DEADLINE, receiver.recv()).await.unwrap().unwrap(), [expected]);
        }
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_at_once_follows() {
        let mut tasks = JoinSet::new();
        let (sender, mut receiver) = pair(&mut tasks).await;
        let large = vec![7; 48 << 20];
        sender.put(&large).unwrap();
        sender.push();
        sender.put(&vec![8]).unwrap();
        sender.push();
        assert!(timeout(DEADLINE, receiver.recv()).await.unwrap().unwrap() == large);
        assert_eq!(timeout(DEADLINE, receiver.recv()).await.unwrap().unwrap(), [8]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_stays_behind_however_many_push_at_once() {
        const THREADS: u8 = 4;
        const EACH: u32 = 5_000;
        let mut tasks = JoinSet::new();
        let (sender, mut receiver) = pair(&mut tasks).await;
        for thread in 0..THREADS {
            let sender = sender.clone();
            tasks.spawn_blocking(move || {
                for number in 0..EACH {
                    let message = [vec![thread], number.to_be_bytes().to_vec()].concat();
                    if number % 3 == 0 {
                        sender.send(&message).unwrap();
                    } else {
                        sender.put(&message).unwrap();
                        sender.push();
                    }
                }
            });
        }
        let mut next = [0_u32; THREADS as usize];
        for _ in 0..u32::from(THREADS) * EACH {
            let message = timeout(DEADLINE, receiver.recv()).await.expect("no message stays behind").unwrap();
            let (thread, number) = message.split_first().unwrap();
            let next = &mut next[usize::from(*thread)];
            assert_eq!(number, next.to_be_bytes(), "each sender's messages come in order");
            *next += 1;
        }
    }

    #[tokio::test]
    async fn a_closed_link_ends_behind_what_was_sent_and_a_cut_one_at_once() {
        let mut tasks = JoinSet::new();
        let (sender, mut receiver) = pair(&mut tasks).await;
        sender.put(&vec![1]).unwrap();
        sender.close();
        assert_eq!(sender.send(&vec![2]), Err(Closed));
        assert_eq!(timeout(DEADLINE, receiver.recv()).await.unwrap().unwrap(), [1]);
        assert!(timeout(DEADLINE, receiver.recv()).await.unwrap().is_err());
        let (sender, mut receiver) = pair(&mut tasks).await;
        sender.put(&vec![0; 32 << 20]).unwrap();
        sender.push();
        sender.cut();
        assert!(timeout(DEADLINE, receiver.recv()).await.unwrap().is_err());
    }
}
