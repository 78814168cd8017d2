//! What happened in a run: as lines for people, and as one number by which two runs are compared.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// Where the lines go.
#[derive(Clone, Debug, Default)]
pub enum Lines {
    /// Nowhere: they are not made.
    #[default]
    None,
    /// Into a text.
    Kept(Arc<Mutex<String>>),
}

#[derive(Debug)]
pub(crate) struct Trace {
    lines: Lines,
    hash: u64,
}

impl Trace {
    pub(crate) fn new(lines: Lines) -> Self {
        Self { lines, hash: 0 }
    }

    pub(crate) fn note(&mut self, now: Duration, line: impl FnOnce() -> String) {
        if let Lines::Kept(text) = &self.lines {
            let line = format!("{:>10.3} ms  {}\n", now.as_secs_f64() * 1000.0, line());
            text.lock().push_str(&line);
        }
    }

    pub(crate) fn mark(&mut self, what: u64) {
        let mixed = (self.hash ^ what).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash = mixed ^ (mixed >> 29);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}
