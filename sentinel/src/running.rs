//! Whether a supervisor runs for a store, and how to reach it.
//!
//! The lock is the truth, for the kernel lets go of it when its holder dies, however that happens. The
//! pid and the address only say where the holder is: a supervisor that has the lock removes those of the
//! one before, and writes its own once it can be spoken to.

use std::fs::{self, File, TryLockError};
use std::io;
use std::time::Duration;

use rustix::process::Pid;
use tokio::time::{Instant, sleep};

use crate::identity;
use crate::layout::{self, Layout, SENTINEL};

/// Whether there is a supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Running {
    /// There is none.
    No,
    /// There is one that can't be spoken to yet.
    Starting,
    /// There is one.
    Yes(Supervisor),
}

/// A supervisor that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Supervisor {
    /// Its process.
    pub(crate) pid: Pid,
    /// Its control channel.
    pub(crate) address: String,
}

/// How long a supervisor may hold the lock before it can be spoken to.
const SETTLE: Duration = Duration::from_secs(3);

/// How often is looked.
const LOOK: Duration = Duration::from_millis(20);

/// Whether there is a supervisor at this moment.
///
/// # Errors
/// If the lock can't be looked at.
pub(crate) fn look(layout: &Layout) -> io::Result<Running> {
    let file = match File::open(layout.lock()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Running::No),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => return Ok(Running::No),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let pid = layout::read_pid(&layout.pid(SENTINEL));
    let pid = pid.filter(|pid| identity::arguments(*pid).is_some_and(|args| identity::is_supervisor(&args)));
    let address = fs::read_to_string(layout.addr(SENTINEL)).ok();
    Ok(match (pid, address) {
        (Some(pid), Some(address)) => Running::Yes(Supervisor { pid, address: address.trim().to_owned() }),
        (None, _) | (_, None) => Running::Starting,
    })
}

/// As [`look`], but gives one that starts the time to do so.
///
/// # Errors
/// If the lock can't be looked at.
pub(crate) async fn settled(layout: &Layout) -> io::Result<Running> {
    let deadline = Instant::now() + SETTLE;
    loop {
        match look(layout)? {
            Running::Starting if Instant::now() < deadline => sleep(LOOK).await,
            found => return Ok(found),
        }
    }
}

/// Takes the lock; none if another supervisor has it.
///
/// # Errors
/// If the lock file can't be made or locked.
pub(crate) async fn lock(layout: &Layout) -> io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(layout.lock())?;
    // Whoever only looks holds the lock for a moment: one refusal does not mean a supervisor.
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(LOOK).await,
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_lock_decides_and_not_what_files_say() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned(), dir.path().to_owned());
        assert_eq!(look(&layout).unwrap(), Running::No);
        layout::write_whole(&layout.pid(SENTINEL), &std::process::id().to_string()).unwrap();
        layout::write_whole(&layout.addr(SENTINEL), "127.0.0.1:1").unwrap();
        assert_eq!(look(&layout).unwrap(), Running::No);

        let held = lock(&layout).await.unwrap();
        assert!(held.is_some());
        assert!(lock(&layout).await.unwrap().is_none());
        // This process holds the lock but is no `sentinel watch`: its number must be an old one.
        assert_eq!(look(&layout).unwrap(), Running::Starting);
        drop(held);
        assert_eq!(look(&layout).unwrap(), Running::No);
    }
}
