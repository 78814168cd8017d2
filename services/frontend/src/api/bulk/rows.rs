//! A book from a record: a JSON object, or a row under a CSV header.

use common::api::FieldError;
use common::records::{RECORD_BYTES_MAX, Record, Splitter};
use csv_core::ReadRecordResult;
use protocol::catalogue::NewBook;

use crate::api::admin::Put;
use crate::api::fields::{Call, Fields};
use crate::api::json::Json;

/// The columns that hold numbers.
const NUMBERS: [&str; 4] = ["id", "year", "cost_cents", "quantity"];
/// The columns that a header must have.
const COLUMNS_NEEDED: [&str; 4] = ["title", "topic", "cost_cents", "quantity"];

/// The forms of a bulk load, as far as they are known.
#[derive(Debug)]
pub enum Rows {
    /// Every record is a JSON object.
    Json,
    /// The first record will be the header.
    CsvHeader,
    /// Every record has these columns.
    Csv(Vec<String>, Cells),
}

/// What a record holds: nothing if it was the header, else a book or why there is none.
pub type Row = Option<Result<NewBook, String>>;

impl Rows {
    /// What cuts records of this form.
    #[must_use]
    pub fn splitter(&self) -> Splitter {
        match self {
            Self::Json => Splitter::of_lines(),
            Self::CsvHeader | Self::Csv(..) => Splitter::of_csv(),
        }
    }

    /// Reads the next record.
    ///
    /// # Errors
    /// If the header is wrong, for nothing behind it can be read.
    pub fn read(&mut self, record: &Record) -> Result<Row, FieldError> {
        let Some(bytes) = &record.bytes else {
            let reason = format!("is longer than {RECORD_BYTES_MAX} bytes");
            return match self {
                Self::CsvHeader => Err(FieldError::new("header", reason)),
                Self::Json | Self::Csv(..) => Ok(Some(Err(reason))),
            };
        };
        match self {
            Self::Json => Ok(Some(book_of_json(bytes))),
            Self::CsvHeader => {
                let mut cells = Cells::new();
                let columns = columns(&mut cells, bytes)?;
                *self = Self::Csv(columns, cells);
                Ok(None)
            }
            Self::Csv(columns, cells) => Ok(Some(book_of_csv(columns, cells, bytes))),
        }
    }
}

/// A line of a file with its number, and its book or why there is none.
pub type Line = (u64, Result<NewBook, String>);

/// Reads a whole CSV file.
///
/// # Errors
/// If the header is wrong, or if there is none.
pub fn read_csv(file: &[u8]) -> Result<Vec<Line>, FieldError> {
    let mut rows = Rows::CsvHeader;
    let mut splitter = rows.splitter();
    let mut records = splitter.feed(file);
    records.extend(splitter.finish());
    let mut read = Vec::with_capacity(records.len());
    for record in records {
        read.extend(rows.read(&record)?.map(|book| (record.line, book)));
    }
    match rows {
        Rows::Csv(..) => Ok(read),
        Rows::CsvHeader | Rows::Json => Err(FieldError::new("header", "is missing")),
    }
}

fn book_of_json(line: &[u8]) -> Result<NewBook, String> {
    let json = Json::read(line).map_err(|broken| match broken.place {
        // Its line is always the first here.
        Some((_, column)) => format!("can't be read: {} at column {column}", broken.problem),
        None => format!("can't be read: {}", broken.problem),
    })?;
    let fields = Fields::of_json(json).map_err(|kind| format!("must be a JSON object, found {kind}"))?;
    fields.into_call().map(|Put(book)| book).map_err(|error| error.to_string())
}

fn book_of_csv(columns: &[String], cells: &mut Cells, row: &[u8]) -> Result<NewBook, String> {
    let values = cells.read(row)?;
    if values.len() != columns.len() {
        return Err(format!("has {} fields, but the header has {}", values.len(), columns.len()));
    }
    // White space is part of a text, so that what is exported comes back as it was; about a number it means nothing.
    let cell = |(name, value): (&String, String)| {
        let is_number = NUMBERS.contains(&name.as_str());
        (name.clone(), if is_number { value.trim().to_owned() } else { value })
    };
    let fields = Fields::of_url(columns.iter().zip(values).map(cell).collect());
    let book = fields.and_then(Fields::into_call);
    book.map(|Put(book)| book).map_err(|error| error.to_string())
}

fn columns(cells: &mut Cells, header: &[u8]) -> Result<Vec<String>, FieldError> {
    let names = cells.read(header).map_err(|problem| FieldError::new("header", problem))?;
    let names: Vec<String> = names.iter().map(|name| name.trim().to_owned()).collect();
    if let Some(unknown) = names.iter().find(|name| !Put::KEYS.contains(&name.as_str())) {
        let problem = format!("must hold only {}, found `{}`", Put::KEYS.join(", "), unknown.escape_debug());
        return Err(FieldError::new("header", problem));
    }
    if let Some(twice) =
        names.iter().enumerate().find(|(at, name)| names.iter().take(*at).any(|n| n == *name))
    {
        return Err(FieldError::new(
            "header",
            format!("must hold each column once, found `{}` twice", twice.1),
        ));
    }
    match COLUMNS_NEEDED.into_iter().find(|needed| !names.iter().any(|name| name == needed)) {
        Some(missing) => Err(FieldError::new("header", format!("must hold `{missing}`"))),
        None => Ok(names),
    }
}

/// Takes CSV records apart. Made once for a file: making the automaton costs more than many a record.
#[derive(Debug)]
pub struct Cells {
    reader: Box<csv_core::Reader>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Cells {
    pub(super) fn new() -> Self {
        Self { reader: Box::new(csv_core::Reader::new()), bytes: Vec::new(), ends: Vec::new() }
    }

    /// The fields of a record, without the spaces around them.
    fn read(&mut self, record: &[u8]) -> Result<Vec<String>, String> {
        self.reader.reset();
        // A field takes no more room than it had, and there are fewer than bytes.
        self.bytes.resize(record.len() + 1, 0);
        self.ends.resize(record.len() + 1, 0);
        let (mut input, mut written, mut fields) = (record, 0, 0);
        loop {
            let room = self.bytes.get_mut(written..).unwrap_or_default();
            let places = self.ends.get_mut(fields..).unwrap_or_default();
            let (result, read, more_bytes, more_fields) = self.reader.read_record(input, room, places);
            input = input.get(read..).unwrap_or_default();
            written += more_bytes;
            fields += more_fields;
            match result {
                // Called again without input, it ends the record.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(Vec::new()),
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    return Err("can't be read".to_owned());
                }
            }
        }
        if !input.trim_ascii().is_empty() {
            return Err("holds a carriage return that is not quoted".to_owned());
        }
        let mut begin = 0;
        let mut field = |end: &usize| {
            let field = self.bytes.get(std::mem::replace(&mut begin, *end)..*end).unwrap_or_default();
            std::str::from_utf8(field).map(str::to_owned)
        };
        let found =
            self.ends.get(..fields).unwrap_or_default().iter().map(&mut field).collect::<Result<_, _>>();
        found.map_err(|_| "is not UTF-8".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Shown = (u64, Result<String, String>);

    fn csv(text: &str) -> Result<Vec<Shown>, String> {
        let rows = read_csv(text.as_bytes()).map_err(|error| error.to_string())?;
        let shown = |book: NewBook| {
            let id = book.id.map_or(0, |id| id.get());
            format!("{id} {} {} {} {}", book.facts.title, book.facts.topic, book.cost_cents, book.quantity)
        };
        Ok(rows.into_iter().map(|(line, row)| (line, row.map(shown))).collect())
    }

    #[test]
    fn columns_may_come_in_any_order() {
        let text = "quantity, title,topic,cost_cents,id\r\n3,\"a, \"\"b\"\"\nc\",x,5,7\r\n1,t,x,0,\n";
        let expected = [(2, Ok("7 a, \"b\"\nc x 5 3".to_owned())), (4, Ok("0 t x 0 1".to_owned()))];
        assert_eq!(csv(text), Ok(expected.to_vec()));
    }

    #[test]
    fn white_space_is_part_of_a_text_and_of_no_number() {
        let text = "title, topic ,cost_cents,quantity,id\n\" a \", x\t, 5 ,\" 3\", 7\n";
        assert_eq!(csv(text), Ok(vec![(2, Ok("7  a   x\t 5 3".to_owned()))]));
    }

    #[test]
    fn a_bad_row_has_its_line_and_reason_and_the_others_are_read() {
        let text = "title,topic,cost_cents,quantity\nt,x,1\nt,x,-1,1\n\nt,x,1,1\n,x,1,1\nt,x,1,1,1\n";
        let rows = csv(text).unwrap();
        let lines: Vec<(u64, bool)> = rows.iter().map(|(line, row)| (*line, row.is_ok())).collect();
        assert_eq!(lines, [(2, false), (3, false), (5, true), (6, false), (7, false)]);
        assert_eq!(rows[0].1, Err("has 3 fields, but the header has 4".to_owned()));
        assert_eq!(
            rows[1].1,
            Err("`cost_cents` must be an integer from 0 to 100000000, found -1".to_owned())
        );
        assert_eq!(rows[3].1, Err("`title` is missing".to_owned()));
    }

    #[test]
    fn a_header_must_be_whole_and_known() {
        for (header, problem) in [
            ("", "is missing"),
            ("title,topic,cost_cents", "must hold `quantity`"),
            ("title,topic,cost_cents,quantity,isbm", "must hold only"),
            ("title,topic,cost_cents,quantity,title", "must hold each column once"),
        ] {
            let error = csv(header).unwrap_err();
            assert!(error.starts_with("`header`") && error.contains(problem), "{error}");
        }
    }

    #[test]
    fn a_json_line_is_a_book() {
        let read = |line: &str| book_of_json(line.as_bytes());
        let book = read(r#"{"title":"t","topic":"x","cost_cents":1,"quantity":2,"author":null}"#).unwrap();
        assert_eq!((book.id, book.facts.author, book.quantity), (None, None, 2));
        for (line, problem) in [
            ("{", "can't be read: EOF"),
            ("[]", "must be a JSON object, found a list"),
            (r#"{"title":"t"}"#, "`topic` is missing"),
            (
                r#"{"title":"t","topic":"x","cost_cents":"1","quantity":2}"#,
                "`cost_cents` must be an integer, found text",
            ),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.starts_with(problem), "{error}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert_eq!(Cells::new().read(b"a,\xff"), Err("is not UTF-8".to_owned()));
        assert!(book_of_json(b"{\"title\":\"\xff\"}").unwrap_err().contains("UTF-8"));
    }
}
