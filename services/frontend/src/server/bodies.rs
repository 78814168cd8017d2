//! The bodies of requests and answers, and whether they have come and gone to their ends.
//!
//! Only a connection of which that is so is between two requests. What comes next on any other is the rest of a body,
//! however much it may look like a request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::pulse::{AtDrop, Half, Pulse};

/// A body whose end is noted in its connection's pulse.
#[derive(Debug)]
pub(super) struct Noted<B> {
    body: B,
    half: Half,
}

impl<B: Body<Data = Bytes> + Unpin> Noted<B> {
    /// The body of a request: it has come to its end when that has been read.
    pub(super) fn of_request(body: B, pulse: &Arc<Pulse>) -> Self {
        let mut noted = Self { body, half: Half::new(pulse, AtDrop::Stays) };
        noted.look();
        noted
    }

    /// The body of an answer: it has gone to its end when nobody wants more of it, such as that to a HEAD.
    pub(super) fn of_answer(body: B, pulse: &Arc<Pulse>) -> Self {
        Self { body, half: Half::new(pulse, AtDrop::Ends) }
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
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() {
            self.half.end();
        }
        self.look();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
