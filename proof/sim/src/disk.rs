//! A replica's disk: the real store in memory, and beside it the log as it must be.
//!
//! Each step is one transaction: after a crash all of it is there or nothing. What the store reports as
//! done is durable if its commits wait for the disk, which SQLite itself is asked. If they do not, a crash
//! takes it back to the last time that the system wrote its buffers out.

use catalog::store::{Image, LogSlice, MemoryStore, StoreError};
use protocol::call::LogPage;
use protocol::entry::Entry;
use protocol::ids::{Chain, Index, StoreId};
use protocol::message::Standing;
use protocol::replica::{Change, Done, Replica, Step};

use crate::pool::Pool;

#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) inner: MemoryStore,
    /// The whole log, also where the store has cut it.
    log: Vec<Entry>,
    /// Without syncs: what is on the disk for certain.
    synced: Option<Box<Synced>>,
}

#[derive(Debug)]
struct Synced {
    image: Image,
    log: Vec<Entry>,
}

/// A copy of a store on its way to a peer.
#[derive(Debug)]
pub(crate) struct Copy {
    file: tempfile::NamedTempFile,
    facts: protocol::call::SnapshotFacts,
    log: Vec<Entry>,
}

impl Copy {
    pub(crate) fn last(&self) -> Index {
        self.facts.last
    }
}

impl Disk {
    pub(crate) fn new(pool: &mut Pool, store: StoreId, keep_entries: u64) -> Self {
        let mut disk = Self { inner: pool.store(keep_entries, store), log: Vec::new(), synced: None };
        if !disk.inner.syncs_each_commit().expect("SQLite knows its settings") {
            disk.flush();
        }
        disk
    }

    /// The system writes its buffers out.
    fn flush(&mut self) {
        let image = self.inner.image().expect("a store in memory can be copied");
        self.synced = Some(Box::new(Synced { image, log: self.log.clone() }));
    }

    pub(crate) fn store(&self) -> StoreId {
        self.standing().store
    }

    pub(crate) fn standing(&self) -> Standing {
        self.inner.store.standing()
    }

    pub(crate) fn last(&self) -> (Index, Chain) {
        self.log.last().map_or((Index(0), Chain::default()), |entry| (entry.index, entry.chain))
    }

    /// The chain at an index, if the log reaches so far.
    pub(crate) fn chain_at(&self, index: Index) -> Option<Chain> {
        if index == Index(0) { Some(Chain::default()) } else { Some(self.entry(index)?.chain) }
    }

    /// The entry at an index, if the log reaches so far.
    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        self.log.get(usize::try_from(index.0.checked_sub(1)?).ok()?)
    }

    /// A process opens the store. `power_lost`: the one before ended with its machine.
    pub(crate) fn open(&mut self, me: protocol::ids::NodeId, power_lost: bool) -> Replica {
        if let Some(synced) = self.synced.as_ref().filter(|_| power_lost) {
            self.inner.go_back_to(&synced.image).expect("a store in memory can be put back");
            self.log.clone_from(&synced.log);
        }
        self.inner.restart().expect("a store in memory can be read");
        let standing = self.standing();
        assert_eq!((standing.last, standing.chain), self.last(), "a store is not what was written to it");
        let epoch = self.inner.store.appended_epoch();
        Replica::new(me, standing, epoch, self.tail())
    }

    pub(crate) fn tail(&self) -> Vec<(Index, Chain)> {
        let store = &self.inner.store;
        store.tail(store.tail_begin()).expect("a store in memory can be read")
    }

    /// Carries out a step, and checks what a replica must never ask of its store.
    pub(crate) fn run(&mut self, step: &Step) -> Result<Done, StoreError> {
        let before = self.standing();
        let store = &mut self.inner.store;
        let done = match step {
            Step::Promise { epoch, view } => {
                assert!(*epoch >= before.promise, "I3: promise {epoch} below {}", before.promise);
                store.promise(*epoch, view.as_ref())?;
                Done::Promised
            }
            Step::Append(change) => self.append(&before, change)?,
            // What a replica asks for is there, however late it was asked itself.
            Step::Outcomes { first, last } => {
                Done::Outcomes(store.outcomes(*first, *last).expect("they are kept"))
            }
            Step::Fetch { after, upto } => {
                Done::Fetched(store.all_entries(*after, *upto).expect("they are kept"))
            }
            Step::Undo { to } => match store.undo_to(*to) {
                Ok(()) => {
                    self.log.truncate(usize::try_from(to.0).expect("small"));
                    Done::Undone { digest: store.standing().digest }
                }
                Err(StoreError::UndoGone { .. }) => Done::UndoGone,
                Err(problem) => panic!("undo to {to}: {problem}"),
            },
        };
        if self.synced.is_some() && self.last().0.0.is_multiple_of(16) {
            self.flush();
        }
        Ok(done)
    }

    fn append(&mut self, before: &Standing, change: &Change) -> Result<Done, StoreError> {
        let Change { promise, commit, .. } = change;
        assert!(*promise >= before.promise, "I3: append in {promise} below {}", before.promise);
        for entry in &change.entries {
            let (last, chain) = self.last();
            assert_eq!(entry.index, last.next(), "I2: a gap in the log");
            assert!(entry.follows(chain), "I2: an entry that does not follow");
            self.log.push(entry.clone());
        }
        assert!(*commit <= self.last().0, "committed beyond the log");
        let applied = self.inner.store.append(change)?;
        let standing = self.standing();
        assert!(standing.commit >= *commit, "the commit index falls");
        Ok(Done::Appended { outcomes: applied.outcomes, touched: applied.touched, digest: standing.digest })
    }

    /// A page of the log, as another replica pulls it.
    pub(crate) fn page(&self, after: Index, limit: usize) -> LogPage {
        match self.inner.readers.entries(after, None, limit, usize::MAX) {
            Ok(LogSlice::Entries { entries, last }) => LogPage::Entries { entries, last },
            Ok(LogSlice::Gone) => LogPage::Gone,
            Err(problem) => LogPage::Failed(problem.to_string()),
        }
    }

    /// A whole copy, for another replica.
    pub(crate) fn copy(&self) -> Copy {
        let file = self.inner.readers.scratch_file().expect("there is room for a scratch file");
        let facts = self.inner.readers.snapshot_to(file.path()).expect("a store in memory can be copied");
        Copy { file, facts, log: self.log.clone() }
    }

    /// Replaces tables and log by a copy; what the replica is and has promised stays.
    pub(crate) fn install(&mut self, copy: &Copy) -> Result<(), StoreError> {
        let checked = self.inner.readers.check_snapshot(copy.file.path(), &copy.facts)?;
        self.inner.store.install_snapshot(&checked, Index(0))?;
        self.log.clone_from(&copy.log);
        Ok(())
    }

    /// Whether the rows give the digest that is kept.
    pub(crate) fn is_sound(&self) -> bool {
        self.inner.readers.recount().expect("a store in memory can be read").is_sound()
    }
}
