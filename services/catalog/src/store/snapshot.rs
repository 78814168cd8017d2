//! Whole copies of a store: made while writes go on, checked row by row before they are taken.
//!
//! Checking reads every row and takes seconds for a million books, so it has no need of the store's thread; what
//! that thread does is to put the checked copy in place.
//!
//! A copy is one SQLite file without what is the original's own: store id, promise, view and undo data.
//! Who installs it keeps its own. It is put in place by SQLite's backup into the live database, which is
//! one transaction: readers see the old state or the new one, and a crash leaves either.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use protocol::call::{BackupFacts, SnapshotFacts};
use protocol::ids::{Chain, Epoch, Index, NodeId, ShardId, StoreId};
use protocol::view::{Member, View};
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use tempfile::NamedTempFile;

use super::error::{Fault, Step, StoreError};
use super::meta::{Meta, Part};
use super::migrations::migrate;
use super::read::Readers;
use super::schema::{self, Place};
use super::scrub::{Gait, Recount};
use super::{log, scrub};

/// What the name of a scratch file has behind the database's: leftovers are found and removed by it.
const SCRATCH: &str = ".copy-";

impl Readers {
    /// A new empty file beside the database, for a copy; it is gone when the value is.
    ///
    /// # Errors
    /// If the directory can't be written.
    pub fn scratch_file(&self) -> Result<NamedTempFile, StoreError> {
        let path = self.place.path();
        let made = match &self.place {
            Place::Memory(_) => NamedTempFile::new(),
            Place::File(path) => {
                let prefix = format!("{}{SCRATCH}", file_name(path));
                let directory = path.parent().unwrap_or(Path::new("."));
                tempfile::Builder::new().prefix(&prefix).tempfile_in(directory)
            }
        };
        made.map_err(|problem| StoreError::file(path, problem))
    }

    /// Writes a consistent copy of the store into a file, in place of what that holds, and says what is
    /// in it. Writes go on meanwhile.
    ///
    /// # Errors
    /// If the database can't be read or the file can't be written.
    pub fn snapshot_to(&self, file: &Path) -> Result<SnapshotFacts, StoreError> {
        let failed = |problem| StoreError::file(file, problem);
        File::create(file).map_err(failed)?;
        let source = self.connection()?;
        let copy = || -> Step<Meta> {
            let mut copy = Connection::open(file)?;
            // Nobody else opens the file, and whether it is whole is known by its facts alone.
            copy.pragma_update(None, "locking_mode", "exclusive")?;
            copy.pragma_update(None, "synchronous", "off")?;
            copy_pages(&source, &mut copy)?;
            strip(&mut copy)
        };
        let meta = copy().map_err(|fault| fault.at(file))?;
        let synced = |copy: File| match self.place {
            Place::File(_) => copy.sync_all().and_then(|()| copy.metadata()),
            Place::Memory(_) => copy.metadata(),
        };
        let bytes = File::open(file).and_then(synced);
        let (last, chain) = meta.end();
        Ok(SnapshotFacts { bytes: bytes.map_err(failed)?.len(), last, chain, digest: meta.standing.digest })
    }
}

impl Readers {
    /// Writes a copy as [`Self::snapshot_to`] does, then reads it again and checks every row of it: what a backup
    /// takes away must be sound, for it is needed when nothing else is left.
    ///
    /// # Errors
    /// If the database can't be read, the file can't be written, or the copy is not sound.
    pub fn backup_to(&self, file: &Path) -> Result<BackupFacts, StoreError> {
        let snapshot = self.snapshot_to(file)?;
        check_file(file, &snapshot, self.part)?;
        let failed = |problem| StoreError::file(file, problem);
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(file).map_err(failed)?).map_err(failed)?;
        Ok(BackupFacts { snapshot, blake3: *hasher.finalize().as_bytes() })
    }
}

/// Copies all pages in one step, which is one read transaction of the source.
pub(super) fn copy_pages(from: &Connection, to: &mut Connection) -> Step<()> {
    match Backup::new(from, to)?.step(-1)? {
        StepResult::Done => Ok(()),
        other => Err(Fault::corrupt("backup", format!("it ended early: {other:?}"))),
    }
}

/// Takes from a copy what is the original's own, and makes it a single file.
fn strip(copy: &mut Connection) -> Step<Meta> {
    let mut meta = Meta::load(copy)?;
    let tx = copy.transaction()?;
    tx.execute("UPDATE log SET undo = NULL", [])?;
    meta.standing.store = StoreId(0);
    meta.standing.promise = Epoch(0);
    meta.standing.view = None;
    meta.appended_epoch = Epoch(0);
    meta.save(&tx, meta.end())?;
    tx.commit()?;
    copy.pragma_update(None, "journal_mode", "delete")?;
    Ok(meta)
}

/// A copy that is sound, holds what its facts say, and has the tables that this program makes.
#[derive(Debug)]
pub struct CheckedSnapshot {
    file: PathBuf,
    facts: SnapshotFacts,
}

impl CheckedSnapshot {
    /// The last index in it.
    #[must_use]
    pub fn last(&self) -> Index {
        self.facts.last
    }
}

impl Readers {
    /// Checks a copy against its facts, row by row. Nobody else may write the file from here on.
    ///
    /// # Errors
    /// If it is not what its facts say, is of another shard, or can't be read.
    pub fn check_snapshot(&self, file: &Path, facts: &SnapshotFacts) -> Result<CheckedSnapshot, StoreError> {
        check_file(file, facts, self.part)?;
        Ok(CheckedSnapshot { file: file.to_owned(), facts: facts.clone() })
    }
}

/// Checks a copy against its facts and brings its tables up to date.
pub(super) fn check_file(file: &Path, facts: &SnapshotFacts, part: Part) -> Result<(), StoreError> {
    let refused = |problem: String| StoreError::BadSnapshot { path: file.to_owned(), problem };
    let size = fs::metadata(file).map_err(|problem| StoreError::file(file, problem))?.len();
    if size != facts.bytes {
        return Err(refused(format!("it has {size} bytes instead of {}", facts.bytes)));
    }
    schema::inspect(file, part).map_err(|problem| match problem {
        StoreError::Corrupt { place, problem, .. } => refused(format!("{place}: {problem}")),
        other => other,
    })?;
    let look = || -> Step<()> {
        let mut copy = Connection::open(file)?;
        migrate(&mut copy)?;
        schema::check_tables(&copy)?;
        check(&copy, facts, part)
    };
    look().map_err(|fault| refused(fault.to_string()))
}

/// Makes a checked copy `own`'s, and puts it in place of what a connection shows.
pub(super) fn install(
    snapshot: &CheckedSnapshot,
    own: &Meta,
    commit: Index,
    live: &mut Connection,
) -> Result<(), StoreError> {
    let CheckedSnapshot { file, facts } = snapshot;
    if facts.last < own.standing.commit {
        let problem = format!("it ends at {} and would undo a commit", facts.last);
        return Err(StoreError::BadSnapshot { path: file.clone(), problem });
    }
    let mut take = || -> Step<()> {
        let copy = Connection::open(file)?;
        // Should it be lost, the original is where it came from.
        copy.pragma_update(None, "synchronous", "off")?;
        let mut meta = Meta::load(&copy)?;
        let end = meta.end();
        meta.standing.commit = meta.standing.commit.max(own.standing.commit).max(commit).min(end.0);
        meta.standing.store = own.standing.store;
        meta.standing.promise = own.standing.promise;
        meta.standing.view.clone_from(&own.standing.view);
        meta.appended_epoch = own.appended_epoch;
        meta.save(&copy, end)?;
        copy_pages(&copy, live)
    };
    take().map_err(|fault| fault.at(file))
}

/// Whether a copy is sound in itself and is what its facts say.
fn check(copy: &Connection, facts: &SnapshotFacts, part: Part) -> Step<()> {
    let bad = |problem: String| Err(Fault::corrupt("snapshot", problem));
    let verdict: String = copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return bad(verdict);
    }
    // The index of words against the books.
    copy.execute("INSERT INTO books_words (books_words, rank) VALUES ('integrity-check', 1)", [])?;
    let meta = Meta::load(copy)?;
    let found = (meta.end(), meta.standing.digest);
    if meta.part != part || found != ((facts.last, facts.chain), facts.digest) {
        return bad("it does not hold what it should".to_owned());
    }
    let Recount { counted, topics_fit, keys_fit, .. } = scrub::recount(copy, Gait::brisk())?;
    if counted != facts.digest {
        return bad(format!("its rows have the digest {counted} instead of {}", facts.digest));
    }
    if !topics_fit {
        return bad("its topics are not counted as its books have them".to_owned());
    }
    if !keys_fit {
        return bad("its index of keys is not that of its outcomes".to_owned());
    }
    Ok(())
}

/// Whether the log is without gaps and its chain unbroken up to the end.
pub(super) fn check_log(copy: &Connection, meta: &Meta, gait: &mut Gait) -> Step<()> {
    let mut before = None;
    let mut last_epoch = Epoch(0);
    log::each_above(copy, Index(0), |entry| {
        let fits = match before {
            // Behind what the log has no more, the first entry can't be checked.
            None => entry.index != Index(1) || entry.follows(Chain::default()),
            Some((index, chain)) => entry.index == Index::next(index) && entry.follows(chain),
        };
        if !fits {
            return Err(Fault::corrupt(format!("entry {}", entry.index), "it breaks the chain"));
        }
        before = Some((entry.index, entry.chain));
        last_epoch = entry.epoch;
        gait.step();
        Ok(ControlFlow::Continue(()))
    })?;
    if before.unwrap_or_default() != meta.end() || last_epoch != meta.last_epoch {
        return Err(Fault::corrupt("log", "it does not end where it should"));
    }
    Ok(())
}

/// Removes the copies that a crash left beside a database.
pub(super) fn remove_leftovers(path: &Path) -> Result<(), StoreError> {
    // As programs before 0.2 named what they fetched.
    schema::remove_if_there(&path.with_extension("incoming"))?;
    let directory = path.parent().unwrap_or(Path::new("."));
    let prefix = format!("{}{SCRATCH}", file_name(path));
    let failed = |problem| StoreError::file(directory, problem);
    for file in fs::read_dir(directory).map_err(failed)? {
        let file = file.map_err(failed)?;
        if file.file_name().to_string_lossy().starts_with(&prefix) {
            schema::remove_if_there(&file.path())?;
        }
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What becomes of a copy that is to be a store of its own.
#[derive(Debug)]
pub struct Adoption {
    /// Its shard.
    pub shard: ShardId,
    /// Of how many.
    pub shards: u32,
    /// The node that it will be on.
    pub node: NodeId,
    /// Who is named as the writer, until one takes office.
    pub writer: NodeId,
}

/// Checks a copy and makes it a store with an id of its own, the only member of a view above all epochs that
/// its log has seen. The file is the caller's alone.
///
/// # Errors
/// If it is not what its facts say, or can't be written.
pub fn adopt(file: &Path, facts: &SnapshotFacts, adoption: Adoption) -> Result<View, StoreError> {
    let Adoption { shard, shards, node, writer } = adoption;
    check_file(file, facts, Part { shard, count: shards })?;
    let make = || -> Step<View> {
        let copy = Connection::open(file)?;
        let mut meta = Meta::load(&copy)?;
        let end = meta.end();
        let epoch = Epoch(meta.last_epoch.0 + 1);
        let store = StoreId(uuid::Uuid::new_v4().as_u128());
        let view = View { shard, epoch, writer, members: vec![Member { node, store }], last_index: end.0 };
        meta.standing.store = store;
        meta.standing.promise = epoch;
        // A backup ends where the shard was committed.
        meta.standing.commit = end.0;
        meta.standing.view = Some(view.clone());
        meta.appended_epoch = meta.last_epoch;
        meta.save(&copy, end)?;
        Ok(view)
    };
    make().map_err(|fault| fault.at(file))
}
