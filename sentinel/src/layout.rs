//! The files that the sentinel and the nodes leave for one another below the data directory:
//! `run/<name>.pid`, `run/<name>.addr` and `logs/<name>.log`, where a name is a node's, or `sentinel`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

/// The sentinel's own name among those of the nodes.
pub(crate) const SENTINEL: &str = "sentinel";

/// Where the files are.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    run: PathBuf,
    logs: PathBuf,
}

impl Layout {
    /// The files in these two directories.
    pub(crate) fn new(run: PathBuf, logs: PathBuf) -> Self {
        Self { run, logs }
    }

    /// Makes the directories if they are missing.
    ///
    /// # Errors
    /// If that is not possible.
    pub(crate) fn make(&self) -> io::Result<()> {
        fs::create_dir_all(&self.run)?;
        fs::create_dir_all(&self.logs)
    }

    /// Holds a process id as text.
    pub(crate) fn pid(&self, name: &str) -> PathBuf {
        self.run.join(format!("{name}.pid"))
    }

    /// Holds the addresses that a process really listens on.
    pub(crate) fn addr(&self, name: &str) -> PathBuf {
        self.run.join(format!("{name}.addr"))
    }

    /// What a process says.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// Locked while a supervisor lives.
    pub(crate) fn lock(&self) -> PathBuf {
        self.run.join("sentinel.lock")
    }

    /// The names of all that have a pid file, the sentinel left out.
    pub(crate) fn names_with_pid(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.run) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|file| file.strip_suffix(".pid").map(str::to_owned))
            .filter(|name| name != SENTINEL)
            .collect();
        names.sort_unstable();
        names
    }
}

/// The process id in a pid file; none if the file is missing or holds something else.
pub(crate) fn read_pid(path: &Path) -> Option<Pid> {
    Pid::from_raw(fs::read_to_string(path).ok()?.trim().parse().ok().filter(|pid| *pid > 0)?)
}

/// Puts a text into a file so that nobody ever reads a half of it.
///
/// # Errors
/// If the file can't be written.
pub(crate) fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    fs::write(&temporary, text)?;
    fs::rename(&temporary, path)
}

/// Removes a file; one that is not there is as good.
///
/// # Errors
/// If it is there and can't be removed.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_holds_a_positive_number_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        assert_eq!(read_pid(&path), None);
        for (text, expected) in
            [("12", Some(12)), (" 12\n", Some(12)), ("", None), ("0", None), ("-5", None), ("x", None)]
        {
            write_whole(&path, text).unwrap();
            assert_eq!(read_pid(&path).map(|pid| pid.as_raw_nonzero().get()), expected, "{text:?}");
        }
    }

    #[test]
    fn the_sentinel_and_unfinished_files_are_no_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned(), dir.path().to_owned());
        for file in ["b.pid", "a.pid", "sentinel.pid", "c.addr", "d.pid.12.tmp"] {
            fs::write(dir.path().join(file), "1").unwrap();
        }
        assert_eq!(layout.names_with_pid(), ["a", "b"]);
    }
}
