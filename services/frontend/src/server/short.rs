//! The short way: plain lookups of cached books, and plain buys, from a socket's bytes to a socket's bytes.
//!
//! It is where each connection begins and rests: while nothing comes, there is no buffer, no parser and no
//! request, only the socket. Whatever comes that is not plain is left to hyper as it is.

use std::future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::Response;
use http::header::{CONTENT_LENGTH, DATE};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::TcpStream;

use super::desk::{Desk, READ_BYTES};
use super::pulse::Pulse;
use crate::api::cached::write_field;
use crate::api::front::Front;
use crate::api::plain::{PlainBuy, PlainLookup};
use crate::api::trace::write_decimal;

/// So much is written before further requests are answered that came at once.
const OUT_BYTES: usize = 64 * 1024;

/// Room for the head of an answer.
const HEAD_BYTES: usize = 512;

/// A connection on the short way.
#[derive(Debug)]
pub(super) struct ShortWay {
    pub(super) stream: TcpStream,
    /// What came, and has no answer yet.
    pub(super) read: Bytes,
    /// What the socket did not take at once.
    unwritten: Bytes,
    /// What came at once was too much for one turn.
    asks_for_more: bool,
}

/// How a connection leaves the short way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// With a request that can't be answered at once.
    Asked,
    /// For ever: its client has said all that it had to say.
    Ended,
    /// For ever: it was told to stop.
    Stopped,
}

impl ShortWay {
    /// A connection of which these bytes have been read.
    pub(super) fn new(stream: TcpStream, read: Bytes) -> Self {
        Self { stream, read, unwritten: Bytes::new(), asks_for_more: false }
    }

    /// Answers until something else is asked, or nothing more. A client that asks for more than a turn can
    /// answer waits for the lane's other connections to have theirs.
    pub(super) fn poll(
        &mut self,
        client: IpAddr,
        front: &Front,
        pulse: &Arc<Pulse>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Left>> {
        loop {
            ready!(self.poll_write_rest(pulse, context))?;
            let turn = if std::mem::take(&mut self.asks_for_more) {
                context.waker().wake_by_ref();
                Poll::Pending
            } else {
                Desk::with(|desk| self.poll_turn(client, front, pulse, desk, context))
            };
            match turn {
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(left))) => return Poll::Ready(Ok(left)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if pulse.is_stopped(context) => return Poll::Ready(Ok(Left::Stopped)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Begins the buy that has come, if that is what has and it is plain.
    pub(super) fn begin_buy<'f>(
        &mut self,
        client: IpAddr,
        front: &'f Front,
    ) -> Option<impl Future<Output = Response<Bytes>> + use<'f>> {
        let (asked, length) = PlainBuy::read(&self.read)?;
        let buying = front.buy(client, &asked)?;
        advance(&mut self.read, length);
        Some(buying)
    }

    /// Ends when the client has closed its side. Not if it has said more: that is read after the answer.
    pub(super) async fn client_leaves(&self) {
        if self.read.is_empty()
            && self.stream.ready(Interest::READABLE).await.is_ok_and(Ready::is_read_closed)
        {
            return;
        }
        future::pending().await
    }

    /// Gives an answer, to be written at the next turn.
    pub(super) fn answer(&mut self, response: &Response<Bytes>) {
        let mut answer = Vec::with_capacity(HEAD_BYTES + response.body().len());
        write_answer(response, &mut answer);
        self.unwritten = answer.into();
    }

    /// Answers what has come. Nothing, if there may be more to answer.
    fn poll_turn(
        &mut self,
        client: IpAddr,
        front: &Front,
        pulse: &Pulse,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Left>>> {
        desk.set_date();
        desk.out.clear();
        let Desk { read, out, date, .. } = desk;
        let answer_all = |bytes: &[u8], out: &mut Vec<u8>| {
            let mut rest = bytes;
            while out.len() < OUT_BYTES
                && let Some((lookup, length)) = PlainLookup::read(rest)
                && front.plain(client, &lookup, date.as_bytes(), out)
            {
                rest = rest.get(length..).unwrap_or_default();
            }
            bytes.len() - rest.len()
        };
        let mut filled = false;
        if self.read.is_empty() {
            let mut buffer = ReadBuf::new(read);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            let bytes = buffer.filled();
            if bytes.is_empty() {
                return Poll::Ready(Ok(Some(Left::Ended)));
            }
            let answered = answer_all(bytes, out);
            filled = bytes.len() == READ_BYTES;
            self.read = Bytes::copy_from_slice(bytes.get(answered..).unwrap_or_default());
        } else {
            let answered = answer_all(&self.read, out);
            advance(&mut self.read, answered);
        }
        if out.is_empty() {
            return Poll::Ready(Ok(Some(Left::Asked)));
        }
        match Pin::new(&mut self.stream).poll_write(context, out) {
            Poll::Ready(written) => {
                pulse.beat();
                self.unwritten = Bytes::copy_from_slice(out.get(written?..).unwrap_or_default());
            }
            Poll::Pending => self.unwritten = Bytes::copy_from_slice(out),
        }
        self.asks_for_more = filled || !self.read.is_empty();
        Poll::Ready(Ok(None))
    }

    /// Writes what the socket did not take before.
    pub(super) fn poll_write_rest(
        &mut self,
        pulse: &Pulse,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.unwritten.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.unwritten))?;
            pulse.beat();
            advance(&mut self.unwritten, written);
        }
        Poll::Ready(Ok(()))
    }
}

/// Writes an answer with its head. By hand, for here is no HTTP connection that would.
pub(super) fn write_answer(response: &Response<Bytes>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(response.status().as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(response.status().canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in response.headers() {
        write_field(name, value.as_bytes(), out);
    }
    out.extend_from_slice(CONTENT_LENGTH.as_str().as_bytes());
    out.extend_from_slice(b": ");
    write_decimal(response.body().len() as u64, out);
    out.extend_from_slice(b"\r\n");
    Desk::with(|desk| {
        desk.set_date();
        write_field(&DATE, desk.date.as_bytes(), out);
    });
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(response.body());
}

/// Moves on in some bytes, of which nothing is kept when nothing is left.
fn advance(bytes: &mut Bytes, count: usize) {
    bytes.advance(count);
    if bytes.is_empty() {
        *bytes = Bytes::new();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::Ipv4Addr;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::super::tests::stage::{Stage, within};
    use super::*;
    use crate::api::router;
    use crate::metrics::Metrics;

    #[tokio::test]
    async fn a_plain_buy_is_begun_here_and_what_is_not_sound_is_left() {
        let stage = Stage::open("").await;
        let front = Front::new(stage.app.clone(), router(stage.app.clone()), Arc::new(Metrics::new()));
        let client: IpAddr = Ipv4Addr::LOCALHOST.into();
        for (body, begun) in [(r#"{"id":7}"#, true), (r#"{"id":0}"#, false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let head = "POST /buy HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\n";
            let mut way = ShortWay::new(stream, format!("{head}{body}GET /").into());
            assert_eq!(way.begin_buy(client, &front).is_some(), begun, "{body}");
            assert_eq!(way.read == "GET /", begun, "{body}");
        }
    }

    /// Of so many, a turn answers a small part.
    const REQUESTS: usize = 100_000;

    #[tokio::test]
    async fn who_asks_for_much_at_once_gets_it_turn_by_turn() {
        let stage = Stage::open("").await;
        stage.cache(7, true);
        let front = Front::new(stage.app.clone(), router(stage.app.clone()), Arc::new(Metrics::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stream = within(listener.accept()).await.unwrap().0;
        let requests = "GET /lookup/7 HTTP/1.1\r\n\r\n".repeat(REQUESTS);
        let mut way = ShortWay::new(stream, requests.clone().into());
        let pulse = Arc::new(Pulse::default());
        let mut hears = JoinSet::new();
        hears.spawn(async move { client.read_to_end(&mut Vec::new()).await });
        let mut turns = 0;
        let left = poll_fn(|context| {
            let left = way.poll(Ipv4Addr::LOCALHOST.into(), &front, &pulse, context);
            turns += 1;
            if turns == 3 {
                pulse.stop();
            }
            left
        });
        assert_eq!(within(left).await.unwrap(), Left::Stopped, "though there was more to answer");
        assert!((3..30).contains(&turns), "{turns}");
        assert!(!way.read.is_empty() && way.read.len() < requests.len(), "{}", way.read.len());
        drop(way);
        assert!(within(hears.join_next()).await.unwrap().unwrap().unwrap() > 0);
    }
}
