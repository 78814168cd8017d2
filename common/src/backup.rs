//! What a backup is: a folder with a copy of each shard and a manifest that says what they hold.
//!
//! The front end states [`SnapshotInfo`] with each copy that it sends, the client writes them down in a
//! [`Manifest`], and whoever restores compares.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The name of the manifest in a backup's folder.
pub const MANIFEST: &str = "manifest.json";
/// The form of a backup that this program writes and reads.
pub const FORMAT: u32 = 1;

/// A copy of a shard, at an index up to which the shard was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Which shard.
    pub shard: u32,
    /// Of how many.
    pub shards: u32,
    /// The replica that it was taken from.
    pub node: String,
    /// The last index in it.
    pub last_index: u64,
    /// The chain there, in hexadecimal.
    pub chain: String,
    /// The digest of its tables, in hexadecimal; counted from the rows of the copy.
    pub digest: String,
    /// The size of the file.
    pub bytes: u64,
    /// BLAKE3 of the file, in hexadecimal.
    pub blake3: String,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardFile {
    /// Its name beside the manifest.
    pub file: String,
    /// What it holds.
    #[serde(flatten)]
    pub snapshot: SnapshotInfo,
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The version of the program that wrote it.
    pub version: String,
    /// When the backup began, RFC 3339.
    pub began_at: String,
    /// A file for each shard, by number.
    pub shards: Vec<ShardFile>,
    /// BLAKE3 of all of the above.
    pub checksum: String,
}

/// What is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is no JSON, or of another form.
    #[error("is no manifest of a backup: {0}")]
    Unreadable(String),
    /// Another program wrote it.
    #[error("is of format {0}, this program knows {FORMAT}")]
    Format(u32),
    /// It was changed since it was written.
    #[error("its checksum does not fit: it was changed or damaged")]
    Checksum,
    /// It does not name every shard once.
    #[error("does not name each of {0} shards once")]
    Shards(usize),
    /// A name leads out of the folder.
    #[error("names the file {0:?}, which is no plain name")]
    Name(String),
}

impl Manifest {
    /// A manifest of these files.
    #[must_use]
    pub fn new(version: &str, began_at: String, shards: Vec<ShardFile>) -> Self {
        let manifest =
            Self { format: FORMAT, version: version.to_owned(), began_at, shards, checksum: String::new() };
        Self { checksum: manifest.sum(), ..manifest }
    }

    fn sum(&self) -> String {
        let Self { format, version, began_at, shards, checksum: _ } = self;
        let text = serde_json::to_vec(&(format, version, began_at, shards)).unwrap_or_default();
        blake3::hash(&text).to_hex().to_string()
    }

    /// Reads a manifest and checks it.
    ///
    /// # Errors
    /// If it is not as it was written.
    pub fn read(text: &[u8]) -> Result<Self, ManifestError> {
        /// What every form has.
        #[derive(Deserialize)]
        struct AnyFormat {
            format: u32,
        }
        let unreadable = |problem: serde_json::Error| ManifestError::Unreadable(problem.to_string());
        let AnyFormat { format } = serde_json::from_slice(text).map_err(unreadable)?;
        if format != FORMAT {
            return Err(ManifestError::Format(format));
        }
        let manifest: Self = serde_json::from_slice(text).map_err(unreadable)?;
        if manifest.sum() != manifest.checksum {
            return Err(ManifestError::Checksum);
        }
        let count = manifest.shards.len();
        let numbers: BTreeSet<u32> = manifest.shards.iter().map(|file| file.snapshot.shard).collect();
        let counted = manifest.shards.iter().all(|file| file.snapshot.shards as usize == count);
        if count == 0 || !counted || !numbers.into_iter().eq(0..u32::try_from(count).unwrap_or(0)) {
            return Err(ManifestError::Shards(count));
        }
        let is_plain =
            |name: &str| !name.is_empty() && name != ".." && name != "." && !name.contains(['/', '\0']);
        match manifest.shards.iter().find(|shard| !is_plain(&shard.file)) {
            Some(shard) => Err(ManifestError::Name(shard.file.clone())),
            None => Ok(manifest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(shard: u32, shards: u32, file: &str) -> ShardFile {
        let snapshot = SnapshotInfo {
            shard,
            shards,
            node: "catalog-1".to_owned(),
            last_index: 7,
            chain: "c".to_owned(),
            digest: "d".to_owned(),
            bytes: 9,
            blake3: "b".to_owned(),
        };
        ShardFile { file: file.to_owned(), snapshot }
    }

    fn read(files: Vec<ShardFile>) -> Result<Manifest, ManifestError> {
        let manifest = Manifest::new("1", "now".to_owned(), files);
        Manifest::read(&serde_json::to_vec(&manifest).unwrap())
    }

    #[test]
    fn what_was_written_is_read() {
        let manifest = read(vec![file(0, 2, "a"), file(1, 2, "b")]).unwrap();
        assert_eq!(manifest.shards[1].snapshot.shard, 1);
    }

    #[test]
    fn every_shard_is_there_once_and_beside_the_manifest() {
        for files in
            [vec![], vec![file(1, 1, "a")], vec![file(0, 2, "a")], vec![file(0, 2, "a"), file(0, 2, "b")]]
        {
            let count = files.len();
            assert_eq!(read(files), Err(ManifestError::Shards(count)));
        }
        for name in ["", ".", "..", "../a", "/a"] {
            assert_eq!(read(vec![file(0, 1, name)]), Err(ManifestError::Name(name.to_owned())));
        }
    }

    #[test]
    fn a_change_of_any_byte_is_found() {
        let manifest = Manifest::new("1", "now".to_owned(), vec![file(0, 1, "a")]);
        let text = serde_json::to_vec(&manifest).unwrap();
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert!(Manifest::read(&changed).is_err(), "byte {at}");
            assert!(Manifest::read(&text[..at]).is_err(), "up to byte {at}");
        }
    }
}
