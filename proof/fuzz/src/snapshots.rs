//! Files of snapshots and backups: whole SQLite files that came from elsewhere.
//!
//! A file of any bytes is refused at its first ones. So the first byte of an input says what the rest is: the
//! whole file, or changes of a sound one: where, how many bytes, and which.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use catalog::store::{Adoption, MemoryStore, Readers, Store, StoreError, adopt};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use protocol::call::SnapshotFacts;
use protocol::command::Command;
use protocol::entry::{EncodedCommand, Entry};
use protocol::ids::{Epoch, Index, NodeId, ShardId, StoreId};
use protocol::replica::Change;

use crate::commands::assert_sound;
use crate::{Verdict, commands, values};

const WHOLE: u8 = 0;
const CHANGED: u8 = 1;
const SHARD: ShardId = ShardId(0);
/// How many commands the sound file has seen.
const COMMANDS: usize = 12;

thread_local! {
    static STORE: RefCell<MemoryStore> = RefCell::new(commands::store());
}

/// Checks a file; one that is accepted is installed, and made a store of its own, and both go on.
pub fn check(bytes: &[u8]) -> Verdict {
    let Sound { bytes: sound, facts, next } = sound();
    let file = match bytes.split_first() {
        Some((&WHOLE, whole)) => whole.to_vec(),
        Some((&CHANGED, changes)) => changed(sound, changes),
        _ => return Verdict::Refused,
    };
    let facts = SnapshotFacts { bytes: file.len() as u64, ..facts.clone() };
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let accepted = STORE.with_borrow_mut(|store| {
        store.begin_anew(1000, StoreId(1)).expect("a store can be emptied");
        install(store, &write(folder.path(), "copy.db", &file), &facts, next)
    });
    let adopted = become_store(folder.path(), &file, &facts, next);
    assert!(adopted || !accepted, "what can be installed can be restored");
    Verdict::of(accepted)
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).expect("the folder can be written");
    path
}

/// Each change is three bytes of place, one of length, and the bytes to put there.
fn changed(sound: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut file = sound.to_vec();
    let mut rest = changes;
    while let [low, middle, high, length, after @ ..] = rest {
        let at = u32::from_le_bytes([*low, *middle, *high, 0]) as usize % file.len();
        let (put, after) = after.split_at(after.len().min(usize::from(*length)));
        for (place, byte) in file.iter_mut().skip(at).zip(put) {
            *place = *byte;
        }
        rest = after;
    }
    file
}

fn install(store: &mut MemoryStore, file: &Path, facts: &SnapshotFacts, next: &Entry) -> bool {
    let before = store.store.standing();
    let checked = match store.readers.check_snapshot(file, facts) {
        Ok(checked) => checked,
        Err(problem) => {
            assert!(!matches!(problem, StoreError::Full { .. }), "{problem}");
            assert_eq!(store.store.standing(), before);
            return false;
        }
    };
    store.store.install_snapshot(&checked, Index(0)).expect("a checked copy can be installed");
    let standing = store.store.standing();
    assert_eq!((standing.last, standing.chain, standing.digest), (facts.last, facts.chain, facts.digest));
    goes_on(&mut store.store, &store.readers, next);
    store.begin_anew(1000, StoreId(1)).expect("a store can be emptied");
    true
}

fn become_store(folder: &Path, file: &[u8], facts: &SnapshotFacts, next: &Entry) -> bool {
    let path = write(folder, "shard-0.db", file);
    let adoption = Adoption {
        shard: SHARD,
        shards: 1,
        node: NodeId::from("catalog-1"),
        writer: NodeId::from("frontend-1"),
    };
    let Ok(view) = adopt(&path, facts, adoption) else { return false };
    assert_eq!(view.last_index, facts.last);
    let (mut store, readers) = Store::open(folder, SHARD, 1, 1000).expect("a restored shard can be opened");
    goes_on(&mut store, &readers, next);
    true
}

/// Reads all that there is, and appends one entry more.
fn goes_on(store: &mut Store, readers: &Readers, next: &Entry) {
    assert_sound(readers);
    let change =
        Change { promise: Epoch(9), appended_epoch: Epoch(9), commit: Index(0), entries: vec![next.clone()] };
    store.append(&change).expect("an entry can be appended");
    assert_sound(readers);
}

/// A sound file.
struct Sound {
    bytes: Vec<u8>,
    facts: SnapshotFacts,
    /// The entry that follows its log.
    next: Entry,
}

fn sound() -> &'static Sound {
    static SOUND: OnceLock<Sound> = OnceLock::new();
    SOUND.get_or_init(|| {
        // The same at each start, or a kept input would mean something else.
        let mut runner = TestRunner::deterministic();
        let drawn = vec(values::command(), COMMANDS + 1)
            .new_tree(&mut runner)
            .expect("nothing is filtered")
            .current();
        let encoded: Vec<EncodedCommand> =
            drawn.iter().map(|command: &Command| EncodedCommand::of(command)).collect();
        let mut entries = values::chained(&encoded);
        let next = entries.pop().expect("there is one more than are applied");
        let mut store = commands::store();
        let change = Change { promise: Epoch(1), appended_epoch: Epoch(1), commit: Index(5), entries };
        store.store.append(&change).expect("entries can be appended");
        let file = store.readers.scratch_file().expect("a temporary file can be made");
        let facts = store.readers.snapshot_to(file.path()).expect("a store can be copied");
        Sound { bytes: fs::read(file.path()).expect("the copy can be read"), facts, next }
    })
}

/// The sound file, whole, as it is, or changed into what it is.
pub fn valid() -> BoxedStrategy<Vec<u8>> {
    let same = (0..sound().bytes.len(), 0..9_u8).prop_map(|(at, length)| {
        let place = u32::try_from(at).expect("the file is small").to_le_bytes();
        let put = sound().bytes.iter().skip(at).take(usize::from(length));
        [CHANGED, place[0], place[1], place[2], length].into_iter().chain(put.copied()).collect()
    });
    prop_oneof![1 => Just([&[WHOLE], sound().bytes.as_slice()].concat()), 9 => same].boxed()
}
