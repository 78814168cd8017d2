//! What can go wrong with a store, by what its caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

use protocol::ids::{Index, ShardId};
use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHORT_READ;

/// Why the store could not do what it was asked. Whatever it says, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full; it may work once there is room.
    #[error("{}: the disk is full", path.display())]
    Full {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// Another connection or process is in the way; it may work a little later.
    #[error("{}: the database is busy", path.display())]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// SQLite or the disk below it failed.
    #[error("{}: the database failed", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The file system failed beside the database.
    #[error("{}: the file can't be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file holds something that can't be.
    #[error("{}: {place}: {problem}", path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// Where in it: `entry 17`, `meta`.
        place: String,
        /// What is wrong there.
        problem: String,
    },
    /// The file was written by a newer version of this program and is left as it is.
    #[error("{}: its format is version {found}, this program knows up to {known}", path.display())]
    TooNew {
        /// The database.
        path: PathBuf,
        /// The version of the file.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// The file is not a store's; it is left as it is.
    #[error("{}: not a catalog database: {problem}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How that is known.
        problem: String,
    },
    /// Somebody has added to the tables of the file; it is left as it is.
    #[error("{}: somebody has added `{name}` to its tables; drop that", path.display())]
    Added {
        /// The database.
        path: PathBuf,
        /// What was added: a table, an index, a trigger.
        name: String,
    },
    /// The file belongs to another cut of the catalogue; it is left as it is.
    #[error(
        "{}: it holds shard {found} of {found_count}, but shard {wanted} of {wanted_count} is configured",
        path.display()
    )]
    OtherShard {
        /// The file.
        path: PathBuf,
        /// The shard in it.
        found: ShardId,
        /// Of how many.
        found_count: u32,
        /// The shard that was asked for.
        wanted: ShardId,
        /// Of how many.
        wanted_count: u32,
    },
    /// The file is a part of a catalogue that is cut otherwise; it is left as it is.
    #[error(
        "{}: it holds shard {shard} of {found_count}, but `shards.count` is {wanted_count}; set it back",
        path.display()
    )]
    OtherCount {
        /// The file.
        path: PathBuf,
        /// The shard in it.
        shard: ShardId,
        /// Of how many.
        found_count: u32,
        /// How many are configured.
        wanted_count: u32,
    },
    /// The thread that is to own the store can't be started.
    #[error("no thread can be started")]
    Thread(#[source] io::Error),
    /// Entries that are committed are never undone.
    #[error("undoing down to entry {to} would undo what is committed up to entry {commit}")]
    UndoRefused {
        /// The last entry that was to stay.
        to: Index,
        /// What is committed.
        commit: Index,
    },
    /// What is needed to undo an entry is gone: a snapshot is needed.
    #[error("what is needed to undo entry {index} is gone")]
    UndoGone {
        /// The entry.
        index: Index,
    },
    /// A snapshot does not hold what it should; the store is as it was.
    #[error("the snapshot {} is refused: {problem}", path.display())]
    BadSnapshot {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl StoreError {
    /// Whether room on the disk would help.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::File { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }

    /// Whether the file itself is damaged: it is of no use any more, and a copy of another replica is needed.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }

    /// Whether the file is sound and this node or its configuration is the wrong one for it: then trying
    /// again is of no use.
    #[must_use]
    pub fn is_wrong_use(&self) -> bool {
        matches!(
            self,
            Self::OtherShard { .. }
                | Self::OtherCount { .. }
                | Self::TooNew { .. }
                | Self::Foreign { .. }
                | Self::Added { .. }
        )
    }

    /// An error of SQLite, sorted by what can be done about it.
    pub(super) fn sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let is_no_value = matches!(
            source,
            rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::Utf8Error(..)
        );
        if is_no_value {
            // The tables are strict: what does not fit its column was not written by this program.
            return Self::Corrupt { path, place: "row".into(), problem: source.to_string() };
        }
        // It ends before it should.
        if source.sqlite_error().is_some_and(|problem| problem.extended_code == SQLITE_IOERR_SHORT_READ) {
            return Self::Corrupt { path, place: "file".into(), problem: source.to_string() };
        }
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full { path, source },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt { path, place: "file".into(), problem: source.to_string() }
            }
            _ => Self::Sqlite { path, source },
        }
    }

    pub(super) fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }
}

/// Why a step inside the store failed; the store adds the path.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("{place}: {problem}")]
    Corrupt { place: String, problem: String },
    #[error("what is needed to undo entry {0} is gone")]
    UndoGone(Index),
}

impl Fault {
    pub(super) fn corrupt(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Corrupt { place: place.into(), problem: problem.into() }
    }

    /// With the path of the database that it happened in.
    pub(super) fn at(self, path: &Path) -> StoreError {
        match self {
            Self::Sqlite(source) => StoreError::sqlite(path, source),
            Self::Corrupt { place, problem } => StoreError::Corrupt { path: path.to_owned(), place, problem },
            Self::UndoGone(index) => StoreError::UndoGone { index },
        }
    }
}

/// The result of a step inside the store.
pub(super) type Step<T> = Result<T, Fault>;

#[cfg(test)]
mod tests {
    use rusqlite::ffi::{Error, SQLITE_CORRUPT, SQLITE_FULL, SQLITE_IOERR_READ};

    use super::*;

    #[test]
    fn a_file_that_ends_too_soon_is_damaged_and_one_that_can_not_be_read_is_not() {
        let is_damage = |code| {
            let problem = rusqlite::Error::SqliteFailure(Error::new(code), None);
            StoreError::sqlite(Path::new("shard-0.db"), problem).is_damage()
        };
        let codes = [SQLITE_CORRUPT, SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_READ, SQLITE_FULL];
        assert_eq!(codes.map(is_damage), [true, true, false, false]);
    }
}
