//! What a person searches for: the words become a query to the index of words.
//!
//! The first line is the topic, the rest the words.

use std::cell::RefCell;

use catalog::store::MemoryStore;
use proptest::prelude::*;
use protocol::call::{Content, PageQuery, Query};
use protocol::catalogue::{Facts, NewBook, TITLE_BYTES_MAX, TOPIC_BYTES_MAX, TopicKey};
use protocol::command::{Action, Command, CommandKey, Scope};
use protocol::entry::EncodedCommand;
use protocol::ids::{BookId, Epoch, Index, StoreId, Timestamp};
use protocol::replica::Change;

use crate::{Verdict, commands, values};

thread_local! {
    static STORE: RefCell<MemoryStore> = RefCell::new(commands::store());
}

/// Searches a store whose one book has the words as its title, and the topic.
pub fn check(bytes: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Refused };
    let (topic, words) = text.split_once('\n').unwrap_or(("", text));
    // As the front end lets them through.
    if topic.len() > TOPIC_BYTES_MAX || words.len() > TITLE_BYTES_MAX || text.contains('\0') {
        return Verdict::Refused;
    }
    let key = TopicKey::of(topic);
    STORE.with_borrow_mut(|store| {
        store.begin_anew(10, StoreId(1)).expect("a store can be emptied");
        add(store, words, topic);
        let found = |topic: Option<&TopicKey>, words: Option<&str>| {
            let query =
                PageQuery { topic: topic.cloned(), words: words.map(str::to_owned), after: None, limit: 5 };
            let query = Query::Page(query);
            match commands::patiently(|| store.readers.read(&query)).content {
                Content::Page { books, more: false } => books.len() == 1,
                other => panic!("{other:?}"),
            }
        };
        assert!(found(None, None));
        assert!(found(Some(&key), None), "by its topic");
        let by_title = found(None, Some(words));
        assert_eq!(found(Some(&key), Some(words)), by_title, "the topic is its topic");
        Verdict::of(by_title)
    })
}

fn add(store: &mut MemoryStore, title: &str, topic: &str) {
    let facts = Facts {
        title: title.to_owned(),
        topic: topic.to_owned(),
        author: None,
        isbn: None,
        year: None,
        description: None,
    };
    let book = NewBook { id: BookId::try_from(1).ok(), facts, cost_cents: 1, quantity: 1 };
    let command = Command {
        key: CommandKey::new(Scope::Store, b"k"),
        at: Timestamp(1),
        action: Action::PutBook(Box::new(book)),
    };
    let entries = values::chained(&[EncodedCommand::of(&command)]);
    let change = Change { promise: Epoch(1), appended_epoch: Epoch(1), commit: Index(0), entries };
    store.store.append(&change).expect("a book can be added");
}

/// Titles that must be found.
pub fn valid() -> BoxedStrategy<Vec<u8>> {
    (values::text(), "[a-z]{1,6}( [A-Za-z0-9]{1,6}){0,9}", "[ ,.!\"*()+-]{0,3}")
        .prop_map(|(topic, words, end)| format!("{topic}\n{words}{end}").into_bytes())
        .boxed()
}
