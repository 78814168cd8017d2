//! Loading a file of any size: part by part, each waited for, so that the order of lines is kept and a
//! failure leaves a whole number of parts.
//!
//! A part is sent again under its key while the store does not answer, for as long as patience lasts. An
//! import that ended in any way is run again: the parts that were loaded change nothing, for their keys are
//! known, and the rest is loaded.

mod chunks;

use std::io::Read;
use std::time::Duration;

use common::api::{BulkReport, RejectedLine};
use tokio::sync::mpsc;
use uuid::Uuid;

use self::chunks::{Chunk, Chunks};
use crate::client::{BulkFormat, Client};
use crate::error::ClientError;

/// How many parts are read ahead of the one that is being sent: reading then never waits for the store,
/// nor the store for reading.
const READ_AHEAD: usize = 2;

/// How a file is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Its form.
    pub format: BulkFormat,
    /// Whether it is loaded even if the same file was loaded before.
    pub anew: bool,
    /// How long a part is tried.
    pub patience: Duration,
}

/// How far an import is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The bytes of the file whose books are loaded.
    pub bytes: u64,
    /// How many books are loaded.
    pub books: u64,
}

/// An import that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file can't be read any further.
    #[error("can't be read behind line {line}")]
    Read {
        /// Where the last record begins that is loaded.
        line: u64,
        /// Why.
        source: std::io::Error,
    },
    /// A part was not loaded, or it is not known whether it was.
    #[error("{source}")]
    Call {
        /// The line on which it begins.
        line: u64,
        /// How many books were loaded before it.
        loaded: u64,
        /// Why.
        source: Box<ClientError>,
    },
}

/// Loads a file; `progress` is told after each part.
///
/// # Errors
/// If the file can't be read, if it is refused, or if the store does not answer for longer than patience.
pub async fn import(
    client: &Client,
    file: impl Read + Send + 'static,
    options: Options,
    mut progress: impl FnMut(Progress),
) -> Result<BulkReport, ImportError> {
    let salt = options.anew.then(|| Uuid::new_v4().to_string());
    let (sender, mut chunks) = mpsc::channel(READ_AHEAD);
    let reading = tokio::task::spawn_blocking(move || {
        Chunks::new(file, options.format, salt).run(|chunk| sender.blocking_send(chunk).is_ok())
    });
    let mut report = BulkReport::default();
    let mut last_line = 0;
    while let Some(chunk) = chunks.recv().await {
        let done = load(client, &options, &chunk).await.map_err(|source| ImportError::Call {
            line: chunk.first_line,
            loaded: report.loaded,
            source: Box::new(source),
        })?;
        last_line = chunk.last_line();
        add(&mut report, &chunk, done);
        progress(Progress { bytes: chunk.upto_bytes, books: report.loaded });
    }
    let read = reading.await.unwrap_or_else(|problem| Err(std::io::Error::other(problem)));
    read.map_err(|source| ImportError::Read { line: last_line, source })?;
    Ok(report)
}

async fn load(client: &Client, options: &Options, chunk: &Chunk) -> Result<BulkReport, ClientError> {
    if chunk.body.is_empty() {
        return Ok(BulkReport::default());
    }
    client.bulk(chunk.body.clone(), options.format, &chunk.key, options.patience).await
}

/// Adds what came of a part, its lines by their place in the file.
fn add(report: &mut BulkReport, chunk: &Chunk, done: BulkReport) {
    report.loaded += done.loaded;
    report.rejected_more += done.rejected_more;
    let in_file = |RejectedLine { line, reason }| RejectedLine { line: chunk.line_in_file(line), reason };
    let mut rejected: Vec<RejectedLine> = done.rejected.into_iter().map(in_file).collect();
    rejected.extend(chunk.rejected.iter().cloned());
    rejected.sort_by_key(|rejected| rejected.line);
    for RejectedLine { line, reason } in rejected {
        report.reject(line, reason);
    }
}
