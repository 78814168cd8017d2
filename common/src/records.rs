//! Cuts a stream of bytes into records, before all of it is there.
//!
//! A record ends with its line, but a line break inside of a quoted CSV field belongs to the record. What
//! is held is one record at most, and one that is too long is skipped to its end.

use bytes::{Bytes, BytesMut};

/// The longest record. A book with all its fields at their limits fits, escapes included.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// What stands at the beginning of some files that were written elsewhere.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A record with the number of the line that it begins on, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The line.
    pub line: u64,
    /// Nothing if it is longer than [`RECORD_BYTES_MAX`].
    pub bytes: Option<Bytes>,
}

/// Where a record's bytes come to.
#[derive(Debug)]
pub struct Splitter {
    quotes: Quotes,
    held: BytesMut,
    skipping: bool,
    /// The line that the next byte is on.
    line: u64,
    /// The line that the record began on.
    first_line: u64,
}

/// Whether line breaks may be quoted, and if so, where in a field the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quotes {
    /// They may not: every line is a record.
    None,
    FieldStart,
    InPlain,
    InQuoted,
    /// Behind a quote within a quoted field: another one means a quote, anything else ends the field.
    BehindQuote,
}

impl Quotes {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::None, _) => Self::None,
            (Self::InQuoted, b'"') => Self::BehindQuote,
            (Self::InQuoted, _) | (Self::FieldStart | Self::BehindQuote, b'"') => Self::InQuoted,
            (Self::FieldStart | Self::InPlain | Self::BehindQuote, b',' | b'\n') => Self::FieldStart,
            (Self::FieldStart | Self::InPlain | Self::BehindQuote, _) => Self::InPlain,
        }
    }
}

impl Splitter {
    /// For records that are lines.
    pub fn of_lines() -> Self {
        Self::new(Quotes::None)
    }

    /// For records of CSV.
    pub fn of_csv() -> Self {
        Self::new(Quotes::FieldStart)
    }

    fn new(quotes: Quotes) -> Self {
        Self { quotes, held: BytesMut::new(), skipping: false, line: 1, first_line: 1 }
    }

    /// Takes the next bytes and gives the records that end in them. Empty lines are none.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Record> {
        let mut records = Vec::new();
        let mut rest = bytes;
        while let Some((piece, after, ends)) = self.next_piece(rest) {
            rest = after;
            self.hold(piece);
            if ends {
                records.extend(self.take());
            }
        }
        records
    }

    /// The record that the last bytes left without an end.
    pub fn finish(mut self) -> Option<Record> {
        self.take()
    }

    /// The bytes up to the end of the record, what follows them, and whether the end was reached.
    fn next_piece<'b>(&mut self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8], bool)> {
        for (at, byte) in bytes.iter().enumerate() {
            self.quotes = self.quotes.after(*byte);
            if *byte != b'\n' {
                continue;
            }
            self.line += 1;
            if self.quotes != Quotes::InQuoted {
                let (piece, after) = bytes.split_at(at);
                return Some((piece, after.get(1..).unwrap_or_default(), true));
            }
        }
        (!bytes.is_empty()).then_some((bytes, &[], false))
    }

    fn hold(&mut self, piece: &[u8]) {
        if self.skipping || self.held.len() + piece.len() > RECORD_BYTES_MAX {
            self.skipping = true;
            self.held.clear();
            return;
        }
        self.held.extend_from_slice(piece);
    }

    fn take(&mut self) -> Option<Record> {
        let line = std::mem::replace(&mut self.first_line, self.line);
        let bytes = self.held.split().freeze();
        if std::mem::take(&mut self.skipping) {
            return Some(Record { line, bytes: None });
        }
        let mark = if line == 1 && bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let bytes = bytes.slice(mark..);
        (!bytes.trim_ascii().is_empty()).then_some(Record { line, bytes: Some(bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of a text that comes in pieces of this size.
    fn split(mut splitter: Splitter, text: &[u8], size: usize) -> Vec<(u64, Option<String>)> {
        let mut records: Vec<Record> = text.chunks(size).flat_map(|piece| splitter.feed(piece)).collect();
        records.extend(splitter.finish());
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        records.into_iter().map(|record| (record.line, record.bytes.map(text))).collect()
    }

    fn records(list: &[(u64, &str)]) -> Vec<(u64, Option<String>)> {
        list.iter().map(|(line, text)| (*line, Some((*text).to_owned()))).collect()
    }

    #[test]
    fn lines_are_records_however_they_come() {
        let text = b"one\n\n  \ntwo\"\r\nthree";
        for size in 1..=text.len() {
            let found = split(Splitter::of_lines(), text, size);
            assert_eq!(found, records(&[(1, "one"), (4, "two\"\r"), (5, "three")]), "in pieces of {size}");
        }
    }

    #[test]
    fn quoted_line_breaks_belong_to_their_record() {
        let text = b"\xef\xbb\xbfa,b\n1,\"x\ny\"\"\nz\"\n2,q\"r\n3,\"s\"\n";
        for size in 1..=text.len() {
            let found = split(Splitter::of_csv(), text, size);
            let expected = [(1, "a,b"), (2, "1,\"x\ny\"\"\nz\""), (5, "2,q\"r"), (6, "3,\"s\"")];
            assert_eq!(found, records(&expected), "in pieces of {size}");
        }
    }

    #[test]
    fn a_record_that_is_too_long_is_skipped_and_the_next_is_not() {
        let fits = "x".repeat(RECORD_BYTES_MAX);
        let text = format!("{fits}x\n{fits}\nend\n{fits}{fits}");
        let found = split(Splitter::of_lines(), text.as_bytes(), 1000);
        assert_eq!(found, [(1, None), (2, Some(fits)), (3, Some("end".to_owned())), (4, None)]);
    }
}
