//! Tests of the store, on real files in temporary directories.

mod commands;
mod files;
mod history;
mod keys;
mod ledger;
mod log;
mod migrations;
mod queries;
mod snapshots;
mod words;

use std::ops::ControlFlow;
use std::path::Path;

use protocol::call::{Answer, Content, PageQuery, Query, SnapshotFacts};
use protocol::catalogue::{Book, Facts, NewBook, OrderLine};
use protocol::command::{Action, Command, CommandKey, Outcome, Scope};
use protocol::entry::{EncodedCommand, Entry};
use protocol::ids::{BookId, Chain, Epoch, Index, NodeId, OrderId, ShardId, StoreId, Timestamp};
use protocol::replica::Change;
use protocol::view::{Member, View};
use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;

use super::{Applied, MemoryStore, Readers, Store, StoreError};

/// More than any test appends: nothing leaves the log.
const KEEP_ALL: u64 = 1_000_000;

/// A store with the log that it was given.
struct Fixture {
    store: Store,
    readers: Readers,
    history: History,
    directory: Option<TempDir>,
}

/// Entries as a writer makes them.
#[derive(Clone, Default)]
struct History {
    entries: Vec<Entry>,
    made: u64,
}

impl History {
    fn last(&self) -> (Index, Chain) {
        self.entries.last().map_or((Index(0), Chain::default()), |entry| (entry.index, entry.chain))
    }

    fn add(&mut self, key: &str, action: Action) -> Entry {
        self.made += 1;
        let at = Timestamp(1_700_000_000_000 + self.made);
        let command = Command { key: CommandKey::new(Scope::Public, key.as_bytes()), at, action };
        let (last, chain) = self.last();
        let epoch = Epoch(1 + last.0 / 10);
        let entry = Entry::after(chain, last.next(), epoch, EncodedCommand::of(&command));
        self.entries.push(entry.clone());
        entry
    }

    fn add_fresh(&mut self, action: Action) -> Entry {
        let key = format!("key-{}", self.made);
        self.add(&key, action)
    }
}

impl Fixture {
    fn new() -> Self {
        Self::keeping(KEEP_ALL)
    }

    fn keeping(keep_entries: u64) -> Self {
        let directory = TempDir::new().unwrap();
        let (store, readers) = Store::open(directory.path(), ShardId(0), 1, keep_entries).unwrap();
        Self { store, readers, history: History::default(), directory: Some(directory) }
    }

    fn in_memory() -> Self {
        let MemoryStore { store, readers } = MemoryStore::new(ShardId(0), 1, KEEP_ALL, StoreId(7)).unwrap();
        Self { store, readers, history: History::default(), directory: None }
    }

    /// With books 1 to 4: 1 and 2 of one topic, five copies each.
    fn stocked() -> Self {
        let mut fixture = Self::new();
        fixture.stock();
        fixture
    }

    fn stock(&mut self) {
        let books = vec![
            new_book(Some(1), "RPCs for Dummies", "Distributed Systems"),
            new_book(Some(2), "How to get a good grade", "distributed-systems"),
            new_book(Some(3), "Cooking for the Impatient", "graduate school"),
            new_book(Some(4), "Spring in the Pioneer Valley", "Spring"),
        ];
        assert_eq!(self.run(Action::Load { books }), Outcome::Loaded { books: 4 });
    }

    fn append(&mut self, entries: Vec<Entry>) -> Applied {
        self.append_knowing(entries, Index(0))
    }

    fn append_knowing(&mut self, entries: Vec<Entry>, commit: Index) -> Applied {
        let change = Change { promise: Epoch(1), appended_epoch: Epoch(1), commit, entries };
        self.store.append(&change).unwrap()
    }

    fn apply(&mut self, key: &str, action: Action) -> (Outcome, Applied) {
        let entry = self.history.add(key, action);
        let applied = self.append(vec![entry]);
        (applied.outcomes[0].clone(), applied)
    }

    /// Carries out one command under a key of its own.
    fn run(&mut self, action: Action) -> Outcome {
        let entry = self.history.add_fresh(action);
        self.append(vec![entry]).outcomes.remove(0)
    }

    fn undo_to(&mut self, index: Index) {
        self.store.undo_to(index).unwrap();
        self.history.entries.truncate(usize::try_from(index.0).unwrap());
    }

    fn book(&self, id: u64) -> Option<Book> {
        match self.read(&Query::Book(book_id(id))).content {
            Content::Book(book) => book,
            other => panic!("{other:?}"),
        }
    }

    fn read(&self, query: &Query) -> Answer {
        self.readers.read(query).unwrap()
    }

    /// The ids of a page, and whether more follow.
    fn page(
        &self,
        topic: Option<&str>,
        words: Option<&str>,
        after: Option<u64>,
        limit: u32,
    ) -> (Vec<u64>, bool) {
        let query = Query::Page(PageQuery {
            topic: topic.map(protocol::catalogue::TopicKey::of),
            words: words.map(str::to_owned),
            after: after.map(book_id),
            limit,
        });
        match self.read(&query).content {
            Content::Page { books, more } => (books.iter().map(|book| book.id.get()).collect(), more),
            other => panic!("{other:?}"),
        }
    }

    /// All that the store holds, after a check that the index of words and the digest fit the rows.
    fn dump(&self) -> Vec<String> {
        let check = "INSERT INTO books_words (books_words, rank) VALUES ('integrity-check', 1)";
        self.store.conn.execute(check, []).unwrap();
        assert!(self.readers.recount().unwrap().is_sound());
        dump(&self.store.conn)
    }
}

/// Checks a snapshot and installs it.
fn install(
    store: &mut Store,
    readers: &Readers,
    file: &Path,
    facts: &SnapshotFacts,
    commit: Index,
) -> Result<(), StoreError> {
    store.install_snapshot(&readers.check_snapshot(file, facts)?, commit)
}

/// The rows of all tables but what is a store's own; of pieces what is in them, however they are cut.
fn dump(conn: &Connection) -> Vec<String> {
    let tables = [
        "SELECT * FROM books ORDER BY id",
        "SELECT * FROM stock ORDER BY id",
        "SELECT * FROM topics ORDER BY topic_key",
        "SELECT * FROM keys ORDER BY hash, idx",
        "SELECT shard, shard_count, last, last_epoch, chain, digest FROM meta",
    ];
    let mut dump = Vec::new();
    for sql in tables {
        let mut statement = conn.prepare(sql).unwrap();
        let columns = statement.column_count();
        let rows = statement
            .query_map([], |row| {
                (0..columns).map(|column| row.get::<_, Value>(column)).collect::<Result<Vec<_>, _>>()
            })
            .unwrap();
        dump.extend(rows.map(|row| format!("{sql}: {:?}", row.unwrap())));
    }
    let outcomes = super::outcomes::each_above(conn, Index(0), |row| {
        dump.push(format!("{row:?} {:?}", row.decode()?));
        Ok(ControlFlow::Continue(()))
    });
    outcomes.unwrap();
    let entries = super::log::each_above(conn, Index(0), |entry| {
        dump.push(format!("{entry:?}"));
        Ok(ControlFlow::Continue(()))
    });
    entries.unwrap();
    dump
}

fn book_id(id: u64) -> BookId {
    BookId::try_from(id).unwrap()
}

fn new_book(id: Option<u64>, title: &str, topic: &str) -> NewBook {
    NewBook {
        id: id.map(book_id),
        facts: Facts {
            title: title.to_owned(),
            topic: topic.to_owned(),
            author: Some("A. Writer".to_owned()),
            isbn: None,
            year: Some(2007),
            description: None,
        },
        cost_cents: 1_000,
        quantity: 5,
    }
}

fn put(id: u64, title: &str, topic: &str) -> Action {
    Action::PutBook(Box::new(new_book(Some(id), title, topic)))
}

fn buy(lines: &[(u64, u64)]) -> Action {
    let line = |(book, quantity): &(u64, u64)| OrderLine { book: book_id(*book), quantity: *quantity };
    Action::Buy { order: OrderId(77), lines: lines.iter().map(line).collect() }
}

fn view(epoch: u64) -> View {
    View {
        shard: ShardId(0),
        epoch: Epoch(epoch),
        writer: NodeId::from("frontend-1"),
        members: vec![Member { node: NodeId::from("catalog-1"), store: StoreId(1) }],
        last_index: Index(0),
    }
}

/// A small generator of numbers: the same seed gives the same sequence for ever.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
