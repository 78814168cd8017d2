//! A closed loop of puts on etcd over gRPC: what etcd's own `benchmark put` does, which Debian does not package.
//!
//! A put is one unary call of the service `etcdserverpb.KV`. Its message has two fields of bytes, so it is
//! written here by hand; so are the five bytes that gRPC puts before a message.

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use clap::Parser;
use h2::client::SendRequest;
use hdrhistogram::Histogram;
use http::Request;
use http::header::{CONTENT_TYPE, TE};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The longest latency that is told from longer ones, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;
/// Field 1 and field 2 of a put, both of the wire type "length and bytes".
const KEY_TAG: u8 = 0x0a;
const VALUE_TAG: u8 = 0x12;

/// Puts keys into etcd as fast as it answers, and prints what it saw as JSON.
#[derive(Debug, Parser)]
struct Args {
    /// Where etcd listens for clients; connections are spread over all that are given
    #[arg(long = "endpoint", required = true)]
    endpoints: Vec<SocketAddr>,
    /// How many connections, each with one put at a time
    #[arg(long, default_value = "64")]
    connections: usize,
    /// How many seconds
    #[arg(long, default_value = "5")]
    seconds: f64,
    /// How many bytes a value has
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u8).range(..=127))]
    value_bytes: u8,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    puts: u64,
    seconds: f64,
    per_second: f64,
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
}

type Problem = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Problem> {
    let args = Args::parse();
    // Their ends are seen by whoever waits for an answer on them.
    let mut links = JoinSet::new();
    let mut connections = Vec::new();
    for number in 0..args.connections {
        let endpoint = args.endpoints[number % args.endpoints.len()];
        connections.push((number, connect(endpoint, &mut links).await?));
    }
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(args.seconds);
    let mut loops = JoinSet::new();
    for (number, endpoint_and_sender) in connections {
        loops.spawn(put_until(end, number, endpoint_and_sender, args.value_bytes));
    }
    let mut latencies = histogram()?;
    while let Some(ended) = loops.join_next().await {
        latencies += ended??;
    }
    let seconds = start.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate, which nobody reads to 16 digits")]
    let per_second = latencies.len() as f64 / seconds;
    let report = Report {
        puts: latencies.len(),
        seconds,
        per_second,
        p50_us: latencies.value_at_quantile(0.5),
        p99_us: latencies.value_at_quantile(0.99),
        max_us: latencies.max(),
    };
    writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)?;
    Ok(())
}

fn histogram() -> Result<Histogram<u64>, Problem> {
    Ok(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?)
}

async fn connect(
    endpoint: SocketAddr,
    links: &mut JoinSet<Result<(), h2::Error>>,
) -> Result<(SocketAddr, SendRequest<Bytes>), Problem> {
    let stream = TcpStream::connect(endpoint).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    links.spawn(connection);
    Ok((endpoint, sender))
}

async fn put_until(
    end: Instant,
    number: usize,
    (endpoint, mut sender): (SocketAddr, SendRequest<Bytes>),
    value_bytes: u8,
) -> Result<Histogram<u64>, Problem> {
    let mut latencies = histogram()?;
    let mut count = 0_u64;
    while Instant::now() < end {
        let since = Instant::now();
        sender = sender.ready().await?;
        put(&mut sender, endpoint, &format!("order/{number:03}/{count:09}"), value_bytes).await?;
        latencies.saturating_record(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
        count += 1;
    }
    Ok(latencies)
}

async fn put(
    sender: &mut SendRequest<Bytes>,
    endpoint: SocketAddr,
    key: &str,
    value_bytes: u8,
) -> Result<(), Problem> {
    let request = Request::post(format!("http://{endpoint}/etcdserverpb.KV/Put"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .body(())?;
    let (response, mut stream) = sender.send_request(request, false)?;
    stream.send_data(message(key, value_bytes)?, true)?;
    let response = response.await?;
    let status_of = |headers: &http::HeaderMap| headers.get("grpc-status").cloned();
    let early = status_of(response.headers());
    let mut body = response.into_body();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
    }
    let status = match early {
        Some(status) => Some(status),
        None => body.trailers().await?.as_ref().and_then(status_of),
    };
    match status {
        Some(status) if status == "0" => Ok(()),
        other => Err(format!("etcd at {endpoint} refuses the put of {key}: grpc-status {other:?}").into()),
    }
}

/// A put, as gRPC sends it: not compressed, four bytes of length, the message.
fn message(key: &str, value_bytes: u8) -> Result<Bytes, Problem> {
    // Lengths below 128 are one byte.
    let key_bytes =
        u8::try_from(key.len()).ok().filter(|length| *length < 128).ok_or("the key is too long")?;
    let length = 4 + u32::from(key_bytes) + u32::from(value_bytes);
    let mut out = BytesMut::with_capacity(5 + usize::from(key_bytes) + usize::from(value_bytes) + 4);
    out.put_u8(0);
    out.put_u32(length);
    out.put_slice(&[KEY_TAG, key_bytes]);
    out.put_slice(key.as_bytes());
    out.put_slice(&[VALUE_TAG, value_bytes]);
    out.put_bytes(b'v', usize::from(value_bytes));
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_has_the_form_of_grpc_and_protobuf() {
        let bytes = message("k", 2).unwrap();
        assert_eq!(&bytes[..], [0, 0, 0, 0, 7, 0x0a, 1, b'k', 0x12, 2, b'v', b'v']);
        assert!(message(&"k".repeat(128), 2).is_err());
    }
}
