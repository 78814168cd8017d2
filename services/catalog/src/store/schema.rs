//! The file itself: how it is made, recognised and opened.
//!
//! A new file is built under another name and renamed once it is complete and synced, so a file under
//! its own name is always whole. An existing one is looked at through a read-only connection first:
//! what is foreign, newer or of another shard is refused before a byte of it could change.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use protocol::ids::StoreId;
use protocol::mutant;
use rusqlite::{Connection, OpenFlags};

use super::checkpoint::WAL_BYTES_MAX;
use super::error::{Fault, Step, StoreError};
use super::meta::{Meta, Part};
use super::migrations::{migrate, version, version_known};

/// What marks an SQLite file as a catalog's, in its header: the bytes `BkEn`.
pub(super) const APPLICATION_ID: i32 = 0x426b_456e;

/// How the header of an SQLite file names UTF-8.
const UTF_8: u64 = 1;

/// How long a connection waits for another one: in WAL mode only for moments of recovery and close.
pub(super) const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Statements kept prepared per connection: more than there are in this program.
const STATEMENTS_KEPT: usize = 64;
/// The page cache of the writer: holds the inner pages of some million rows.
const WRITER_CACHE_KIB: i64 = 16 * 1024;
/// The page cache of each reader: small, for the system's own cache is behind it.
const READER_CACHE_KIB: i64 = 2 * 1024;

/// Where a store lives.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In a file, in WAL mode.
    File(PathBuf),
    /// In the memory of this process, under an URI by which its connections find it.
    Memory(String),
}

impl Place {
    /// The path of the database, for messages.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Memory(uri) => Path::new(uri),
        }
    }

    /// The flags of a connection that may write.
    pub(super) fn write_flags(&self) -> OpenFlags {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        match self {
            Self::File(_) => flags,
            Self::Memory(_) => flags | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_URI,
        }
    }

    /// The flags of a connection that may not write.
    pub(super) fn read_flags(&self) -> OpenFlags {
        match self {
            Self::File(_) => OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            Self::Memory(_) => self.write_flags(),
        }
    }

    /// A connection that may write.
    pub(super) fn connect(&self) -> Result<Connection, StoreError> {
        let connect = || {
            let conn = Connection::open_with_flags(self.path(), self.write_flags())?;
            conn.busy_timeout(BUSY_WAIT)?;
            conn.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
            conn.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
            conn.pragma_update(None, "mmap_size", 0)?;
            if let Self::File(_) = self {
                conn.pragma_update(None, "journal_mode", "wal")?;
            }
            let synchronous = if mutant!(NoFsync) { "off" } else { "full" };
            conn.pragma_update(None, "synchronous", synchronous)?;
            conn.pragma_update(None, "wal_autocheckpoint", 0)?;
            conn.pragma_update(None, "journal_size_limit", WAL_BYTES_MAX.cast_signed())?;
            Ok(conn)
        };
        connect().map_err(|problem| StoreError::sqlite(self.path(), problem))
    }
}

/// Settings of a connection that only reads.
pub(super) fn set_up_reader(conn: &mut Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY_WAIT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    conn.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    conn.pragma_update(None, "mmap_size", 0)?;
    conn.pragma_update(None, "query_only", true)
}

/// Makes the file if there is none, else checks that it is ours to write.
pub(super) fn prepare(path: &Path, part: Part) -> Result<(), StoreError> {
    if path.try_exists().map_err(|problem| StoreError::file(path, problem))? {
        match inspect(path, part) {
            // Made while another count was configured, perhaps by mistake: nothing is lost with it.
            Err(StoreError::OtherShard { found_count, .. })
                if found_count != part.count && is_unused(path)? =>
            {
                remove_if_there(path)?;
            }
            inspected => return inspected,
        }
    }
    // A log left by a file that is gone would be taken for the new file's own.
    for orphan in ["-wal", "-shm", "-journal"] {
        remove_if_there(&beside(path, orphan))?;
    }
    let draft = beside(path, ".new");
    remove_if_there(&draft)?;
    remove_if_there(&beside(&draft, "-journal"))?;
    let id = StoreId(uuid::Uuid::new_v4().as_u128());
    let make = || -> Step<()> { fill(&mut Connection::open(&draft)?, part, id) };
    make().map_err(|fault| fault.at(&draft))?;
    fs::rename(&draft, path).map_err(|problem| StoreError::file(path, problem))?;
    let sync = |dir: &Path| File::open(dir)?.sync_all();
    path.parent().map_or(Ok(()), sync).map_err(|problem| StoreError::file(path, problem))
}

/// Makes the tables of a new store in an empty database.
pub(super) fn fill(conn: &mut Connection, part: Part, id: StoreId) -> Step<()> {
    conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    migrate(conn)?;
    Meta::new(id, part).create(conn)
}

/// Refuses a file that this program may not write, without changing it.
pub(super) fn inspect(path: &Path, part: Part) -> Result<(), StoreError> {
    let header = read_header(path).map_err(|problem| StoreError::file(path, problem))?;
    check_header(path, &header)?;
    check_layout(path, &header)?;
    // A change of the version may still be in the write-ahead log, where only SQLite sees it.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let look = || -> Step<(i64, Option<String>, Part)> {
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(BUSY_WAIT)?;
        let found = version(&conn)?;
        let added = if found == version_known() { compare_tables(&conn)? } else { None };
        Ok((found, added, if found > version_known() { part } else { Meta::load(&conn)?.part }))
    };
    let (version, added, found) = look().map_err(|fault| fault.at(path))?;
    check_version(path, version)?;
    if let Some(name) = added {
        return Err(StoreError::Added { path: path.to_owned(), name });
    }
    if found != part {
        return Err(StoreError::OtherShard {
            path: path.to_owned(),
            found: found.shard,
            found_count: found.count,
            wanted: part.shard,
            wanted_count: part.count,
        });
    }
    Ok(())
}

/// Whether a file is as it was made. One that has made a promise, was told a view or took an append is not, even if it
/// holds no entry: others may count on what it said.
pub(super) fn is_unused(path: &Path) -> Result<bool, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let look = || -> Step<bool> {
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(BUSY_WAIT)?;
        let meta = Meta::load(&conn)?;
        Ok(meta == Meta::new(meta.standing.store, meta.part))
    };
    look().map_err(|fault| fault.at(path))
}

/// The first 100 bytes of a file, or as many as it has.
fn read_header(path: &Path) -> io::Result<Vec<u8>> {
    let mut header = Vec::with_capacity(100);
    File::open(path)?.take(100).read_to_end(&mut header)?;
    Ok(header)
}

fn check_header(path: &Path, header: &[u8]) -> Result<(), StoreError> {
    let foreign = |problem: &str| StoreError::Foreign { path: path.to_owned(), problem: problem.to_owned() };
    let number = |at: usize| header.get(at..at + 4)?.try_into().ok().map(i32::from_be_bytes);
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(foreign("it is no SQLite file"));
    }
    let (Some(version), Some(application)) = (number(60), number(68)) else {
        return Err(foreign("it is shorter than an SQLite header"));
    };
    if application != APPLICATION_ID {
        return Err(foreign("it is another program's SQLite file"));
    }
    check_version(path, i64::from(version))
}

/// Whether the header says what it must: text in UTF-8, which open connections take for granted when a copy is
/// put in place below them, and the length that the file has. With a write-ahead log beside it that says nothing: a
/// part of the file may be there alone.
fn check_layout(path: &Path, header: &[u8]) -> Result<(), StoreError> {
    let number = |at: usize, length: usize| -> u64 {
        let bytes = header.get(at..at + length).unwrap_or_default();
        bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let failed = |problem| StoreError::file(path, problem);
    let corrupt = |problem| Err(StoreError::Corrupt { path: path.to_owned(), place: "file".into(), problem });
    if fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0) {
        return Ok(());
    }
    let encoding = number(56, 4);
    if encoding != UTF_8 {
        return corrupt(format!("its text has the encoding {encoding}"));
    }
    let length = fs::metadata(path).map_err(failed)?.len();
    // A page of 65536 bytes is written as 1.
    let page = if number(16, 2) == 1 { 65536 } else { number(16, 2) };
    let expected = page.saturating_mul(number(28, 4));
    if length < expected {
        return corrupt(format!("it has {length} bytes instead of {expected}"));
    }
    Ok(())
}

fn check_version(path: &Path, found: i64) -> Result<(), StoreError> {
    let known = version_known();
    if found > known {
        return Err(StoreError::TooNew { path: path.to_owned(), found, known });
    }
    Ok(())
}

/// Whether the tables are those of this program, to the letter. One flipped bit can give a column another name: then
/// the file opens, its rows are whole, and nothing that names the column works. What somebody has added to tables
/// that are all there is named: the file is sound, for no damage does that.
fn compare_tables(conn: &Connection) -> Step<Option<String>> {
    let (found, known) = (tables(conn)?, known_tables()?);
    if known.iter().any(|table| !found.contains(table)) {
        return Err(others());
    }
    let added = found.into_iter().find(|table| !known.contains(table));
    Ok(added.map(|[_, name, _]| name.unwrap_or_default()))
}

/// Refuses a copy whose tables are not just those of this program.
pub(super) fn check_tables(conn: &Connection) -> Step<()> {
    compare_tables(conn)?.map_or(Ok(()), |_| Err(others()))
}

fn others() -> Fault {
    Fault::corrupt("schema", "its tables or triggers are others")
}

/// Type, name and text of each table, index and trigger.
type Tables = Vec<[Option<String>; 3]>;

/// Those of a new file.
fn known_tables() -> Step<&'static Tables> {
    static KNOWN: OnceLock<Tables> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known);
    }
    let mut fresh = Connection::open_in_memory()?;
    migrate(&mut fresh)?;
    let tables = tables(&fresh)?;
    Ok(KNOWN.get_or_init(|| tables))
}

/// All tables, indexes and triggers as SQLite has them.
pub(super) fn tables(conn: &Connection) -> Step<Tables> {
    let mut statement = conn.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY name, type")?;
    let rows = statement.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The path with something put behind its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Removes a file that may not exist.
pub(super) fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => Err(StoreError::file(path, problem)),
        _ => Ok(()),
    }
}
