//! A backup: a copy of each shard in a folder that appears when all of it is there and checked.
//!
//! Shards are copied one after the other while the store runs. Each copy is of one moment, at which the shard
//! was committed up to its last entry; no order lies in two shards, so none is torn. A copy that breaks off is
//! begun anew.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::backup::{MANIFEST, Manifest, ShardFile, SnapshotInfo};
use common::clock;
use tempfile::TempDir;

use crate::client::{Client, Transfer};
use crate::error::ClientError;

/// The pause before a copy that failed is begun anew: longer than a fail-over takes.
const PAUSE: Duration = Duration::from_secs(2);

/// Why there is no backup. The folder is not there then.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is something of that name.
    #[error("{} exists already", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// A file can't be written.
    #[error("can't write {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A shard can't be copied.
    #[error("shard {shard} can't be copied: {source}")]
    Call {
        /// Which one.
        shard: u32,
        /// Why.
        source: Box<ClientError>,
    },
    /// What came is not what was sent.
    #[error("the copy of shard {shard} came damaged: {problem}")]
    Damaged {
        /// Which one.
        shard: u32,
        /// What is wrong.
        problem: String,
    },
}

/// What a backup is doing.
#[derive(Clone, Debug)]
pub enum Step<'a> {
    /// A copy has begun to come.
    Begun(&'a SnapshotInfo),
    /// So many bytes of it are there.
    Bytes(u64),
    /// It is begun anew.
    Again(&'a BackupError),
}

/// Copies the whole store into a new folder; `tell` hears of each step.
///
/// # Errors
/// If a shard can't be copied within patience, or the folder can't be written.
pub async fn backup(
    client: &Client,
    folder: &Path,
    patience: Duration,
    mut tell: impl FnMut(Step<'_>),
) -> Result<Manifest, BackupError> {
    if folder.symlink_metadata().is_ok() {
        return Err(BackupError::Exists { path: folder.to_owned() });
    }
    let failed = |source| BackupError::File { path: folder.to_owned(), source };
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(failed)?;
    let draft = tempfile::Builder::new().prefix(".bookends-backup-").tempdir_in(parent).map_err(failed)?;
    let began_at = common::api::rfc3339(clock::now());
    let mut files: Vec<ShardFile> = Vec::new();
    loop {
        let shard = u32::try_from(files.len()).unwrap_or(u32::MAX);
        let file = copy_patiently(client, shard, draft.path(), patience, &mut tell).await?;
        let shards = file.snapshot.shards;
        files.push(file);
        if files.len() >= shards as usize {
            break;
        }
    }
    let manifest = Manifest::new(env!("CARGO_PKG_VERSION"), began_at, files);
    write_manifest(&manifest, draft.path()).map_err(failed)?;
    name(draft, folder).map_err(failed)?;
    Ok(manifest)
}

async fn copy_patiently(
    client: &Client,
    shard: u32,
    draft: &Path,
    patience: Duration,
    tell: &mut impl FnMut(Step<'_>),
) -> Result<ShardFile, BackupError> {
    let mut failing_since = None;
    loop {
        let began = Instant::now();
        let problem = match copy(client, shard, draft, tell).await {
            Ok(file) => return Ok(file),
            Err(problem) => problem,
        };
        let may_pass = match &problem {
            BackupError::Call { source, .. } => source.is_retryable() || source.problem().is_none(),
            BackupError::Damaged { .. } => true,
            BackupError::Exists { .. } | BackupError::File { .. } => false,
        };
        let since = *failing_since.get_or_insert(began);
        if !may_pass || since.elapsed() + PAUSE > patience {
            return Err(problem);
        }
        tell(Step::Again(&problem));
        tokio::time::sleep(PAUSE).await;
    }
}

async fn copy(
    client: &Client,
    shard: u32,
    draft: &Path,
    tell: &mut impl FnMut(Step<'_>),
) -> Result<ShardFile, BackupError> {
    let called = |source| BackupError::Call { shard, source: Box::new(source) };
    let damaged = |problem: String| BackupError::Damaged { shard, problem };
    let mut transfer: Transfer = client.backup(shard).await.map_err(called)?;
    let snapshot = transfer.info.clone();
    if snapshot.shard != shard {
        return Err(damaged(format!("it is of shard {}", snapshot.shard)));
    }
    tell(Step::Begun(&snapshot));
    let file = format!("shard-{shard}.db");
    let path = draft.join(&file);
    let failed = |source| BackupError::File { path: path.clone(), source };
    let mut sink = File::create(&path).map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0;
    while let Some(part) = transfer.next().await.map_err(called)? {
        sink.write_all(&part).map_err(failed)?;
        hasher.update(&part);
        bytes += part.len() as u64;
        tell(Step::Bytes(bytes));
    }
    if bytes != snapshot.bytes {
        return Err(damaged(format!("it has {bytes} bytes instead of {}", snapshot.bytes)));
    }
    if hasher.finalize().to_hex().as_str() != snapshot.blake3 {
        return Err(damaged("its bytes are not those that were sent".to_owned()));
    }
    sink.sync_all().map_err(failed)?;
    Ok(ShardFile { file, snapshot })
}

fn write_manifest(manifest: &Manifest, draft: &Path) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(manifest)?;
    text.push(b'\n');
    let mut file = File::create(draft.join(MANIFEST))?;
    file.write_all(&text)?;
    file.sync_all()?;
    File::open(draft)?.sync_all()
}

/// Gives the finished folder its name. Only its owner may read it: orders are in there.
fn name(draft: TempDir, folder: &Path) -> io::Result<()> {
    fs::rename(draft.path(), folder)?;
    // It is not there any more, so there is nothing to remove.
    drop(draft.keep());
    folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}
