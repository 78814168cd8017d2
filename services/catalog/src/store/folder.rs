//! The folder of a node: which of its files are stores, whether they are of the catalogue that is
//! configured, and where a damaged one goes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::ids::ShardId;

use super::error::StoreError;
use super::meta::Part;
use super::schema::{beside, inspect, is_unused};

/// Refuses a folder that holds a part of a catalogue that is cut otherwise, also a part that its node is
/// not given any more: whoever asks for another count over existing data must hear it from every node that
/// has some. A file that was made and never used is no such part: a node that has nothing else makes files of whatever
/// count it is started with, and must not refuse the right one afterwards.
///
/// # Errors
/// If there is such a part, or the folder can't be read.
pub fn check_folder(directory: &Path, shard_count: u32) -> Result<(), StoreError> {
    let failed = |problem| StoreError::file(directory, problem);
    for file in fs::read_dir(directory).map_err(failed)? {
        let path = file.map_err(failed)?.path();
        let Some(shard) = path.file_name().and_then(|name| shard_of_file(&name.to_string_lossy())) else {
            continue;
        };
        // What else may be wrong with a file is for the one who opens it to say.
        let inspected = inspect(&path, Part { shard, count: shard_count });
        if let Err(StoreError::OtherShard { path, found, found_count, .. }) = inspected
            && found_count != shard_count
            && !is_unused(&path)?
        {
            return Err(StoreError::OtherCount {
                path,
                shard: found,
                found_count,
                wanted_count: shard_count,
            });
        }
    }
    Ok(())
}

/// The shard whose file has this name.
fn shard_of_file(name: &str) -> Option<ShardId> {
    name.strip_prefix("shard-")?.strip_suffix(".db")?.parse().ok().map(ShardId)
}

/// Renames a damaged file with all that belongs to it, so that somebody may look at it later. Returns its
/// new name.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let aside = beside(path, &format!(".damaged-{}", since.as_millis()));
    // The file itself goes first: a log without its file is worth nothing, a file without its log may
    // still be read.
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) = (beside(path, suffix), beside(&aside, suffix));
        match fs::rename(&from, to) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::file(&from, problem));
            }
            _ => {}
        }
    }
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_known_by_its_name() {
        assert_eq!(shard_of_file("shard-0.db"), Some(ShardId(0)));
        assert_eq!(shard_of_file("shard-17.db"), Some(ShardId(17)));
        for other in ["shard-0.db-wal", "shard-0.db.damaged-1", "shard-x.db", "shard-.db", "lock"] {
            assert_eq!(shard_of_file(other), None, "{other}");
        }
    }
}
