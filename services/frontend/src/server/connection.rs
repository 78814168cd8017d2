//! One connection: HTTP/1.1 on a socket, and an end that lets the last answer arrive.

use std::future::{Ready, poll_fn, ready};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::Either;
use futures_util::task::AtomicWaker;
use http::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::socket::Socket;
use crate::api::front::{Front, Reply};

/// The largest head of a request, and the most that is read ahead.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How long a client may go on sending what is not read any more.
const LINGER: Duration = Duration::from_secs(5);
/// The same once the front end stops: most connections are idle then, and their clients may be asleep.
const LINGER_AT_STOP: Duration = Duration::from_millis(250);

/// What is seen of a connection from outside, and how it is told to stop.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    beats: AtomicU64,
    busy: AtomicU64,
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

    /// Has the connection end after the request that it is at.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// Busy until it is dropped.
struct Busy(Arc<Pulse>);

impl Busy {
    fn new(pulse: &Arc<Pulse>) -> Self {
        pulse.busy.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(pulse))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

type Answer = Result<Response<Reply>, std::convert::Infallible>;
type Answering = Either<Ready<Answer>, Pin<Box<dyn Future<Output = Answer> + Send>>>;

/// Serves a connection to its end.
pub(super) async fn serve_connection(stream: TcpStream, front: &Arc<Front>, pulse: &Arc<Pulse>) {
    // A socket that refuses the option is only slower.
    drop(stream.set_nodelay(true));
    let client = stream.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    let service = service_fn(|request: http::Request<Incoming>| answer(client, request, front, pulse));
    let mut connection = http1::Builder::new()
        .pipeline_flush(true)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(Socket::new(stream, Arc::clone(pulse))), service);
    let mut stopping = false;
    let ended = poll_fn(|context| {
        if let Poll::Ready(ended) = connection.poll_without_shutdown(context) {
            return Poll::Ready(ended);
        }
        pulse.waker.register(context.waker());
        if stopping || !pulse.stop.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        stopping = true;
        Pin::new(&mut connection).graceful_shutdown();
        connection.poll_without_shutdown(context)
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, %client, "a connection broke");
    }
    let limit = if stopping { LINGER_AT_STOP } else { LINGER };
    linger(connection.into_parts().io.into_inner().into_inner(), limit).await;
}

fn answer(
    client: IpAddr,
    request: http::Request<Incoming>,
    front: &Arc<Front>,
    pulse: &Arc<Pulse>,
) -> Answering {
    if let Some(response) = front.at_once(client, &request) {
        return Either::Left(ready(Ok(response)));
    }
    let (front, busy) = (Arc::clone(front), Busy::new(pulse));
    Either::Right(Box::pin(async move {
        let response = front.routed(request.map(Body::new)).await;
        drop(busy);
        Ok(response)
    }))
}

/// Closes a connection so that the last answer arrives. To close a socket with unread bytes resets it, and
/// a reset overtakes the answer: whoever was refused while still sending a body would never hear why.
async fn linger(mut stream: TcpStream, limit: Duration) {
    let read_on = async {
        stream.shutdown().await?;
        let mut unread = [0_u8; 4096];
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    // Whether the client was heard out makes no difference any more.
    drop(tokio::time::timeout(limit, read_on).await);
}

/// Tells a client that there are too many, and closes.
pub(super) async fn refuse(mut stream: TcpStream, response: Response<Bytes>) {
    let head = refusal_head(&response);
    let sent = async {
        stream.write_all(&head).await?;
        stream.write_all(response.body()).await
    };
    if matches!(tokio::time::timeout(LINGER, sent).await, Ok(Ok(()))) {
        linger(stream, LINGER).await;
    }
}

/// Written by hand, for this client gets no HTTP connection of its own.
fn refusal_head(response: &Response<Bytes>) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    for (name, value) in response.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(format!("content-length: {}\r\n\r\n", response.body().len()).as_bytes());
    head
}
