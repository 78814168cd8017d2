//! The view store of a single front end: a file for each shard on its own disk.
//!
//! The folder is locked for the life of the process, so a compare-and-swap needs no more than the file.
//! A view is replaced as a whole: written beside, fsynced, exchanged by name, and the folder fsynced; only
//! then is the swap done. The file that it took the place of is where the next one is written, over bytes
//! that the disk has given already: a full disk keeps no dead replica in the view.
//!
//! Beside each view stands a note of how far the shard was committed. A view names its members for as long
//! as nothing happens to them, and a member's file that was put back to an older state in the meantime looks
//! like a member that is whole. With the note it is known to lack what was acknowledged.
//!
//! Several front ends will keep their views in a store that they share; what they ask of
//! it are these same two calls, and that a swap may end as [`SwapResult::Unknown`].

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::exit::with_causes;
use parking_lot::Mutex;
use protocol::ids::{Epoch, Index, ShardId};
use protocol::view::View;
use protocol::writer::SwapResult;
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Files are filled up to a multiple of this, a block of most disks, so that the next view fits into the same
/// blocks. A view of some sixty members fits into one.
const BLOCK_BYTES: usize = 4096;
/// The digits of the largest index: a note is always as long, so it is overwritten in place.
const NOTE_DIGITS: usize = 20;

/// Epochs are kept as signed integers by replicas, and there must be one above each.
const EPOCH_MAX: u64 = i64::MAX.unsigned_abs();

/// Why a view can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ViewStoreError {
    /// The file can't be read.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It holds no view.
    #[error("{} holds no view", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It holds one that can't be.
    #[error("{} holds no view of shard {shard}: {problem}", path.display())]
    Impossible {
        /// The file.
        path: PathBuf,
        /// The shard that it is kept for.
        shard: ShardId,
        /// What is wrong with it.
        problem: String,
    },
}

/// The views of all shards. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ViewStore(Arc<Files>);

#[derive(Debug)]
struct Files {
    folder: PathBuf,
    /// One swap at a time: it reads and then writes.
    swapping: Mutex<()>,
    /// A view was renamed into its place, and the folder's sync has failed: what is read there may be
    /// gone after a power loss.
    unsynced: AtomicBool,
}

impl ViewStore {
    /// The views in a folder that this process has locked.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self(Arc::new(Files {
            folder: folder.to_owned(),
            swapping: Mutex::new(()),
            unsynced: AtomicBool::new(false),
        }))
    }

    /// The view of a shard, if there is one.
    ///
    /// # Errors
    /// If there is a file that holds none. It is never taken for "no view": then the shard would begin
    /// anew without knowing its members.
    pub async fn read(&self, shard: ShardId) -> Result<Option<View>, String> {
        let files = self.0.clone();
        match tokio::task::spawn_blocking(move || files.read(shard)).await {
            Ok(read) => read.map_err(|problem| with_causes(&problem)),
            Err(problem) => Err(problem.to_string()),
        }
    }

    /// Notes that a shard is committed up to an index. It takes no room on the disk and is not waited for by
    /// anything: a note that is lost in a power failure is only an older one.
    pub async fn note_commit(&self, shard: ShardId, index: Index) {
        let files = self.0.clone();
        let noted = tokio::task::spawn_blocking(move || files.note_commit(shard, index)).await;
        match noted {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => tracing::warn!(%shard, %problem, "the commit index can't be noted"),
            Err(problem) => tracing::error!(%shard, %problem, "the commit index can't be noted"),
        }
    }

    /// Puts a view in the place of the one with the expected epoch, 0 for none.
    pub async fn swap(&self, expected: Epoch, view: View) -> SwapResult {
        let files = self.0.clone();
        match tokio::task::spawn_blocking(move || files.swap(expected, &view)).await {
            Ok(result) => result,
            Err(problem) => {
                tracing::error!(%problem, "the view store failed");
                SwapResult::Unknown
            }
        }
    }
}

impl Files {
    fn path(&self, shard: ShardId) -> PathBuf {
        self.folder.join(format!("view-{shard}.json"))
    }

    fn read(&self, shard: ShardId) -> Result<Option<View>, ViewStoreError> {
        let path = self.path(shard);
        if self.unsynced.load(Ordering::Acquire) {
            let folder = || self.folder.clone();
            self.sync_folder().map_err(|source| ViewStoreError::File { path: folder(), source })?;
        }
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => {
                // Whoever removed the view wants the replicas to be believed as they are.
                self.forget_commit(shard)?;
                return Ok(None);
            }
            Err(source) => return Err(ViewStoreError::File { path, source }),
        };
        let view: View = serde_json::from_slice(&bytes)
            .map_err(|source| ViewStoreError::Damaged { path: path.clone(), source })?;
        if let Some(problem) = what_cannot_be(&view, shard) {
            return Err(ViewStoreError::Impossible { path, shard, problem });
        }
        let last_index = view.last_index.max(self.noted_commit(shard));
        Ok(Some(View { last_index, ..view }))
    }

    fn note_path(&self, shard: ShardId) -> PathBuf {
        self.folder.join(format!("commit-{shard}"))
    }

    fn note_commit(&self, shard: ShardId, index: Index) -> io::Result<()> {
        let file = File::options().create(true).write(true).truncate(false).open(self.note_path(shard))?;
        file.write_all_at(format!("{:0NOTE_DIGITS$}\n", index.0).as_bytes(), 0)
    }

    /// What was noted; nothing, if that can't be read: the note only adds to what the view knows.
    fn noted_commit(&self, shard: ShardId) -> Index {
        let text = fs::read_to_string(self.note_path(shard)).unwrap_or_default();
        text.trim_end().parse().map_or(Index(0), Index)
    }

    fn forget_commit(&self, shard: ShardId) -> Result<(), ViewStoreError> {
        let path = self.note_path(shard);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(ViewStoreError::File { path, source })
            }
            _ => Ok(()),
        }
    }

    fn swap(&self, expected: Epoch, view: &View) -> SwapResult {
        let _one_at_a_time = self.swapping.lock();
        match self.read(view.shard) {
            Ok(stored) if stored.as_ref().map_or(Epoch(0), |view| view.epoch) == expected => {}
            Ok(_) => return SwapResult::Lost,
            Err(problem) => {
                tracing::error!(problem = %with_causes(&problem), "the stored view can't be read");
                return SwapResult::Unknown;
            }
        }
        match self.replace(view) {
            Ok(()) => SwapResult::Swapped,
            Err(problem) => {
                tracing::error!(shard = %view.shard, %problem, "the view can't be stored");
                SwapResult::Unknown
            }
        }
    }

    fn replace(&self, view: &View) -> io::Result<()> {
        let path = self.path(view.shard);
        let beside = path.with_extension("json.new");
        let text = padded(view)?;
        write_over(&beside, &text)?;
        self.unsynced.store(true, Ordering::Release);
        match renameat_with(CWD, &beside, CWD, &path, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            // The first view has nothing to exchange with, and some file systems can't.
            Err(_) => fs::rename(&beside, &path)?,
        }
        self.sync_folder()?;
        if !beside.exists()
            && let Err(problem) = write_over(&beside, &text)
        {
            tracing::warn!(shard = %view.shard, %problem, "there is no room for a next view");
        }
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()?;
        self.unsynced.store(false, Ordering::Release);
        Ok(())
    }
}

/// What no view of a shard can say, if this one does: it would be continued as if it were true.
fn what_cannot_be(view: &View, shard: ShardId) -> Option<String> {
    if view.shard != shard {
        return Some(format!("it is of shard {}", view.shard));
    }
    if !(1..EPOCH_MAX).contains(&view.epoch.0) {
        return Some(format!("it has epoch {}", view.epoch));
    }
    view.members.is_empty().then(|| "it has no members".to_owned())
}

/// A view as text that fills whole blocks.
fn padded(view: &View) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(view)?;
    let length = (text.len() + 1).next_multiple_of(BLOCK_BYTES);
    text.resize(length - 1, b' ');
    text.push(b'\n');
    Ok(text)
}

/// Writes over what a file has, durably, or makes it.
fn write_over(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::options().create(true).write(true).truncate(false).open(path)?;
    file.write_all(text)?;
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    if file.metadata()?.len() > length {
        file.set_len(length)?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use protocol::ids::{NodeId, StoreId};
    use protocol::view::Member;

    use super::*;

    fn view(epoch: u64) -> View {
        View {
            shard: ShardId(3),
            epoch: Epoch(epoch),
            writer: NodeId::from("frontend-1"),
            members: vec![Member { node: NodeId::from("catalog-1"), store: StoreId(u128::MAX) }],
            last_index: Index(7),
        }
    }

    #[tokio::test]
    async fn a_view_takes_the_place_of_the_one_expected_and_of_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let store = ViewStore::new(folder.path());
        assert_eq!(store.read(ShardId(3)).await, Ok(None));
        assert_eq!(store.swap(Epoch(1), view(2)).await, SwapResult::Lost);
        assert_eq!(store.swap(Epoch(0), view(1)).await, SwapResult::Swapped);
        assert_eq!(store.swap(Epoch(0), view(2)).await, SwapResult::Lost);
        assert_eq!(store.swap(Epoch(1), view(2)).await, SwapResult::Swapped);
        let reopened = ViewStore::new(folder.path());
        assert_eq!(reopened.read(ShardId(3)).await, Ok(Some(view(2))));
        assert_eq!(reopened.read(ShardId(0)).await, Ok(None));
    }

    #[tokio::test]
    async fn a_damaged_file_is_not_taken_for_no_view() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("view-3.json"), b"{").unwrap();
        let store = ViewStore::new(folder.path());
        assert!(store.read(ShardId(3)).await.unwrap_err().contains("view-3.json"));
        assert_eq!(store.swap(Epoch(0), view(1)).await, SwapResult::Unknown);
    }

    #[tokio::test]
    async fn a_view_that_can_not_be_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = ViewStore::new(folder.path());
        for (view, problem) in [
            (View { shard: ShardId(4), ..view(2) }, "it is of shard 4"),
            (View { members: Vec::new(), ..view(2) }, "it has no members"),
            (view(0), "it has epoch 0"),
            (view(u64::MAX), "it has epoch 18446744073709551615"),
        ] {
            fs::write(folder.path().join("view-3.json"), padded(&view).unwrap()).unwrap();
            assert!(store.read(ShardId(3)).await.unwrap_err().contains(problem), "{view:?}");
            assert_eq!(store.swap(view.epoch, self::view(3)).await, SwapResult::Unknown);
        }
    }

    #[tokio::test]
    async fn a_note_raises_what_a_view_knows_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = ViewStore::new(folder.path());
        assert_eq!(store.swap(Epoch(0), view(1)).await, SwapResult::Swapped);
        for (noted, known) in [(3, 7), (7, 7), (8, 8), (u64::MAX, u64::MAX), (9, 9)] {
            store.note_commit(ShardId(3), Index(noted)).await;
            let expected = View { last_index: Index(known), ..view(1) };
            assert_eq!(store.read(ShardId(3)).await, Ok(Some(expected)), "{noted}");
        }
        // Another shard's, and what can't be read, change nothing.
        store.note_commit(ShardId(4), Index(99)).await;
        fs::write(folder.path().join("commit-3"), b"\xff").unwrap();
        assert_eq!(store.read(ShardId(3)).await, Ok(Some(view(1))));
        store.note_commit(ShardId(3), Index(99)).await;
        fs::remove_file(folder.path().join("view-3.json")).unwrap();
        assert_eq!(store.read(ShardId(3)).await, Ok(None));
        assert_eq!(store.swap(Epoch(0), view(5)).await, SwapResult::Swapped);
        assert_eq!(store.read(ShardId(3)).await, Ok(Some(view(5))));
    }

    #[tokio::test]
    async fn a_view_is_written_over_the_one_before_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let store = ViewStore::new(folder.path());
        let mut files = std::collections::BTreeSet::new();
        for epoch in 0..6 {
            assert_eq!(store.swap(Epoch(epoch), view(epoch + 1)).await, SwapResult::Swapped);
            for name in ["view-3.json", "view-3.json.new"] {
                let file = folder.path().join(name).metadata().unwrap();
                assert_eq!(file.len(), 4096);
                files.insert(std::os::unix::fs::MetadataExt::ino(&file));
            }
        }
        assert_eq!(files.len(), 2, "no file is made after the first two");
        assert_eq!(store.read(ShardId(3)).await, Ok(Some(view(6))));
    }
}
