//! What goes wrong, and the end of it.

use std::time::Duration;

use protocol::ids::BookId;
use protocol::replica::Note;
use protocol::writer::Happening;

use crate::network::{LinkId, Peer, Way};
use crate::plan::Day;
use crate::sights::Sight;
use crate::world::{Event, World};

#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Kill {
        node: usize,
        down_for: Duration,
    },
    Start {
        node: usize,
    },
    Freeze {
        node: usize,
        down_for: Duration,
    },
    Break {
        peer: Peer,
    },
    Stall {
        peer: Peer,
        down_for: Duration,
    },
    /// What is sent one way or both is lost.
    Cut {
        peer: Peer,
        down: bool,
        up: bool,
        down_for: Duration,
    },
    /// A replica and its peers can't reach each other.
    CutBetween {
        node: usize,
        down_for: Duration,
    },
    SlowDisk {
        node: usize,
        down_for: Duration,
    },
    FailingDisk {
        node: usize,
        down_for: Duration,
    },
    ReplaceDisk {
        node: usize,
        down_for: Duration,
    },
    Corrupt {
        node: usize,
        book: BookId,
    },
    KillOrder {
        order: usize,
        down_for: Duration,
        loss: Loss,
    },
    StartOrder {
        order: usize,
    },
    FreezeOrder {
        order: usize,
        down_for: Duration,
    },
    KillFront {
        down_for: Duration,
    },
    StartFront,
    FreezeFront {
        down_for: Duration,
    },
    SecondFront,
    LoseViewStore {
        kills: bool,
    },
    PowerLoss {
        down_for: Duration,
    },
    /// A replica counts its rows.
    Scrub {
        node: usize,
    },
    Heal,
}

/// What an order node's book loses when its process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    Nothing,
    /// The power is lost as well, and with it what the system had not written out.
    Unsynced,
    /// The disk is another one.
    All,
}

/// Something delicate that happens: the best moment for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A caller was told the outcome of its write.
    Acknowledged,
    /// A view came into the view store.
    ViewStored,
    /// A member is suspected.
    Suspected,
    /// A replica levels, undoes, joins.
    Resync,
    Undo,
    Join,
    /// A writer took office.
    Office,
    /// Nothing special.
    Other,
}

impl Moment {
    pub(crate) fn of_note(note: &Note) -> Self {
        match note {
            Note::ResyncStarted { .. } => Self::Resync,
            Note::Undoing { .. } => Self::Undo,
            Note::AsksToJoin { .. } | Note::Joined { .. } => Self::Join,
            Note::SourceChanged(_) | Note::Halted(_) => Self::Other,
        }
    }

    pub(crate) fn of_happening(happening: &Happening) -> Self {
        match happening {
            Happening::TookOffice { .. } => Self::Office,
            Happening::Suspected { .. } => Self::Suspected,
            Happening::Joining { .. } | Happening::ResyncDone { .. } => Self::Join,
            Happening::ResyncStarted { .. } => Self::Resync,
            Happening::ViewChanged { .. }
            | Happening::SteppedDown { .. }
            | Happening::MembersDiffer { .. }
            | Happening::ReplicaFailed { .. }
            | Happening::Halted { .. } => Self::Other,
        }
    }

    fn percent(self) -> u64 {
        match self {
            Self::Acknowledged => 1,
            Self::ViewStored => 12,
            Self::Suspected | Self::Resync => 6,
            Self::Undo => 20,
            Self::Join | Self::Office => 8,
            Self::Other => 0,
        }
    }
}

impl World {
    /// Perhaps strikes a fault because of what has just happened.
    pub(crate) fn ambush(&mut self, moment: Moment, node: Option<usize>) {
        if self.healed || self.ambushes_left == 0 || !self.random.chance(moment.percent()) {
            return;
        }
        self.ambushes_left -= 1;
        self.sights.add(Sight::Ambushed);
        let node = node.unwrap_or_else(|| self.random.index(self.plan.replicas));
        let down_for = self.random.millis(1..700);
        let fault = match self.random.between(0..12) {
            0..=2 => Fault::KillFront { down_for: self.random.millis(1..60) },
            3 | 4 if self.plan.day == Day::TwoWriters => Fault::SecondFront,
            3 | 4 => Fault::Kill { node, down_for: self.random.millis(1..30) },
            5 => Fault::Kill { node, down_for },
            6 => Fault::Kill { node: self.random.index(self.plan.replicas), down_for },
            7 => Fault::Break { peer: Peer::Catalog(node) },
            8 => Fault::Cut { peer: Peer::Catalog(node), down: true, up: self.random.chance(50), down_for },
            9 => Fault::PowerLoss { down_for: self.random.millis(1..100) },
            10 => Fault::ReplaceDisk { node, down_for },
            _ => Fault::Stall { peer: Peer::Catalog(node), down_for },
        };
        let soon = if self.random.chance(50) { 500 } else { 20_000 };
        let delay = self.random.micros(0..soon);
        self.note(|| format!("--- {moment:?}: {fault:?} in {delay:?}"));
        self.after(delay, Event::Fault(fault));
    }

    pub(crate) fn strike(&mut self, fault: Fault) {
        let mends = |fault: &Fault| {
            matches!(fault, Fault::Start { .. } | Fault::StartOrder { .. } | Fault::StartFront)
        };
        if self.healed && !mends(&fault) && !matches!(fault, Fault::Scrub { .. }) {
            return;
        }
        let now = self.now;
        self.note(|| format!("--- {fault:?}"));
        match fault {
            Fault::Kill { node, down_for } => {
                let power_lost = self.random.chance(50);
                self.kill_node(node, power_lost);
                self.after(down_for, Event::Fault(Fault::Start { node }));
            }
            Fault::Start { node } => self.start_node(node),
            Fault::Freeze { node, down_for } => self.nodes[node].frozen_until = now + down_for,
            Fault::Break { peer } => {
                for link in self.links_of(peer) {
                    self.break_link(link);
                }
            }
            Fault::Stall { peer, down_for } => {
                let breaks = self.random.chance(50);
                for link in self.links_of(peer) {
                    self.stall_link(link, now + down_for);
                    if breaks {
                        self.break_link(link);
                    }
                }
            }
            Fault::Cut { peer, down, up, down_for } => self.cut(peer, down, up, down_for),
            Fault::CutBetween { node, down_for } => self.nodes[node].cut_off_until = now + down_for,
            Fault::SlowDisk { node, down_for } => self.nodes[node].disk_slow_until = now + down_for,
            Fault::FailingDisk { node, down_for } => self.nodes[node].disk_fails_until = now + down_for,
            Fault::ReplaceDisk { node, down_for } => self.replace_disk(node, down_for),
            Fault::Corrupt { node, book } => {
                self.nodes[node].disk.inner.spoil_book(book).expect("a store in memory can be written");
                self.oracle.spoilt = Some(book);
                if !self.nodes[node].disk.is_sound() {
                    self.sights.add(Sight::RowSpoilt);
                }
            }
            Fault::KillOrder { order, down_for, loss } => {
                self.kill_order_node(order, loss);
                self.after(down_for, Event::Fault(Fault::StartOrder { order }));
            }
            Fault::StartOrder { order } => self.start_order_node(order),
            Fault::FreezeOrder { order, down_for } => self.orders[order].frozen_until = now + down_for,
            Fault::KillFront { down_for } => {
                if let Some(id) = self.fronts.keys().next().copied() {
                    self.kill_front(id);
                }
                self.after(down_for, Event::Fault(Fault::StartFront));
            }
            Fault::StartFront => {
                if self.fronts.is_empty() {
                    self.start_front();
                }
            }
            Fault::FreezeFront { down_for } => {
                if let Some(front) = self.fronts.values_mut().next() {
                    front.frozen_until = now + down_for;
                }
            }
            Fault::SecondFront => {
                if self.fronts.len() < 3 {
                    self.start_front();
                }
            }
            Fault::LoseViewStore { kills } => {
                if self.stored.take().is_some() {
                    let with_front = kills && !self.fronts.is_empty();
                    self.sights.add(if with_front { Sight::FrontDiskLost } else { Sight::ViewStoreLost });
                }
                if kills {
                    self.strike(Fault::KillFront { down_for: Duration::from_millis(20) });
                }
            }
            Fault::PowerLoss { down_for } => self.lose_power(down_for),
            Fault::Scrub { node } => {
                self.begin_count(node, None);
                self.after(Duration::from_millis(500), Event::Fault(Fault::Scrub { node }));
            }
            Fault::Heal => self.heal(),
        }
    }

    fn cut(&mut self, peer: Peer, down: bool, up: bool, down_for: Duration) {
        let until = self.now + down_for;
        let links: Vec<LinkId> = self.links_of(peer);
        for link in links {
            // At least one way: which one is chance if neither was chosen.
            if down || !up {
                self.cut_link(link, Way::Down, until);
            }
            if up {
                self.cut_link(link, Way::Up, until);
            }
        }
    }

    /// All machines go down at once, and come back one after the other.
    fn lose_power(&mut self, down_for: Duration) {
        while let Some(front) = self.fronts.keys().next().copied() {
            self.kill_front(front);
        }
        let after = self.random.millis(1..300);
        self.after(down_for + after, Event::Fault(Fault::StartFront));
        for node in 0..self.nodes.len() {
            self.kill_node(node, true);
            let after = self.random.millis(1..300);
            self.after(down_for + after, Event::Fault(Fault::Start { node }));
        }
        for order in 0..self.orders.len() {
            self.kill_order_node(order, Loss::Unsynced);
            let after = self.random.millis(1..300);
            self.after(down_for + after, Event::Fault(Fault::StartOrder { order }));
        }
        self.see_power_lost();
    }

    /// A new file under the old name. Not if it is the last one that has all that was acknowledged: the
    /// loss of all members' disks is beyond what can be helped.
    fn replace_disk(&mut self, node: usize, down_for: Duration) {
        let others_have_it = match &self.stored {
            Some(view) => view.members.iter().any(|member| {
                member.node != self.nodes[node].id
                    && self
                        .nodes
                        .iter()
                        .any(|other| other.id == member.node && other.disk.store() == member.store)
            }),
            // Which replicas are members is not known then, nor to the writer.
            None => false,
        };
        if !others_have_it {
            return;
        }
        let view = self.stored.clone();
        let is_member = |world: &Self| view.as_ref().is_some_and(|view| world.nodes[node].is_member_of(view));
        let was_member = is_member(self);
        self.kill_node(node, true);
        let stores = self.nodes[node].stores;
        self.nodes[node].stores += 1;
        let fresh = self.fresh_disk(node, stores);
        let old = std::mem::replace(&mut self.nodes[node].disk, fresh);
        self.pool.give_back_store(old.inner);
        if was_member && !is_member(self) {
            self.sights.add(Sight::MemberReplaced);
        }
        self.oracle.changed();
        self.after(down_for, Event::Fault(Fault::Start { node }));
    }

    /// The faults end: everything runs, one front end alone.
    fn heal(&mut self) {
        self.healed = true;
        for node in 0..self.nodes.len() {
            // Freezes and stalls end by themselves: cut short, they would disturb the order of messages.
            self.nodes[node].disk_fails_until = self.now;
            self.nodes[node].disk_slow_until = self.now;
            self.start_node(node);
            if self.plan.day == Day::Corruption {
                self.after(Duration::from_millis(10), Event::Fault(Fault::Scrub { node }));
            }
        }
        for order in 0..self.orders.len() {
            self.start_order_node(order);
        }
        // A lost store, or another's swap that nobody heard of, is not noticed before the next change of
        // the view: here by a new front end.
        if self.stored.is_none() || self.plan.day == Day::TwoWriters {
            while let Some(first) = self.fronts.keys().next().copied() {
                self.kill_front(first);
            }
        }
        if self.fronts.is_empty() {
            self.start_front();
        }
        self.after(Duration::from_millis(300), Event::Next { client: 0 });
    }
}
