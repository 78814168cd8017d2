//! Entries of the log: their commands are decoded and applied to two stores, to one all at once and to the
//! other one by one, taken back, and applied again.

use std::cell::RefCell;

use catalog::store::{MemoryStore, Readers, StoreError};
use proptest::prelude::*;
use protocol::call::{PageQuery, Query};
use protocol::command::Outcome;
use protocol::entry::{EncodedCommand, Entry};
use protocol::ids::{Epoch, Index, ShardId, StoreId};
use protocol::replica::Change;

use crate::{Verdict, values};

/// More than are appended: nothing leaves the log.
const KEEP_ALL: u64 = 1_000_000;
/// Longer logs show nothing else and take longer.
const COMMANDS_MAX: usize = 16;
/// How often a busy store is asked; each time takes a store's own two seconds.
const TRIES: usize = 10;

thread_local! {
    static STORES: RefCell<[MemoryStore; 2]> = RefCell::new([store(), store()]);
}

pub(crate) fn store() -> MemoryStore {
    MemoryStore::new(ShardId(0), 1, KEEP_ALL, StoreId(1)).expect("a store needs no more than memory")
}

/// Decodes commands, and applies them whatever they are.
pub fn check(bytes: &[u8]) -> Verdict {
    let Ok((commands, [])) = postcard::take_from_bytes::<Vec<EncodedCommand>>(bytes) else {
        return Verdict::Refused;
    };
    if commands.is_empty() || commands.len() > COMMANDS_MAX {
        return Verdict::Refused;
    }
    for command in &commands {
        let Ok(decoded) = command.decode() else { continue };
        let again = EncodedCommand::of(&decoded).decode();
        assert_eq!(again.as_ref(), Ok(&decoded));
        assert_eq!(again.map(|again| again.fingerprint()), Ok(decoded.fingerprint()));
    }
    let are_commands = commands.iter().all(|command| command.decode().is_ok());
    let entries = values::chained(&commands);
    let applied = STORES.with_borrow_mut(|[at_once, one_by_one]| {
        for store in [&mut *at_once, &mut *one_by_one] {
            store.begin_anew(KEEP_ALL, StoreId(1)).expect("a store can be emptied");
        }
        apply(at_once, one_by_one, &entries)
    });
    assert!(are_commands || !applied, "what is no command is not applied");
    Verdict::of(applied)
}

fn apply(at_once: &mut MemoryStore, one_by_one: &mut MemoryStore, entries: &[Entry]) -> bool {
    let before = at_once.store.standing();
    let applied = append(at_once, entries);
    assert_sound(&at_once.readers);

    let mut outcomes = Vec::new();
    let mut digests = vec![before.digest];
    for entry in entries {
        let Ok(outcome) = append(one_by_one, std::slice::from_ref(entry)) else { break };
        outcomes.extend(outcome);
        digests.push(one_by_one.store.standing().digest);
    }
    assert_sound(&one_by_one.readers);

    let Ok(applied) = applied else {
        assert_eq!(at_once.store.standing(), before, "what can't be applied changes nothing");
        assert!(outcomes.len() < entries.len(), "what can't be applied at once can't be applied one by one");
        return false;
    };
    assert_eq!(applied, outcomes, "all at once and one by one");
    assert_eq!(at_once.store.standing(), one_by_one.store.standing());
    let kept = one_by_one.store.outcomes(Index(1), Index(entries.len() as u64));
    assert_eq!(kept.expect("they are in the log"), outcomes, "as they are told again");

    let middle = entries.len() / 2;
    one_by_one.store.undo_to(Index(middle as u64)).expect("nothing is committed");
    assert_eq!(Some(&one_by_one.store.standing().digest), digests.get(middle), "taken back");
    assert_sound(&one_by_one.readers);
    let again = append(one_by_one, entries.get(middle..).unwrap_or_default());
    assert_eq!(again.ok().as_deref(), outcomes.get(middle..), "applied again");
    assert_eq!(at_once.store.standing(), one_by_one.store.standing());
    true
}

fn append(to: &mut MemoryStore, entries: &[Entry]) -> Result<Vec<Outcome>, StoreError> {
    let change =
        Change { promise: Epoch(1), appended_epoch: Epoch(1), commit: Index(0), entries: entries.to_vec() };
    to.store.append(&change).map(|applied| applied.outcomes)
}

/// Panics unless all that a store has can be read, and its rows have its digest.
pub(crate) fn assert_sound(readers: &Readers) {
    assert!(patiently(|| readers.recount()).is_sound());
    let all = PageQuery { topic: None, words: None, after: None, limit: 100 };
    for query in [Query::Page(all), Query::Topics, Query::Sales { after: Index(0), limit: 100 }] {
        drop(patiently(|| readers.read(&query)));
    }
}

/// Asks a store, and again if it is busy: so it seems to a process that was stopped for a while.
pub(crate) fn patiently<T>(ask: impl Fn() -> Result<T, StoreError>) -> T {
    let is_busy = |answer: &Result<T, StoreError>| matches!(answer, Err(StoreError::Busy { .. }));
    let answer = (0..TRIES).map(|_| ask()).find(|answer| !is_busy(answer));
    answer.expect("it is not busy for ever").expect("it can be read")
}

/// One to five commands that meet at a few books and keys.
pub fn valid() -> BoxedStrategy<Vec<u8>> {
    proptest::collection::vec(values::command(), 1..6)
        .prop_map(|commands| {
            let encoded: Vec<EncodedCommand> = commands.iter().map(EncodedCommand::of).collect();
            postcard::to_stdvec(&encoded).expect("commands can be encoded")
        })
        .boxed()
}
