//! Frames: opening a link, and reading what comes.

use std::io;
use std::marker::PhantomData;

use bytes::{Buf, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;

use crate::link::Connected;
use crate::link::outbox::{Flush, LinkSender, outbox};

/// The largest frame. A batch of the log is a few MiB at most.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
/// What one read of the socket asks for at least.
const READ_BYTES: usize = 64 << 10;
pub(super) const LENGTH_BYTES: usize = 4;

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
    let (sender, flush) = outbox(write);
    let receiver = LinkReceiver { stream: read, buffer: connected.read, message: PhantomData };
    Opened { sender, receiver, flush }
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
            if let Some(message) = next_frame(&mut self.buffer)? {
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
        while let Some(message) = next_frame(&mut self.buffer)? {
            messages.push(message);
        }
        Ok(messages)
    }
}

/// The next message of a buffer, taken out of it, if all of it is there.
///
/// # Errors
/// If what is there can't become a message.
pub fn next_frame<In: DeserializeOwned>(buffer: &mut BytesMut) -> Result<Option<In>, RecvError> {
    let Some(header) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = usize::try_from(u32::from_le_bytes(*header)).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(RecvError::TooLong(length));
    }
    if buffer.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    let frame = buffer.split_to(length);
    match postcard::take_from_bytes(&frame) {
        Ok((message, [])) => Ok(Some(message)),
        Ok(_) => Err(RecvError::Malformed(postcard::Error::DeserializeBadEncoding)),
        Err(problem) => Err(RecvError::Malformed(problem)),
    }
}
