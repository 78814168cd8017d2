//! Those who write and read, and what they were told.
//!
//! Each client writes one command at a time, under a key of its own, and repeats it with the same key
//! until it knows the outcome. Reads go as a front end has them go: to a member, named by store and epoch,
//! shown to the caller once the commit index has reached their version, and only if the view is the same (R1).

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::call::WriteFailure;
use protocol::command::{Action, Command, CommandKey, Outcome, Scope};
use protocol::entry::EncodedCommand;
use protocol::ids::{BookId, Epoch, Index, StoreId, Timestamp};
use protocol::replica::may_be_read;

use crate::cluster::{Event, FrontId, World};
use crate::fronts::Ticket;
use crate::invariants::Floor;

/// How many books there are.
const BOOKS: u64 = 4;

#[derive(Debug, Default)]
pub(crate) struct Clients {
    writing: BTreeMap<usize, Writing>,
    tickets: BTreeMap<Ticket, (usize, FrontId)>,
    next_ticket: Ticket,
    next_key: u64,
    /// Answers that wait for the commit index.
    held: Vec<(Read, Shown)>,
    /// The write that shows that all is well again.
    last_word: Option<u64>,
    last_word_done: bool,
}

#[derive(Clone, Debug)]
struct Writing {
    key: u64,
    book: BookId,
    under_way: bool,
}

/// A read on its way.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) front: FrontId,
    pub(crate) node: usize,
    pub(crate) store: StoreId,
    pub(crate) epoch: Epoch,
    pub(crate) book: BookId,
    /// What it must not fall behind.
    pub(crate) floor: Floor,
}

/// What a replica shows.
#[derive(Clone, Debug)]
pub(crate) enum Shown {
    Book {
        version: Index,
        cost_cents: u64,
    },
    /// No such book, as of the replica's last entry.
    Absence {
        version: Index,
    },
    NotHere,
}

impl Clients {
    pub(crate) fn last_word_done(&self) -> bool {
        self.last_word_done
    }
}

fn command_of(writing: &Writing) -> EncodedCommand {
    EncodedCommand::of(&Command {
        key: CommandKey::new(Scope::Store, &writing.key.to_le_bytes()),
        at: Timestamp(0),
        action: Action::SetPrice { book: writing.book, cost_cents: writing.key },
    })
}

impl World {
    fn any_book(&mut self) -> BookId {
        BookId::try_from(self.random.between(1..BOOKS + 1)).expect("a small number is a book id")
    }

    /// A client begins a write, or repeats one.
    pub(crate) fn submit(&mut self, client: usize) {
        if self.clients.writing.get(&client).is_some_and(|writing| writing.under_way) {
            return;
        }
        let Some(front) = self.any_front() else {
            return self.after(self.plan.think, Event::Submit { client });
        };
        if !self.clients.writing.contains_key(&client) {
            let goes_on = self.plan.load_goes_on && !self.all_are_members();
            if self.healed && self.clients.last_word.is_some() && !goes_on {
                return;
            }
            self.clients.next_key += 1;
            let key = self.clients.next_key;
            if self.healed {
                self.clients.last_word.get_or_insert(key);
            }
            let book = self.any_book();
            self.clients.writing.insert(client, Writing { key, book, under_way: false });
        }
        self.clients.next_ticket += 1;
        let ticket = self.clients.next_ticket;
        self.clients.tickets.insert(ticket, (client, front));
        let writing = self.clients.writing.get_mut(&client).expect("it was just put there");
        writing.under_way = true;
        let command = command_of(writing);
        let key = writing.key;
        self.oracle.submitted(key);
        self.note(|| format!("client {client} submits {key} as {ticket}"));
        self.with_writer(front, |writer, now| writer.submit(now, ticket, command));
    }

    fn any_front(&mut self) -> Option<FrontId> {
        let ids: Vec<FrontId> = self.fronts.keys().copied().collect();
        if ids.is_empty() { None } else { Some(ids[self.random.index(ids.len())]) }
    }

    pub(crate) fn complete(&mut self, ticket: Ticket, result: Result<Outcome, WriteFailure>) {
        let (client, _) = self.clients.tickets.remove(&ticket).expect("a ticket is used once");
        self.note(|| format!("{ticket} of client {client} is complete: {result:?}"));
        let writing = self.clients.writing.get_mut(&client).expect("it has a write under way");
        writing.under_way = false;
        let (key, book) = (writing.key, writing.book);
        match result {
            Ok(outcome) => {
                self.oracle.acknowledged(key, book, &outcome);
                // Sometimes the answer gets lost, and the same is asked for again.
                if !self.random.chance(10) {
                    self.clients.writing.remove(&client);
                    self.clients.last_word_done |= self.clients.last_word == Some(key);
                }
            }
            Err(WriteFailure::NotDone(_)) => {
                if self.random.chance(50) && self.clients.last_word != Some(key) {
                    self.oracle.given_up(key);
                    self.clients.writing.remove(&client);
                }
            }
            Err(WriteFailure::Unknown(_)) => self.oracle.unknown(key),
            Err(WriteFailure::BadRequest(problem)) => panic!("a good request was refused: {problem}"),
        }
        self.after(self.plan.think, Event::Submit { client });
    }

    /// The callers of a front end that died know nothing.
    pub(crate) fn front_died(&mut self, front: FrontId) {
        let tickets: Vec<Ticket> = self
            .clients
            .tickets
            .iter()
            .filter(|(_, (_, of))| *of == front)
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in tickets {
            let unknown = WriteFailure::Unknown("the connection broke".to_owned());
            self.complete(ticket, Err(unknown));
        }
        self.clients.held.retain(|(read, _)| read.front != front);
    }

    /// A client begins a read.
    pub(crate) fn ask(&mut self, client: usize) {
        if !self.plan.reads || self.healed {
            return;
        }
        self.after(self.plan.think, Event::Ask { client });
        let book = self.any_book();
        let roll = self.random.next();
        let Some((id, front)) = self.fronts.iter().next() else { return };
        let Some(view) = &front.view else { return };
        let readable: Vec<_> =
            view.members.iter().filter(|member| !front.unread.contains(&member.node)).collect();
        if readable.is_empty() {
            return;
        }
        let member = readable[usize::try_from(roll % readable.len() as u64).expect("small")];
        let node = self.nodes.iter().position(|node| node.id == member.node).expect("a configured replica");
        let floor = self.oracle.floor(book);
        let read = Read { front: *id, node, store: member.store, epoch: view.epoch, book, floor };
        let delay = self.random.micros(50..3000);
        self.after(delay, Event::ReadAt { read });
    }

    /// The replica opens its snapshot after the request has arrived.
    pub(crate) fn read_at(&mut self, read: Read) {
        let node = &self.nodes[read.node];
        let Some(process) = &node.process else { return };
        let here = node.disk.store == read.store
            && may_be_read(process.replica.standing().promise, read.epoch).is_ok();
        let shown = match node.disk.tables.books.get(&read.book) {
            _ if !here => Shown::NotHere,
            Some(book) => Shown::Book { version: book.version, cost_cents: book.cost_cents },
            None => Shown::Absence { version: node.disk.tables.last().0 },
        };
        let slow = self.random.chance(5);
        let delay = if slow { self.random.millis(1..2000) } else { self.random.micros(50..3000) };
        self.after(delay, Event::ReadBack { read, shown });
    }

    pub(crate) fn read_back(&mut self, read: Read, shown: Shown) {
        let front = read.front;
        if self.fronts.contains_key(&front) {
            self.clients.held.push((read, shown));
            self.release_reads(front);
        }
    }

    /// R1: shown once the commit index has reached the version, if the view is still the same.
    pub(crate) fn release_reads(&mut self, id: FrontId) {
        let Some(front) = self.fronts.get(&id) else { return };
        let (commit, epoch) = (front.commit, front.view.as_ref().map(|view| view.epoch));
        let held = std::mem::take(&mut self.clients.held);
        for (read, shown) in held {
            let version = match &shown {
                Shown::Book { version, .. } | Shown::Absence { version } => *version,
                Shown::NotHere => continue,
            };
            if read.front != id {
                self.clients.held.push((read, shown));
            } else if epoch == Some(read.epoch) && version <= commit {
                self.oracle.read(&read, &shown);
            } else if epoch == Some(read.epoch) {
                self.clients.held.push((read, shown));
            }
        }
    }
}

/// How long a client waits between two things that it does.
pub(crate) fn think_time(busy: bool) -> Duration {
    if busy { Duration::from_millis(4) } else { Duration::from_millis(60) }
}
