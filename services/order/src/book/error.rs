//! What can go wrong with the book of orders, by what its owner can do about it.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHORT_READ;

/// Why the book of orders could not do what it was asked. Whatever it says, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The file holds something that can't be: it is set aside, and the book built anew.
    #[error("{}: the book of orders is damaged: {problem}", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
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
    /// The book is of a catalogue that is cut otherwise; it is left as it is. Whoever asks for another count over existing
    /// data must hear it from every node that has some.
    #[error(
        "`shards.count` can't be changed over existing data: {}: it has orders of {found} shards, but `shards.count` is \
         {wanted}; set it back, or move the file away if the catalogue was made anew",
        path.display()
    )]
    OtherCount {
        /// The database.
        path: PathBuf,
        /// How many shards it has orders of; at least so many, in a book that does not say it yet.
        found: u32,
        /// How many are configured.
        wanted: u32,
    },
    /// SQLite or the disk below it failed; it may work a little later.
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
    /// No connection for reading could be had.
    #[error("{}: the database can't be read now", path.display())]
    Readers {
        /// The database.
        path: PathBuf,
        /// What the pool says.
        source: r2d2::Error,
    },
}

impl BookError {
    /// Whether the file has to be built anew.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    /// An error of SQLite, sorted by what can be done about it.
    pub(super) fn sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let spoilt = match &source {
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..) => true,
            other => {
                let code = other.sqlite_error_code();
                // It ends before it should.
                other.sqlite_error().is_some_and(|problem| problem.extended_code == SQLITE_IOERR_SHORT_READ)
                    || matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            }
        };
        if spoilt {
            Self::Damaged { path, problem: source.to_string() }
        } else {
            Self::Sqlite { path, source }
        }
    }

    pub(super) fn damaged(path: &Path, problem: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), problem: problem.into() }
    }

    pub(super) fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi::{Error, SQLITE_CORRUPT, SQLITE_IOERR_READ};

    use super::*;

    #[test]
    fn a_file_that_ends_too_soon_is_damaged_and_one_that_can_not_be_read_is_not() {
        let is_damage = |code| {
            let problem = rusqlite::Error::SqliteFailure(Error::new(code), None);
            BookError::sqlite(Path::new("orders.db"), problem).is_damage()
        };
        let codes = [SQLITE_CORRUPT, SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_READ];
        assert_eq!(codes.map(is_damage), [true, true, false]);
    }
}
