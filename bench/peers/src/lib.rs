//! What the servers in `src/bin` share: the answer that they give, and where they listen.
//!
//! They answer with the bytes of the store's own answer, which `bench/run.sh` has fetched beforehand, so that all
//! contestants send the same.

use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE, InvalidHeaderName, InvalidHeaderValue};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::net::TcpListener;

/// Why a recorded answer can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The file can't be read.
    #[error("can't read {path}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It does not begin with a head.
    #[error("it has no empty line between head and body")]
    NoHead,
    /// A line of the head is no `name: value`.
    #[error("`{0}` is no header")]
    Line(String),
    /// A header has an impossible name.
    #[error("a header's name is wrong")]
    Name(#[from] InvalidHeaderName),
    /// A header has an impossible value.
    #[error("a header's value is wrong")]
    Value(#[from] InvalidHeaderValue),
}

/// A recorded answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its headers, without those that hyper makes itself.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// Reads a file that holds `name: value` lines, an empty line, and the body.
    ///
    /// # Errors
    /// If there is no such file, or something else is in it.
    pub fn read(path: &Path) -> Result<Self, AnswerError> {
        let bytes = std::fs::read(path)
            .map_err(|cause| AnswerError::Read { path: path.display().to_string(), cause })?;
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Result<Self, AnswerError> {
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").ok_or(AnswerError::NoHead)?;
        let mut headers = HeaderMap::new();
        for line in String::from_utf8_lossy(&bytes[..end]).lines() {
            let (name, value) = line.split_once(": ").ok_or_else(|| AnswerError::Line(line.to_owned()))?;
            let name = name.parse::<HeaderName>()?;
            if name != CONTENT_LENGTH && name != DATE {
                headers.append(name, HeaderValue::from_str(value)?);
            }
        }
        Ok(Self { headers, body: Bytes::copy_from_slice(&bytes[end + 2..]) })
    }
}

/// Listens on a port of the loopback interface that the system chooses, and says on standard output which one.
///
/// # Errors
/// If there is no port, or nobody to be told.
pub async fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_without_what_hyper_adds() {
        let answer = Answer::parse(b"etag: \"1\"\nDate: now\ncontent-length: 5\n\na\n\nb\n").unwrap();
        assert_eq!(answer.body, "a\n\nb\n");
        assert_eq!(answer.headers.len(), 1);
        assert_eq!(answer.headers["etag"], "\"1\"");
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        assert!(matches!(Answer::parse(b"etag: 1\n"), Err(AnswerError::NoHead)));
        assert!(matches!(Answer::parse(b"etag\n\n"), Err(AnswerError::Line(line)) if line == "etag"));
        assert!(matches!(Answer::parse(b"e tag: 1\n\n"), Err(AnswerError::Name(_))));
    }
}
