//! One connection: requests on a socket, and an end that lets the last answer arrive.
//!
//! It rests on the short way (`short`). Requests that are not plain are hyper's, and hyper is there for no longer
//! than it takes to answer them: its buffers are many times what a resting connection needs.

use std::convert::Infallible;
use std::future::{self, Ready, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::Either;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::bodies::Noted;
use super::desk::Desk;
use super::pulse::{Busy, Pulse};
use super::short::{Left, ShortWay, write_answer};
use super::socket::Socket;
use crate::api::front::{Front, Reply};

/// The largest head of a request, and the most that is read ahead.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How long a client may go on sending what is not read any more.
const LINGER: Duration = Duration::from_secs(5);
/// The same once the front end stops: most connections are idle then, and their clients may be asleep.
const LINGER_AT_STOP: Duration = Duration::from_millis(250);

/// Serves a connection to its end.
pub(super) async fn serve_connection(stream: TcpStream, front: &Arc<Front>, pulse: &Arc<Pulse>) {
    // A socket that refuses the option is only slower.
    drop(stream.set_nodelay(true));
    let client = stream.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    let mut way = ShortWay::new(stream, Bytes::new());
    let stream = loop {
        match poll_fn(|context| way.poll(client, front, pulse, context)).await {
            Ok(Left::Asked) => {}
            Ok(Left::Stopped) => break way.stream,
            Ok(Left::Ended) => return,
            Err(error) => return tracing::debug!(%error, %client, "a connection broke"),
        }
        // Boxed, or each connection would keep room for it.
        if let Some(buying) = way.begin_buy(client, front).map(Box::pin) {
            let busy = Busy::new(pulse);
            way.answer(&buying.await);
            drop(busy);
            continue;
        }
        match Box::pin(serve_requests(way, client, front, pulse)).await {
            Served::All(rested) => way = rested,
            Served::Last(stream) => break stream,
        }
    };
    linger(stream, if pulse.has_stopped() { LINGER_AT_STOP } else { LINGER }).await;
}

/// What becomes of a connection after hyper.
enum Served {
    /// It rests.
    All(ShortWay),
    /// It is at its end.
    Last(TcpStream),
}

/// Has hyper answer what was asked, until nothing more is.
async fn serve_requests(way: ShortWay, client: IpAddr, front: &Arc<Front>, pulse: &Arc<Pulse>) -> Served {
    let asked = AtomicBool::new(false);
    let service = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        answer(client, request, front, pulse)
    });
    let mut connection = http1::Builder::new()
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(Socket::new(way.read, way.stream, Arc::clone(pulse))), service);
    let mut told = false;
    let ended = poll_fn(|context| {
        match connection.poll_without_shutdown(context) {
            // hyper calls it the end when it will read no more, though an answer may not be written whole.
            Poll::Ready(Ok(())) if pulse.is_unwritten() => return Poll::Pending,
            Poll::Ready(ended) => return Poll::Ready(ended.map(|()| false)),
            Poll::Pending => {}
        }
        let (stops, asked) = (pulse.is_stopped(context), asked.load(Ordering::Relaxed));
        if stops && !asked {
            return Poll::Ready(Ok(false));
        }
        let rests = asked && pulse.is_between_requests();
        if told || pulse.is_unwritten() || !(stops || rests) {
            return Poll::Pending;
        }
        // hyper does not say when it has nothing to do. Told to end then, it does so on the spot, and gives back
        // the socket and what it has read of the next request.
        told = true;
        Pin::new(&mut connection).graceful_shutdown();
        connection.poll_without_shutdown(context).map_ok(|()| rests)
    });
    let ended = ended.await;
    let parts = connection.into_parts();
    let (stream, unread) = parts.io.into_inner().into_parts();
    match ended {
        // Copied, for hyper's buffer is large, also when it is empty.
        Ok(true) => Served::All(ShortWay::new(stream, [parts.read_buf, unread].concat().into())),
        Ok(false) => Served::Last(stream),
        Err(error) => {
            tracing::debug!(%error, %client, "a connection broke");
            Served::Last(stream)
        }
    }
}

type Answer = Result<Response<Noted<Reply>>, Infallible>;
type Answering = Either<Ready<Answer>, Pin<Box<dyn Future<Output = Answer> + Send>>>;

fn answer(client: IpAddr, request: Request<Incoming>, front: &Arc<Front>, pulse: &Arc<Pulse>) -> Answering {
    let request = request.map(|body| Noted::of_request(body, pulse));
    if let Some(response) = front.at_once(client, &request) {
        return Either::Left(future::ready(Ok(response.map(|reply| Noted::of_answer(reply, pulse)))));
    }
    let (front, pulse, busy) = (Arc::clone(front), Arc::clone(pulse), Busy::new(pulse));
    Either::Right(Box::pin(async move {
        let response = front.routed(request.map(Body::new)).await;
        drop(busy);
        Ok(response.map(|reply| Noted::of_answer(reply, &pulse)))
    }))
}

/// Closes a connection so that the last answer arrives. To close a socket with unread bytes resets it, and
/// a reset overtakes the answer: whoever was refused while still sending a body would never hear why.
async fn linger(mut stream: TcpStream, limit: Duration) {
    let read_on = async {
        stream.shutdown().await?;
        poll_fn(|context| poll_read_out(&mut stream, context)).await
    };
    // Whether the client was heard out makes no difference any more.
    drop(tokio::time::timeout(limit, read_on).await);
}

/// Reads to the end.
fn poll_read_out(stream: &mut TcpStream, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    Desk::with(|desk| {
        loop {
            let mut unread = ReadBuf::new(&mut desk.read);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut unread))?;
            if unread.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    })
}

/// Tells a client that there are too many, and closes.
pub(super) async fn refuse(mut stream: TcpStream, response: Response<Bytes>) {
    let mut answer = Vec::new();
    write_answer(&response, &mut answer);
    if matches!(tokio::time::timeout(LINGER, stream.write_all(&answer)).await, Ok(Ok(()))) {
        linger(stream, LINGER).await;
    }
}
