//! The files of the view store: a view, and the note of how far its shard is committed.
//!
//! What stands before the first zero byte is in the note, what stands behind it in the view's file.

use std::fs;
use std::sync::OnceLock;

use frontend::view_store::ViewStore;
use proptest::prelude::*;
use protocol::ids::{Index, ShardId};
use protocol::view::View;
use protocol::writer::SwapResult;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{Verdict, values};

const SHARD: ShardId = ShardId(0);

/// Reads the files; a view that is accepted can be replaced, and is read again as it was written.
pub fn check(bytes: &[u8]) -> Verdict {
    let folder = folder();
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (note, text) = bytes.split_at(at);
    let text = text.strip_prefix(b"\0").unwrap_or_default();
    fs::write(folder.path().join("commit-0"), note).expect("the folder can be written");
    fs::write(folder.path().join("view-0.json"), text).expect("the folder can be written");
    let store = ViewStore::new(folder.path());
    let runtime = runtime();
    let Ok(found) = runtime.block_on(store.read(SHARD)) else { return Verdict::Refused };
    let view = found.expect("a file is never taken for no view");
    assert_eq!(view.shard, SHARD);
    assert!(!view.members.is_empty());
    let next = View { epoch: view.epoch.next(), ..view.clone() };
    assert_eq!(runtime.block_on(store.swap(view.epoch, next.clone())), SwapResult::Swapped);
    assert_eq!(runtime.block_on(store.read(SHARD)), Ok(Some(next)));
    Verdict::Accepted
}

/// A view as the store writes it, with a note of any index.
pub fn valid() -> BoxedStrategy<Vec<u8>> {
    (values::view(SHARD), any::<u64>(), 0..40_usize)
        .prop_map(|(view, noted, spaces)| {
            let mut bytes = format!("{:020}\n\0", Index(noted)).into_bytes();
            bytes.extend(serde_json::to_vec(&view).expect("a view can be written"));
            bytes.extend(std::iter::repeat_n(b' ', spaces));
            bytes
        })
        .boxed()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime needs no more than memory")
    })
}
