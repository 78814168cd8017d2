//! What callers saw, for a second judge: the checker of recorded histories, which knows nothing of logs and
//! commit indexes, must come to the same verdict as the oracle that does.

use std::collections::BTreeMap;
use std::time::Duration;

use common::api;
use frontend::cache::Cached;
use history::{Answer, Call, CallNumber, ClientId, History, Moment, NewRow, Seen, Verdict, check};
use protocol::call::Query;
use protocol::catalogue::{Book, NewBook};
use protocol::command::{Action, CommandKey, Outcome, Refusal};
use protocol::ids::{BookId, Index};

#[derive(Debug, Default)]
pub(crate) struct Callers {
    history: History,
    /// Writes whose outcome is not known yet. All attempts under one key are one call.
    writing: BTreeMap<CommandKey, CallNumber>,
    reading: BTreeMap<usize, CallNumber>,
    /// A book was put without an id: which one it became is not known before the answer, if there is one.
    is_beyond_record: bool,
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
        match call_of(action) {
            Some(call) => {
                let number = self.history.send(caller(client), moment(now), call);
                self.writing.insert(key.clone(), number);
            }
            None => self.is_beyond_record = true,
        }
    }

    /// A client hears what became of a write; what it hears once more is no news.
    pub(crate) fn is_told(&mut self, now: Duration, key: &CommandKey, outcome: &Outcome) {
        if let Some(number) = self.writing.remove(key) {
            self.history.answer(number, moment(now), answer_of(outcome));
        }
    }

    /// A client hears that a write was not done, and lets it be.
    pub(crate) fn gives_up(&mut self, now: Duration, key: &CommandKey) {
        if let Some(number) = self.writing.remove(key) {
            self.history.answer(number, moment(now), Answer::NotDone);
        }
    }

    /// A client asks to see books.
    pub(crate) fn reads(&mut self, now: Duration, client: usize, query: &Query) {
        // What it asked before and got no answer to may still be under way: it has no effect.
        self.reading.remove(&client);
        let call = match query {
            Query::Book(id) => Call::Look(*id),
            Query::Page(_) => Call::Page,
            Query::Topics | Query::Sales { .. } | Query::ChainAt(_) | Query::Ledger { .. } => return,
        };
        let number = self.history.send(caller(client), moment(now), call);
        self.reading.insert(client, number);
    }

    /// A client is shown books.
    pub(crate) fn is_shown(&mut self, now: Duration, client: usize, query: &Query, shown: &Cached) {
        let Some(number) = self.reading.remove(&client) else { return };
        let answer = match (query, shown) {
            (Query::Book(id), Cached::Book(answer)) => match &answer.found {
                Some(found) => Answer::Book(seen(&parsed(&found.body))),
                None => Answer::Absent(*id),
            },
            (_, Cached::Rendered(rendered)) => {
                let page: api::BookPage = parsed(&rendered.body);
                Answer::Books(page.books.iter().map(|book| (book.id, seen(book))).collect())
            }
            (query, Cached::Book(_)) => unreachable!("{query:?} is not answered with a book"),
        };
        self.history.answer(number, moment(now), answer);
    }

    pub(crate) fn look_at_the_end(&self) {
        if !self.is_beyond_record {
            let verdict = check(&self.history);
            assert!(matches!(verdict, Verdict::Linearizable), "the callers' history: {verdict:?}");
        }
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

fn call_of(action: &Action) -> Option<Call> {
    Some(match action {
        Action::Buy { lines, .. } => Call::Buy(lines.clone()),
        Action::AddStock { book, amount } => Call::AddStock(*book, *amount),
        Action::SetPrice { book, cost_cents } => Call::SetPrice(*book, *cost_cents),
        Action::PutBook(book) => Call::Put(row(book.id?, book)),
        Action::RemoveBook { book } => Call::Remove(*book),
        Action::Load { books } => {
            Call::Load(books.iter().map(|book| Some(row(book.id?, book))).collect::<Option<_>>()?)
        }
    })
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
