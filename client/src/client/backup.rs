//! The copy of a shard, taken part by part.

use std::time::Duration;

use bytes::Bytes;
use common::backup::SnapshotInfo;
use reqwest::Url;
use tokio::time::timeout;

use super::Client;
use super::exchange::{self, Request, unreachable};
use crate::error::ClientError;

/// What a front end says of a copy before it sends it.
const X_SNAPSHOT: &str = "x-snapshot";
/// How long the head of an answer may take: the copy is made and checked first.
const BEGIN_MAX: Duration = Duration::from_secs(300);
/// How long the next part may take.
const PART_MAX: Duration = Duration::from_secs(30);

/// A copy that comes in.
#[derive(Debug)]
pub struct Transfer {
    /// What it holds.
    pub info: SnapshotInfo,
    url: Url,
    response: reqwest::Response,
}

impl Client {
    /// Asks the preferred front end for a copy of a shard, once. Needs the token.
    ///
    /// # Errors
    /// If it gives none.
    pub async fn backup(&self, shard: u32) -> Result<Transfer, ClientError> {
        let inner = &*self.0;
        let number = shard.to_string();
        let request = Request::get(vec!["backup", &number]).admin();
        let place = inner.preferred.load(std::sync::atomic::Ordering::Relaxed);
        let url = request.url(inner.urls.get(place).unwrap_or(&inner.urls[0]));
        let malformed =
            |problem: &str| ClientError::Malformed { url: url.to_string(), problem: problem.to_owned() };
        let opened = timeout(BEGIN_MAX, exchange::open(inner, &request, url.clone(), None)).await;
        let response = match opened {
            Ok(opened) => opened.map_err(|failure| failure.error)?,
            Err(_) => return Err(malformed("nothing came in time")),
        };
        let info = response.headers().get(X_SNAPSHOT).map(|value| serde_json::from_slice(value.as_bytes()));
        match info {
            Some(Ok(info)) => Ok(Transfer { info, url, response }),
            Some(Err(problem)) => Err(malformed(&problem.to_string())),
            None => Err(malformed("it does not say what the copy holds")),
        }
    }
}

impl Transfer {
    /// The next part; none at the end.
    ///
    /// # Errors
    /// If the copy breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        match timeout(PART_MAX, self.response.chunk()).await {
            Ok(part) => part.map_err(|source| unreachable(&self.url, source)),
            Err(_) => Err(ClientError::Malformed {
                url: self.url.to_string(),
                problem: format!("the copy did not go on for {} s", PART_MAX.as_secs()),
            }),
        }
    }
}
