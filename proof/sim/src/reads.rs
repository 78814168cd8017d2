//! Reads, as the front end has them go: from the cache, joined to another's, or from a member of the view;
//! released by the rule, asked again when the view has changed or a replica fails.
//!
//! This is `frontend::reads` without its runtime: the cache, the choice of the replica and the rule of
//! release are the real ones, and only the waiting is done here.

use std::time::Duration;

use frontend::cache::{Cached, Filled, Flight, Miss};
use frontend::render::{BookAnswer, Rendered};
use protocol::call::{Answer, CallId, Content, Query, ReadReply};
use protocol::ids::{Epoch, NodeId};
use protocol::release::{Release, release};
use tokio::sync::oneshot::Receiver;
use tokio::sync::oneshot::error::TryRecvError;

use crate::network::{Down, LinkId, Peer};
use crate::oracle::Floor;
use crate::plan::{Day, WRITE_TIMEOUT};
use crate::pool::SHARD;
use crate::sights::Sight;
use crate::world::{Event, FrontId, World};

/// How long a replica may take.
const READ_TIMEOUT: Duration = WRITE_TIMEOUT;

/// Who wants to know.
#[derive(Clone, Debug)]
pub(crate) enum Reader {
    /// A client, and what its answer must not fall behind.
    Client { client: usize, floor: Floor },
    /// What feeds an order node, and which of its followers.
    Follower { order: usize, number: u64 },
}

#[derive(Debug)]
pub(crate) struct Read {
    reader: Reader,
    query: Query,
    deadline: Duration,
    state: State,
    flight: Option<Flight>,
    attempts: u64,
    not: Option<NodeId>,
    failures: u64,
}

#[derive(Debug)]
enum State {
    /// To look into the cache.
    Looking,
    Joined(Receiver<Filled>),
    /// To ask a replica, once there is a view.
    Asking,
    Asked {
        call: CallId,
        node: NodeId,
        epoch: Epoch,
        late_at: Duration,
    },
    Held {
        answer: Answer,
        node: NodeId,
        epoch: Epoch,
    },
    /// Something new has to happen.
    Pausing {
        until: Duration,
    },
}

/// What a read came to.
enum End {
    Cached(Cached),
    Raw(Content),
    Unavailable,
}

impl World {
    pub(crate) fn begin_read(&mut self, id: FrontId, reader: Reader, query: Query, past_cache: bool) {
        let deadline = self.now + READ_TIMEOUT * 4;
        let Some(front) = self.fronts.get_mut(&id) else { return };
        front.next_read += 1;
        let number = front.next_read;
        let cached = matches!(reader, Reader::Client { .. });
        let read = Read {
            reader,
            query,
            deadline,
            state: if cached && !past_cache { State::Looking } else { State::Asking },
            flight: None,
            attempts: 0,
            not: None,
            failures: 0,
        };
        front.reads.insert(number, read);
        self.at(deadline, Event::ReadTick { front: id });
        self.drive_reads(id);
    }

    /// Something that waits at a front end may be late.
    pub(crate) fn tick_reads(&mut self, id: FrontId) {
        self.drive_reads(id);
        self.drive_buys(id);
    }

    /// Takes every read as far as it goes; the end of one may let another go on.
    pub(crate) fn drive_reads(&mut self, id: FrontId) {
        let Some(front) = self.fronts.get(&id) else { return };
        let mut numbers: Vec<u64> = front.reads.keys().copied().collect();
        while !numbers.is_empty() {
            let mut ended = false;
            for number in &numbers {
                ended |= self.drive_read(id, *number);
            }
            let Some(front) = self.fronts.get(&id).filter(|_| ended) else { break };
            let joined = |read: &Read| matches!(read.state, State::Joined(_));
            numbers = front.reads.iter().filter(|(_, read)| joined(read)).map(|(n, _)| *n).collect();
        }
        self.drive_followers(id);
    }

    /// Whether the read has ended.
    fn drive_read(&mut self, id: FrontId, number: u64) -> bool {
        loop {
            let now = self.now;
            let Some(front) = self.fronts.get_mut(&id) else { return false };
            let Some(read) = front.reads.get_mut(&number) else { return false };
            let state = front.shards.get(SHARD).expect("the shard is there");
            match &mut read.state {
                State::Looking => {
                    if let Some(answer) = front.cache.get(&read.query) {
                        return self.end_read(id, number, End::Cached(answer));
                    }
                    match front.cache.miss(&read.query) {
                        None => read.state = State::Asking,
                        Some(Miss::Lead(flight)) => {
                            read.flight = Some(flight);
                            read.state = State::Asking;
                        }
                        Some(Miss::Join(receiver)) => read.state = State::Joined(receiver),
                    }
                }
                State::Joined(receiver) => match receiver.try_recv() {
                    Ok(filled) => return self.end_read(id, number, End::Cached(filled.answer)),
                    Err(TryRecvError::Closed) => read.state = State::Looking,
                    Err(TryRecvError::Empty) if read.deadline <= now => {
                        return self.end_read(id, number, End::Unavailable);
                    }
                    Err(TryRecvError::Empty) => return false,
                },
                _ if read.deadline <= now => return self.end_read(id, number, End::Unavailable),
                State::Pausing { until } if *until > now => return false,
                State::Pausing { .. } => read.state = State::Asking,
                State::Asking => {
                    if !self.ask_replica(id, number) {
                        return false;
                    }
                }
                State::Asked { late_at, .. } if *late_at > now => return false,
                State::Asked { node, .. } => {
                    let node = node.clone();
                    self.failed(id, number, node);
                }
                State::Held { answer, node, epoch } => {
                    let view = state.view().map(|view| view.epoch);
                    match release(answer.version, *epoch, view, state.commit_index()) {
                        Release::Hold => return false,
                        Release::AskAgain => {
                            read.not = None;
                            read.state = State::Asking;
                        }
                        Release::Show => {
                            let (content, node) = (answer.content.clone(), node.clone());
                            let end = finished(&read.query, content, &node);
                            return self.end_read(id, number, end);
                        }
                    }
                }
            }
        }
    }

    /// Sends the read to a member of the view. `false`: there is none to ask now.
    fn ask_replica(&mut self, id: FrontId, number: u64) -> bool {
        let Some(front) = self.fronts.get_mut(&id) else { return false };
        let Some(read) = front.reads.get_mut(&number) else { return false };
        let state = front.shards.get(SHARD).expect("the shard is there");
        let Some(view) = state.view() else { return false };
        let not = read.not.as_ref();
        let Some(slot) = state.next_replica(&view, not).or_else(|| state.next_replica(&view, None)) else {
            return false;
        };
        let (node, store, epoch) = (slot.node.clone(), slot.store, view.epoch);
        slot.end(true);
        read.attempts += 1;
        let call = CallId(number << 16 | read.attempts);
        let late_at = self.now + READ_TIMEOUT;
        read.state = State::Asked { call, node: node.clone(), epoch, late_at };
        let query = read.query.clone();
        let place = self.nodes.iter().position(|other| other.id == node).expect("a configured replica");
        let link = LinkId { front: id, peer: Peer::Catalog(place) };
        if self.generation(link).is_none() {
            self.failed(id, number, node);
            return true;
        }
        self.send_down(link, Down::Read { call, store, epoch, query });
        self.at(late_at, Event::ReadTick { front: id });
        false
    }

    /// A replica did not answer: another is asked at once, and after that something new has to happen.
    fn failed(&mut self, id: FrontId, number: u64, node: NodeId) {
        let until = self.now + Duration::from_millis(40);
        let Some(read) = self.fronts.get_mut(&id).and_then(|front| front.reads.get_mut(&number)) else {
            return;
        };
        read.not = Some(node);
        read.failures += 1;
        if read.failures.is_multiple_of(2) {
            read.state = State::Pausing { until };
            self.at(until, Event::ReadTick { front: id });
        } else {
            read.state = State::Asking;
        }
    }

    pub(crate) fn read_back(&mut self, id: FrontId, call: CallId, reply: ReadReply) {
        let number = call.0 >> 16;
        let Some(front) = self.fronts.get_mut(&id) else { return };
        let Some(read) = front.reads.get_mut(&number) else { return };
        let State::Asked { call: asked, node, epoch, .. } = &read.state else { return };
        if *asked != call {
            return;
        }
        let (node, epoch) = (node.clone(), *epoch);
        match reply {
            ReadReply::Answer(answer) => read.state = State::Held { answer, node, epoch },
            ReadReply::Sealed { .. } | ReadReply::NotHere | ReadReply::Failed(_) => {
                self.failed(id, number, node)
            }
        }
        self.drive_reads(id);
    }

    /// The connection to a node broke.
    pub(crate) fn reads_lose(&mut self, id: FrontId, node: usize) {
        let name = self.nodes[node].id.clone();
        let Some(front) = self.fronts.get(&id) else { return };
        let asked = |read: &Read| matches!(&read.state, State::Asked { node, .. } if *node == name);
        let lost: Vec<u64> = front.reads.iter().filter(|(_, read)| asked(read)).map(|(n, _)| *n).collect();
        for number in &lost {
            self.failed(id, *number, name.clone());
        }
        if !lost.is_empty() {
            self.after(Duration::from_micros(10), Event::ReadTick { front: id });
        }
    }

    fn end_read(&mut self, id: FrontId, number: u64, end: End) -> bool {
        let Some(front) = self.fronts.get_mut(&id) else { return false };
        let Some(mut read) = front.reads.remove(&number) else { return false };
        let flight = read.flight.take();
        match (read.reader, end) {
            (Reader::Client { client, floor }, End::Cached(answer)) => {
                let answer = match flight {
                    Some(flight) => flight.fill(answer).answer,
                    None => answer,
                };
                let shown = self.oracle.shown(self.now, client, &read.query, &answer, floor);
                self.see_read(floor);
                self.note(|| format!("client {client} is shown {:?}: {shown}", read.query));
                self.mark(shown.0);
                self.has_read(client);
            }
            (Reader::Client { client, .. }, _) => {
                drop(flight);
                self.note(|| format!("client {client} can't be shown {:?}", read.query));
                self.has_read(client);
            }
            (Reader::Follower { order, number }, End::Raw(content)) => {
                self.read_for_follower(id, (order, number), Some(content));
            }
            (Reader::Follower { order, number }, _) => self.read_for_follower(id, (order, number), None),
        }
        true
    }
}

impl World {
    /// How a read was judged, where that is more than the usual.
    fn see_read(&mut self, floor: Floor) {
        if self.plan.day == Day::TwoWriters {
            let sight = if floor.is_of_all { Sight::ReadAmongFronts } else { Sight::ReadOfDisplaced };
            self.sights.add(sight);
        }
        if self.oracle.spoilt.is_some() {
            self.sights.add(Sight::ReadBesideSpoiltRow);
        }
    }
}

fn finished(query: &Query, content: Content, node: &NodeId) -> End {
    match (query, content) {
        (Query::Book(_), Content::Book(book)) => {
            End::Cached(Cached::Book(BookAnswer::new(book, node).into()))
        }
        (Query::Page(_), Content::Page { books, more }) => {
            End::Cached(Cached::Rendered(Rendered::page(books, more, node)))
        }
        (Query::Topics, Content::Topics(topics)) => {
            End::Cached(Cached::Rendered(Rendered::topics(topics, node)))
        }
        (_, content) => End::Raw(content),
    }
}
