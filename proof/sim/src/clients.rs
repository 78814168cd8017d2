//! Those who write and read, and what they were told.
//!
//! Each client does one thing at a time. A write goes under a key of its own and is repeated with that key
//! until its outcome is known, sometimes even then, and sometimes with other content. Buys go through an
//! order node, all else straight to a front end.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::call::{PageQuery, Query, WriteFailure};
use protocol::catalogue::{Facts, NewBook, OrderLine, TopicKey};
use protocol::command::{Action, Command, CommandKey, Outcome, Refusal, Scope};
use protocol::entry::EncodedCommand;
use protocol::ids::{BookId, OrderId, Timestamp};

use crate::faults::Moment;
use crate::random::Random;
use crate::reads::Reader;
use crate::sights::Sight;
use crate::world::{Event, FrontId, World};

/// How many books there are at first, and how many ids are used at all.
const BOOKS: u64 = 4;
const IDS: u64 = 6;
/// Words that titles are made of, and what topics there are: few, so that writes and reads meet.
const WORDS: [&str; 4] = ["spring", "summer", "cooking", "systems"];
const TOPICS: [&str; 2] = ["Graduate School", "distributed-systems"];
/// How often a write is repeated once the faults are over.
const REPEATS_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub(crate) struct Clients {
    doing: BTreeMap<usize, Doing>,
    attempts: u64,
    next_key: u64,
    seeded: bool,
    /// Orders that somebody was told of.
    sold: Vec<OrderId>,
    /// The write that shows that all is well again.
    last_word: Option<u64>,
    last_word_done: bool,
}

impl Clients {
    pub(crate) fn what_they_wait_for(&self) -> String {
        format!("{:?}, last word {:?} (answered: {})", self.doing, self.last_word, self.last_word_done)
    }
}

#[derive(Debug)]
enum Doing {
    Writing(Writing),
    Reading { front: Option<FrontId> },
}

#[derive(Clone, Debug)]
struct Writing {
    key: u64,
    action: Action,
    /// The attempt under way, and by which front end.
    under_way: Option<(u64, FrontId)>,
    /// Its outcome was told before.
    told: bool,
}

/// What reaches a front end.
#[derive(Debug)]
pub(crate) enum Request {
    Write { client: usize, attempt: u64 },
    Read { client: usize, query: Query, past_cache: bool },
}

impl Clients {
    pub(crate) fn last_word_done(&self) -> bool {
        self.last_word_done
    }

    pub(crate) fn any_under_way(&self) -> bool {
        self.doing.values().any(|doing| match doing {
            Doing::Writing(writing) => writing.under_way.is_some(),
            Doing::Reading { .. } => true,
        })
    }
}

fn key_of(number: u64) -> CommandKey {
    CommandKey::new(Scope::Public, &number.to_le_bytes())
}

fn book_id(number: u64) -> BookId {
    BookId::try_from(number).expect("a small number is a book id")
}

impl World {
    fn any_front(&mut self) -> Option<FrontId> {
        let ids: Vec<FrontId> = self.fronts.keys().copied().collect();
        if ids.is_empty() { None } else { Some(ids[self.random.index(ids.len())]) }
    }

    fn think(&mut self, client: usize) {
        let pause = self.random.micros(500..self.plan.think_max);
        self.after(pause, Event::Next { client });
    }

    /// A client does its next thing, or goes on with what it did.
    pub(crate) fn next_of(&mut self, client: usize) {
        match self.clients.doing.get(&client) {
            Some(Doing::Reading { .. }) => return,
            Some(Doing::Writing(writing)) if writing.under_way.is_some() => return,
            Some(Doing::Writing(_)) => return self.write(client),
            None => {}
        }
        let goes_on = self.plan.load_goes_on && !self.all_are_members();
        if self.healed && self.clients.last_word.is_some() && !goes_on {
            return;
        }
        let reads = !self.healed && self.clients.seeded;
        match self.random.between(0..100) {
            0..50 if reads => self.read(client),
            50..56 if !self.clients.sold.is_empty() && !self.healed => {
                let order = self.clients.sold[self.random.index(self.clients.sold.len())];
                let node = self.random.index(self.plan.order_nodes);
                self.clients.doing.insert(client, Doing::Reading { front: None });
                self.look_up(node, client, order);
            }
            _ => self.begin_write(client),
        }
    }

    fn begin_write(&mut self, client: usize) {
        self.clients.next_key += 1;
        let key = self.clients.next_key;
        if self.healed {
            self.clients.last_word.get_or_insert(key);
        }
        let action = if key == 1 { first_books() } else { any_action(&mut self.random) };
        self.oracle.callers.writes(self.now, client, &key_of(key), &action);
        let writing = Writing { key, action, under_way: None, told: false };
        self.clients.doing.insert(client, Doing::Writing(writing));
        self.write(client);
    }

    fn write(&mut self, client: usize) {
        let Some(front) = self.any_front() else { return self.after(REPEATS_PAUSE, Event::Next { client }) };
        self.clients.attempts += 1;
        let attempt = self.clients.attempts;
        let Some(Doing::Writing(writing)) = self.clients.doing.get_mut(&client) else { return };
        writing.under_way = Some((attempt, front));
        let what = (writing.key, writing.action.clone());
        self.note(|| format!("client {client} writes {what:?} at front end {front} (attempt {attempt})"));
        self.at(self.now, Event::AtFront { front, request: Box::new(Request::Write { client, attempt }) });
    }

    fn read(&mut self, client: usize) {
        let Some(front) = self.any_front() else { return self.think(client) };
        let query = any_query(&mut self.random);
        let past_cache = self.random.chance(15);
        self.clients.doing.insert(client, Doing::Reading { front: Some(front) });
        let request = Request::Read { client, query, past_cache };
        self.at(self.now, Event::AtFront { front, request: Box::new(request) });
    }

    /// A request reaches a front end.
    pub(crate) fn at_front(&mut self, front: FrontId, request: Request) {
        if !self.fronts.contains_key(&front) {
            return;
        }
        match request {
            Request::Read { client, query, past_cache } => {
                let is_current = self.is_current(front);
                let floor = self.oracle.asked(self.now, client, (front, is_current), &query);
                self.begin_read(front, Reader::Client { client, floor }, query, past_cache);
            }
            Request::Write { client, attempt } => {
                let Some(Doing::Writing(writing)) = self.clients.doing.get(&client) else { return };
                let (number, action) = (writing.key, writing.action.clone());
                match action {
                    Action::Buy { lines, .. } => self.buy(front, (client, attempt), key_of(number), lines),
                    action => {
                        let at = u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX);
                        let command = Command { key: key_of(number), at: Timestamp(at), action };
                        let command = EncodedCommand::of(&command);
                        self.oracle.submitted(&command);
                        let ticket = crate::fronts::Ticket::Client { client, attempt };
                        self.with_writer(front, |writer, now| writer.submit(now, ticket, command));
                    }
                }
            }
        }
    }

    /// A write is over, as far as this attempt goes.
    pub(crate) fn written(&mut self, client: usize, attempt: u64, result: Result<Outcome, WriteFailure>) {
        let Some(Doing::Writing(writing)) = self.clients.doing.get_mut(&client) else { return };
        let Some((_, front)) = writing.under_way.take_if(|(under_way, _)| *under_way == attempt) else {
            return;
        };
        let (number, action) = (writing.key, writing.action.clone());
        let told_before = std::mem::replace(&mut writing.told, result.is_ok());
        self.note(|| format!("client {client} hears of {number} (attempt {attempt}): {result:?}"));
        match result {
            Ok(outcome) => {
                match &outcome {
                    Outcome::Refused(Refusal::KeyConflict) => self.sights.add(Sight::KeyRefused),
                    _ if told_before => self.sights.add(Sight::RetryAnswered),
                    _ => {}
                }
                self.acknowledged((client, front), number, action, &outcome);
            }
            Err(WriteFailure::NotDone(_)) => {
                if self.random.chance(50) && self.clients.last_word != Some(number) && number > 1 {
                    if self.oracle.given_up(self.now, &key_of(number)) {
                        self.sights.add(Sight::WriteGivenUp);
                    }
                    self.clients.doing.remove(&client);
                }
            }
            Err(WriteFailure::Unknown(_)) => {
                self.sights.add(Sight::OutcomeUnknown);
                self.oracle.unknown(&key_of(number));
            }
            Err(WriteFailure::BadRequest(problem)) => panic!("a good request was refused: {problem}"),
        }
        self.think(client);
    }

    fn acknowledged(
        &mut self,
        (client, front): (usize, FrontId),
        number: u64,
        action: Action,
        outcome: &Outcome,
    ) {
        let committed = self.fronts.get(&front).map(|by| (front, by.writer.commit_index()));
        self.oracle.acknowledged(committed, &key_of(number), &action, outcome);
        self.oracle.callers.is_told(self.now, &key_of(number), outcome);
        self.clients.seeded |= number == 1;
        if let Outcome::Sold(order) = outcome {
            self.clients.sold.push(order.id);
        }
        let done = self.clients.last_word == Some(number);
        self.clients.last_word_done |= done;
        self.ambush(Moment::Acknowledged, None);
        match self.random.between(0..20) {
            // The answer gets lost, and the same is asked for again.
            0 | 1 => {}
            // Somebody uses the key for something else.
            2 if number > 1 => {
                let action = any_action(&mut self.random);
                let writing = Writing { key: number, action, under_way: None, told: true };
                self.clients.doing.insert(client, Doing::Writing(writing));
            }
            _ => {
                self.clients.doing.remove(&client);
            }
        }
    }

    /// A read is over.
    pub(crate) fn has_read(&mut self, client: usize) {
        if matches!(self.clients.doing.get(&client), Some(Doing::Reading { .. })) {
            self.clients.doing.remove(&client);
            self.think(client);
        }
    }

    /// The callers of a front end that died know nothing.
    pub(crate) fn clients_lose(&mut self, front: FrontId) {
        for client in 0..self.plan.clients {
            match self.clients.doing.get(&client) {
                Some(Doing::Writing(Writing { under_way: Some((attempt, by)), .. })) if *by == front => {
                    let unknown = WriteFailure::Unknown("the connection broke".to_owned());
                    let attempt = *attempt;
                    self.written(client, attempt, Err(unknown));
                }
                Some(Doing::Reading { front: Some(by) }) if *by == front => self.has_read(client),
                _ => {}
            }
        }
    }
}

fn facts(random: &mut Random) -> Facts {
    let word = |random: &mut Random| WORDS[random.index(WORDS.len())];
    let title = format!("{} and {}", word(random), word(random));
    let topic = TOPICS[random.index(TOPICS.len())].to_owned();
    let author = random.chance(30).then(|| word(random).to_owned());
    Facts { title, topic, author, isbn: None, year: None, description: None }
}

/// One of the books that are there at first.
pub(crate) fn any_first_book(random: &mut Random) -> BookId {
    book_id(random.between(1..BOOKS + 1))
}

fn first_books() -> Action {
    let mut random = Random::new(1);
    let book = |id| NewBook {
        id: Some(book_id(id)),
        facts: facts(&mut random),
        cost_cents: 100 * id,
        quantity: 5 + 10 * (id % 2),
    };
    Action::Load { books: (1..=BOOKS).map(book).collect() }
}

/// Buys most of all; the rest is spread over what else there is.
fn any_action(random: &mut Random) -> Action {
    let book = book_id(random.between(1..IDS + 1));
    match random.between(0..20) {
        0..=9 => {
            let mut lines = vec![OrderLine { book, quantity: random.between(1..4) }];
            if random.chance(30) {
                let other = book_id(book.get() % IDS + 1);
                lines.push(OrderLine { book: other, quantity: random.between(1..3) });
            }
            // The id is the order node's to make.
            Action::Buy { order: OrderId(0), lines }
        }
        10..=12 => Action::AddStock { book, amount: i64::try_from(random.between(1..7)).unwrap_or(1) },
        13 => Action::AddStock { book, amount: -i64::try_from(random.between(1..4)).unwrap_or(1) },
        14..=16 => Action::SetPrice { book, cost_cents: random.between(1..5000) },
        17 | 18 => {
            let id = (!random.chance(10)).then_some(book);
            let (facts, quantity) = (facts(random), random.between(0..12));
            Action::PutBook(Box::new(NewBook { id, facts, cost_cents: random.between(1..5000), quantity }))
        }
        _ => Action::RemoveBook { book },
    }
}

/// Looks at books most of all.
fn any_query(random: &mut Random) -> Query {
    let page = |topic: Option<TopicKey>, words: Option<&str>, random: &mut Random| {
        let after = random.chance(20).then(|| book_id(random.between(1..IDS)));
        let limit = if random.chance(50) { 2 } else { 10 };
        Query::Page(PageQuery { topic, words: words.map(str::to_owned), after, limit })
    };
    let topic = TopicKey::of(TOPICS[random.index(TOPICS.len())]);
    let word = WORDS[random.index(WORDS.len())];
    match random.between(0..20) {
        0..=13 => Query::Book(book_id(random.between(1..IDS + 1))),
        14 => page(None, None, random),
        15 | 16 => page(Some(topic), None, random),
        17 => page(None, Some(word), random),
        18 => page(Some(topic), Some(&word[..3]), random),
        _ => Query::Topics,
    }
}
