//! One shard's copy on disk: an SQLite file that holds the tables and the write log.
//!
//! ```text
//!  entries ──► Store (one thread) ──┐                        ┌── Readers (any thread)
//!              tables, log, meta    │                        │   answers, log, snapshots, scrub
//!              in one transaction   ▼                        ▼
//!                                 shard-0.db, shard-0.db-wal
//! ```
//!
//! What holds at any moment, also after a crash:
//!
//! 1. Tables, log and `meta` change in one transaction with one sync of the disk, whatever the size of
//!    the batch. What a method of [`Store`] reports as done is durable.
//! 2. The rows are a function of the log's history alone: two stores at one (index, chain) have equal
//!    tables, equal outcomes and an equal digest.
//! 3. The digest is the sum of the hashes of the rows, kept up by each change and counted anew by
//!    [`Readers::recount`].
//! 4. Each entry above the commit index can be undone, and nothing at or below it ever is.
//! 5. The store id is as old as the file; a snapshot changes neither it nor the promise nor the view.
//!
//! The store decides nothing: what may be appended, promised or undone is for `protocol::replica` to
//! say. All of it is synchronous; one thread owns the [`Store`].

mod apply;
mod books;
mod checkpoint;
mod codec;
mod digest;
mod error;
mod folder;
mod keys;
mod ledger;
mod log;
mod memory;
mod meta;
mod migrations;
mod outcomes;
mod read;
mod schema;
mod scrub;
mod search;
mod shelf;
mod snapshot;
mod undo;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::ops::ControlFlow;
use std::path::Path;

use common::exit::with_causes;
use protocol::command::Outcome;
use protocol::entry::Entry;
use protocol::ids::{Chain, Epoch, Index, ShardId};
use protocol::message::Standing;
use protocol::mutant;
use protocol::replica::{Change, TAIL_ENTRIES};
use protocol::view::View;
use rusqlite::{Connection, TransactionBehavior};

use apply::{Applier, Finish, command_of};
use books::Tables;
use checkpoint::WalLimit;
use digest::Sign;
use error::{Fault, Step};
use keys::Keys;
use log::Range;
use meta::{Meta, Part};
use migrations::migrate;
use outcomes::Outcomes;
use schema::{Place, beside};
use undo::UndoStep;

pub use apply::Applied;
pub use checkpoint::Checkpoint;
pub use error::StoreError;
pub use folder::check_folder;
pub use log::LogSlice;
pub use memory::{Image, MemoryStore};
pub use read::Readers;
pub use scrub::Recount;
pub use snapshot::{Adoption, CheckedSnapshot, adopt};

/// How many more old entries than it appends a batch may delete: a backlog goes over some batches
/// instead of holding one up.
const CUT_MAX: u64 = 4096;
/// How many old entries are deleted at once, unless few are kept: pages that become free are looked for in the whole
/// page cache, which is as dear for one entry as for many.
const CUT_MIN: u64 = 1024;

/// The one writer of a shard's file.
pub struct Store {
    conn: Connection,
    place: Place,
    meta: Meta,
    /// The first index that the log still has; the one after the last if it is empty.
    first: Index,
    keep_entries: u64,
    /// Keys that have been used.
    keys: Keys,
    wal: WalLimit,
    /// Held as long as the store is open, against a second process. Nothing reads it.
    _lock: Option<File>,
}

/// What of a database a store keeps in memory.
struct Found {
    meta: Meta,
    first: Index,
    keys: Keys,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("place", &self.place).field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the file of a shard in a directory, or makes it, with a new store id, if there is none.
    /// Of the log, `keep_entries` entries below the commit index are kept.
    ///
    /// A damaged file is set aside and a new one made in its place: no view has it as a member, so nothing
    /// is read from it before it has everything from one that is.
    ///
    /// # Errors
    /// If the file is not this shard's, is newer than this program, is in use, or can't be used.
    pub fn open(
        directory: &Path,
        shard: ShardId,
        shard_count: u32,
        keep_entries: u64,
    ) -> Result<(Self, Readers), StoreError> {
        let path = directory.join(format!("shard-{shard}.db"));
        let part = Part { shard, count: shard_count };
        fs::create_dir_all(directory).map_err(|problem| StoreError::file(directory, problem))?;
        let lock = lock(&path)?;
        snapshot::remove_leftovers(&path)?;
        let (mut store, readers) = match Self::open_as_it_is(&path, part, keep_entries) {
            Err(problem) if problem.is_damage() => {
                let aside = folder::set_aside(&path)?;
                let problem = with_causes(&problem);
                tracing::error!(%shard, %problem, aside = %aside.display(), "a damaged store is set aside; a new one takes everything from a member");
                Self::open_as_it_is(&path, part, keep_entries)?
            }
            opened => opened?,
        };
        store._lock = Some(lock);
        Ok((store, readers))
    }

    /// Opens a file, or makes it, and reads all that a replica begins with.
    fn open_as_it_is(path: &Path, part: Part, keep_entries: u64) -> Result<(Self, Readers), StoreError> {
        schema::prepare(path, part)?;
        let mut conn = Place::File(path.to_owned()).connect()?;
        let look = |conn: &mut Connection| -> Step<_> {
            migrate(conn)?;
            Self::look(conn)
        };
        let found = look(&mut conn).map_err(|fault| fault.at(path))?;
        let (store, readers) = Self::over(conn, Place::File(path.to_owned()), found, keep_entries);
        store.tail(store.tail_begin())?;
        Ok((store, readers))
    }

    fn look(conn: &Connection) -> Step<Found> {
        let meta = Meta::load(conn)?;
        let last = meta.standing.last;
        Ok(Found { first: log::first(conn)?.unwrap_or(last.next()), keys: Keys::load(conn, last)?, meta })
    }

    fn over(conn: Connection, place: Place, found: Found, keep_entries: u64) -> (Self, Readers) {
        let Found { meta, first, keys } = found;
        let readers = Readers::new(place.clone(), meta.part);
        // The entry at the commit index stays in any case: what is undone ends on its chain.
        let keep_entries = keep_entries.max(1);
        let store =
            Self { conn, place, meta, first, keep_entries, keys, wal: WalLimit::default(), _lock: None };
        (store, readers)
    }

    /// Looks anew at what others than this store have put into the database.
    fn look_again(&mut self) -> Step<()> {
        let Found { meta, first, keys } = Self::look(&self.conn)?;
        (self.meta, self.first, self.keys) = (meta, first, keys);
        Ok(())
    }

    /// After which entry the part of the log begins that a replica has at hand.
    #[must_use]
    pub fn tail_begin(&self) -> Index {
        let standing = &self.meta.standing;
        Index(standing.last.0.saturating_sub(TAIL_ENTRIES)).min(standing.commit)
    }

    /// Where the database is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// How the replica stands. Kept in memory, so it costs nothing.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.meta.standing.clone()
    }

    /// The epoch of the last append that was acknowledged to a writer.
    #[must_use]
    pub fn appended_epoch(&self) -> Epoch {
        self.meta.appended_epoch
    }

    /// The chains of the log from an index on, as far as the log has it.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn tail(&self, from: Index) -> Result<Vec<(Index, Chain)>, StoreError> {
        self.named(log::tail(&self.conn, from))
    }

    /// Entries of the log after an index, up to another or to its end; at least one if there is one.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn entries(
        &self,
        after: Index,
        upto: Option<Index>,
        max_entries: usize,
        max_bytes: usize,
    ) -> Result<LogSlice, StoreError> {
        self.named(log::slice(&self.conn, Range { after, upto, max_entries, max_bytes }))
    }

    /// All entries after an index up to another.
    ///
    /// # Errors
    /// If the log does not have them all, or can't be read.
    pub fn all_entries(&self, after: Index, upto: Index) -> Result<Vec<Entry>, StoreError> {
        match self.entries(after, Some(upto), usize::MAX, usize::MAX)? {
            LogSlice::Entries { entries, .. } => Ok(entries),
            LogSlice::Gone => {
                self.named(Err(Fault::corrupt(format!("entry {}", after.next()), "the log has it no more")))
            }
        }
    }

    /// The outcomes of entries that are in the log, as their append gave them.
    ///
    /// # Errors
    /// If the log does not have them all, or can't be read.
    pub fn outcomes(&self, first: Index, last: Index) -> Result<Vec<Outcome>, StoreError> {
        let entries = self.all_entries(Index(first.0.saturating_sub(1)), last)?;
        let read = || -> Step<_> {
            let mut outcomes = Outcomes::new(&self.conn, &self.keys)?;
            let outcome = |entry: &Entry| {
                let command = command_of(entry)?;
                let stored = outcomes.again(&command.key, command.fingerprint())?;
                let missing =
                    || Fault::corrupt(format!("the outcome of entry {}", entry.index), "it is missing");
                stored.ok_or_else(missing)
            };
            entries.iter().map(outcome).collect()
        };
        self.named(read())
    }

    /// Takes note of what is committed. It becomes durable with the next change.
    pub fn set_commit(&mut self, commit: Index) {
        let standing = &mut self.meta.standing;
        standing.commit = standing.commit.max(commit.min(standing.last));
    }

    /// Makes a promise durable, and a view if one was told. Neither ever falls back.
    ///
    /// # Errors
    /// If the database can't be written.
    pub fn promise(&mut self, epoch: Epoch, view: Option<&View>) -> Result<(), StoreError> {
        let mut next = self.meta.clone();
        next.standing.promise = next.standing.promise.max(epoch);
        let known = next.standing.view.as_ref().map(|view| view.epoch);
        if let Some(view) = view.filter(|view| Some(view.epoch) >= known) {
            next.standing.view = Some(view.clone());
        }
        let saved = next.save(&self.conn, self.meta.end());
        self.named(saved)?;
        self.meta = next;
        Ok(())
    }

    /// Appends entries and applies them, with a promise and what is committed, in one transaction.
    /// The caller has checked that the entries fit on the log.
    ///
    /// # Errors
    /// If the database can't be written, or an entry holds no command.
    pub fn append(&mut self, change: &Change) -> Result<Applied, StoreError> {
        let done = self.try_append(change);
        self.wal.has_grown = true;
        self.named(done)
    }

    /// Has the write-ahead log start again where a change has made it too long. To be called when the answer to the
    /// change is on its way: it need not wait for this.
    pub fn keep_short(&mut self) {
        self.wal.keep(&self.conn, &self.place);
    }

    fn try_append(&mut self, change: &Change) -> Step<Applied> {
        let mut next = self.meta.clone();
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let before = next.standing.last;
        let mut applier = Applier::new(&tx, next.part, next.standing.digest, &self.keys)?;
        let mut piece = log::Piece::new();
        for entry in &change.entries {
            let (last, chain) = next.end();
            if entry.index != last.next() {
                return Err(Fault::corrupt(format!("entry {}", entry.index), "it does not follow the last"));
            }
            debug_assert!(entry.follows(chain), "the caller checks the chain");
            let undo = applier.apply(entry)?;
            piece.add(entry, Some(&undo), &tx)?;
            next.standing.last = entry.index;
            next.standing.chain = entry.chain;
            next.last_epoch = entry.epoch;
        }
        piece.write(&tx)?;
        let standing = &mut next.standing;
        let Finish { applied, digest, keys } = applier.finish(before, standing.last)?;
        standing.digest = digest;
        standing.promise = standing.promise.max(change.promise);
        standing.commit = standing.commit.max(change.commit.min(standing.last));
        next.appended_epoch = change.appended_epoch;
        let mut first = self.first;
        if let Some(wanted) = cut(first, standing.commit, self.keep_entries, change.entries.len()) {
            first = log::cut_below(&tx, wanted)?.unwrap_or(standing.last.next());
        }
        next.save(&tx, self.meta.end())?;
        tx.commit()?;
        self.keys.follow(keys);
        self.meta = next;
        self.first = first;
        Ok(applied)
    }

    /// Undoes all entries above an index, newest first, in one transaction.
    ///
    /// # Errors
    /// If that would undo what is committed, if what is needed for it is gone, or if the database
    /// can't be written.
    pub fn undo_to(&mut self, index: Index) -> Result<(), StoreError> {
        let commit = self.meta.standing.commit;
        if index < commit {
            return Err(StoreError::UndoRefused { to: index, commit });
        }
        let done = self.try_undo_to(index);
        self.named(done)
    }

    fn try_undo_to(&mut self, index: Index) -> Step<()> {
        let mut next = self.meta.clone();
        let last = next.standing.last;
        if index >= last {
            return Ok(());
        }
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut tables = Tables::new(&tx, next.standing.digest)?;
        // Up to here what the entries have done stays.
        let stays = if mutant!(UndoOneTooFew) { index.next() } else { index };
        for (above, steps) in log::undo_above(&tx, index)?.iter().rev() {
            if *above > stays {
                UndoStep::take_back(&mut tables, steps)?;
            }
        }
        tables.settle()?;
        outcomes::each_above(&tx, stays, |row| {
            row.count(&row.decode()?, Sign::Minus, &mut tables.sum);
            Ok(ControlFlow::Continue(()))
        })?;
        Keys::cut_above(&tx, stays, last)?;
        outcomes::cut_above(&tx, stays)?;
        log::cut_above(&tx, index)?;
        next.standing.digest = tables.sum.digest;
        let (epoch, chain) = log::mark(&tx, index)?.ok_or(Fault::UndoGone(index))?;
        next.standing.last = index;
        next.standing.chain = chain;
        next.last_epoch = epoch;
        next.save(&tx, self.meta.end())?;
        let keys = Keys::load(&tx, index)?;
        drop(tables);
        tx.commit()?;
        self.keys = keys;
        self.meta = next;
        self.first = self.first.min(index.next());
        Ok(())
    }

    /// Puts a snapshot in place of all that the store holds but its id, promise and view. On any failure the
    /// store is as it was.
    ///
    /// # Errors
    /// If the snapshot would undo a commit, or if the database can't be written.
    pub fn install_snapshot(&mut self, snapshot: &CheckedSnapshot, commit: Index) -> Result<(), StoreError> {
        snapshot::install(snapshot, &self.meta, commit, &mut self.conn)?;
        // A new connection: what this one knows of the index of words is of the old tables.
        self.conn = self.place.connect()?;
        let looked = self.look_again();
        self.wal.has_grown = true;
        self.named(looked)
    }

    /// With the path of this store in its error.
    fn named<T>(&self, result: Step<T>) -> Result<T, StoreError> {
        result.map_err(|fault| fault.at(self.place.path()))
    }
}

/// The first index to keep once a batch of so many entries is in, if it is worth a cut.
fn cut(first: Index, commit: Index, keep_entries: u64, appended: usize) -> Option<Index> {
    let wanted = (commit.0 + 1).saturating_sub(keep_entries);
    let bound = first.0.saturating_add(CUT_MAX).saturating_add(u64::try_from(appended).unwrap_or(u64::MAX));
    let worth_it = first.0.saturating_add(CUT_MIN.min(keep_entries / 8));
    (wanted > first.0 && wanted >= worth_it).then_some(Index(wanted.min(bound)))
}

/// Locks a store against a second process, as long as the file is open.
fn lock(path: &Path) -> Result<File, StoreError> {
    let path = beside(path, ".lock");
    let file = File::options().create(true).write(true).truncate(false).open(&path);
    let file = file.map_err(|problem| StoreError::file(&path, problem))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Busy { path }),
        Err(TryLockError::Error(problem)) => Err(StoreError::file(&path, problem)),
    }
}
