//! Books as NDJSON.

use frontend::api::bulk::Rows;
use proptest::prelude::*;

use crate::books::{json_line, read};
use crate::{Verdict, values};

/// Reads a file; each book is read again from the line that it is written as.
pub fn check(bytes: &[u8]) -> Verdict {
    let lines = read(|| Rows::Json, bytes).expect("there is no header that could be wrong");
    for book in lines.iter().filter_map(|(_, book)| book.as_ref().ok()) {
        let again = read(|| Rows::Json, json_line(book).as_bytes());
        assert_eq!(again, Ok(vec![(1, Ok(book.clone()))]));
    }
    Verdict::of(!lines.is_empty() && lines.iter().all(|(_, book)| book.is_ok()))
}

/// Files of one to three books.
pub fn valid() -> BoxedStrategy<Vec<u8>> {
    proptest::collection::vec(values::new_book(), 1..4)
        .prop_map(|books| books.iter().map(json_line).collect::<String>().into_bytes())
        .boxed()
}
