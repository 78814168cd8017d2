//! Files of books, in both of their forms: read in pieces, as they come over a network.

use common::api::FieldError;
use frontend::api::bulk::{Line, Rows};
use protocol::catalogue::{Facts, NewBook};
use serde_json::json;

use crate::values::assert_within_limits;

/// Reads a file whole and in small pieces, and gives what both find.
pub(crate) fn read(form: impl Fn() -> Rows, bytes: &[u8]) -> Result<Vec<Line>, FieldError> {
    let found = read_in(form(), bytes, bytes.len());
    let again = read_in(form(), bytes, 1 + bytes.len() % 7);
    assert_eq!(again, found, "in pieces");
    let lines = 1 + bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    for (line, book) in found.iter().flatten() {
        assert!((1..=lines).contains(line), "line {line} of {lines}");
        match book {
            Ok(book) => assert_within_limits(book),
            Err(reason) => assert!(!reason.is_empty()),
        }
    }
    found
}

fn read_in(mut rows: Rows, bytes: &[u8], size: usize) -> Result<Vec<Line>, FieldError> {
    let mut splitter = rows.splitter();
    let mut records: Vec<_> = bytes.chunks(size.max(1)).flat_map(|piece| splitter.feed(piece)).collect();
    records.extend(splitter.finish());
    let mut read = Vec::new();
    for record in records {
        read.extend(rows.read(&record)?.map(|book| (record.line, book)));
    }
    Ok(read)
}

/// A book as a line of NDJSON.
pub(crate) fn json_line(book: &NewBook) -> String {
    let NewBook { id, facts, cost_cents, quantity } = book;
    let Facts { title, topic, author, isbn, year, description } = facts;
    let line = json!({
        "id": id, "title": title, "topic": topic, "author": author, "isbn": isbn, "year": year,
        "description": description, "cost_cents": cost_cents, "quantity": quantity,
    });
    format!("{line}\n")
}
