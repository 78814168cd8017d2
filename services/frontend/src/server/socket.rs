//! A socket as hyper has it for as long as it serves requests on it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::pulse::Pulse;

/// A stream that begins with what was read of it already, and that marks in its [`Pulse`] what becomes of what
/// is written.
#[derive(Debug)]
pub(super) struct Socket {
    read: Bytes,
    stream: TcpStream,
    pulse: Arc<Pulse>,
}

impl Socket {
    /// Watches a stream of which these bytes have been read.
    pub(super) fn new(read: Bytes, stream: TcpStream, pulse: Arc<Pulse>) -> Self {
        Self { read, stream, pulse }
    }

    /// The stream, and what was read of it that hyper has not asked for.
    pub(super) fn into_parts(self) -> (TcpStream, Bytes) {
        (self.stream, self.read)
    }

    fn mark(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.pulse.set_unwritten(true);
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.pulse.beat();
        }
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.mark(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.mark(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Asked for once all that there was to write is written: only the socket's own buffer is behind this.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pulse.set_unwritten(false);
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
