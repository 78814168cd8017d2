//! Stores and books of orders that runs use one after the other: a new database costs more than a run.

use catalog::store::MemoryStore;
use order::book::{Book, Change, Opened};
use protocol::ids::{ShardId, StoreId};

/// The one shard that is simulated: shards know nothing of one another.
pub(crate) const SHARD: ShardId = ShardId(0);

/// What one thread has at hand.
#[derive(Debug, Default)]
pub struct Pool {
    stores: Vec<MemoryStore>,
    books: Vec<Opened>,
}

impl Pool {
    /// An empty store.
    pub(crate) fn store(&mut self, keep_entries: u64, id: StoreId) -> MemoryStore {
        match self.stores.pop() {
            Some(mut used) => {
                used.begin_anew(keep_entries, id).expect("a store in memory can be emptied");
                used
            }
            None => MemoryStore::new(SHARD, 1, keep_entries, id).expect("there is memory for a store"),
        }
    }

    pub(crate) fn give_back_store(&mut self, store: MemoryStore) {
        self.stores.push(store);
    }

    /// An empty book of orders.
    pub(crate) fn book(&mut self) -> Opened {
        match self.books.pop() {
            Some(mut used) => {
                empty(&mut used);
                used
            }
            None => Book::in_memory(1).expect("there is memory for a book"),
        }
    }

    pub(crate) fn give_back_book(&mut self, book: Opened) {
        self.books.push(book);
    }
}

/// As if the file had been lost.
pub(crate) fn empty(opened: &mut Opened) {
    opened.book.write(&[Change::Forget { shard: SHARD }]).expect("a book in memory can be emptied");
}
