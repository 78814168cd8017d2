//! A backup put back: its shards become stores of a cluster that has none.
//!
//! Of each shard one replica gets the copy, as the only member of a new view, above every epoch that the log
//! has seen. The other replicas start empty and level with it in the way of any replica that lost its disk, so
//! there is nothing here that must agree across machines. The front end, which has no view stored, asks all of
//! them and goes on from that view.
//!
//! All files are checked before anything is written, and all stores are made under draft names before the
//! first is given its own.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use common::backup::{MANIFEST, Manifest, ManifestError, SnapshotInfo};
use common::config::Config;
use common::process::Failure;
use common::runfile;
use protocol::call::SnapshotFacts;
use protocol::ids::{Chain, Digest, Index, NodeId, ShardId};

use crate::store::{Adoption, StoreError, adopt};

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// Which shard.
    pub shard: ShardId,
    /// The node that has it now.
    pub node: NodeId,
    /// The last index in it.
    pub last: Index,
    /// The digest of its tables.
    pub digest: String,
}

/// Why a backup was not restored. Nothing has been changed then.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The manifest is damaged or missing.
    #[error("{} {problem}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        problem: ManifestError,
    },
    /// The store is cut into another number of shards.
    #[error("{}: the backup is of {found} shards, but `shards.count` of {} is {wanted}", path.display(), config.display())]
    OtherCount {
        /// The manifest.
        path: PathBuf,
        /// The configuration.
        config: PathBuf,
        /// How many the backup has.
        found: u32,
        /// How many are configured.
        wanted: u32,
    },
    /// A file is not what the manifest says.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// There is data already.
    #[error("{} exists: a backup is restored into a store without data", path.display())]
    NotFresh {
        /// What was found.
        path: PathBuf,
    },
    /// A process runs there.
    #[error("{} is in use by another process: stop the store first", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A file can't be read or written.
    #[error("{}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A copy is not sound, or can't be made a store.
    #[error("{} can't be restored", path.display())]
    Store {
        /// The file of the backup.
        path: PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
}

impl Failure for RestoreError {
    fn is_wrong_use(&self) -> bool {
        matches!(self, Self::OtherCount { .. } | Self::NotFresh { .. } | Self::InUse { .. })
    }
}

/// A store that waits for its name.
struct Draft {
    path: PathBuf,
    goal: PathBuf,
    restored: Restored,
}

/// Makes the stores of a configuration from a backup.
///
/// # Errors
/// If the backup is damaged or does not fit, or if there is data already.
pub fn restore(config: &Config, backup: &Path) -> Result<Vec<Restored>, RestoreError> {
    let manifest = read_manifest(config, backup)?;
    for shard in &manifest.shards {
        check_bytes(&backup.join(&shard.file), &shard.snapshot)?;
    }
    check_fresh(config)?;
    let _locks = lock_nodes(config)?;
    // Once more: a node may have come and gone before its lock was taken.
    check_fresh(config)?;
    let mut drafts: Vec<Draft> = Vec::new();
    for shard in &manifest.shards {
        match make_draft(config, &backup.join(&shard.file), &shard.snapshot) {
            Ok(draft) => drafts.push(draft),
            Err(problem) => {
                remove(drafts.iter().map(|draft| &draft.path));
                return Err(problem);
            }
        }
    }
    for draft in &drafts {
        let named = fs::rename(&draft.path, &draft.goal).and_then(|()| sync_folder(&draft.goal));
        if let Err(source) = named {
            remove(drafts.iter().flat_map(|draft| [&draft.path, &draft.goal]));
            return Err(RestoreError::File { path: draft.goal.clone(), source });
        }
    }
    Ok(drafts.into_iter().map(|draft| draft.restored).collect())
}

fn read_manifest(config: &Config, backup: &Path) -> Result<Manifest, RestoreError> {
    let path = backup.join(MANIFEST);
    let text = fs::read(&path).map_err(|source| RestoreError::File { path: path.clone(), source })?;
    let manifest =
        Manifest::read(&text).map_err(|problem| RestoreError::Manifest { path: path.clone(), problem })?;
    let found = u32::try_from(manifest.shards.len()).unwrap_or(u32::MAX);
    let wanted = config.shards.count.get();
    if found != wanted {
        return Err(RestoreError::OtherCount { path, config: config.path.clone(), found, wanted });
    }
    Ok(manifest)
}

fn check_bytes(path: &Path, info: &SnapshotInfo) -> Result<(), RestoreError> {
    let failed = |source| RestoreError::File { path: path.to_owned(), source };
    let damaged = |problem: String| RestoreError::Damaged { path: path.to_owned(), problem };
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    if bytes != info.bytes {
        return Err(damaged(format!("it has {bytes} bytes, the manifest says {}", info.bytes)));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).map_err(failed)?;
    if hasher.finalize().to_hex().as_str() != info.blake3 {
        return Err(damaged("its bytes are not those of the manifest's checksum: it is damaged".to_owned()));
    }
    Ok(())
}

/// Refuses a store that has or had data: what a front end or an order node remembers must not meet another
/// history.
fn check_fresh(config: &Config) -> Result<(), RestoreError> {
    let catalogs = config.catalogs.iter().map(|node| (&node.id, "shard-", ".db"));
    let frontends = config.frontends.iter().map(|node| (&node.id, "view-", ".json"));
    let notes = config.frontends.iter().map(|node| (&node.id, "commit-", ""));
    let orders = config.orders.iter().map(|node| (&node.id, "orders", ".db"));
    for (node, begin, end) in catalogs.chain(frontends).chain(notes).chain(orders) {
        let folder = config.node_dir(node);
        let files = match fs::read_dir(&folder) {
            Ok(files) => files,
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(RestoreError::File { path: folder, source }),
        };
        for file in files {
            let file = file.map_err(|source| RestoreError::File { path: folder.clone(), source })?;
            let name = file.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(begin) && name.ends_with(end) {
                return Err(RestoreError::NotFresh { path: file.path() });
            }
        }
    }
    Ok(())
}

/// Locks every node's folder, as its process would.
fn lock_nodes(config: &Config) -> Result<Vec<File>, RestoreError> {
    let catalogs = config.catalogs.iter().map(|node| &node.id);
    let others =
        config.frontends.iter().map(|node| &node.id).chain(config.orders.iter().map(|node| &node.id));
    let lock = |node: &NodeId| {
        let path = config.node_dir(node);
        let failed = |source| RestoreError::File { path: path.clone(), source };
        fs::create_dir_all(&path).map_err(failed)?;
        runfile::lock(&path).map_err(failed)?.ok_or_else(|| RestoreError::InUse { path: path.clone() })
    };
    catalogs.chain(others).map(lock).collect()
}

fn make_draft(config: &Config, file: &Path, info: &SnapshotInfo) -> Result<Draft, RestoreError> {
    let shard = ShardId(info.shard);
    let damaged =
        |problem: &str| RestoreError::Damaged { path: file.to_owned(), problem: problem.to_owned() };
    let replicas = config.replicas_of(shard);
    let node = &replicas.first().ok_or_else(|| damaged("no node is configured for its shard"))?.id;
    let writer = &config.frontends.first().ok_or_else(|| damaged("no front end is configured"))?.id;
    let number = |text: &str| {
        u128::from_str_radix(text, 16).map_err(|_| damaged("the manifest's numbers can't be read"))
    };
    let facts = SnapshotFacts {
        bytes: info.bytes,
        last: Index(info.last_index),
        chain: Chain(number(&info.chain)?),
        digest: Digest(number(&info.digest)?),
    };
    let goal = config.node_dir(node).join(format!("shard-{shard}.db"));
    // A draft that a crash leaves behind goes when the node starts.
    let path = goal.with_extension("db.new");
    let adoption = Adoption { shard, shards: info.shards, node: node.clone(), writer: writer.clone() };
    let failed = |source| RestoreError::File { path: path.clone(), source };
    let made = fs::copy(file, &path).map_err(failed).and_then(|_| {
        adopt(&path, &facts, adoption)
            .map_err(|source| RestoreError::Store { path: file.to_owned(), source })?;
        File::open(&path).and_then(|draft| draft.sync_all()).map_err(failed)
    });
    if let Err(problem) = made {
        remove([&path].into_iter());
        return Err(problem);
    }
    let restored = Restored { shard, node: node.clone(), last: facts.last, digest: facts.digest.to_string() };
    Ok(Draft { path, goal, restored })
}

/// Takes back what was begun. What can't be removed is a draft, which no node opens.
fn remove<'p>(paths: impl Iterator<Item = &'p PathBuf>) {
    for path in paths {
        match fs::remove_file(path) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = %path.display(), %problem, "a file stays behind");
            }
            _ => {}
        }
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
