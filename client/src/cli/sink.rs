//! Books as a file has them: CSV with a header line, or a JSON object a line, as an import reads both.

use std::io::{self, Write};

use bookends::BulkFormat;
use common::api::NewBook;

/// The columns of a CSV file, by the names that the JSON form has.
const COLUMNS: [&str; 9] =
    ["id", "title", "topic", "author", "isbn", "year", "description", "cost_cents", "quantity"];

/// Where books are written to.
pub(super) enum Sink<W: Write> {
    /// As CSV.
    Csv(Box<csv::Writer<W>>),
    /// As NDJSON.
    Ndjson(W),
}

impl<W: Write> Sink<W> {
    /// Begins a file; of CSV, with its header.
    pub(super) fn new(format: BulkFormat, file: W) -> io::Result<Self> {
        match format {
            BulkFormat::Ndjson => Ok(Self::Ndjson(file)),
            BulkFormat::Csv => {
                let mut writer = csv::Writer::from_writer(file);
                writer.write_record(COLUMNS)?;
                Ok(Self::Csv(Box::new(writer)))
            }
        }
    }

    /// Writes a book.
    pub(super) fn write(&mut self, book: &NewBook) -> io::Result<()> {
        match self {
            Self::Ndjson(file) => {
                serde_json::to_writer(&mut *file, book)?;
                file.write_all(b"\n")
            }
            Self::Csv(writer) => {
                let text = |text: &Option<String>| text.clone().unwrap_or_default();
                let record = [
                    book.id.map_or_else(String::new, |id| id.to_string()),
                    book.title.clone(),
                    book.topic.clone(),
                    text(&book.author),
                    text(&book.isbn),
                    book.year.map_or_else(String::new, |year| year.to_string()),
                    text(&book.description),
                    book.cost_cents.to_string(),
                    book.quantity.to_string(),
                ];
                Ok(writer.write_record(&record)?)
            }
        }
    }

    /// Ends the file.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::Ndjson(mut file) => {
                file.flush()?;
                Ok(file)
            }
            Self::Csv(writer) => writer.into_inner().map_err(|failed| io::Error::other(failed.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use bookends::generate::Catalogue;

    use super::*;

    fn written(format: BulkFormat, books: impl Iterator<Item = NewBook>) -> String {
        let mut sink = Sink::new(format, Vec::new()).unwrap();
        books.for_each(|book| sink.write(&book).unwrap());
        String::from_utf8(sink.finish().unwrap()).unwrap()
    }

    fn one() -> impl Iterator<Item = NewBook> {
        let text = r#"{"id":1,"title":"a, \"b\"","topic":"x","year":-5,"cost_cents":5,"quantity":2}"#;
        std::iter::once(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn a_line_of_json_is_a_new_book() {
        let text = written(BulkFormat::Ndjson, one());
        let book: NewBook = serde_json::from_str(&text).unwrap();
        assert_eq!((book.title.as_str(), book.year, book.author), ("a, \"b\"", Some(-5), None));
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn a_csv_file_has_a_header_and_quotes_where_needed() {
        let expected = "id,title,topic,author,isbn,year,description,cost_cents,quantity\n\
                        1,\"a, \"\"b\"\"\",x,,,-5,,5,2\n";
        assert_eq!(written(BulkFormat::Csv, one()), expected);
    }

    /// Written down once: whoever compares measurements relies on the same books for the same seed.
    #[test]
    fn the_bytes_of_a_seed_stay_what_they_are() {
        let digest = |format| {
            let text = written(format, Catalogue::new(1000, 1));
            blake3::hash(text.as_bytes()).to_hex().chars().take(16).collect::<String>()
        };
        let found = [BulkFormat::Csv, BulkFormat::Ndjson].map(digest);
        assert_eq!(found, ["8674da231931d3a2", "57c80851820ce122"]);
    }
}
