//! What people see: lines on standard output and standard error, and one line of progress.

use std::io::{self, IsTerminal, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A line on standard output: what was asked for. A reader that has gone away wants no more of it.
pub(crate) fn say(text: &str) {
    drop(write(format!("{text}\n").as_bytes()));
}

/// A line on standard error: what went wrong, or a remark.
pub(crate) fn tell(text: &str) {
    // With standard error gone there is nobody left to tell.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Bytes on standard output, at once.
///
/// # Errors
/// If nobody reads any more.
pub(crate) fn write(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Whether somebody may still read standard output: what follows something for long ends when nobody does,
/// also while there is nothing to write.
pub(crate) fn is_read() -> bool {
    let out = io::stdout();
    // Errors and hang-ups are told without being asked for.
    let mut polled = [PollFd::new(&out, PollFlags::empty())];
    match poll(&mut polled, Some(&Timespec::default())) {
        Ok(_) => polled.iter().all(|fd| fd.revents().is_empty()),
        // A poll that fails knows nothing; the next write will.
        Err(_) => true,
    }
}

/// One line that changes while something is awaited, on a terminal only; wiped when dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    on: bool,
}

/// Longer lines would wrap, and wrapped lines can't be wiped.
const PROGRESS_CHARS_MAX: usize = 100;

impl Progress {
    /// Nothing is shown yet.
    pub(crate) fn new() -> Self {
        Self { on: io::stderr().is_terminal() }
    }

    /// Shows this instead of what was shown.
    pub(crate) fn show(&self, text: &str) {
        if self.on {
            let text: String = text.chars().take(PROGRESS_CHARS_MAX).collect();
            self.put(&format!("\r\x1b[K{text}"));
        }
    }

    fn put(&self, text: &str) {
        let mut err = io::stderr().lock();
        // Progress is a courtesy; where it can't be shown nothing is lost.
        drop(err.write_all(text.as_bytes()).and_then(|()| err.flush()));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.on {
            self.put("\r\x1b[K");
        }
    }
}
