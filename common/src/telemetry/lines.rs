//! Log lines on their way out: gathered in memory, written together by a thread of their own.
//!
//! A line of a log is worth one write of the system only if nobody waits for it. So a line is put into a
//! buffer, and a moment later all that has gathered is written at once. What is in the buffer when the
//! process is killed is lost: the last few milliseconds. A process that ends by itself loses nothing, for
//! [`Lines`] writes the rest when it is dropped.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// How long lines gather. Short for whoever follows a log, long against a write.
const GATHER: Duration = Duration::from_millis(10);
/// Beyond so much the thread is woken at once, and at twice as much whoever logs waits for it: a disk
/// that is too slow for the log slows the process down, and does not fill its memory.
const BYTES_MAX: usize = 256 << 10;

#[derive(Debug, Default)]
struct Gathered {
    bytes: Vec<u8>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    gathered: Mutex<Gathered>,
    /// There is something to write, or it is time to end.
    filled: Condvar,
    /// There is much to write.
    full: Condvar,
    /// There is room again.
    emptied: Condvar,
}

/// The thread that writes the lines. Dropped, it writes what is left and ends.
#[derive(Debug)]
#[must_use = "without it the last lines are lost"]
pub struct Lines {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Where lines are put. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Gatherer(Arc<Shared>);

impl Lines {
    /// Begins to write lines to `out`.
    pub(super) fn new(out: impl Write + Send + 'static) -> io::Result<(Self, Gatherer)> {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let thread =
            std::thread::Builder::new().name("log".to_owned()).spawn(move || of_thread.write_to(out))?;
        let gatherer = Gatherer(shared.clone());
        Ok((Self { shared, thread: Some(thread) }, gatherer))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.shared.gathered.lock().ended = true;
        self.shared.filled.notify_all();
        self.shared.full.notify_all();
        if let Some(thread) = self.thread.take() {
            // If it has panicked, there is nobody left to tell.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn write_to(&self, mut out: impl Write) {
        let mut bytes = Vec::new();
        loop {
            let mut gathered = self.gathered.lock();
            self.filled.wait_while(&mut gathered, |gathered| gathered.bytes.is_empty() && !gathered.ended);
            let more = |gathered: &mut Gathered| gathered.bytes.len() < BYTES_MAX && !gathered.ended;
            self.full.wait_while_for(&mut gathered, more, GATHER);
            std::mem::swap(&mut bytes, &mut gathered.bytes);
            let ended = gathered.ended;
            drop(gathered);
            self.emptied.notify_all();
            // Where standard error is closed, nobody reads the log.
            drop(out.write_all(&bytes).and_then(|()| out.flush()));
            bytes.clear();
            if ended {
                return;
            }
        }
    }
}

impl Write for &Gatherer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let shared = &self.0;
        let mut gathered = shared.gathered.lock();
        let no_room = |gathered: &mut Gathered| gathered.bytes.len() >= 2 * BYTES_MAX && !gathered.ended;
        shared.emptied.wait_while(&mut gathered, no_room);
        let before = gathered.bytes.len();
        gathered.bytes.extend_from_slice(line);
        let now = gathered.bytes.len();
        drop(gathered);
        if before == 0 {
            shared.filled.notify_one();
        }
        if before < BYTES_MAX && now >= BYTES_MAX {
            shared.full.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Gatherer {
    type Writer = &'w Gatherer;

    fn make_writer(&'w self) -> &'w Gatherer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_in_order_also_the_last_and_more_than_there_is_room_for() {
        let out = Out::default();
        let (lines, gatherer) = Lines::new(out.clone()).unwrap();
        let mut expected = Vec::new();
        for number in 0..50_000 {
            let line = format!("line {number} of a log\n");
            (&gatherer).write_all(line.as_bytes()).unwrap();
            expected.extend_from_slice(line.as_bytes());
        }
        assert!(expected.len() > 2 * BYTES_MAX);
        drop(lines);
        assert!(*out.0.lock() == expected);
    }
}
