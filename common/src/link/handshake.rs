//! How a link begins: an HTTP request that is upgraded, and the credentials that it must show.

use std::io;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::BytesMut;
use protocol::ids::NodeId;
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::credentials::Credentials;

/// How long either side gives the other to say its part. Generous for a machine under load.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// The most bytes of a request's or an answer's head.
const HEAD_BYTES_MAX: usize = 4096;
/// After so long without a word the kernel asks the peer's kernel whether the connection stands …
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
/// … again and again at this pace …
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// … and gives it up when so many questions stay unanswered.
const KEEPALIVE_PROBES: u32 = 3;
const PROTOCOL: &str = "bookends/1";

/// A connection that has become a link.
#[derive(Debug)]
pub struct Connected {
    /// Who is at the other end, as it says.
    pub peer: NodeId,
    /// The connection.
    pub stream: TcpStream,
    /// What was read of it beyond the handshake.
    pub read: BytesMut,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("{address} refuses connections")]
    Refused {
        /// Where.
        address: String,
    },
    /// No answer in time.
    #[error("{address} did not answer in time")]
    TimedOut {
        /// Where.
        address: String,
    },
    /// Whoever listens there wants no link with us.
    #[error("{address} refuses the link: HTTP status {status}")]
    Rejected {
        /// Where.
        address: String,
        /// What it said.
        status: u16,
    },
    /// Whoever listens there has the books divided otherwise.
    #[error(
        "{address} has another `shards.count` than {here}, which it is here; all processes need the same"
    )]
    OtherShards {
        /// Where.
        address: String,
        /// The count of this process.
        here: NonZeroU32,
    },
    /// The connection failed.
    #[error("the connection to {address} failed")]
    Io {
        /// Where.
        address: String,
        /// How.
        #[source]
        source: io::Error,
    },
}

/// Opens a link to an internal listener.
///
/// # Errors
/// If nobody answers there, or not as a process of this cluster.
pub async fn connect(
    address: &str,
    credentials: &Credentials,
    me: &NodeId,
    patience: Duration,
) -> Result<Connected, ConnectError> {
    let named = || address.to_owned();
    match timeout(patience, connect_now(address, credentials, me)).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::TimedOut { address: named() }),
    }
}

async fn connect_now(
    address: &str,
    credentials: &Credentials,
    me: &NodeId,
) -> Result<Connected, ConnectError> {
    let Credentials { secret, shards } = credentials;
    let named = || address.to_owned();
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::ConnectionRefused => ConnectError::Refused { address: named() },
        _ => ConnectError::Io { address: named(), source },
    };
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    prepare(&stream).map_err(failed)?;
    let request = format!(
        "GET /link HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\
         Authorization: Bearer {}\r\nX-Node: {me}\r\nX-Shards: {shards}\r\n\r\n",
        secret.expose()
    );
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut read = BytesMut::with_capacity(HEAD_BYTES_MAX);
    let status = loop {
        match answer(&read) {
            Head::Whole(status, length) => {
                drop(read.split_to(length));
                break status;
            }
            Head::Partial => more(&mut stream, &mut read).await.map_err(failed)?,
            Head::Broken => return Err(failed(io::ErrorKind::InvalidData.into())),
        }
    };
    match status {
        101 => {}
        409 => return Err(ConnectError::OtherShards { address: named(), here: *shards }),
        status => return Err(ConnectError::Rejected { address: named(), status }),
    }
    Ok(Connected { peer: NodeId::from(address), stream, read })
}

/// Takes a connection that came to an internal listener. `None` if it was no caller of this cluster, or
/// only asked whether the process lives; it has had its answer then.
///
/// # Errors
/// If the connection fails, or says nothing in time.
pub async fn accept(mut stream: TcpStream, credentials: &Credentials) -> io::Result<Option<Connected>> {
    let Credentials { secret, shards: here } = credentials;
    prepare(&stream)?;
    let mut read = BytesMut::with_capacity(HEAD_BYTES_MAX);
    let request = timeout(HANDSHAKE_TIMEOUT, read_request(&mut stream, &mut read));
    let request = request.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let (status, kind, detail) = match request {
        Some(Request::Link { secret: shown, peer, shards }) if secret.matches(&shown) => {
            if shards != Some(here.get()) {
                let there = shards.map_or("not said".to_owned(), |there| there.to_string());
                let detail =
                    format!("`shards.count` is {here} here and {there} there; all processes need the same");
                return refuse(stream, "409 Conflict", "conflict", &detail).await.map(|()| None);
            }
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await?;
            return Ok(Some(Connected { peer, stream, read }));
        }
        Some(Request::Alive) => {
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
            stream.write_all(answer.as_bytes()).await?;
            return stream.shutdown().await.map(|()| None);
        }
        Some(Request::Link { .. } | Request::Other) => {
            ("401 Unauthorized", "unauthorized", "this listener is for processes of the cluster only")
        }
        None => ("400 Bad Request", "bad-request", "this is no HTTP/1.1 request"),
    };
    refuse(stream, status, kind, detail).await.map(|()| None)
}

/// Small messages leave at once, and a peer whose machine is gone is noticed also while there is nothing
/// to say to it.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(())
}

/// What bytes say that begin with the head of a request or of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head<T> {
    /// The head is there: what it says, and where it ends.
    Whole(T, usize),
    /// More has to come.
    Partial,
    /// This is no such head, or a longer one than is read.
    Broken,
}

/// What a connection to an internal listener begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// It is to become a link.
    Link {
        /// The secret that was shown.
        secret: Vec<u8>,
        /// Who asks, as it says.
        peer: NodeId,
        /// How many shards it knows of, if it says.
        shards: Option<u32>,
    },
    /// It asks whether the process lives.
    Alive,
    /// Something else.
    Other,
}

async fn read_request(stream: &mut TcpStream, read: &mut BytesMut) -> io::Result<Option<Request>> {
    loop {
        match request(read) {
            Head::Whole(request, length) => {
                drop(read.split_to(length));
                return Ok(Some(request));
            }
            Head::Partial => more(stream, read).await?,
            Head::Broken => return Ok(None),
        }
    }
}

/// The request at the beginning of these bytes.
#[must_use]
pub fn request(read: &[u8]) -> Head<Request> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(read);
    head(parsed, read, || kind_of(&request))
}

/// The status of the answer at the beginning of these bytes.
#[must_use]
pub fn answer(read: &[u8]) -> Head<u16> {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut answer = httparse::Response::new(&mut headers);
    let parsed = answer.parse(read);
    head(parsed, read, || answer.code.unwrap_or(0))
}

fn head<T>(parsed: httparse::Result<usize>, read: &[u8], say: impl FnOnce() -> T) -> Head<T> {
    match parsed {
        Ok(httparse::Status::Complete(length)) => Head::Whole(say(), length),
        Ok(httparse::Status::Partial) if read.len() < HEAD_BYTES_MAX => Head::Partial,
        Ok(httparse::Status::Partial) | Err(_) => Head::Broken,
    }
}

fn kind_of(request: &httparse::Request<'_, '_>) -> Request {
    let header = |name: &str| {
        request
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    };
    let get = request.method == Some("GET");
    if get && matches!(request.path, Some("/livez" | "/healthz")) {
        return Request::Alive;
    }
    let upgrade = header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(PROTOCOL.as_bytes()));
    if !get || !upgrade {
        return Request::Other;
    }
    let secret = header("authorization").and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
    let peer = header("x-node").and_then(|value| std::str::from_utf8(value).ok()).unwrap_or("unnamed");
    let shards = header("x-shards").and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    Request::Link { secret: secret.to_vec(), peer: NodeId::from(peer), shards }
}

async fn more(stream: &mut TcpStream, read: &mut BytesMut) -> io::Result<()> {
    if stream.read_buf(read).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

async fn refuse(mut stream: TcpStream, status: &str, kind: &str, detail: &str) -> io::Result<()> {
    let (code, title) = status.split_once(' ').unwrap_or((status, ""));
    let body = format!(
        "{{\"type\":\"/problems/{kind}\",\"title\":\"{title}\",\"status\":{code},\"detail\":\"{detail}\"}}\n"
    );
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\
         WWW-Authenticate: Bearer\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
