//! What goes wrong in a run, and when: all of it follows from the seed.

use std::time::Duration;

use crate::clients::think_time;
use crate::cluster::{Event, TROUBLE, World};
use crate::network::LinkId;
use crate::random::Random;

/// What kind of day it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Day {
    /// Nothing goes wrong: then nobody may be dropped.
    Quiet,
    /// Replicas, disks, connections, the front end's process and the view store fail.
    Bad,
    /// As on a bad day, and a second front end takes over while the first still runs.
    TwoWriters,
    /// A row of one replica is changed by something that is not the store.
    Corruption,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) day: Day,
    pub(crate) replicas: usize,
    pub(crate) clients: usize,
    pub(crate) think: Duration,
    /// Whether writes go on after the faults, until all replicas are members.
    pub(crate) load_goes_on: bool,
    pub(crate) reads: bool,
    /// The longest delay of a message on an ordinary day, in microseconds.
    pub(crate) delay_max: u64,
    /// How often the view store fails, in percent.
    pub(crate) store_trouble: u64,
    pub(crate) faults: Vec<(Duration, Fault)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Kill { node: usize, down_for: Duration },
    Start { node: usize },
    Freeze { node: usize, down_for: Duration },
    Break { node: usize },
    Stall { node: usize, down_for: Duration },
    SlowDisk { node: usize, down_for: Duration },
    FailingDisk { node: usize, down_for: Duration },
    ReplaceDisk { node: usize, down_for: Duration },
    Corrupt { node: usize },
    KillFront { down_for: Duration },
    StartFront,
    SecondFront,
    LoseViewStore,
    Heal,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let day = match random.between(0..20) {
            0 => Day::Quiet,
            1 | 2 => Day::Corruption,
            3..=5 => Day::TwoWriters,
            _ => Day::Bad,
        };
        let replicas = match random.between(0..10) {
            0 => 1,
            1..=5 => 2,
            6..=8 => 3,
            _ => 4,
        };
        let replicas = if day == Day::Corruption { replicas.max(2) } else { replicas };
        let busy = random.chance(50);
        let clients = if random.chance(50) { 2 } else { 6 };
        let delay_max = if random.chance(70) { 2_000 } else { 40_000 };
        let store_trouble = if day == Day::Quiet || random.chance(50) { 0 } else { 20 };
        let mut plan = Self {
            day,
            replicas,
            clients,
            think: think_time(busy),
            load_goes_on: random.chance(50),
            reads: day != Day::TwoWriters,
            delay_max,
            store_trouble,
            faults: Vec::new(),
        };
        plan.choose_faults(&mut random);
        plan
    }

    fn choose_faults(&mut self, random: &mut Random) {
        let end = u64::try_from(TROUBLE.as_millis()).expect("seconds") - 500;
        let count = match self.day {
            Day::Quiet => 0,
            Day::Corruption => 1,
            Day::Bad | Day::TwoWriters => random.between(1..14),
        };
        for _ in 0..count {
            let at = random.millis(0..end);
            let fault = self.any_fault(random);
            self.faults.push((at, fault));
        }
        if self.day == Day::TwoWriters {
            self.faults.push((random.millis(500..end), Fault::SecondFront));
        }
    }

    fn any_fault(&self, random: &mut Random) -> Fault {
        let node = random.index(self.replicas);
        let down_for = random.millis(5..3000);
        if self.day == Day::Corruption {
            return Fault::Corrupt { node };
        }
        match random.between(0..18) {
            0..=3 => Fault::Kill { node, down_for },
            4 | 5 => Fault::Freeze { node, down_for },
            6..=8 => Fault::Break { node },
            9 => Fault::Stall { node, down_for },
            10 => Fault::SlowDisk { node, down_for },
            11 | 12 => Fault::FailingDisk { node, down_for },
            13 => Fault::ReplaceDisk { node, down_for },
            14 if self.day != Day::TwoWriters => Fault::LoseViewStore,
            _ => Fault::KillFront { down_for },
        }
    }
}

impl World {
    pub(crate) fn strike(&mut self, fault: Fault) {
        let now = self.now;
        self.note(|| format!("--- {fault:?}"));
        match fault {
            Fault::Kill { node, down_for } => {
                self.kill_node(node);
                self.after(down_for, Event::Fault(Fault::Start { node }));
            }
            Fault::Start { node } => self.start_node(node),
            Fault::Freeze { node, down_for } => self.nodes[node].frozen_until = now + down_for,
            Fault::Break { node } => {
                for link in self.links_of(node) {
                    self.break_link(link);
                }
            }
            Fault::Stall { node, down_for } => {
                let breaks = self.random.chance(50);
                for link in self.links_of(node) {
                    self.stall_link(link, now + down_for);
                    if breaks {
                        self.break_link(link);
                    }
                }
            }
            Fault::SlowDisk { node, down_for } => self.nodes[node].disk_slow_until = now + down_for,
            Fault::FailingDisk { node, down_for } => self.nodes[node].disk_fails_until = now + down_for,
            Fault::ReplaceDisk { node, down_for } => self.replace_disk(node, down_for),
            Fault::Corrupt { node } => self.nodes[node].disk.corrupt(),
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
            Fault::SecondFront => self.start_front(),
            Fault::LoseViewStore => self.stored = None,
            Fault::Heal => self.heal(),
        }
    }

    fn links_of(&self, node: usize) -> Vec<LinkId> {
        self.links.keys().filter(|link| link.node == node).copied().collect()
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
                        .any(|other| other.id == member.node && other.disk.store == member.store)
            }),
            // Which replicas are members is not known then, nor to the writer.
            None => false,
        };
        if !others_have_it {
            return;
        }
        self.kill_node(node);
        let stores = self.nodes[node].stores;
        self.nodes[node].stores += 1;
        self.nodes[node].disk = self.fresh_disk(node, stores);
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
        self.after(Duration::from_secs(1), Event::Submit { client: 0 });
    }
}
