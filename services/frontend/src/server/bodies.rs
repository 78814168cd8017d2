//! The bodies of requests and answers, and whether they have come and gone to their ends.
//!
//! Only a connection of which that is so is between two requests. What comes next on any other is the rest of a body,
//! however much it may look like a request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::pulse::{AtDrop, Busy, Half, Pulse};

/// A body whose end is noted in its connection's pulse.
#[derive(Debug)]
pub(super) struct Noted<B> {
    body: B,
    half: Half,
    /// Whoever makes the body has not got so far: that its client is silent is no wonder.
    waits: Option<Busy>,
}

impl<B: Body<Data = Bytes> + Unpin> Noted<B> {
    /// The body of a request: it has come to its end when that has been read.
    pub(super) fn of_request(body: B, pulse: &Arc<Pulse>) -> Self {
        let mut noted = Self { body, half: Half::new(pulse, AtDrop::Stays), waits: None };
        noted.look();
        noted
    }

    /// The body of an answer: it has gone to its end when nobody wants more of it, such as that to a HEAD.
    pub(super) fn of_answer(body: B, pulse: &Arc<Pulse>) -> Self {
        Self { body, half: Half::new(pulse, AtDrop::Ends), waits: None }
    }

    fn look(&mut self) {
        if self.body.is_end_stream() {
            self.half.end();
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Noted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.waits = if frame.is_pending() { self.half.busy() } else { None };
        if matches!(frame, Poll::Ready(None)) {
            self.half.end();
        }
        self.look();
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
