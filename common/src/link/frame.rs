//! Frames: the outbox of a link, and reading what comes.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use crate::link::Connected;

/// The largest frame. A batch of the log is a few MiB at most.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
/// The most that may wait in an outbox. A peer that lets so much gather does not read: the link is cut,
/// for waiting would make this process as slow as that one.
pub const OUTBOX_BYTES_MAX: usize = 128 << 20;
/// Up to so much waits before [`LinkSender::room`] lets more come.
const ROOM_BYTES: usize = 1 << 20;
/// What one read of the socket asks for at least.
const READ_BYTES: usize = 64 << 10;
const LENGTH_BYTES: usize = 4;

/// The link is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the link is closed")]
pub struct Closed;

/// Why there is no next message.
#[derive(Debug, thiserror::Error)]
pub enum RecvError {
    /// The other side closed the link.
    #[error("the other side closed the link")]
    Closed,
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// What came is not a message.
    #[error("what came is not a message of this protocol")]
    Malformed(#[source] postcard::Error),
    /// A frame is longer than [`FRAME_BYTES_MAX`].
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
}

/// A link, opened.
pub struct Opened<Out, In> {
    /// The sending end.
    pub sender: LinkSender<Out>,
    /// The receiving end.
    pub receiver: LinkReceiver<In>,
    /// The task that writes the outbox to the socket. Somebody has to drive it; it ends with the link.
    pub flush: Flush,
}

/// Makes the two ends of a link from a connection.
#[must_use]
pub fn open<Out: Serialize, In: DeserializeOwned>(connected: Connected) -> Opened<Out, In> {
    let (read, write) = connected.stream.into_split();
    let outbox = Arc::new(Outbox::default());
    Opened {
        sender: LinkSender { outbox: outbox.clone(), message: PhantomData },
        receiver: LinkReceiver { stream: read, buffer: connected.read, message: PhantomData },
        flush: Flush { outbox, stream: write },
    }
}

#[derive(Debug, Default)]
struct Outbox {
    buffer: Mutex<BytesMut>,
    filled: Notify,
    emptied: Notify,
    cut: Notify,
    closed: AtomicBool,
}

impl Outbox {
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.filled.notify_one();
        self.emptied.notify_waiters();
    }

    /// Closes without another byte, also while a write waits for a peer that does not read.
    fn cut(&self) {
        self.close();
        self.cut.notify_one();
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
    /// Puts a message into the outbox. That it was put there does not mean that it arrives.
    ///
    /// # Errors
    /// If the link is closed.
    pub fn send(&self, message: &Out) -> Result<(), Closed> {
        if self.is_closed() {
            return Err(Closed);
        }
        let mut buffer = self.outbox.buffer.lock();
        let start = buffer.len();
        buffer.extend_from_slice(&[0; LENGTH_BYTES]);
        let encoded = postcard::to_io(message, BufferWriter(&mut buffer)).is_ok();
        let length = buffer.len() - start - LENGTH_BYTES;
        let too_much = length > FRAME_BYTES_MAX || buffer.len() > OUTBOX_BYTES_MAX;
        if !encoded || too_much {
            buffer.truncate(start);
            drop(buffer);
            tracing::warn!(bytes = length, "the link is cut: its outbox is full or the message too long");
            self.outbox.cut();
            return Err(Closed);
        }
        let header = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        if let Some(place) = buffer.get_mut(start..start + LENGTH_BYTES) {
            place.copy_from_slice(&header);
        }
        let was_empty = start == 0;
        drop(buffer);
        if was_empty {
            self.outbox.filled.notify_one();
        }
        Ok(())
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
            if self.outbox.buffer.lock().len() < ROOM_BYTES {
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
    stream: OwnedWriteHalf,
}

impl Drop for Flush {
    /// Whoever ends the task ends the link.
    fn drop(&mut self) {
        self.outbox.close();
    }
}

impl Flush {
    /// Writes until the link is closed or the connection fails.
    pub async fn run(mut self) {
        let mut full = BytesMut::new();
        loop {
            std::mem::swap(&mut *self.outbox.buffer.lock(), &mut full);
            if full.is_empty() {
                if self.outbox.closed.load(Ordering::Acquire) {
                    return;
                }
                self.outbox.filled.notified().await;
                continue;
            }
            let written = tokio::select! {
                written = self.stream.write_all(&full) => written.is_ok(),
                () = self.outbox.cut.notified() => false,
            };
            if !written {
                return;
            }
            full.clear();
            if full.capacity() > ROOM_BYTES {
                // A large message came by: its memory is not kept for ever.
                full = BytesMut::new();
            }
            self.outbox.emptied.notify_waiters();
        }
    }
}

/// The receiving end of a link.
#[derive(Debug)]
pub struct LinkReceiver<In> {
    stream: OwnedReadHalf,
    buffer: BytesMut,
    message: PhantomData<fn() -> In>,
}

impl<In: DeserializeOwned> LinkReceiver<In> {
    /// The next message. May be cancelled without loss.
    ///
    /// # Errors
    /// If the link is closed or what comes is no message.
    pub async fn recv(&mut self) -> Result<In, RecvError> {
        loop {
            if let Some(message) = self.next_buffered()? {
                return Ok(message);
            }
            self.buffer.reserve(READ_BYTES);
            if self.buffer.is_empty() && self.buffer.capacity() > READ_BYTES * 4 {
                // A large message came by: its memory is not kept for ever.
                self.buffer = BytesMut::with_capacity(READ_BYTES);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(RecvError::Closed);
            }
        }
    }

    /// At least one message, and all that have come with it. May be cancelled without loss.
    ///
    /// # Errors
    /// If the link is closed or what comes is no message.
    pub async fn recv_many(&mut self) -> Result<Vec<In>, RecvError> {
        let mut messages = vec![self.recv().await?];
        while let Some(message) = self.next_buffered()? {
            messages.push(message);
        }
        Ok(messages)
    }

    fn next_buffered(&mut self) -> Result<Option<In>, RecvError> {
        let Some(header) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*header)).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(RecvError::TooLong(length));
        }
        if self.buffer.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        let frame = self.buffer.split_to(length);
        match postcard::take_from_bytes(&frame) {
            Ok((message, [])) => Ok(Some(message)),
            Ok(_) => Err(RecvError::Malformed(postcard::Error::DeserializeBadEncoding)),
            Err(problem) => Err(RecvError::Malformed(problem)),
        }
    }
}
