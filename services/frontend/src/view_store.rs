//! The view store of a single front end: a file for each shard on its own disk.
//!
//! The folder is locked for the life of the process, so a compare-and-swap needs no more than the file.
//! A view is replaced as a whole: written beside, fsynced, renamed, and the folder fsynced; only then is
//! the swap done. Several front ends will keep their views in a store that they share; what they ask of
//! it are these same two calls, and that a swap may end as [`SwapResult::Unknown`].

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::exit::with_causes;
use parking_lot::Mutex;
use protocol::ids::{Epoch, ShardId};
use protocol::view::View;
use protocol::writer::SwapResult;

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
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ViewStoreError::File { path, source }),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| ViewStoreError::Damaged { path, source })
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
        let mut file = File::create(&beside)?;
        serde_json::to_writer(&mut file, view)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        self.unsynced.store(true, Ordering::Release);
        fs::rename(&beside, &path)?;
        self.sync_folder()
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()?;
        self.unsynced.store(false, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use protocol::ids::{Index, NodeId, StoreId};
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
}
