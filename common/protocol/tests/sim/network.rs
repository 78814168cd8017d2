//! Connections between front ends and replicas: in order within one, delayed, and lost when they break.

use std::time::Duration;

use protocol::message::{Said, ToReplica};

use crate::cluster::{Event, FrontId, NodeIndex, World};

/// The way between a front end and a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId {
    pub(crate) front: FrontId,
    pub(crate) node: NodeIndex,
}

#[derive(Debug, Default)]
pub(crate) struct Link {
    /// The connection that stands, by its number.
    up: Option<u64>,
    generation: u64,
    /// Connections that broke, but whose last messages are still read.
    lingering: Vec<u64>,
    /// No packet passes until then.
    pub(crate) stalled_until: Duration,
    /// When the last message arrives at the replica, and at the front end.
    last_arrival: (Duration, Duration),
    connecting: bool,
}

impl World {
    pub(crate) fn start_connecting(&mut self, link: LinkId) {
        let delay = self.random.millis(1..60);
        let state = self.links.entry(link).or_default();
        if !state.connecting {
            state.connecting = true;
            self.after(delay, Event::Connect { link });
        }
    }

    /// An attempt to connect: it stands, is refused, or leads nowhere.
    pub(crate) fn connect(&mut self, link: LinkId) {
        let alive = self.nodes[link.node].process.is_some();
        let now = self.now;
        let Some(state) = self.links.get_mut(&link) else { return };
        state.connecting = false;
        if !self.fronts.contains_key(&link.front) || state.up.is_some() {
            return;
        }
        if state.stalled_until > now {
            let until = state.stalled_until;
            state.connecting = true;
            if self.random.chance(30) {
                self.lost(link);
            }
            let again = until.min(now + Duration::from_millis(500));
            return self.at(again, Event::Connect { link });
        }
        if !alive {
            self.lost(link);
            return self.start_connecting(link);
        }
        state.generation += 1;
        state.up = Some(state.generation);
        state.last_arrival = (now, now);
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
            self.note(|| format!("connection {}-{} breaks (lingers: {lingers})", link.front, link.node));
            self.start_connecting(link);
        }
    }

    /// Whether what was sent over this connection still arrives.
    pub(crate) fn arrives(&self, link: LinkId, generation: u64) -> bool {
        self.links
            .get(&link)
            .is_some_and(|state| state.up == Some(generation) || state.lingering.contains(&generation))
    }

    pub(crate) fn send_to_node(&mut self, link: LinkId, message: ToReplica) {
        let delay = self.delay();
        let now = self.now;
        let Some(state) = self.links.get_mut(&link) else { return };
        let Some(generation) = state.up else { return };
        let at = (now + delay).max(state.stalled_until).max(state.last_arrival.0);
        state.last_arrival.0 = at;
        self.note(|| format!("{} -> {}: {message:?}", link.front, link.node));
        let run = self.nodes[link.node].runs;
        self.at(at, Event::ToNode { link, generation, run, message });
    }

    pub(crate) fn send_to_front(&mut self, link: LinkId, said: Said) {
        let delay = self.delay();
        let now = self.now;
        let Some(state) = self.links.get_mut(&link) else { return };
        let Some(generation) = state.up else { return };
        let at = (now + delay).max(state.stalled_until).max(state.last_arrival.1);
        state.last_arrival.1 = at;
        self.note(|| format!("{} <- {}: {:?}", link.front, link.node, said.reply));
        self.at(at, Event::ToFront { link, generation, said });
    }

    /// From now on nothing passes for a while; what is on its way waits.
    pub(crate) fn stall_link(&mut self, link: LinkId, until: Duration) {
        if let Some(state) = self.links.get_mut(&link) {
            state.stalled_until = until;
        }
    }

    pub(crate) fn is_stalled(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|state| state.stalled_until > self.now)
    }

    fn delay(&mut self) -> Duration {
        let longest = if self.random.chance(2) && !self.healed { 60_000 } else { self.plan.delay_max };
        self.random.micros(50..longest)
    }
}
