//! A wall clock that the test sets, for the processes that go by it, also while they run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// What is preloaded into the processes; `cc` makes it, which the store's own build needs as well.
const SOURCE: &str = include_str!("clock.c");

/// A clock that is as far from the machine's as it was set.
pub(crate) struct Clock {
    dir: TempDir,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let clock = Self { dir };
        fs::write(clock.file("clock.c"), SOURCE).unwrap();
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([clock.file("clock.so"), clock.file("clock.c")])
            .status()
            .unwrap();
        assert!(made.success(), "cc: {made}");
        clock.set(0);
        clock
    }

    /// So many seconds behind the machine's clock, or before it.
    pub(crate) fn set(&self, seconds: i64) {
        // Replaced as a whole: a process that looks in this moment must see one or the other.
        fs::write(self.file("next"), seconds.to_string()).unwrap();
        fs::rename(self.file("next"), self.file("offset")).unwrap();
    }

    /// What makes a process go by it.
    pub(crate) fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![("LD_PRELOAD", self.file("clock.so")), ("BOOKENDS_TEST_CLOCK", self.file("offset"))]
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::join(self.dir.path(), name)
    }
}
