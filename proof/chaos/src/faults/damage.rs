//! Harm to the files of a node that does not run.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bookends::random::Random;

use super::Harm;
use crate::error::ChaosError;
use crate::store::layout::program;

/// How many bits are flipped: few, so that most of a file is as it was.
const FLIPS: usize = 12;
/// What belongs to an SQLite file.
const PARTS: [&str; 3] = ["", "-wal", "-shm"];
/// Beside a copy, what it is a copy of.
const COPY: &str = ".chaos-copy";

/// What a node keeps: the database of a shard or of the orders; of a front end, which has none, the whole folder.
pub(super) fn kept(data: &Path, node: &str) -> PathBuf {
    match program(node) {
        "order" => data.join("orders.db"),
        "catalog" => data.join("shard-0.db"),
        _ => data.to_owned(),
    }
}

/// Copies a database with all that belongs to it, for [`Harm::OldCopy`].
pub(super) fn keep_copy(database: &Path) -> Result<(), ChaosError> {
    for part in PARTS {
        let (from, to) = (beside(database, part), beside(database, &format!("{part}{COPY}")));
        if from.exists() {
            fs::copy(&from, &to).map_err(ChaosError::file("can't copy", from))?;
        }
    }
    Ok(())
}

/// Harms a database.
pub(super) fn harm(database: &Path, harm: Harm) -> Result<(), ChaosError> {
    match harm {
        Harm::Flips(seed) => flip(database, seed).map_err(ChaosError::file("can't harm", database)),
        Harm::Truncation(seed) => {
            let cut = || {
                let file = File::options().write(true).open(database)?;
                let length = file.metadata()?.len();
                file.set_len(seed % length.max(1))
            };
            cut().map_err(ChaosError::file("can't cut off", database))
        }
        Harm::Removal => remove(database),
        Harm::OldCopy => {
            remove(database)?;
            for part in PARTS {
                let (from, to) = (beside(database, &format!("{part}{COPY}")), beside(database, part));
                if from.exists() {
                    fs::rename(&from, to).map_err(ChaosError::file("can't move", from))?;
                }
            }
            Ok(())
        }
    }
}

/// Removes a database with all that belongs to it, or a folder.
pub(super) fn remove(kept: &Path) -> Result<(), ChaosError> {
    if kept.is_dir() {
        return fs::remove_dir_all(kept).map_err(ChaosError::file("can't remove", kept));
    }
    for part in PARTS {
        let path = beside(kept, part);
        if path.exists() {
            fs::remove_file(&path).map_err(ChaosError::file("can't remove", path))?;
        }
    }
    Ok(())
}

fn flip(path: &Path, seed: u64) -> std::io::Result<()> {
    let mut random = Random::seeded(seed);
    let mut file = File::options().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    for _ in 0..FLIPS {
        let place = SeekFrom::Start(random.next_u64() % length.max(1));
        let mut byte = [0];
        file.seek(place)?;
        file.read_exact(&mut byte)?;
        byte[0] ^= 1 << random.below(8);
        file.seek(place)?;
        file.write_all(&byte)?;
    }
    file.sync_all()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_harm_changes_the_file_as_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shard-0.db");
        let whole = vec![7_u8; 10_000];
        fs::write(&file, &whole).unwrap();
        keep_copy(&file).unwrap();
        harm(&file, Harm::Flips(3)).unwrap();
        let flipped = fs::read(&file).unwrap();
        let changed = flipped.iter().zip(&whole).filter(|(one, other)| one != other).count();
        assert!(flipped.len() == whole.len() && (1..=FLIPS).contains(&changed), "{changed}");
        harm(&file, Harm::Truncation(12_345)).unwrap();
        assert_eq!(fs::read(&file).unwrap().len(), 2_345);
        harm(&file, Harm::OldCopy).unwrap();
        assert_eq!(fs::read(&file).unwrap(), whole);
        fs::write(beside(&file, "-wal"), "x").unwrap();
        harm(&file, Harm::Removal).unwrap();
        assert!(!file.exists() && !beside(&file, "-wal").exists());
        let data = folder.path().join("frontend-1");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("view-0.json"), "x").unwrap();
        harm(&kept(&data, "frontend-1"), Harm::Removal).unwrap();
        assert!(!data.exists());
    }
}
