//! Many books at once: NDJSON or CSV, read and written while it comes in.
//!
//! What is valid is written in batches, each under a key of its own that follows from the caller's and its
//! number. While one is being written the next one is read, and it leaves when the one before is done: so the
//! order of the lines is the order of the log, and
//! a load that is sent again after a failure goes over what is done without doing it twice. Lines that are no
//! book are reported and don't keep the others from being loaded.

mod rows;

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use common::api::BulkReport;
use common::records::Record;
use http::HeaderMap;
use http_body_util::BodyExt;
use protocol::catalogue::NewBook;
use protocol::command::{Action, Outcome, Refusal};
use protocol::ids::ShardId;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

pub use self::rows::{Line, Row, Rows, read_csv};
use super::extract::{AdminWrite, media_type};
use super::outcome::{NO_STORE, mismatch};
use super::problem::{Problem, Unavailable, WriteOutcome};
use super::route::Route;
use crate::app::{App, Failure};

/// How many books are one write: enough that the disk's sync and the pages that each batch touches are shared,
/// few enough that a buy that waits behind it waits for a tenth of a second.
const BATCH_BOOKS: usize = 2000;
/// A batch of long descriptions is written earlier.
const BATCH_BYTES: usize = 1 << 20;
/// How long the next line may take to be complete: a load may last for hours, but it must go on.
const LINE_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn routes() -> Vec<Route> {
    vec![Route::at("/books/bulk").post(load)]
}

async fn load(
    State(app): State<App>,
    write: AdminWrite,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let rows = form(&headers)?;
    let mut load = Load {
        app,
        write,
        batches: Batches::default(),
        parts: 0,
        under_way: JoinSet::new(),
        report: BulkReport::default(),
    };
    let taken = load.take_all(rows, body).await;
    taken.map_err(|problem| with_progress(load.report.loaded, problem))?;
    let mut report = load.report;
    report.rejected.sort_by_key(|rejected| rejected.line);
    Ok((NO_STORE, Json(report)).into_response())
}

fn form(headers: &HeaderMap) -> Result<Rows, Problem> {
    match media_type(headers).map(str::to_ascii_lowercase).as_deref() {
        Some("application/x-ndjson" | "application/ndjson") => Ok(Rows::Json),
        Some("text/csv") => Ok(Rows::CsvHeader),
        _ => Err(Problem::UnsupportedMediaType { expected: "application/x-ndjson or text/csv" }),
    }
}

/// A load under way.
struct Load {
    app: App,
    write: AdminWrite,
    batches: Batches,
    parts: u32,
    /// The batch that is being written, if one is.
    under_way: JoinSet<(Vec<u64>, Result<Outcome, Failure>)>,
    report: BulkReport,
}

impl Load {
    async fn take_all(&mut self, mut rows: Rows, mut body: Body) -> Result<(), Problem> {
        let mut splitter = rows.splitter();
        let mut last_line = Instant::now();
        loop {
            let frame = timeout_at(last_line + LINE_TIMEOUT, body.frame()).await;
            let Some(frame) = frame.map_err(|_| Problem::RequestTimeout)? else { break };
            let frame = frame.map_err(|_| Problem::bad_request("the body broke off"))?;
            let Ok(bytes) = frame.into_data() else { continue };
            for record in splitter.feed(&bytes) {
                self.take(&mut rows, &record).await?;
                last_line = Instant::now();
            }
        }
        if let Some(record) = splitter.finish() {
            self.take(&mut rows, &record).await?;
        }
        while let Some((_, batch)) = self.batches.0.pop_first() {
            self.send(batch).await?;
        }
        self.settle().await
    }

    async fn take(&mut self, rows: &mut Rows, record: &Record) -> Result<(), Problem> {
        match rows.read(record)? {
            None => {}
            Some(Err(reason)) => self.report.reject(record.line, reason),
            Some(Ok(book)) => {
                let size = record.bytes.as_ref().map_or(0, bytes::Bytes::len);
                let shards = self.app.config().shards.count.get();
                if let Some(full) = self.batches.add(record.line, book, size, shards) {
                    self.send(full).await?;
                }
            }
        }
        Ok(())
    }

    /// Has a batch written, behind the one before it.
    async fn send(&mut self, batch: Batch) -> Result<(), Problem> {
        self.settle().await?;
        let (app, trace, key) = (self.app.clone(), self.write.trace.clone(), self.write.key.part(self.parts));
        self.parts += 1;
        let Batch { books, lines, bytes: _ } = batch;
        self.under_way.spawn(async move {
            let written = app.write(trace, key, Action::Load { books }).await;
            (lines, written.map(|(outcome, _)| outcome))
        });
        Ok(())
    }

    /// Waits for the batch that is being written, and notes what came of it.
    async fn settle(&mut self) -> Result<(), Problem> {
        let Some(ended) = self.under_way.join_next().await else { return Ok(()) };
        let unknown = |_| Problem::write_failed("the write broke off", WriteOutcome::Unknown);
        let (lines, outcome) = ended.map_err(unknown)?;
        match outcome? {
            Outcome::Loaded { books } => self.report.loaded += u64::from(books),
            Outcome::Refused(Refusal::KeyConflict) => return Err(Problem::IdempotencyConflict),
            Outcome::Refused(refusal) => {
                let reason = Problem::from(refusal).body().detail;
                for line in lines {
                    self.report.reject(line, reason.clone());
                }
            }
            other @ (Outcome::Sold(_) | Outcome::Changed(_) | Outcome::Added(_) | Outcome::Removed) => {
                return Err(mismatch("a bulk load", &other));
            }
        }
        Ok(())
    }
}

/// A load that ends early says how far it came; if some of it was done, it was not "not done".
fn with_progress(loaded: u64, problem: Problem) -> Problem {
    match problem {
        Problem::Unavailable { detail, more } => {
            let outcome = if loaded > 0 { Some(WriteOutcome::Unknown) } else { more.outcome };
            Problem::Unavailable { detail, more: Unavailable { loaded: Some(loaded), outcome, ..more } }
        }
        other => other,
    }
}

/// The books that wait to be written, by where they go: a write is of one shard. Books without an id stay
/// together, for their shard follows from the key of their batch.
#[derive(Debug, Default)]
struct Batches(BTreeMap<Option<ShardId>, Batch>);

/// Books of one shard.
#[derive(Debug, Default)]
struct Batch {
    books: Vec<NewBook>,
    lines: Vec<u64>,
    bytes: usize,
}

impl Batches {
    /// Adds a book, and gives the batch that it made full.
    fn add(&mut self, line: u64, book: NewBook, bytes: usize, shards: u32) -> Option<Batch> {
        let place = match book.id {
            Some(id) => Some(ShardId::of_book(id, shards)),
            // With one shard, the order of the lines is kept.
            None => (shards == 1).then_some(ShardId(0)),
        };
        let batch = self.0.entry(place).or_default();
        batch.books.push(book);
        batch.lines.push(line);
        batch.bytes += bytes;
        let is_full = batch.books.len() >= BATCH_BOOKS || batch.bytes >= BATCH_BYTES;
        if is_full { self.0.remove(&place) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::CONTENT_TYPE;
    use protocol::catalogue::Facts;

    use super::*;

    fn book(id: Option<u64>) -> NewBook {
        let facts = Facts {
            title: "t".to_owned(),
            topic: "x".to_owned(),
            author: None,
            isbn: None,
            year: None,
            description: None,
        };
        NewBook { id: id.map(|id| id.try_into().unwrap()), facts, cost_cents: 1, quantity: 1 }
    }

    #[test]
    fn a_batch_is_of_one_shard_and_has_limits() {
        let mut batches = Batches::default();
        for id in 1..=2000 {
            let Some(full) = batches.add(id, book(Some(id)), 100, 4) else { continue };
            assert_eq!((full.books.len(), full.lines.len()), (BATCH_BOOKS, BATCH_BOOKS));
            let shards: Vec<ShardId> =
                full.books.iter().map(|b| ShardId::of_book(b.id.unwrap(), 4)).collect();
            assert!(shards.iter().all(|shard| *shard == shards[0]));
        }
        assert!(batches.add(1, book(None), BATCH_BYTES - 1, 4).is_none());
        assert_eq!(batches.add(2, book(None), 1, 4).unwrap().lines, [1, 2], "by its size");
    }

    #[test]
    fn with_one_shard_the_order_of_lines_is_kept() {
        let mut batches = Batches::default();
        for (line, id) in [(1, Some(5)), (2, None), (3, Some(5))] {
            assert!(batches.add(line, book(id), 1, 1).is_none());
        }
        assert_eq!(batches.0.len(), 1);
        assert_eq!(batches.0.pop_first().unwrap().1.lines, [1, 2, 3]);
    }

    #[test]
    fn what_ends_early_says_how_far_it_came() {
        let broken = || Problem::write_failed("no member", WriteOutcome::NotDone);
        for (loaded, outcome) in [(0, "not-done"), (1, "unknown")] {
            let body = serde_json::to_value(with_progress(loaded, broken()).body()).unwrap();
            assert_eq!((&body["loaded"], &body["outcome"]), (&loaded.into(), &outcome.into()));
        }
    }

    #[test]
    fn the_list_of_rejected_lines_is_bounded() {
        let mut report = BulkReport::default();
        for line in 1..=1500 {
            report.reject(line, "x".to_owned());
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["loaded"], 0);
        assert_eq!(json["rejected"].as_array().unwrap().len(), 1000);
        assert_eq!(json["rejected"][0], serde_json::json!({"line": 1, "reason": "x"}));
        assert_eq!(json["rejected_more"], 500);
    }

    #[test]
    fn the_form_is_told_by_the_media_type() {
        let form = |text: &'static str| {
            form(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(text))]))
        };
        assert!(matches!(form("application/x-ndjson"), Ok(Rows::Json)));
        assert!(matches!(form("Text/CSV; charset=utf-8; header=present"), Ok(Rows::CsvHeader)));
        assert!(matches!(form("application/json"), Err(Problem::UnsupportedMediaType { .. })));
    }
}
