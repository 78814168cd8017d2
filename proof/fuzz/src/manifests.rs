//! The manifest of a backup.

use common::backup::{Manifest, ShardFile, SnapshotInfo};
use proptest::prelude::*;

use crate::Verdict;

/// Reads a manifest; one that is accepted is read again from what it is written as.
pub fn check(bytes: &[u8]) -> Verdict {
    let Ok(manifest) = Manifest::read(bytes) else { return Verdict::Refused };
    for (shard, number) in manifest.shards.iter().zip(0..) {
        assert_eq!(manifest.shards.iter().filter(|other| other.snapshot.shard == number).count(), 1);
        assert_eq!(std::path::Path::new(&shard.file).components().count(), 1, "{:?}", shard.file);
    }
    let written = serde_json::to_vec(&manifest).expect("a manifest can be written");
    assert_eq!(Manifest::read(&written), Ok(manifest));
    Verdict::Accepted
}

/// Manifests of one to four shards.
pub fn valid() -> BoxedStrategy<Vec<u8>> {
    (1..5_u32, any::<u64>(), "[0-9a-f]{32}", "[a-z0-9.-]{1,8}[a-z]")
        .prop_map(|(shards, number, hash, name)| {
            let file = |shard| ShardFile {
                file: format!("{name}-{shard}"),
                snapshot: SnapshotInfo {
                    shard,
                    shards,
                    node: "catalog-1".to_owned(),
                    last_index: number,
                    chain: hash.clone(),
                    digest: hash.clone(),
                    bytes: number,
                    blake3: hash.clone(),
                },
            };
            let manifest =
                Manifest::new("0.1.0", "2026-11-21T05:15:23Z".to_owned(), (0..shards).map(file).collect());
            serde_json::to_vec(&manifest).expect("a manifest can be written")
        })
        .boxed()
}
