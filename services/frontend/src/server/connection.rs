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
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
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
        // Boxed, or each connection would keep room for it. Once the front end stops, hyper has the last word.
        if !pulse.has_stopped()
            && let Some(buying) = way.begin_buy(client, front).map(Box::pin)
        {
            let busy = Busy::new(pulse);
            let mut response = tokio::select! {
                response = buying => response,
                () = way.client_leaves() => return,
            };
            drop(busy);
            if !pulse.has_stopped() {
                way.answer(&response);
                continue;
            }
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            way.answer(&response);
            match poll_fn(|context| way.poll_write_rest(pulse, context)).await {
                Ok(()) => break way.stream,
                Err(error) => return tracing::debug!(%error, %client, "a connection broke"),
            }
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::task::{JoinSet, yield_now};

    use super::super::tests::stage::{Stage, within};
    use super::*;
    use crate::api::router;
    use crate::metrics::Metrics;

    /// It waits for an order node, of which there is none, until the time for it is over.
    const BUY: &str = "POST /buy HTTP/1.1\r\nhost: s\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\n{\"id\":7}";

    /// A connection with a buy under way, and one that waits behind it.
    struct Buying {
        stage: Stage,
        metrics: Arc<Metrics>,
        client: TcpStream,
        pulse: Arc<Pulse>,
        serving: JoinSet<()>,
    }

    impl Buying {
        async fn begin(requests: &str) -> Self {
            let stage = Stage::open("").await;
            let metrics = Arc::new(Metrics::new());
            let front =
                Arc::new(Front::new(stage.app.clone(), router(stage.app.clone()), Arc::clone(&metrics)));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            client.write_all(requests.as_bytes()).await.unwrap();
            let stream = within(listener.accept()).await.unwrap().0;
            let pulse = Arc::new(Pulse::default());
            let (mut serving, theirs) = (JoinSet::new(), Arc::clone(&pulse));
            serving.spawn(async move { serve_connection(stream, &front, &theirs).await });
            let begun = async {
                while !pulse.is_busy() {
                    yield_now().await;
                }
            };
            within(begun).await;
            Self { stage, metrics, client, pulse, serving }
        }

        fn buys_answered(&self) -> bool {
            self.metrics.render(&self.stage.app.status()).contains(r#"{route="buy",status="503"}"#)
        }
    }

    #[tokio::test]
    async fn a_buy_under_way_is_the_last_once_the_front_end_stops() {
        let mut buying = Buying::begin(&[BUY, BUY].concat()).await;
        buying.pulse.stop();
        let mut answers = String::new();
        within(buying.client.read_to_string(&mut answers)).await.unwrap();
        assert_eq!(answers.matches("HTTP/1.1 503").count(), 1, "{answers}");
        assert!(answers.contains("connection: close\r\n"), "{answers}");
        drop(buying.client);
        within(buying.serving.join_next()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_leaves_during_its_buy_leaves_its_place() {
        let mut buying = Buying::begin(BUY).await;
        buying.client.shutdown().await.unwrap();
        within(buying.serving.join_next()).await.unwrap().unwrap();
        assert!(!buying.buys_answered(), "it was not waited for");
    }

    #[tokio::test]
    async fn a_buy_whose_client_stays_is_answered() {
        let mut buying = Buying::begin(BUY).await;
        let mut answer = [0; 12];
        within(buying.client.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 503");
        assert!(buying.buys_answered());
    }
}
