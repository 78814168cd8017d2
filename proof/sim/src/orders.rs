//! The order nodes: the real projection over a real book in memory, and buys as such a node has them go.

use std::collections::BTreeMap;
use std::time::Duration;

use common::link::{self, Unsent};
use order::book::{Image, Opened, Readers};
use order::projection::{Input, Places, Projection};
use protocol::call::{CallId, InternalCall, WriteFailure};
use protocol::catalogue::{Order, OrderLine};
use protocol::command::{Action, Command, CommandKey, Outcome};
use protocol::entry::EncodedCommand;
use protocol::ids::{Index, OrderId, Timestamp};
use tokio::sync::watch;

use crate::faults::Loss;
use crate::network::{Down, LinkId, Peer, Up};
use crate::plan::Day;
use crate::pool::{SHARD, empty};
use crate::sights::Sight;
use crate::world::{Event, FrontId, World};

/// How often what the book has is on the disk after an input: seldom enough that a loss of power mostly takes some.
const SYNC_PERCENT: u64 = 3;
/// How long a buy, or a look at an order, may take here.
const PATIENCE: Duration = Duration::from_millis(900);

#[derive(Debug)]
pub(crate) struct OrderNode {
    pub(crate) index: usize,
    state: State,
    /// How often it was started.
    pub(crate) runs: u64,
    pub(crate) frozen_until: Duration,
    /// What of the book is on the disk for certain: nothing at first, for its commits do not wait.
    synced: Option<Image>,
}

#[derive(Debug)]
enum State {
    Stopped(Opened),
    Running(Box<Process>),
    /// In between.
    Gone,
}

#[derive(Debug)]
struct Process {
    projection: Projection,
    readers: Readers,
    progress: watch::Receiver<Places>,
    /// The link by which it follows, and what the projection says over it.
    following: Option<Following>,
    buys: BTreeMap<CallId, UnderWay>,
    lookups: BTreeMap<CallId, Lookup>,
    next_call: u64,
}

/// The connection that feeds come over.
#[derive(Debug)]
struct Following {
    link: LinkId,
    generation: u64,
    unsent: Unsent<InternalCall>,
}

#[derive(Debug)]
struct UnderWay {
    asker: (LinkId, u64),
    call: CallId,
    command: EncodedCommand,
    on: Option<FrontId>,
    sends: u32,
    since: Duration,
}

/// A client wants to see an order that was not in the book.
#[derive(Debug)]
struct Lookup {
    client: usize,
    order: OrderId,
    since: Duration,
    goal: Option<Index>,
}

impl OrderNode {
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// Up to where it has followed.
    pub(crate) fn reached(&self) -> Index {
        match &self.state {
            State::Running(process) => process.reached(),
            State::Stopped(_) | State::Gone => Index(0),
        }
    }

    pub(crate) fn readers(&self) -> &Readers {
        match &self.state {
            State::Running(process) => &process.readers,
            State::Stopped(book) => &book.readers,
            State::Gone => unreachable!("a node is in between for a moment only"),
        }
    }

    pub(crate) fn into_book(self) -> Opened {
        match self.state {
            State::Running(process) => process.projection.into_book(),
            State::Stopped(book) => book,
            State::Gone => unreachable!("a node is in between for a moment only"),
        }
    }

    fn process(&mut self) -> Option<&mut Process> {
        match &mut self.state {
            State::Running(process) => Some(process),
            State::Stopped(_) | State::Gone => None,
        }
    }
}

impl Process {
    fn reached(&self) -> Index {
        self.progress.borrow().get(&SHARD).map(|place| place.reached).unwrap_or_default()
    }
}

impl World {
    pub(crate) fn fresh_order_node(&mut self, index: usize) -> OrderNode {
        let state = State::Stopped(self.pool.book());
        OrderNode { index, state, runs: 0, frozen_until: Duration::ZERO, synced: None }
    }

    pub(crate) fn start_order_node(&mut self, index: usize) {
        let node = &mut self.orders[index];
        if node.is_running() {
            return;
        }
        let State::Stopped(book) = std::mem::replace(&mut node.state, State::Gone) else { return };
        node.runs += 1;
        let run = node.runs;
        let readers = book.readers.clone();
        let (projection, progress) = Projection::new(book, 1).expect("a book in memory can be read");
        let (buys, lookups) = (BTreeMap::new(), BTreeMap::new());
        let process = Process { projection, readers, progress, following: None, buys, lookups, next_call: 0 };
        node.state = State::Running(Box::new(process));
        self.note(|| format!("o{index} starts"));
        self.after(Duration::from_millis(1), Event::BeatAt { peer: Peer::Order(index), run });
    }

    pub(crate) fn kill_order_node(&mut self, index: usize, loss: Loss) {
        let node = &mut self.orders[index];
        if !node.is_running() {
            return;
        }
        let State::Running(process) = std::mem::replace(&mut node.state, State::Gone) else { return };
        let Process { projection, lookups, .. } = *process;
        let mut book = projection.into_book();
        let had = cursor(&book);
        match (loss, &node.synced) {
            (Loss::Nothing, _) => {}
            (Loss::Unsynced, Some(synced)) => {
                book.book.go_back_to(synced).expect("a book in memory can be put back");
            }
            (Loss::Unsynced, None) | (Loss::All, _) => {
                empty(&mut book);
                node.synced = None;
            }
        }
        if cursor(&book) < had {
            self.sights.add(if loss == Loss::All { Sight::OrderBookLost } else { Sight::OrdersUnsynced });
        }
        node.state = State::Stopped(book);
        node.frozen_until = Duration::ZERO;
        self.note(|| format!("o{index} dies (its book loses: {loss:?})"));
        self.peer_dies(Peer::Order(index), true);
        for lookup in lookups.into_values() {
            self.has_read(lookup.client);
        }
    }

    pub(crate) fn order_node_connected(&mut self, index: usize, link: LinkId) {
        self.keep_following(index);
        self.send_waiting(index, link.front);
    }

    pub(crate) fn order_node_loses(&mut self, index: usize, front: FrontId) {
        let Some(process) = self.orders[index].process() else { return };
        for buy in process.buys.values_mut().filter(|buy| buy.on == Some(front)) {
            buy.on = None;
        }
        if process.following.as_ref().is_some_and(|following| following.link.front == front) {
            process.following = None;
            self.keep_following(index);
        }
        let other = self.any_line(index);
        if let Some(other) = other {
            self.send_waiting(index, other);
        }
    }

    /// A front end to which there is a connection.
    fn any_line(&mut self, index: usize) -> Option<FrontId> {
        let peer = Peer::Order(index);
        let up = |front: &FrontId| self.generation(LinkId { front: *front, peer }).is_some();
        let fronts: Vec<FrontId> = self.fronts.keys().copied().filter(up).collect();
        (!fronts.is_empty()).then(|| fronts[self.random.index(fronts.len())])
    }

    fn keep_following(&mut self, index: usize) {
        let Some(front) = self.any_line(index) else { return };
        let link = LinkId { front, peer: Peer::Order(index) };
        let Some(generation) = self.generation(link) else { return };
        let Some(process) = self.orders[index].process() else { return };
        if process.following.is_none() {
            let (sender, unsent) = link::detached();
            process.following = Some(Following { link, generation, unsent });
            self.project(index, Input::Connected(sender));
        }
    }

    /// Hands something to the projection, and carries what it says.
    fn project(&mut self, index: usize, input: Input) {
        let Some(process) = self.orders[index].process() else { return };
        process.projection.take(vec![input]).expect("a book in memory can be written");
        self.perhaps_sync(index);
        let Some(process) = self.orders[index].process() else { return };
        let Some(Following { link, unsent, .. }) = &process.following else { return };
        let (link, calls) = (*link, unsent.take().expect("what was sent can be read"));
        for call in calls {
            let InternalCall::Follow { after, chain, .. } = call else {
                unreachable!("a projection follows and says nothing else")
            };
            self.send_up(link, Up::Follow { after, chain });
        }
        self.drive_lookups(index);
    }

    /// Now and then the system writes its buffers out.
    fn perhaps_sync(&mut self, index: usize) {
        let may_lose = !self.healed && matches!(self.plan.day, Day::Bad | Day::TwoWriters);
        if may_lose && self.random.chance(SYNC_PERCENT) {
            let image = self.orders[index].readers().image().expect("a book in memory can be copied");
            self.orders[index].synced = Some(image);
        }
    }

    pub(crate) fn order_node_hears(&mut self, index: usize, link: LinkId, generation: u64, message: Down) {
        let Some(process) = self.orders[index].process() else { return };
        let following = process.following.as_ref();
        let is_followed = following.is_some_and(|over| (over.link, over.generation) == (link, generation));
        match message {
            // One link is followed, and no other one is read once it is.
            Down::Feed(feed) if !is_followed => self.oracle.fed(&feed),
            Down::StartOver if !is_followed => {}
            Down::Buy { call, key, lines } => self.begin_buy(index, (link, generation), call, key, lines),
            Down::Submitted { call, result } => self.submitted(index, call, result),
            Down::Feed(feed) => {
                self.oracle.fed(&feed);
                self.project(index, Input::Feed(feed));
            }
            Down::StartOver => {
                self.sights.add(Sight::OrdersStartedOver);
                self.project(index, Input::StartOver(SHARD));
            }
            Down::CommitIndex { call, result } => {
                let Some(process) = self.orders[index].process() else { return };
                if let Some(lookup) = process.lookups.get_mut(&call) {
                    lookup.goal = result.ok();
                }
                self.drive_lookups(index);
            }
            Down::Replica(_) | Down::Read { .. } => unreachable!("an order node has no books"),
        }
    }

    /// The command is made once: every attempt sends the same.
    fn begin_buy(
        &mut self,
        index: usize,
        asker: (LinkId, u64),
        call: CallId,
        key: CommandKey,
        lines: Vec<OrderLine>,
    ) {
        let at = u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX);
        let order = OrderId(self.now.as_micros() << 64 | u128::from(self.random.next()));
        let command = Command { key, at: Timestamp(at), action: Action::Buy { order, lines } };
        let since = self.now;
        let line = self.any_line(index);
        let Some(process) = self.orders[index].process() else { return };
        process.next_call += 1;
        let number = CallId(process.next_call);
        let command = EncodedCommand::of(&command);
        process.buys.insert(number, UnderWay { asker, call, command, on: None, sends: 0, since });
        let run = self.orders[index].runs;
        self.after(PATIENCE, Event::OrderTick { node: index, run });
        if let Some(front) = line {
            self.send_waiting(index, front);
        }
    }

    fn send_waiting(&mut self, index: usize, front: FrontId) {
        let link = LinkId { front, peer: Peer::Order(index) };
        let Some(process) = self.orders[index].process() else { return };
        let mut calls = Vec::new();
        for (call, buy) in process.buys.iter_mut().filter(|(_, buy)| buy.on.is_none()) {
            buy.on = Some(front);
            buy.sends += 1;
            calls.push(Up::Submit { call: *call, command: buy.command.clone() });
        }
        for call in calls {
            self.send_up(link, call);
        }
    }

    fn submitted(&mut self, index: usize, call: CallId, result: Result<Outcome, WriteFailure>) {
        let Some(process) = self.orders[index].process() else { return };
        let Some(buy) = process.buys.remove(&call) else { return };
        if let Ok(Outcome::Sold(order)) = &result {
            self.oracle.sold(order);
        }
        self.finish_buy(buy, result);
    }

    fn finish_buy(&mut self, buy: UnderWay, result: Result<Outcome, WriteFailure>) {
        // What one attempt was refused for says nothing about an earlier one whose answer was lost.
        let result = match result {
            Err(WriteFailure::NotDone(why)) if buy.sends > 1 => Err(WriteFailure::Unknown(why)),
            other => other,
        };
        let (link, generation) = buy.asker;
        if self.generation(link) == Some(generation) {
            self.send_up(link, Up::Bought { call: buy.call, result });
        }
    }

    /// Gives up what has waited for too long.
    pub(crate) fn tick_order_node(&mut self, index: usize, run: u64) {
        let now = self.now;
        if self.orders[index].runs != run {
            return;
        }
        let Some(process) = self.orders[index].process() else { return };
        let late: Vec<UnderWay> =
            process.buys.extract_if(.., |_, buy| buy.since + PATIENCE <= now).map(|(_, buy)| buy).collect();
        let lookups: Vec<Lookup> =
            process.lookups.extract_if(.., |_, l| l.since + PATIENCE <= now).map(|(_, l)| l).collect();
        for buy in late {
            let why = "no front end has answered".to_owned();
            let failure =
                if buy.sends == 0 { WriteFailure::NotDone(why) } else { WriteFailure::Unknown(why) };
            self.finish_buy(buy, Err(failure));
        }
        for lookup in lookups {
            self.has_read(lookup.client);
        }
    }

    /// A client wants to see an order.
    pub(crate) fn look_up(&mut self, index: usize, client: usize, order: OrderId) {
        let since = self.now;
        if self.orders[index].frozen_until > since || !self.orders[index].is_running() {
            return self.has_read(client);
        }
        if let Some(found) = self.find_order(index, order) {
            self.oracle.order_shown(order, Some(&found), Index(0));
            return self.has_read(client);
        }
        let Some(front) = self.any_line(index) else { return self.has_read(client) };
        let run = self.orders[index].runs;
        let Some(process) = self.orders[index].process() else { return };
        process.next_call += 1;
        let call = CallId(process.next_call);
        process.lookups.insert(call, Lookup { client, order, since, goal: None });
        self.after(PATIENCE, Event::OrderTick { node: index, run });
        self.send_up(LinkId { front, peer: Peer::Order(index) }, Up::AskCommitIndex { call });
    }

    fn find_order(&self, index: usize, order: OrderId) -> Option<Order> {
        self.orders[index].readers().order(order).expect("a book in memory can be read")
    }

    /// Answers those who waited for the book to catch up.
    fn drive_lookups(&mut self, index: usize) {
        let Some(process) = self.orders[index].process() else { return };
        let reached = process.reached();
        let there = |_: &CallId, lookup: &mut Lookup| lookup.goal.is_some_and(|goal| reached >= goal);
        let caught_up: Vec<Lookup> =
            process.lookups.extract_if(.., there).map(|(_, lookup)| lookup).collect();
        for lookup in caught_up {
            let found = self.find_order(index, lookup.order);
            self.oracle.order_shown(lookup.order, found.as_ref(), reached);
            self.has_read(lookup.client);
        }
    }
}

/// Up to where a book that nobody uses has followed.
fn cursor(book: &Opened) -> Index {
    let cursors = book.book.cursors().expect("a book in memory can be read");
    cursors.get(&SHARD).map(|cursor| cursor.index).unwrap_or_default()
}
