//! What a command does to the tables.
//!
//! Applying is a function of the tables and the entry alone: no clock, no random number, no order of a
//! hash table, so that all replicas come to the same rows. A command that must be refused half-way is
//! taken back by the same steps that undo an entry.

use protocol::catalogue::{Book, NewBook, Order, OrderLine, STOCK_MAX, SoldItem, TopicKey};
use protocol::command::{Action, Command, Outcome, Refusal};
use protocol::entry::Entry;
use protocol::ids::{BOOK_ID_MAX, BookId, Digest, Epoch, Index, OrderId, ShardId, Timestamp};
use protocol::message::CacheKey;
use protocol::mutant;
use rusqlite::Connection;

use super::books::{BookRow, Tables};
use super::error::{Fault, Step};
use super::keys::{Keys, KeysChange};
use super::meta::Part;
use super::outcomes::Outcomes;
use super::shelf::Stock;
use super::undo::UndoStep;

/// What came of a batch of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// One for each entry.
    pub outcomes: Vec<Outcome>,
    /// What a cache must drop before the entries count as committed, each key once.
    pub touched: Vec<CacheKey>,
}

/// Applies entries one after the other.
pub(super) struct Applier<'c> {
    tables: Tables<'c>,
    outcomes: Outcomes<'c>,
    part: Part,
    done: Vec<Outcome>,
}

/// What is left to do once entries have been applied.
pub(super) struct Finish {
    pub(super) applied: Applied,
    pub(super) digest: Digest,
    pub(super) keys: KeysChange,
}

/// The work on one entry.
struct Work<'a, 'c> {
    tables: &'a mut Tables<'c>,
    part: Part,
    index: Index,
    epoch: Epoch,
    at: Timestamp,
    steps: Vec<UndoStep>,
    touched: Vec<CacheKey>,
}

/// Why a command was not carried out.
enum Stop {
    Refused(Refusal),
    Failed(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<'c> Applier<'c> {
    /// Begins with the tables as they are.
    pub(super) fn new(conn: &'c Connection, part: Part, digest: Digest, keys: &'c Keys) -> Step<Self> {
        let (tables, outcomes) = (Tables::new(conn, digest)?, Outcomes::new(conn, keys)?);
        Ok(Self { tables, outcomes, part, done: Vec::new() })
    }

    /// Carries out an entry, and gives what is needed to undo it.
    pub(super) fn apply(&mut self, entry: &Entry) -> Step<Vec<UndoStep>> {
        let command = command_of(entry)?;
        let fingerprint = command.fingerprint();
        let Command { key, at, action } = command;
        let again = self.outcomes.again(&key, fingerprint)?;
        if let Some(outcome) = again.filter(|_| !mutant!(KeyIgnored)) {
            self.done.push(outcome);
            return Ok(Vec::new());
        }
        let Entry { index, epoch, .. } = *entry;
        let (tables, part) = (&mut self.tables, self.part);
        let mut work = Work { tables, part, index, epoch, at, steps: Vec::new(), touched: Vec::new() };
        let outcome = work.carry_out(action)?;
        let Work { steps, touched, .. } = work;
        self.tables.touched.extend(touched);
        if !(mutant!(RefusalNotStored) && matches!(outcome, Outcome::Refused(_))) {
            self.outcomes.add(index, &key, fingerprint, &outcome, &mut self.tables.sum)?;
        }
        self.done.push(outcome);
        Ok(steps)
    }

    /// Writes what is still in memory alone, once entries up to `last` have been added to those up to `before`.
    pub(super) fn finish(mut self, before: Index, last: Index) -> Step<Finish> {
        self.tables.settle()?;
        let Tables { sum, touched, .. } = self.tables;
        let applied = Applied { outcomes: self.done, touched: touched.into_iter().collect() };
        Ok(Finish { applied, digest: sum.digest, keys: self.outcomes.finish(before, last)? })
    }
}

/// The command of an entry.
pub(super) fn command_of(entry: &Entry) -> Step<Command> {
    let place = || format!("entry {}", entry.index);
    entry.command.decode().map_err(|problem| Fault::corrupt(place(), problem.to_string()))
}

impl Work<'_, '_> {
    fn carry_out(&mut self, action: Action) -> Step<Outcome> {
        let result = match action {
            Action::Buy { order, lines } => self.buy(order, &lines),
            Action::AddStock { book, amount } => self.add_stock(book, amount),
            Action::SetPrice { book, cost_cents } => self.set_price(book, cost_cents),
            Action::PutBook(book) => self
                .put(*book)
                .map(|(row, new)| if new { Outcome::Added(row.book) } else { Outcome::Changed(row.book) }),
            Action::RemoveBook { book } => self.remove(book),
            Action::Load { books } => self.load(books),
        };
        match result {
            Ok(outcome) => Ok(outcome),
            Err(Stop::Failed(fault)) => Err(fault),
            Err(Stop::Refused(refusal)) => {
                UndoStep::take_back(self.tables, &self.steps)?;
                self.steps.clear();
                self.touched.clear();
                Ok(Outcome::Refused(refusal))
            }
        }
    }

    fn buy(&mut self, order: OrderId, lines: &[OrderLine]) -> Result<Outcome, Stop> {
        let mut items = Vec::with_capacity(lines.len());
        for OrderLine { book: id, quantity: asked } in lines.iter().copied() {
            let book = self.tables.shelved(id)?.ok_or(Refusal::NoSuchBook { book: id })?;
            let old = book.stock;
            let available = old.quantity;
            let left =
                available.checked_sub(asked).ok_or(Refusal::OutOfStock { book: id, asked, available })?;
            book.stock = Stock { quantity: left, version: self.index, epoch: self.epoch, ..old };
            self.steps.push(UndoStep::Stock { book: id, old });
            let (title, unit_cost_cents) = (book.title.clone(), old.cost_cents);
            items.push(SoldItem { book: id, title, quantity: asked, unit_cost_cents });
        }
        Ok(Outcome::Sold(Order { id: order, items, at: self.at }))
    }

    fn add_stock(&mut self, book: BookId, amount: i64) -> Result<Outcome, Stop> {
        let row = self.tables.book(book)?.ok_or(Refusal::NoSuchBook { book })?;
        let available = row.book.quantity;
        let asked = amount.unsigned_abs();
        let quantity = if amount < 0 {
            available.checked_sub(asked).ok_or(Refusal::OutOfStock { book, asked, available })?
        } else {
            let sum = available.checked_add(asked).filter(|sum| *sum <= STOCK_MAX);
            sum.ok_or(Refusal::StockLimit { book })?
        };
        self.change(row, |stock| Stock { quantity, ..stock })
    }

    fn set_price(&mut self, book: BookId, cost_cents: u64) -> Result<Outcome, Stop> {
        let row = self.tables.book(book)?.ok_or(Refusal::NoSuchBook { book })?;
        self.change(row, |stock| Stock { cost_cents, ..stock })
    }

    fn change(&mut self, row: BookRow, change: impl FnOnce(Stock) -> Stock) -> Result<Outcome, Stop> {
        let old = row.stock();
        let new = Stock { version: self.index, epoch: self.epoch, ..change(old) };
        self.tables.restock(&row, new);
        self.steps.push(UndoStep::Stock { book: row.book.id, old });
        let Stock { cost_cents, quantity, version, epoch: _ } = new;
        Ok(Outcome::Changed(Book { cost_cents, quantity, version, ..row.book }))
    }

    /// Adds or replaces a book; the second is whether it is new.
    fn put(&mut self, book: NewBook) -> Result<(BookRow, bool), Stop> {
        let NewBook { id, facts, cost_cents, quantity } = book;
        let id = match id {
            Some(id) => id,
            None => self.free_id()?,
        };
        let book = Book { id, facts, cost_cents, quantity, version: self.index };
        let row = BookRow { book, epoch: self.epoch };
        let old = self.tables.book(id)?;
        self.tables.put_book(old.as_ref(), &row)?;
        self.touched.extend(old.as_ref().map(|old| CacheKey::Topic(old.topic_key())));
        self.touch_all(id, row.topic_key());
        let new = old.is_none();
        self.steps.push(old.map_or(UndoStep::Absent { book: id }, |old| UndoStep::Row(Box::new(old))));
        Ok((row, new))
    }

    /// The smallest id of this shard above all that it has.
    fn free_id(&self) -> Result<BookId, Stop> {
        let Part { shard, count } = self.part;
        let above = self.tables.highest_book()? + 1;
        let mut ids = (above..=BOOK_ID_MAX).filter_map(|id| BookId::try_from(id).ok());
        let id = ids.find(|id| ShardId::of_book(*id, count) == shard);
        Ok(id.ok_or(Refusal::NoFreeId)?)
    }

    fn remove(&mut self, book: BookId) -> Result<Outcome, Stop> {
        let row = self.tables.book(book)?.ok_or(Refusal::NoSuchBook { book })?;
        self.tables.remove_book(&row)?;
        self.touch_all(book, row.topic_key());
        self.steps.push(UndoStep::Row(Box::new(row)));
        Ok(Outcome::Removed)
    }

    fn load(&mut self, books: Vec<NewBook>) -> Result<Outcome, Stop> {
        let mut count = 0;
        for book in books {
            self.put(book)?;
            count += 1;
        }
        Ok(Outcome::Loaded { books: count })
    }

    fn touch_all(&mut self, book: BookId, topic: TopicKey) {
        let keys = [CacheKey::Book(book), CacheKey::Topic(topic), CacheKey::Pages, CacheKey::Topics];
        self.touched.extend(keys);
    }
}
