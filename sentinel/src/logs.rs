//! Log files: opened for a process, rotated before, and read from their end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A log that is longer than this when its process starts is set aside as `<name>.log.1`: large enough
/// for days of ordinary talk, small enough to open in an editor. At most two files are kept.
pub(crate) const ROTATE_BYTES: u64 = 16 << 20;

/// How much of a log's end is searched for its last lines.
const TAIL_BYTES: u64 = 64 << 10;

/// Opens a log to append to it; one of more than `rotate_bytes` is set aside first.
///
/// # Errors
/// If that is not possible.
pub(crate) fn open(path: &Path, rotate_bytes: u64) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > rotate_bytes) {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".1");
        fs::rename(path, aside)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// The last lines of a log; nothing if it can't be read.
pub(crate) fn last_lines(path: &Path, count: usize) -> Vec<String> {
    let mut tail = Tail::at_last_lines(path.to_owned(), count);
    tail.read().unwrap_or_default()
}

/// A log that is read as it grows, also over its rotation.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    inode: u64,
    /// A line whose end has not been written yet.
    rest: Vec<u8>,
}

impl Tail {
    /// Begins with the last lines that the log has.
    pub(crate) fn at_last_lines(path: PathBuf, count: usize) -> Self {
        let open = Open::new(&path).and_then(|mut open| {
            open.seek_to_last_lines(count)?;
            Ok(open)
        });
        Self { path, open: open.ok() }
    }

    /// The lines that were written since the last time.
    ///
    /// # Errors
    /// If the log can't be read; one that does not exist yet has no lines.
    pub(crate) fn read(&mut self) -> io::Result<Vec<String>> {
        let mut lines = match &mut self.open {
            Some(open) => open.lines()?,
            None => Vec::new(),
        };
        if self.was_replaced() {
            self.open = Open::new(&self.path).ok();
            if let Some(open) = &mut self.open {
                lines.extend(open.lines()?);
            }
        }
        Ok(lines)
    }

    fn was_replaced(&mut self) -> bool {
        let Ok(now) = fs::metadata(&self.path) else { return false };
        self.open.as_mut().is_none_or(|open| {
            let place = open.file.stream_position().unwrap_or(0);
            open.inode != now.ino() || now.len() < place
        })
    }
}

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Self { file, inode, rest: Vec::new() })
    }

    fn seek_to_last_lines(&mut self, count: usize) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        let begin = len.saturating_sub(TAIL_BYTES);
        self.file.seek(SeekFrom::Start(begin))?;
        let mut text = Vec::new();
        (&self.file).take(TAIL_BYTES).read_to_end(&mut text)?;
        let ends = text.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(place, _)| place);
        // The newest line end closes the last line; the one before `count` lines opens the first wanted.
        let skipped = ends.take(count + 1).nth(count).map_or(0, |place| place + 1);
        self.file.seek(SeekFrom::Start(begin + u64::try_from(skipped).unwrap_or(0)))?;
        Ok(())
    }

    fn lines(&mut self) -> io::Result<Vec<String>> {
        self.file.read_to_end(&mut self.rest)?;
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
        let rest = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        Ok(String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_a_long_log_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        for expected in ["12345", "1234512345", "12345"] {
            open(&path, 6).unwrap().write_all(b"12345").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        }
        assert_eq!(fs::read_to_string(dir.path().join("x.log.1")).unwrap(), "1234512345");
    }

    #[test]
    fn the_last_lines_are_the_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        assert!(last_lines(&path, 3).is_empty());
        for (text, count, expected) in [
            ("", 2, vec![]),
            ("a\n", 2, vec!["a"]),
            ("a\nb\nc\n", 2, vec!["b", "c"]),
            ("a\nb\nc\n", 3, vec!["a", "b", "c"]),
            ("a\nb\nc\n", 9, vec!["a", "b", "c"]),
            ("a\nb\nc\n", 0, vec![]),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(last_lines(&path, count), expected, "{text:?} {count}");
        }
        fs::write(&path, "0123456789\n".repeat(20_000)).unwrap();
        assert_eq!(last_lines(&path, 2), ["0123456789", "0123456789"]);
    }

    #[test]
    fn a_tail_sees_whole_lines_also_over_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut tail = Tail::at_last_lines(path.clone(), 20);
        assert!(tail.read().unwrap().is_empty());
        let mut file = open(&path, 4).unwrap();
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(tail.read().unwrap(), ["one"]);
        file.write_all(b"o\nthree\n").unwrap();
        open(&path, 4).unwrap().write_all(b"four\n").unwrap();
        assert_eq!(tail.read().unwrap(), ["two", "three", "four"]);
        assert!(tail.read().unwrap().is_empty());
    }
}
