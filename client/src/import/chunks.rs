//! A file of books cut into parts that are sent one after the other, each under a key of its own.
//!
//! The key follows from the form, the part's bytes and its first line. The same file gives the same parts
//! and keys on every run, which is what makes an import safe to run again.

use std::io::{self, Read};

use bytes::{BufMut, Bytes, BytesMut};
use common::api::RejectedLine;
use common::records::{RECORD_BYTES_MAX, Record, Splitter};

use crate::client::{BulkFormat, IdempotencyKey};

/// How many records a part has at most: enough that a call more or less does not count, few enough that
/// what has to be sent again after a failure is sent in a moment. It must stay what it is: with another
/// number, a file that was loaded half would be cut, and loaded, anew.
const CHUNK_RECORDS: usize = 10_000;
/// A part of long records ends earlier.
const CHUNK_BYTES: usize = 4 << 20;
/// What is read from the file at once.
const READ_BYTES: usize = 256 * 1024;

/// A part of a file.
#[derive(Debug)]
pub(super) struct Chunk {
    /// What is sent: whole records, below the header if the form has one.
    pub(super) body: Bytes,
    /// Under which it is loaded.
    pub(super) key: IdempotencyKey,
    /// Its first line in the file.
    pub(super) first_line: u64,
    /// How many bytes of the file have been read by its end.
    pub(super) upto_bytes: u64,
    /// Records that are not sent because no front end takes their like.
    pub(super) rejected: Vec<RejectedLine>,
    /// For each record, on which line of the body it begins and on which of the file.
    lines: Vec<(u64, u64)>,
}

impl Chunk {
    /// Where in the file a line of the body is.
    pub(super) fn line_in_file(&self, line: u64) -> u64 {
        let after = self.lines.partition_point(|(in_body, _)| *in_body <= line);
        after
            .checked_sub(1)
            .and_then(|at| self.lines.get(at))
            .map_or(self.first_line, |(_, in_file)| *in_file)
    }

    /// The line of the file on which its last record begins.
    pub(super) fn last_line(&self) -> u64 {
        let sent = self.lines.last().map(|(_, in_file)| *in_file);
        let rejected = self.rejected.last().map(|rejected| rejected.line);
        sent.max(rejected).unwrap_or(self.first_line)
    }
}

/// The parts of a file, in order.
pub(super) struct Chunks<R> {
    file: R,
    format: BulkFormat,
    salt: Option<String>,
    splitter: Option<Splitter>,
    header: Option<Bytes>,
    read_bytes: u64,
    buffer: Vec<u8>,
    part: Part,
}

/// What gathers for the next part.
#[derive(Debug, Default)]
struct Part {
    body: BytesMut,
    lines: Vec<(u64, u64)>,
    rejected: Vec<RejectedLine>,
    /// The number of line ends in the body.
    ends: u64,
}

impl<R: Read> Chunks<R> {
    /// The parts of a file; with a salt, under other keys than without.
    pub(super) fn new(file: R, format: BulkFormat, salt: Option<String>) -> Self {
        let splitter = match format {
            BulkFormat::Csv => Splitter::of_csv(),
            BulkFormat::Ndjson => Splitter::of_lines(),
        };
        Self {
            file,
            format,
            salt,
            splitter: Some(splitter),
            header: None,
            read_bytes: 0,
            buffer: vec![0; READ_BYTES],
            part: Part::default(),
        }
    }

    /// Takes a record, and gives the part that is full with it.
    fn take(&mut self, record: Record) -> Option<Chunk> {
        let Record { line, bytes } = record;
        if self.format == BulkFormat::Csv && self.header.is_none() {
            // A header that is too long stands for no header: the front end says so.
            self.header = Some(bytes.unwrap_or_default());
            return None;
        }
        if self.part.body.is_empty()
            && let Some(header) = &self.header
        {
            self.part.push_line(header);
        }
        match bytes {
            Some(bytes) => {
                self.part.lines.push((self.part.ends + 1, line));
                self.part.push_line(&bytes);
            }
            None => {
                let reason = format!("is longer than {RECORD_BYTES_MAX} bytes");
                self.part.rejected.push(RejectedLine { line, reason });
            }
        }
        let records = self.part.lines.len() + self.part.rejected.len();
        (records >= CHUNK_RECORDS || self.part.body.len() >= CHUNK_BYTES).then(|| self.cut())
    }

    fn cut(&mut self) -> Chunk {
        let Part { body, lines, rejected, ends: _ } = std::mem::take(&mut self.part);
        let body = body.freeze();
        let first = lines.first().map(|(_, line)| *line);
        let first_line = first.into_iter().chain(rejected.first().map(|r| r.line)).min().unwrap_or(1);
        let key = self.key(first_line, &body);
        Chunk { body, key, first_line, upto_bytes: self.read_bytes, rejected, lines }
    }

    fn key(&self, first_line: u64, body: &[u8]) -> IdempotencyKey {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{} {first_line} {:?}\n", self.format, self.salt).as_bytes());
        hasher.update(body);
        IdempotencyKey::of(format!("import-{}", hasher.finalize().to_hex()))
    }

    /// What is left at the end of the file.
    fn rest(&mut self) -> Option<Chunk> {
        // A table that is nothing but its header, or not even that, is for the front end to judge.
        let untold = self.format == BulkFormat::Csv && self.read_bytes > 0 && self.part.is_fresh();
        if untold && let Some(header) = self.header.clone() {
            self.part.push_line(&header);
        }
        (!self.part.is_fresh()).then(|| self.cut())
    }
}

impl Part {
    fn push_line(&mut self, bytes: &[u8]) {
        self.body.reserve(bytes.len() + 1);
        self.body.put_slice(bytes);
        self.body.put_u8(b'\n');
        self.ends += 1 + bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    }

    fn is_fresh(&self) -> bool {
        self.body.is_empty() && self.rejected.is_empty()
    }
}

impl<R: Read> Chunks<R> {
    /// Reads on and hands each part to `give` until that says that nobody wants more.
    pub(super) fn run(mut self, mut give: impl FnMut(Chunk) -> bool) -> io::Result<()> {
        while let Some(mut splitter) = self.splitter.take() {
            let length = match self.file.read(&mut self.buffer) {
                Ok(length) => length,
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {
                    self.splitter = Some(splitter);
                    continue;
                }
                Err(problem) => return Err(problem),
            };
            self.read_bytes += length as u64;
            let records = splitter.feed(self.buffer.get(..length).unwrap_or_default());
            let last = if length == 0 {
                splitter.finish()
            } else {
                self.splitter = Some(splitter);
                None
            };
            for record in records.into_iter().chain(last) {
                if let Some(chunk) = self.take(record)
                    && !give(chunk)
                {
                    return Ok(());
                }
            }
        }
        if let Some(chunk) = self.rest() {
            give(chunk);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(text: &str, format: BulkFormat, salt: Option<&str>) -> Vec<Chunk> {
        let mut all = Vec::new();
        let chunks = Chunks::new(text.as_bytes(), format, salt.map(str::to_owned));
        chunks
            .run(|chunk| {
                all.push(chunk);
                true
            })
            .unwrap();
        all
    }

    fn numbered(from: usize, to: usize) -> String {
        (from..=to).map(|number| format!("{{\"id\":{number}}}\n")).collect()
    }

    fn keys(chunks: &[Chunk]) -> Vec<&str> {
        chunks.iter().map(|chunk| chunk.key.as_str()).collect()
    }

    #[test]
    fn a_file_is_cut_between_records_and_nothing_is_lost() {
        let text = numbered(1, 25_000);
        let found = chunks(&text, BulkFormat::Ndjson, None);
        assert_eq!(found.iter().map(|c| c.first_line).collect::<Vec<_>>(), [1, 10_001, 20_001]);
        assert_eq!(found.iter().map(|c| std::str::from_utf8(&c.body).unwrap()).collect::<String>(), text);
        assert_eq!(found[2].upto_bytes, text.len() as u64);
        assert_eq!(found[1].line_in_file(3), 10_003);
        assert_eq!(found.iter().map(Chunk::last_line).collect::<Vec<_>>(), [10_000, 20_000, 25_000]);
    }

    #[test]
    fn the_same_file_has_the_same_keys_and_every_part_another() {
        let text = numbered(1, 10_000) + &numbered(1, 10_000);
        let found = chunks(&text, BulkFormat::Ndjson, None);
        assert_eq!(keys(&found), keys(&chunks(&text, BulkFormat::Ndjson, None)));
        assert_ne!(found[0].key, found[1].key, "equal bytes at another place are another part");
        assert_ne!(found[0].key, chunks(&text, BulkFormat::Ndjson, Some("x"))[0].key);
        let changed = chunks(&text.replacen("\"id\":7}", "\"id\":8}", 1), BulkFormat::Ndjson, None);
        assert_ne!(found[0].key, changed[0].key);
        assert_eq!(found[1].key, changed[1].key);
    }

    #[test]
    fn every_part_of_a_table_has_the_header_and_knows_its_lines() {
        let mut text = "title,topic\n\n".to_owned();
        for number in 0..10_001 {
            text += &format!("\"t\n{number}\",x\n");
        }
        let found = chunks(&text, BulkFormat::Csv, None);
        assert_eq!(found.len(), 2);
        assert!(found[1].body.starts_with(b"title,topic\n\"t\n10000\",x\n"));
        // Line 4 of the body is the second record, which begins on line 5 of the file.
        assert_eq!((found[0].line_in_file(2), found[0].line_in_file(4), found[0].line_in_file(5)), (3, 5, 5));
        assert_eq!((found[1].first_line, found[1].line_in_file(2)), (20_003, 20_003));
    }

    #[test]
    fn what_is_too_long_is_rejected_here() {
        let text = format!("{{}}\n{}\n{{}}\n", "x".repeat(RECORD_BYTES_MAX + 1));
        let found = chunks(&text, BulkFormat::Ndjson, None);
        assert_eq!((found.len(), found[0].rejected.len(), found[0].rejected[0].line), (1, 1, 2));
        assert_eq!(found[0].line_in_file(2), 3);
        let text = format!("{{}}\n{}\n", "x".repeat(RECORD_BYTES_MAX + 1));
        assert_eq!(chunks(&text, BulkFormat::Ndjson, None)[0].last_line(), 2);
    }

    #[test]
    fn empty_files_and_bare_headers() {
        assert!(chunks("", BulkFormat::Ndjson, None).is_empty());
        assert!(chunks("\n\n", BulkFormat::Ndjson, None).is_empty());
        assert_eq!(&chunks("title", BulkFormat::Csv, None)[0].body[..], b"title\n");
        assert!(chunks("", BulkFormat::Csv, None).is_empty());
    }
}
