//! Books as CSV: files that are loaded, and `catalogue.csv` of a fresh store.

use frontend::api::bulk::{Rows, read_csv};
use proptest::prelude::*;
use protocol::catalogue::{Facts, NewBook};

use crate::books::{json_line, read};
use crate::{Verdict, values};

const HEADER: &str = "id,title,topic,author,isbn,year,description,cost_cents,quantity\r\n";

/// Reads a file; each book is read again from the row, and from the line of NDJSON, that it is written as.
pub fn check(bytes: &[u8]) -> Verdict {
    let Ok(lines) = read(|| Rows::CsvHeader, bytes) else {
        assert!(read_csv(bytes).is_err());
        return Verdict::Refused;
    };
    for book in lines.iter().filter_map(|(_, book)| book.as_ref().ok()) {
        let again = read(|| Rows::CsvHeader, format!("{HEADER}{}", row(book)).as_bytes());
        assert_eq!(again, Ok(vec![(2, Ok(book.clone()))]));
        let again = read(|| Rows::Json, json_line(book).as_bytes());
        assert_eq!(again, Ok(vec![(1, Ok(book.clone()))]));
    }
    match read_csv(bytes) {
        Ok(whole) => assert_eq!(whole, lines),
        Err(_) => assert!(lines.is_empty(), "without a header there are no books"),
    }
    Verdict::of(!lines.is_empty() && lines.iter().all(|(_, book)| book.is_ok()))
}

fn row(book: &NewBook) -> String {
    let NewBook { id, facts, cost_cents, quantity } = book;
    let Facts { title, topic, author, isbn, year, description } = facts;
    let cells = [
        id.map(|id| id.to_string()),
        Some(title.clone()),
        Some(topic.clone()),
        author.clone(),
        isbn.clone(),
        year.map(|year| year.to_string()),
        description.clone(),
        Some(cost_cents.to_string()),
        Some(quantity.to_string()),
    ];
    let quoted =
        |cell: &Option<String>| format!("\"{}\"", cell.as_deref().unwrap_or_default().replace('"', "\"\""));
    format!("{}\r\n", cells.iter().map(quoted).collect::<Vec<_>>().join(","))
}

/// Files of one to three books.
pub fn valid() -> BoxedStrategy<Vec<u8>> {
    let begin = prop_oneof![Just(""), Just("\u{feff}")];
    (begin, proptest::collection::vec(values::new_book(), 1..4))
        .prop_map(|(begin, books)| {
            format!("{begin}{HEADER}{}", books.iter().map(row).collect::<String>()).into_bytes()
        })
        .boxed()
}
