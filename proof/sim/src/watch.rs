//! Which sights there are in what the store says and does: in what a writer reports, in how the view changes, in the
//! steps of a replica, in how messages arrive.

use protocol::replica::Done;
use protocol::view::View;
use protocol::writer::{Happening, SwapResult, Why};

use crate::network::{LinkId, Peer};
use crate::sights::Sight;
use crate::world::{FrontId, World};

impl World {
    pub(crate) fn see_happening(&mut self, front: FrontId, happening: &Happening) {
        let sight = match happening {
            Happening::TookOffice { .. } => match self.in_office.replace(front) {
                Some(before) if before != front && self.fronts.contains_key(&before) => Sight::OfficeTaken,
                Some(before) if before != front => Sight::OfficeInherited,
                _ => return,
            },
            Happening::SteppedDown { .. } => Sight::SteppedDown,
            Happening::MembersDiffer { .. } => Sight::DigestsDiffered,
            Happening::ReplicaFailed { .. } => Sight::FailureTold,
            Happening::Suspected { why: Why::Unsound, .. } => Sight::UnsoundSuspected,
            Happening::Suspected { .. }
            | Happening::ViewChanged { .. }
            | Happening::ResyncStarted { .. }
            | Happening::Joining { .. }
            | Happening::ResyncDone { .. }
            | Happening::Halted { .. } => return,
        };
        self.sights.add(sight);
    }

    /// A view is about to come into the view store.
    pub(crate) fn see_view(&mut self, new: &View) {
        let Some(old) = &self.stored else {
            if new.epoch.0 > 1 {
                self.sights.add(Sight::ViewSurveyed);
            }
            return;
        };
        if old.members.iter().any(|member| !new.members.contains(member)) {
            self.sights.add(Sight::MemberDropped);
        }
        for member in new.members.iter().filter(|member| !old.members.contains(member)) {
            self.sights.add(Sight::MemberJoined);
            if self.nodes.iter().any(|node| node.id == member.node && node.stores > 1) {
                self.sights.add(Sight::ReplacementJoined);
            }
        }
    }

    /// A swap was tried, and its front end will hear this of it.
    pub(crate) fn see_swap(&mut self, result: &SwapResult, done: bool) {
        let sight = match result {
            SwapResult::Swapped => return,
            SwapResult::Lost => Sight::SwapLost,
            SwapResult::Unknown if done => Sight::SwapUnknownDone,
            SwapResult::Unknown => Sight::SwapUnknownNotDone,
        };
        self.sights.add(sight);
    }

    /// A step of a replica's disk was carried out.
    pub(crate) fn see_step(&mut self, done: &Result<Done, String>) {
        let sight = match done {
            Ok(Done::Undone { .. }) => Sight::Undone,
            Ok(Done::Fetched(entries)) if !entries.is_empty() => Sight::TakeoverLevelled,
            Ok(_) => return,
            Err(_) => Sight::StepFailed,
        };
        self.sights.add(sight);
    }

    /// A message's time has come: it arrives, by its own connection or once more, or not.
    pub(crate) fn see_message(&mut self, link: LinkId, generation: u64, again: bool, arrives: bool) {
        let sight = match link.peer {
            Peer::Order(_) if again && arrives => Sight::OrderMessageRepeated,
            Peer::Catalog(_) if again && arrives => Sight::MessageRepeated,
            Peer::Catalog(_) if !again && !arrives => Sight::MessageBroken,
            Peer::Catalog(_) if !again && self.generation(link) != Some(generation) => Sight::MessageLingered,
            _ => return,
        };
        self.sights.add(sight);
    }

    /// No process runs any more, in the whole cluster.
    pub(crate) fn see_power_lost(&mut self) {
        let replicas = self.nodes.iter().any(|node| node.process.is_some());
        let orders = self.orders.iter().any(|node| node.is_running());
        if self.fronts.is_empty() && !replicas && !orders {
            self.sights.add(Sight::PowerLost);
        }
    }

    /// At the end, when differences between clocks are greatest.
    pub(crate) fn see_clocks(&mut self) {
        let rates =
            self.nodes.iter().map(|node| node.rate).chain(self.fronts.values().map(|front| front.rate));
        let shown = rates.map(|rate| self.instant(rate));
        let (first, last) = (shown.clone().min(), shown.max());
        if let (Some(first), Some(last)) = (first, last)
            && last - first > self.now / 20
        {
            self.sights.add(Sight::ClocksApart);
        }
    }
}
