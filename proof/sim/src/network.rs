//! Connections between front ends and back-end nodes: in order within one, delayed, and lost when they
//! break. What is sent may be lost, in one direction or both, until the connection is given up; and what
//! was sent once may arrive again, late, as the remains of an earlier connection.

use std::time::Duration;

use protocol::call::{CallId, Feed, Query, ReadReply, WriteFailure};
use protocol::catalogue::OrderLine;
use protocol::command::{CommandKey, Outcome};
use protocol::entry::EncodedCommand;
use protocol::ids::{Chain, Epoch, Index, StoreId};
use protocol::message::{Said, ToReplica};

use crate::sights::Sight;
use crate::world::{Event, FrontId, World};

/// A back-end node, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    Catalog(usize),
    Order(usize),
}

/// The way between a front end and a back-end node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId {
    pub(crate) front: FrontId,
    pub(crate) peer: Peer,
}

/// From a front end to a node: the messages of `protocol::call`, without their frames.
#[derive(Clone, Debug)]
pub(crate) enum Down {
    Replica(ToReplica),
    Read { call: CallId, store: StoreId, epoch: Epoch, query: Query },
    Buy { call: CallId, key: CommandKey, lines: Vec<OrderLine> },
    Submitted { call: CallId, result: Result<Outcome, WriteFailure> },
    Feed(Feed),
    StartOver,
    CommitIndex { call: CallId, result: Result<Index, String> },
}

/// From a node to a front end.
#[derive(Clone, Debug)]
pub(crate) enum Up {
    Said(Said),
    Read { call: CallId, reply: ReadReply },
    Bought { call: CallId, result: Result<Outcome, WriteFailure> },
    Submit { call: CallId, command: EncodedCommand },
    Follow { after: Index, chain: Chain },
    AskCommitIndex { call: CallId },
}

impl Down {
    /// Whether the remains of an earlier connection may bring it once more. Not what asks an order node for a buy:
    /// that a write was not done could not be known if it might be asked for again by itself.
    fn may_repeat(&self) -> bool {
        match self {
            Self::Replica(_) | Self::Feed(_) | Self::Submitted { .. } | Self::CommitIndex { .. } => true,
            Self::Read { .. } | Self::Buy { .. } | Self::StartOver => false,
        }
    }
}

impl Up {
    /// The same. What is to be fed is asked for over one connection, and over that one fed.
    fn may_repeat(&self) -> bool {
        match self {
            Self::Said(_) | Self::Bought { .. } | Self::AskCommitIndex { .. } => true,
            Self::Read { .. } | Self::Submit { .. } | Self::Follow { .. } => false,
        }
    }
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Down,
    Up,
}

#[derive(Debug, Default)]
pub(crate) struct Link {
    /// The connection that stands, by its number.
    up: Option<u64>,
    generation: u64,
    /// Connections that broke, but whose last messages are still read.
    lingering: Vec<u64>,
    /// No packet passes until then; they wait.
    stalled_until: Duration,
    /// What is sent down, or up, before that is lost.
    cut_until: [Duration; 2],
    /// A connection that has lost something breaks sooner or later.
    doomed: bool,
    /// When the last message arrives at the node, and at the front end.
    last_arrival: [Duration; 2],
    connecting: bool,
}

impl World {
    pub(crate) fn start_connecting(&mut self, link: LinkId) {
        let delay = self.random.millis(1..30);
        let state = self.links.entry(link).or_default();
        if !state.connecting {
            state.connecting = true;
            self.after(delay, Event::Connect { link });
        }
    }

    /// An attempt to connect: it stands, is refused, or leads nowhere.
    pub(crate) fn connect(&mut self, link: LinkId) {
        let alive = self.is_running(link.peer);
        let now = self.now;
        let Some(state) = self.links.get_mut(&link) else { return };
        state.connecting = false;
        if !self.fronts.contains_key(&link.front) || state.up.is_some() {
            return;
        }
        let until = state.stalled_until.max(state.cut_until[0]).max(state.cut_until[1]);
        if until > now {
            state.connecting = true;
            if self.random.chance(15) {
                self.lost(link);
            }
            let again = until.min(now + Duration::from_millis(250));
            return self.at(again, Event::Connect { link });
        }
        if !alive {
            self.lost(link);
            return self.start_connecting(link);
        }
        state.generation += 1;
        state.up = Some(state.generation);
        state.doomed = false;
        state.last_arrival = [now; 2];
        self.connected(link);
    }

    /// Breaks a connection. What is on its way is lost, or some of it arrives yet.
    pub(crate) fn break_link(&mut self, link: LinkId) {
        let lingers = self.random.chance(40);
        let Some(state) = self.links.get_mut(&link) else { return };
        if let Some(generation) = state.up.take() {
            if lingers {
                state.lingering.push(generation);
            }
            self.note(|| format!("connection {link:?} breaks (lingers: {lingers})"));
            self.start_connecting(link);
            self.broke(link);
        }
    }

    /// Whether what was sent over this connection still arrives.
    pub(crate) fn arrives(&self, link: LinkId, generation: u64) -> bool {
        self.links
            .get(&link)
            .is_some_and(|state| state.up == Some(generation) || state.lingering.contains(&generation))
    }

    /// The connection that stands.
    pub(crate) fn generation(&self, link: LinkId) -> Option<u64> {
        self.links.get(&link)?.up
    }

    /// When what is sent now arrives, and over which connection; `None` if it does not.
    fn carry(&mut self, link: LinkId, way: Way, in_order: bool) -> Option<(Duration, u64)> {
        let delay = self.delay();
        let now = self.now;
        let loses = !self.healed && self.random.next() % 1000 < self.plan.loss_permille;
        let to_order_node = matches!(link.peer, Peer::Order(_));
        let late = delay.as_micros() > u128::from(self.plan.delay_max);
        let state = self.links.get_mut(&link)?;
        let generation = state.up?;
        let side = way as usize;
        let cut = state.cut_until.map(|until| until > now);
        if loses || cut[side] {
            self.sights.add(match cut {
                _ if to_order_node => Sight::OrderMessageLost,
                [true, true] => Sight::CutBothWays,
                _ if cut[side] => Sight::CutOneWay,
                _ => Sight::MessageLost,
            });
            if !state.doomed {
                state.doomed = true;
                let until = state.cut_until[side];
                let at = until.max(now) + self.random.millis(1..200);
                self.at(at, Event::GiveUp { link, generation });
            }
            return None;
        }
        if state.stalled_until > now {
            let sight = if to_order_node { Sight::OrderMessageStalled } else { Sight::MessageStalled };
            self.sights.add(sight);
        } else if late && !to_order_node {
            self.sights.add(Sight::MessageDelayed);
        }
        let mut at = (now + delay).max(state.stalled_until);
        if in_order {
            at = at.max(state.last_arrival[side]);
            state.last_arrival[side] = at;
        } else if at < state.last_arrival[side] {
            self.sights.add(Sight::MessageOvertook);
        }
        Some((at, generation))
    }

    /// Whether something that arrives is to arrive once more, and how much later.
    fn again_after(&mut self) -> Option<Duration> {
        if self.healed || self.random.next() % 1000 >= self.plan.duplicates_permille {
            return None;
        }
        let late = self.random.chance(50);
        Some(if late { self.random.millis(100..2500) } else { self.random.micros(10..20_000) })
    }

    pub(crate) fn send_down(&mut self, link: LinkId, message: Down) {
        let in_order = !matches!(message, Down::Read { .. });
        self.note(|| format!("{link:?} <- {message:?}"));
        let Some((at, generation)) = self.carry(link, Way::Down, in_order) else { return };
        let run = self.run_of(link.peer);
        if let Some(later) = self.again_after().filter(|_| message.may_repeat()) {
            let message = Box::new(message.clone());
            self.at(at + later, Event::ToPeer { link, generation, run, message, again: true });
        }
        self.at(at, Event::ToPeer { link, generation, run, message: Box::new(message), again: false });
    }

    pub(crate) fn send_up(&mut self, link: LinkId, message: Up) {
        let in_order = !matches!(message, Up::Read { .. });
        self.note(|| format!("{link:?} -> {message:?}"));
        let Some((at, generation)) = self.carry(link, Way::Up, in_order) else { return };
        if let Some(later) = self.again_after().filter(|_| message.may_repeat()) {
            let message = Box::new(message.clone());
            self.at(at + later, Event::ToFront { link, generation, message, again: true });
        }
        self.at(at, Event::ToFront { link, generation, message: Box::new(message), again: false });
    }

    /// A connection that has lost something is given up.
    pub(crate) fn give_up(&mut self, link: LinkId, generation: u64) {
        if self.generation(link) == Some(generation) {
            self.break_link(link);
        }
    }

    /// From now on nothing passes for a while; what is on its way waits.
    pub(crate) fn stall_link(&mut self, link: LinkId, until: Duration) {
        if let Some(state) = self.links.get_mut(&link) {
            state.stalled_until = until;
        }
    }

    /// From now on all that is sent one way is lost for a while.
    pub(crate) fn cut_link(&mut self, link: LinkId, way: Way, until: Duration) {
        if let Some(state) = self.links.get_mut(&link) {
            state.cut_until[way as usize] = until;
        }
    }

    /// Whether a heartbeat gets through now.
    pub(crate) fn beats_pass(&self, link: LinkId) -> bool {
        let blocked = |state: &Link| state.stalled_until > self.now || state.cut_until[1] > self.now;
        !self.links.get(&link).is_some_and(blocked)
    }

    pub(crate) fn links_of(&self, peer: Peer) -> Vec<LinkId> {
        self.links.keys().filter(|link| link.peer == peer).copied().collect()
    }

    pub(crate) fn delay(&mut self) -> Duration {
        let longest = if self.random.chance(2) && !self.healed { 60_000 } else { self.plan.delay_max };
        self.random.micros(50..longest)
    }
}
