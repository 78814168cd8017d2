//! What callers saw, for a second judge: the checker of recorded histories, which knows nothing of logs and
//! commit indexes, must come to the same verdict as the oracle that does.

use std::collections::BTreeMap;
use std::time::Duration;

use common::api;
use frontend::cache::Cached;
use history::{Answer, Call, CallNumber, ClientId, History, Moment, NewRow, Seen, Verdict, check};
use protocol::call::Query;
use protocol::catalogue::{Book, NewBook, OrderLine};
use protocol::command::{Action, CommandKey, Outcome, Refusal};
use protocol::ids::{BookId, Index};

use crate::sights::{Sight, Sights};

#[derive(Debug, Default)]
pub(crate) struct Callers {
    history: History,
    /// Writes whose outcome is not known yet. All attempts under one key are one call.
    writing: BTreeMap<CommandKey, CallNumber>,
    reading: BTreeMap<usize, CallNumber>,
    /// Books that were put without an id: which one each became is not known before the answer, if there is one.
    nameless: BTreeMap<CommandKey, Nameless>,
    told_nameless: u64,
    /// The highest id that was ever shown or named.
    highest: Option<BookId>,
}

/// A book without an id on its way into the store.
#[derive(Debug)]
struct Nameless {
    client: ClientId,
    sent: Moment,
    cost_cents: u64,
    quantity: u64,
}

fn moment(now: Duration) -> Moment {
    Moment(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

fn caller(client: usize) -> ClientId {
    ClientId(u32::try_from(client).unwrap_or(u32::MAX))
}

impl Callers {
    /// A client sends a write for the first time under its key.
    pub(crate) fn writes(&mut self, now: Duration, client: usize, key: &CommandKey, action: &Action) {
        let (client, sent) = (caller(client), moment(now));
        match action {
            Action::PutBook(book) if book.id.is_none() => {
                let NewBook { cost_cents, quantity, .. } = **book;
                self.nameless.insert(key.clone(), Nameless { client, sent, cost_cents, quantity });
            }
            action => {
                let call = call_of(action);
                self.highest = self.highest.max(books_of(&call).max());
                let number = self.history.send(client, sent, call);
                self.writing.insert(key.clone(), number);
            }
        }
    }

    /// A client hears what became of a write; what it hears once more is no news.
    pub(crate) fn is_told(&mut self, now: Duration, key: &CommandKey, outcome: &Outcome) {
        if let Some(number) = self.writing.remove(key) {
            self.history.answer(number, moment(now), answer_of(outcome));
        }
        if let Some(put) = self.nameless.remove(key) {
            let Outcome::Added(book) = outcome else { panic!("a new book was asked for: {outcome:?}") };
            self.highest = self.highest.max(Some(book.id));
            let number = self.history.send(put.client, put.sent, put.named(book.id));
            self.history.answer(number, moment(now), answer_of(outcome));
            self.told_nameless += 1;
        }
    }

    /// A client hears that a write was not done, and lets it be.
    pub(crate) fn gives_up(&mut self, now: Duration, key: &CommandKey) {
        self.nameless.remove(key);
        if let Some(number) = self.writing.remove(key) {
            self.history.answer(number, moment(now), Answer::NotDone);
        }
    }

    /// What a client asked before and got no answer to may still be under way: it has no effect.
    pub(crate) fn asks_anew(&mut self, client: usize) {
        self.reading.remove(&client);
    }

    /// A client asks to see books.
    pub(crate) fn reads(&mut self, now: Duration, client: usize, query: &Query) {
        let call = match query {
            Query::Book(id) => Call::Look(*id),
            Query::Page(_) => Call::Page,
            Query::Topics | Query::Sales { .. } | Query::ChainAt(_) | Query::Ledger { .. } => return,
        };
        let number = self.history.send(caller(client), moment(now), call);
        self.reading.insert(client, number);
    }

    /// A client is shown books. Of one whose row was changed from outside nothing is said.
    pub(crate) fn is_shown(
        &mut self,
        now: Duration,
        client: usize,
        query: &Query,
        shown: &Cached,
        spoilt: Option<BookId>,
    ) {
        if matches!(query, Query::Book(id) if Some(*id) == spoilt) {
            return;
        }
        let Some(number) = self.reading.remove(&client) else { return };
        let answer = match (query, shown) {
            (Query::Book(id), Cached::Book(answer)) => match &answer.found {
                Some(found) => Answer::Book(seen(&parsed(&found.body))),
                None => Answer::Absent(*id),
            },
            (_, Cached::Rendered(rendered)) => {
                let page: api::BookPage = parsed(&rendered.body);
                let told = page.books.iter().filter(|book| Some(book.id) != spoilt);
                Answer::Books(told.map(|book| (book.id, seen(book))).collect())
            }
            (query, Cached::Book(_)) => unreachable!("{query:?} is not answered with a book"),
        };
        self.history.answer(number, moment(now), answer);
    }

    pub(crate) fn look_at_the_end(&mut self, sights: &mut Sights) {
        for _ in 0..self.told_nameless {
            sights.add(Sight::NamelessPutTold);
        }
        // A book that nobody was told of may be any of those that there ever were, or the next one.
        let untold = std::mem::take(&mut self.nameless);
        let highest = self.highest.map_or(0, BookId::get) + untold.len() as u64;
        for put in untold.into_values() {
            sights.add(Sight::NamelessPutUntold);
            for id in 1..=highest {
                let id = BookId::try_from(id).expect("a small number is a book id");
                self.history.send(put.client, put.sent, put.named(id));
            }
        }
        let verdict = check(&self.history);
        assert!(matches!(verdict, Verdict::Linearizable), "the callers' history: {verdict:?}");
    }
}

fn parsed<T: serde::de::DeserializeOwned>(body: &[u8]) -> T {
    serde_json::from_slice(body).expect("a body is JSON")
}

fn seen(book: &api::Book) -> Seen {
    let (cost_cents, quantity, version) = (Some(book.cost_cents), book.quantity, Index(book.version));
    Seen { cost_cents, quantity, version }
}

fn seen_in(book: &Book) -> Seen {
    Seen { cost_cents: Some(book.cost_cents), quantity: book.quantity, version: book.version }
}

fn row(id: BookId, book: &NewBook) -> NewRow {
    NewRow { book: id, cost_cents: book.cost_cents, quantity: book.quantity }
}

impl Nameless {
    fn named(&self, book: BookId) -> Call {
        Call::Put(NewRow { book, cost_cents: self.cost_cents, quantity: self.quantity })
    }
}

/// The books that a call names.
fn books_of(call: &Call) -> impl Iterator<Item = BookId> {
    let (one, lines, rows): (_, &[OrderLine], &[NewRow]) = match call {
        Call::Look(book) | Call::AddStock(book, _) | Call::SetPrice(book, _) | Call::Remove(book) => {
            (Some(*book), &[], &[])
        }
        Call::Put(row) => (Some(row.book), &[], &[]),
        Call::Buy(lines) => (None, lines, &[]),
        Call::Load(rows) => (None, &[], rows),
        Call::Page => (None, &[], &[]),
    };
    one.into_iter().chain(lines.iter().map(|line| line.book)).chain(rows.iter().map(|row| row.book))
}

/// A write that says which books it is about.
fn call_of(action: &Action) -> Call {
    let id = |book: &NewBook| book.id.expect("a book that is put without an id is known by its answer");
    match action {
        Action::Buy { lines, .. } => Call::Buy(lines.clone()),
        Action::AddStock { book, amount } => Call::AddStock(*book, *amount),
        Action::SetPrice { book, cost_cents } => Call::SetPrice(*book, *cost_cents),
        Action::PutBook(book) => Call::Put(row(id(book), book)),
        Action::RemoveBook { book } => Call::Remove(*book),
        Action::Load { books } => Call::Load(books.iter().map(|book| row(id(book), book)).collect()),
    }
}

fn answer_of(outcome: &Outcome) -> Answer {
    match outcome {
        Outcome::Sold(order) => Answer::Sold(order.items.iter().map(|item| item.unit_cost_cents).collect()),
        Outcome::Changed(book) => Answer::Book(seen_in(book)),
        Outcome::Added(book) => Answer::Added(seen_in(book)),
        Outcome::Removed | Outcome::Loaded { .. } => Answer::Done,
        Outcome::Refused(Refusal::NoSuchBook { book }) => Answer::Absent(*book),
        Outcome::Refused(Refusal::OutOfStock { book, available, .. }) => {
            Answer::OutOfStock(*book, *available)
        }
        Outcome::Refused(Refusal::StockLimit { book }) => Answer::StockLimit(*book),
        Outcome::Refused(Refusal::KeyConflict | Refusal::NoFreeId) => Answer::Unknown,
    }
}
