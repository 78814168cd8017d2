//! A replica's disk in the model: what is durable, with a tiny state machine in place of the store's tables.
//!
//! Each step is one transaction, done wholly or not at all. The table is one book: a register that each
//! command sets to its own number, and the outcomes by key. So a command that is applied twice, lost or
//! undone too far shows.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use protocol::call::{LogPage, Version};
use protocol::command::{Action, Command, CommandKey, Outcome, Scope};
use protocol::entry::{EncodedCommand, Entry};
use protocol::ids::{BookId, Chain, Digest, Epoch, Index, StoreId, Timestamp};
use protocol::message::{CacheKey, Standing};
use protocol::replica::{Change, Done, Step};
use protocol::view::View;

use crate::state::Shown;

/// The number of a command: its key, and what it sets the book to.
pub type Key = u8;

/// The most commands of a configuration.
pub const KEYS_MAX: Key = 4;

/// The one book.
#[must_use]
pub fn book() -> BookId {
    BookId::try_from(1).expect("1 is a book id")
}

/// A command as the log holds it.
///
/// # Panics
/// If there is no such command.
#[must_use]
pub fn command(key: Key) -> EncodedCommand {
    static COMMANDS: OnceLock<Vec<EncodedCommand>> = OnceLock::new();
    let all = COMMANDS.get_or_init(|| {
        let encode = |key: Key| {
            EncodedCommand::of(&Command {
                key: CommandKey::new(Scope::Store, &[key]),
                at: Timestamp(0),
                action: Action::SetPrice { book: book(), cost_cents: key.into() },
            })
        };
        (0..KEYS_MAX).map(encode).collect()
    });
    all[usize::from(key)].clone()
}

fn key_of(command: &EncodedCommand) -> Key {
    let known = (0..KEYS_MAX).find(|key| self::command(*key) == *command);
    known.expect("the log holds commands of the model")
}

/// What is durable of a replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    /// Which file it is.
    pub store: StoreId,
    /// The promise.
    pub promise: Epoch,
    /// The newest view that it was told.
    pub view: Option<View>,
    /// The epoch of the last append that was acknowledged.
    pub appended_epoch: Epoch,
    /// What is known to be committed.
    pub commit: Index,
    /// The tables and the log.
    pub tables: Arc<Tables>,
}

/// What a snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tables {
    base: (Index, Chain),
    base_epoch: Epoch,
    log: Vec<Applied>,
    register: Option<Register>,
    outcomes: BTreeMap<Key, Outcome>,
}

/// The book: who set it, and with which entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Register {
    /// The command that set it.
    pub key: Key,
    /// That command's entry.
    pub version: Version,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Applied {
    entry: Entry,
    outcome: Outcome,
    undo: Undo,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Undo {
    Nothing,
    Write { key: Key, before: Option<Register> },
    Gone,
}

/// What a broken rule of the disk is told by.
pub type Broken = String;

impl Disk {
    /// An empty file.
    #[must_use]
    pub fn new(store: StoreId) -> Self {
        Self {
            store,
            promise: Epoch(0),
            view: None,
            appended_epoch: Epoch(0),
            commit: Index(0),
            tables: Arc::default(),
        }
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let (last, chain) = self.tables.last();
        Standing {
            store: self.store,
            promise: self.promise,
            last,
            chain,
            digest: self.tables.digest(),
            commit: self.commit,
            view: self.view.clone(),
        }
    }

    /// The chains of the log's end.
    pub fn tail(&self) -> impl Iterator<Item = (Index, Chain)> {
        let tables = &self.tables;
        let log = tables.log.iter().map(|applied| (applied.entry.index, applied.entry.chain));
        std::iter::once(tables.base).chain(log)
    }

    /// Carries out a step.
    ///
    /// # Errors
    /// If it is one that a replica must never ask of its store.
    pub fn run(&mut self, step: &Step, retention: u64) -> Result<Done, Broken> {
        match step {
            Step::Promise { epoch, view } => {
                if *epoch < self.promise {
                    return Err(format!("I3: a promise of {epoch} below {}", self.promise));
                }
                self.promise = *epoch;
                if let Some(view) = view {
                    self.view = Some(view.clone());
                }
                Ok(Done::Promised)
            }
            Step::Append(change) => self.append(change, retention),
            Step::Outcomes { first, last } => {
                let wanted = |applied: &&Applied| (*first..=*last).contains(&applied.entry.index);
                let outcomes = self.tables.log.iter().filter(wanted).map(|applied| applied.outcome.clone());
                Ok(Done::Outcomes(outcomes.collect()))
            }
            Step::Fetch { after, upto } => {
                let wanted = |entry: &&Entry| entry.index > *after && entry.index <= *upto;
                Ok(Done::Fetched(self.tables.entries().filter(wanted).cloned().collect()))
            }
            Step::Undo { to } if *to < self.commit => {
                Err(format!("undo to {to}, below the commit index {}", self.commit))
            }
            Step::Undo { to } => Ok(self.undo(*to)),
        }
    }

    fn append(&mut self, change: &Change, retention: u64) -> Result<Done, Broken> {
        if change.promise < self.promise {
            return Err(format!("I3: an append of epoch {} below {}", change.promise, self.promise));
        }
        if change.commit < self.commit {
            return Err(format!("the commit index falls from {} to {}", self.commit, change.commit));
        }
        let tables = Arc::make_mut(&mut self.tables);
        let mut outcomes = Vec::new();
        let mut touched = Vec::new();
        for entry in &change.entries {
            let (outcome, changed) = tables.apply(entry)?;
            outcomes.push(outcome);
            if changed && touched.is_empty() {
                touched.push(CacheKey::Book(book()));
            }
        }
        if change.commit > tables.last().0 {
            return Err(format!("{} is committed beyond the log's end", change.commit));
        }
        tables.trim(Index(change.commit.0.saturating_sub(retention)));
        let digest = tables.digest();
        self.promise = change.promise;
        self.appended_epoch = change.appended_epoch;
        self.commit = change.commit;
        Ok(Done::Appended { outcomes, touched, digest })
    }

    fn undo(&mut self, to: Index) -> Done {
        let tables = Arc::make_mut(&mut self.tables);
        if tables.log.iter().any(|applied| applied.entry.index > to && applied.undo == Undo::Gone) {
            return Done::UndoGone;
        }
        tables.undo(to);
        Done::Undone { digest: tables.digest() }
    }

    /// A page of the log, as another replica pulls it.
    #[must_use]
    pub fn page(&self, after: Index) -> LogPage {
        if after < self.tables.base.0 {
            return LogPage::Gone;
        }
        let entries = self.tables.entries().filter(|entry| entry.index > after).cloned().collect();
        LogPage::Entries { entries, last: self.tables.last().0 }
    }

    /// Replaces tables and log by a snapshot; what the replica is and has promised stays.
    ///
    /// # Errors
    /// If that would undo a commit.
    pub fn install(&mut self, tables: &Tables, commit: Index) -> Result<(), Broken> {
        let last = tables.last().0;
        self.commit = self.commit.max(commit);
        if self.commit > last {
            return Err(format!("a snapshot up to {last} replaces what is committed up to {}", self.commit));
        }
        self.tables = Arc::new(tables.clone());
        for applied in &mut Arc::make_mut(&mut self.tables).log {
            applied.undo = Undo::Gone;
        }
        Ok(())
    }
}

impl Tables {
    /// The last entry's index and chain.
    #[must_use]
    pub fn last(&self) -> (Index, Chain) {
        self.log.last().map_or(self.base, |applied| (applied.entry.index, applied.entry.chain))
    }

    /// What a read of the book shows: it, or that it has not been set as of the last entry.
    #[must_use]
    pub fn read(&self) -> Shown {
        let epoch = self.log.last().map_or(self.base_epoch, |applied| applied.entry.epoch);
        let last = Version { index: self.last().0, epoch };
        Shown { version: self.register.map_or(last, |register| register.version), register: self.register }
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.log.iter().map(|applied| &applied.entry)
    }

    /// The chain and the key of each entry after an index, if the log reaches back to it.
    #[must_use]
    pub fn history(&self, after: Index) -> Option<Vec<(Chain, Key)>> {
        if after < self.base.0 {
            return None;
        }
        let behind = self.entries().filter(|entry| entry.index > after);
        Some(behind.map(|entry| (entry.chain, key_of(&entry.command))).collect())
    }

    /// The chain at an index, if the log has it.
    #[must_use]
    pub fn chain_at(&self, index: Index) -> Option<Chain> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        self.entries().find(|entry| entry.index == index).map(|entry| entry.chain)
    }

    /// Where the log that is kept begins.
    #[must_use]
    pub fn base(&self) -> Index {
        self.base.0
    }

    fn digest(&self) -> Digest {
        Digest::default().plus_row(format!("{:?} {:?}", self.register, self.outcomes).as_bytes())
    }

    fn apply(&mut self, entry: &Entry) -> Result<(Outcome, bool), Broken> {
        let (last, chain) = self.last();
        if entry.index != last.next() || !entry.follows(chain) {
            return Err(format!("I2: entry {} does not follow {last}", entry.index));
        }
        let key = key_of(&entry.command);
        let (outcome, undo) = match self.outcomes.get(&key) {
            Some(first) => (first.clone(), Undo::Nothing),
            None => {
                let version = Version { index: entry.index, epoch: entry.epoch };
                let before = self.register.replace(Register { key, version });
                // The one outcome that carries a number: where the command was carried out.
                let books = u32::try_from(entry.index.0).unwrap_or(u32::MAX);
                let outcome = Outcome::Loaded { books };
                self.outcomes.insert(key, outcome.clone());
                (outcome, Undo::Write { key, before })
            }
        };
        let changed = undo != Undo::Nothing;
        self.log.push(Applied { entry: entry.clone(), outcome: outcome.clone(), undo });
        Ok((outcome, changed))
    }

    fn undo(&mut self, to: Index) {
        while self.last().0 > to {
            let Some(applied) = self.log.pop() else { return };
            if let Undo::Write { key, before } = applied.undo {
                self.register = before;
                self.outcomes.remove(&key);
            }
        }
    }

    /// Lets the log begin behind an index that is committed.
    fn trim(&mut self, to: Index) {
        let gone = self.log.iter().take_while(|applied| applied.entry.index <= to).count();
        if let Some(applied) = self.log.drain(..gone).next_back() {
            self.base = (applied.entry.index, applied.entry.chain);
            self.base_epoch = applied.entry.epoch;
        }
    }
}
