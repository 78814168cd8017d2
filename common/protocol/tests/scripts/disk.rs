//! A replica's disk: what is durable, with a tiny state machine in place of the store's tables.
//!
//! Each step is one transaction: after a crash all of it is there or nothing. The tables hold a few books
//! whose price is a register and whose quantity counts the changes, so that a command that is applied
//! twice shows, and the outcomes by key, as the real tables do.

use std::collections::BTreeMap;

use protocol::catalogue::{Book, Facts};
use protocol::command::{Action, Command, CommandKey, Fingerprint, Outcome, Refusal};
use protocol::entry::Entry;
use protocol::ids::{BookId, Chain, Digest, Epoch, Index, StoreId};
use protocol::message::{CacheKey, Standing};
use protocol::replica::{Change, Done, Step, TAIL_ENTRIES};
use protocol::view::View;

#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) store: StoreId,
    pub(crate) promise: Epoch,
    pub(crate) view: Option<View>,
    pub(crate) appended_epoch: Epoch,
    pub(crate) commit: Index,
    pub(crate) tables: Tables,
    /// Whether what is needed to undo was kept.
    pub(crate) can_undo: bool,
    /// How many committed entries the log reaches back.
    pub(crate) retention: u64,
}

/// What a snapshot holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    base: (Index, Chain),
    log: Vec<Applied>,
    pub(crate) books: BTreeMap<BookId, Book>,
    outcomes: BTreeMap<CommandKey, (Fingerprint, Outcome)>,
    digest: Digest,
}

#[derive(Clone, Debug)]
struct Applied {
    entry: Entry,
    outcome: Outcome,
    undo: Undo,
}

#[derive(Clone, Debug)]
enum Undo {
    Nothing,
    Write { key: CommandKey, book: BookId, before: Option<Book> },
}

impl Disk {
    pub(crate) fn new(store: StoreId, retention: u64, can_undo: bool) -> Self {
        Self {
            store,
            promise: Epoch(0),
            view: None,
            appended_epoch: Epoch(0),
            commit: Index(0),
            tables: Tables::default(),
            can_undo,
            retention,
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        let (last, chain) = self.tables.last();
        Standing {
            store: self.store,
            promise: self.promise,
            last,
            chain,
            digest: self.tables.digest,
            commit: self.commit,
            view: self.view.clone(),
        }
    }

    pub(crate) fn tail(&self) -> Vec<(Index, Chain)> {
        let from = Index(self.tables.last().0.0.saturating_sub(TAIL_ENTRIES)).min(self.commit);
        let mut tail: Vec<_> = std::iter::once(self.tables.base)
            .chain(self.tables.log.iter().map(|applied| (applied.entry.index, applied.entry.chain)))
            .collect();
        tail.retain(|(index, _)| *index >= from);
        tail
    }

    /// Carries out a step, and checks what a replica must never ask of its store.
    pub(crate) fn run(&mut self, step: &Step) -> Done {
        match step {
            Step::Promise { epoch, view } => {
                assert!(*epoch >= self.promise, "I3: promise {epoch} below {}", self.promise);
                self.promise = *epoch;
                if let Some(view) = view {
                    self.view = Some(view.clone());
                }
                Done::Promised
            }
            Step::Append(change) => self.append(change),
            Step::Outcomes { first, last } => {
                assert!(
                    *first > self.tables.base.0,
                    "the outcome of {first} is asked for, which the log has no more"
                );
                let wanted = |applied: &&Applied| (*first..=*last).contains(&applied.entry.index);
                Done::Outcomes(self.tables.log.iter().filter(wanted).map(|a| a.outcome.clone()).collect())
            }
            Step::Fetch { after, upto } => {
                assert!(
                    *after >= self.tables.base.0,
                    "what follows {after} is asked for, which the log has no more"
                );
                let wanted = |entry: &Entry| entry.index > *after && entry.index <= *upto;
                Done::Fetched(self.tables.entries().filter(|entry| wanted(entry)).cloned().collect())
            }
            Step::Undo { to } => {
                assert!(*to >= self.commit, "undo to {to} below the commit index {}", self.commit);
                if !self.can_undo {
                    return Done::UndoGone;
                }
                self.tables.undo(*to);
                Done::Undone { digest: self.tables.digest }
            }
        }
    }

    fn append(&mut self, change: &Change) -> Done {
        assert!(change.promise >= self.promise, "I3: append in {} below {}", change.promise, self.promise);
        assert!(change.commit >= self.commit, "the commit index falls");
        let mut outcomes = Vec::new();
        let mut touched = Vec::new();
        for entry in &change.entries {
            let (outcome, key) = self.tables.apply(entry);
            outcomes.push(outcome);
            touched.extend(key);
        }
        touched.sort();
        touched.dedup();
        self.promise = change.promise;
        self.appended_epoch = change.appended_epoch;
        self.commit = change.commit;
        assert!(self.commit <= self.tables.last().0, "committed beyond the log");
        self.tables.trim(Index(self.commit.0.saturating_sub(self.retention)));
        Done::Appended { outcomes, touched, digest: self.tables.digest }
    }

    /// Replaces tables and log by a snapshot; what the replica is and has promised stays.
    pub(crate) fn install(&mut self, tables: Tables, commit: Index) {
        self.tables = tables;
        self.commit = self.commit.max(commit);
        assert!(self.commit <= self.tables.last().0, "a snapshot that undoes a commit was installed");
    }
}

impl Tables {
    pub(crate) fn last(&self) -> (Index, Chain) {
        self.log.last().map_or(self.base, |applied| (applied.entry.index, applied.entry.chain))
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.log.iter().map(|applied| &applied.entry)
    }

    fn apply(&mut self, entry: &Entry) -> (Outcome, Option<CacheKey>) {
        let (last, chain) = self.last();
        assert_eq!(entry.index, last.next(), "I2: a gap in the log");
        assert!(entry.follows(chain), "I2: an entry that does not follow");
        let command = entry.command.decode().expect("the clients send commands");
        let (outcome, undo) = self.execute(entry.index, &command);
        let touched = match &undo {
            Undo::Nothing => None,
            Undo::Write { book, .. } => Some(CacheKey::Book(*book)),
        };
        self.log.push(Applied { entry: entry.clone(), outcome: outcome.clone(), undo });
        (outcome, touched)
    }

    fn execute(&mut self, index: Index, command: &Command) -> (Outcome, Undo) {
        if let Some((fingerprint, outcome)) = self.outcomes.get(&command.key) {
            let same = *fingerprint == command.fingerprint();
            let again = if same { outcome.clone() } else { Outcome::Refused(Refusal::KeyConflict) };
            return (again, Undo::Nothing);
        }
        let Action::SetPrice { book: id, cost_cents } = command.action else {
            unreachable!("the clients set prices only")
        };
        let before = self.books.get(&id).cloned();
        let quantity = before.as_ref().map_or(0, |book| book.quantity) + 1;
        let title = before.as_ref().map_or_else(|| "title".to_owned(), |book| book.facts.title.clone());
        let book = Book { id, facts: facts(title), cost_cents, quantity, version: index };
        self.put_book(id, Some(book.clone()));
        let outcome = Outcome::Changed(book);
        self.put_outcome(&command.key, Some((command.fingerprint(), outcome.clone())));
        (outcome, Undo::Write { key: command.key.clone(), book: id, before })
    }

    fn undo(&mut self, to: Index) {
        while self.last().0 > to {
            let applied = self.log.pop().expect("the log reaches back to what is not committed");
            if let Undo::Write { key, book, before } = applied.undo {
                self.put_book(book, before);
                self.put_outcome(&key, None);
            }
        }
    }

    fn put_book(&mut self, id: BookId, book: Option<Book>) {
        if let Some(old) = self.books.remove(&id) {
            self.digest = self.digest.minus_row(&row(&old));
        }
        if let Some(book) = book {
            self.digest = self.digest.plus_row(&row(&book));
            self.books.insert(id, book);
        }
    }

    fn put_outcome(&mut self, key: &CommandKey, outcome: Option<(Fingerprint, Outcome)>) {
        if let Some(old) = self.outcomes.remove(key) {
            self.digest = self.digest.minus_row(&row((key, &old)));
        }
        if let Some(outcome) = outcome {
            self.digest = self.digest.plus_row(&row((key, &outcome)));
            self.outcomes.insert(key.clone(), outcome);
        }
    }

    /// Lets the log begin behind an index that is committed.
    fn trim(&mut self, to: Index) {
        let gone = self.log.iter().take_while(|applied| applied.entry.index <= to).count();
        if let Some(applied) = self.log.drain(..gone).last() {
            self.base = (applied.entry.index, applied.entry.chain);
        }
    }
}

fn facts(title: String) -> Facts {
    Facts { title, topic: "topic".to_owned(), author: None, isbn: None, year: None, description: None }
}

fn row(of: impl std::fmt::Debug) -> Vec<u8> {
    format!("{of:?}").into_bytes()
}
