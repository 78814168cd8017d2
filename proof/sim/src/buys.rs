//! Buys under way at a front end: to an order node, and to another one with the same key if the first
//! does not answer.

use std::time::Duration;

use protocol::call::{CallId, WriteFailure};
use protocol::catalogue::OrderLine;
use protocol::command::{CommandKey, Outcome};

use crate::network::{Down, LinkId, Peer};
use crate::plan::WRITE_TIMEOUT;
use crate::world::{Event, FrontId, World};

/// How long one order node may take.
const NODE_PATIENCE: Duration = Duration::from_millis(600);
/// How long until they are all tried again.
const PAUSE: Duration = Duration::from_millis(40);

#[derive(Debug)]
pub(crate) struct Buying {
    client: usize,
    attempt: u64,
    key: CommandKey,
    lines: Vec<OrderLine>,
    deadline: Duration,
    state: State,
    last: Option<usize>,
    /// A node may have done it.
    doubt: bool,
    why: WriteFailure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asked { order: usize, late_at: Duration },
    Pausing { until: Duration },
}

impl World {
    pub(crate) fn buy(
        &mut self,
        id: FrontId,
        (client, attempt): (usize, u64),
        key: CommandKey,
        lines: Vec<OrderLine>,
    ) {
        let (now, deadline) = (self.now, self.now + WRITE_TIMEOUT * 5);
        let Some(front) = self.fronts.get_mut(&id) else { return };
        front.next_read += 1;
        let call = CallId(front.next_read);
        let buying = Buying {
            client,
            attempt,
            key,
            lines,
            deadline,
            state: State::Pausing { until: now },
            last: None,
            doubt: false,
            why: WriteFailure::NotDone("no order node could be reached".to_owned()),
        };
        front.buys.insert(call, buying);
        self.drive_buy(id, call);
    }

    pub(crate) fn drive_buys(&mut self, id: FrontId) {
        let Some(front) = self.fronts.get(&id) else { return };
        let calls: Vec<CallId> = front.buys.keys().copied().collect();
        for call in calls {
            self.drive_buy(id, call);
        }
    }

    fn drive_buy(&mut self, id: FrontId, call: CallId) {
        let now = self.now;
        let roll = self.random.index(self.plan.order_nodes);
        let Some(buying) = self.fronts.get_mut(&id).and_then(|front| front.buys.get_mut(&call)) else {
            return;
        };
        match buying.state {
            State::Asked { late_at, .. } if late_at > now => return,
            State::Asked { order, .. } => {
                buying.doubt = true;
                buying.last = Some(order);
            }
            State::Pausing { until } if until > now => return,
            State::Pausing { .. } => {}
        }
        if buying.deadline <= now {
            return self.end_buy(id, call);
        }
        let (last, count) = (buying.last, self.plan.order_nodes);
        let in_turn: Vec<usize> = (0..count).map(|step| (roll + step) % count).collect();
        let others = in_turn.iter().filter(|order| Some(**order) != last);
        let all = others.chain(in_turn.iter().filter(|order| Some(**order) == last));
        let up = |order: &&usize| self.generation(LinkId { front: id, peer: Peer::Order(**order) }).is_some();
        let order = all.copied().collect::<Vec<_>>().iter().find(up).copied();
        let Some(buying) = self.fronts.get_mut(&id).and_then(|front| front.buys.get_mut(&call)) else {
            return;
        };
        let Some(order) = order else {
            buying.state = State::Pausing { until: now + PAUSE };
            return self.after(PAUSE, Event::ReadTick { front: id });
        };
        let late_at = (now + NODE_PATIENCE).min(buying.deadline);
        buying.state = State::Asked { order, late_at };
        let message = Down::Buy { call, key: buying.key.clone(), lines: buying.lines.clone() };
        self.at(late_at, Event::ReadTick { front: id });
        self.send_down(LinkId { front: id, peer: Peer::Order(order) }, message);
    }

    pub(crate) fn bought(&mut self, id: FrontId, call: CallId, result: Result<Outcome, WriteFailure>) {
        let until = self.now + PAUSE;
        let Some(front) = self.fronts.get_mut(&id) else { return };
        let Some(buying) = front.buys.get_mut(&call) else { return };
        match result {
            Ok(outcome) => {
                let (client, attempt) = (buying.client, buying.attempt);
                front.buys.remove(&call);
                self.written(client, attempt, Ok(outcome));
            }
            Err(why) => {
                buying.doubt |= matches!(why, WriteFailure::Unknown(_));
                buying.why = why;
                if let State::Asked { order, .. } = buying.state {
                    buying.last = Some(order);
                }
                buying.state = State::Pausing { until };
                self.at(until, Event::ReadTick { front: id });
            }
        }
    }

    /// The connection to an order node broke.
    pub(crate) fn buys_lose(&mut self, id: FrontId, node: usize) {
        let until = self.now + Duration::from_micros(10);
        let Some(front) = self.fronts.get_mut(&id) else { return };
        let mut any = false;
        for buying in front.buys.values_mut() {
            if matches!(buying.state, State::Asked { order, .. } if order == node) {
                buying.doubt = true;
                buying.last = Some(node);
                buying.state = State::Pausing { until };
                any = true;
            }
        }
        if any {
            self.at(until, Event::ReadTick { front: id });
        }
    }

    fn end_buy(&mut self, id: FrontId, call: CallId) {
        let Some(front) = self.fronts.get_mut(&id) else { return };
        let Some(buying) = front.buys.remove(&call) else { return };
        let why = match buying.why {
            // A later "not done" speaks of its own attempt only: an earlier one may have been heard.
            WriteFailure::NotDone(why) if buying.doubt => WriteFailure::Unknown(why),
            why => why,
        };
        self.written(buying.client, buying.attempt, Err(why));
    }
}
