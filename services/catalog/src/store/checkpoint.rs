//! Keeping the write-ahead log short.
//!
//! A background thread moves its pages into the database as they come, which disturbs nobody; the log
//! then starts again from its front whenever nobody reads from it. Under a load that leaves no such
//! moment, the writer stops once in a while and has it start again. The file keeps its size then: to give its
//! blocks back, only to take them again, kept all writes waiting for longer than all the rest.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::error::StoreError;
use super::read::Readers;
use super::schema::Place;

/// The length of the write-ahead log at which the writer has it start again. A file that has become longer all
/// the same is cut off there.
pub(super) const WAL_BYTES_MAX: u64 = 64 << 20;
/// How much more it may grow before the next try, when readers keep it from starting again.
const WAL_BYTES_MORE: u64 = 16 << 20;
/// A page, of the size that new files have, and its header in the write-ahead log.
const FRAME_BYTES: u64 = 4096 + 24;
/// How long the writer waits for readers then: all writes wait with it.
const READERS_WAIT: Duration = Duration::from_millis(50);

/// What a checkpoint did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The pages in the write-ahead log.
    pub pages: u64,
    /// How many of them are in the database now.
    pub moved: u64,
}

impl Readers {
    /// Moves pages from the write-ahead log to the database, as many as readers allow, waiting for
    /// nobody. To be called every second or so, from a thread that may wait for the disk.
    ///
    /// # Errors
    /// If the database can't be written.
    pub fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        if let Place::Memory(_) = self.place {
            return Ok(Checkpoint::default());
        }
        let mut slot = self.checkpointer.lock();
        let conn = match slot.take() {
            Some(conn) => conn,
            None => self.place.connect()?,
        };
        let done =
            checkpoint(&conn, "PASSIVE").map_err(|problem| StoreError::sqlite(self.place.path(), problem));
        *slot = Some(conn);
        done.map(|(_complete, checkpoint)| checkpoint)
    }
}

fn checkpoint(conn: &Connection, mode: &str) -> rusqlite::Result<(bool, Checkpoint)> {
    conn.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?.query_row([], |row| {
        let pages = |column| row.get(column).map(|pages: i64| u64::try_from(pages).unwrap_or(0));
        Ok((row.get::<_, i64>(0)? == 0, Checkpoint { pages: pages(1)?, moved: pages(2)? }))
    })
}

/// The writer's own bound on the write-ahead log.
#[derive(Debug)]
pub(super) struct WalLimit {
    pub(super) bytes_max: u64,
    /// Whether something was written since the last look.
    pub(super) has_grown: bool,
    next_try: u64,
}

impl Default for WalLimit {
    fn default() -> Self {
        Self { bytes_max: WAL_BYTES_MAX, has_grown: false, next_try: 0 }
    }
}

impl WalLimit {
    /// Has the log start again if it is too long. That it can't is no failure of the write before it: the log
    /// grows on, and a later write tries again.
    pub(super) fn keep(&mut self, conn: &Connection, place: &Place) {
        let Place::File(path) = place else { return };
        if !std::mem::take(&mut self.has_grown) {
            return;
        }
        let bytes = match checkpoint(conn, "NOOP") {
            Ok((_, Checkpoint { pages, .. })) => pages * FRAME_BYTES,
            Err(problem) => {
                return tracing::warn!(file = %path.display(), %problem, "the write-ahead log has no length");
            }
        };
        if bytes <= self.bytes_max.max(self.next_try) {
            return;
        }
        match start_again(conn) {
            Ok(true) => self.next_try = 0,
            Ok(false) => self.postpone(path, bytes, "readers hold it"),
            Err(problem) => self.postpone(path, bytes, &problem.to_string()),
        }
    }

    fn postpone(&mut self, path: &Path, bytes: u64, problem: &str) {
        self.next_try = bytes + WAL_BYTES_MORE;
        tracing::warn!(file = %path.display(), bytes, problem, "the write-ahead log can't start again now");
    }
}

fn start_again(conn: &Connection) -> rusqlite::Result<bool> {
    conn.busy_timeout(READERS_WAIT)?;
    let done = checkpoint(conn, "RESTART");
    conn.busy_timeout(super::schema::BUSY_WAIT)?;
    done.map(|(complete, _)| complete)
}
