//! What kind of run a seed makes: how large, on what kind of day, and what goes wrong when.

use std::time::Duration;

use protocol::balance::Policy;

use crate::clients::any_first_book;
use crate::faults::{Fault, Loss};
use crate::network::Peer;
use crate::random::Random;

/// How long the faults last.
pub(crate) const TROUBLE: Duration = Duration::from_millis(3_000);
/// Shorter than in a real store, so that a run has room for more that happens one after the other.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_millis(300);
/// The same.
pub(crate) const BEAT_INTERVAL: Duration = Duration::from_millis(80);

/// What kind of day it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Day {
    /// Nothing goes wrong: then nobody may be dropped.
    Quiet,
    /// Nodes, disks, connections, the front end's process and the view store fail.
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
    pub(crate) order_nodes: usize,
    pub(crate) clients: usize,
    /// The longest pause between two things that a client does, in microseconds.
    pub(crate) think_max: u64,
    /// Whether writes go on after the faults, until all replicas are members.
    pub(crate) load_goes_on: bool,
    pub(crate) cache: bool,
    pub(crate) policy: Policy,
    /// The longest delay of a message on an ordinary day, in microseconds.
    pub(crate) delay_max: u64,
    /// The longest that it takes until keys have left all caches, in microseconds: other front ends have
    /// caches, too.
    pub(crate) push_max: u64,
    /// How many of a thousand messages are lost, and arrive twice.
    pub(crate) loss_permille: u64,
    pub(crate) duplicates_permille: u64,
    /// How often the view store fails, in percent.
    pub(crate) store_trouble: u64,
    /// Whether replicas keep but a short log, so that who comes back needs a copy.
    pub(crate) short_logs: bool,
    /// Whether it takes long to count all rows.
    pub(crate) slow_counts: bool,
    /// How many more faults are struck at the very moment when something delicate happens.
    pub(crate) ambushes: u32,
    pub(crate) faults: Vec<(Duration, Fault)>,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let day = match random.between(0..40) {
            0 => Day::Quiet,
            1..=3 => Day::Corruption,
            4..=13 => Day::TwoWriters,
            _ => Day::Bad,
        };
        let replicas = match random.between(0..20) {
            0 => 1,
            1..=9 => 2,
            10..=17 => 3,
            _ => 4,
        };
        let replicas = if day == Day::Corruption { replicas.max(2) } else { replicas };
        let rough = matches!(day, Day::Bad | Day::TwoWriters);
        let mut plan = Self {
            day,
            replicas,
            order_nodes: if random.chance(60) { 1 } else { 2 },
            clients: [2, 4, 6][random.index(3)],
            think_max: [20_000, 80_000, 300_000][random.index(3)],
            load_goes_on: random.chance(50),
            cache: random.chance(90),
            policy: if random.chance(70) { Policy::RoundRobin } else { Policy::LeastConnections },
            delay_max: if random.chance(70) { 2_000 } else { 40_000 },
            push_max: if random.chance(50) { 2 } else { 30_000 },
            loss_permille: if rough && random.chance(30) { random.between(1..20) } else { 0 },
            duplicates_permille: if rough && random.chance(50) { random.between(10..150) } else { 0 },
            store_trouble: if rough && random.chance(40) { 20 } else { 0 },
            short_logs: random.chance(10),
            slow_counts: random.chance(10),
            ambushes: if rough && random.chance(70) { 4 } else { 0 },
            faults: Vec::new(),
        };
        plan.choose_faults(&mut random);
        plan
    }

    /// How fast a clock goes, in thousandths: two are at most 10 % apart.
    pub(crate) fn any_rate(&self, random: &mut Random) -> u32 {
        if self.day == Day::Quiet { 1000 } else { u32::try_from(random.between(955..1046)).unwrap_or(1000) }
    }

    /// How many committed entries a log keeps.
    pub(crate) fn any_retention(&self, random: &mut Random) -> u64 {
        if self.short_logs { random.between(1..20) } else { 10_000 }
    }

    fn choose_faults(&mut self, random: &mut Random) {
        let end = u64::try_from(TROUBLE.as_millis()).expect("seconds") - 300;
        match self.day {
            Day::Quiet => {}
            Day::Corruption if random.chance(50) => self.spoil_while_away(random, end),
            Day::Corruption => {
                let node = random.index(self.replicas);
                let book = any_first_book(random);
                self.faults.push((random.millis(300..end), Fault::Corrupt { node, book }));
            }
            Day::Bad | Day::TwoWriters => {
                for _ in 0..random.between(1..7) {
                    let fault = self.any_fault(random);
                    self.faults.push((random.millis(50..end), fault));
                }
                if random.chance(30) {
                    self.leave_and_fail_over(random, end);
                }
                if self.replicas > 1 && random.chance(45) {
                    for _ in 0..random.between(1..3) {
                        self.send_to_some_and_fail_over(random, end);
                    }
                }
                if random.chance(15) {
                    self.cut_off_an_order_node(random, end);
                }
                if self.day == Day::TwoWriters {
                    for _ in 0..random.between(1..4) {
                        self.faults.push((random.millis(100..end), Fault::SecondFront));
                    }
                }
            }
        }
    }

    /// A row of a replica is changed while its process is down and it is dropped, and it takes long to count them.
    /// When it has come back all others are gone.
    fn spoil_while_away(&mut self, random: &mut Random, end: u64) {
        self.slow_counts = true;
        let node = random.index(self.replicas);
        let at = random.between(200..end / 2);
        let down_for = random.millis(300..600);
        let leaves = Duration::from_millis(at);
        self.faults.push((leaves, Fault::Kill { node, down_for }));
        let book = any_first_book(random);
        self.faults.push((leaves + down_for / 2, Fault::Corrupt { node, book }));
        let gone_at = leaves + down_for + random.millis(50..600);
        for other in (0..self.replicas).filter(|other| *other != node) {
            let kill = Fault::Kill { node: other, down_for: random.millis(300..900) };
            self.faults.push((gone_at, kill));
        }
    }

    /// A member hangs for long enough to be dropped, comes back, and the front end fails about then.
    fn leave_and_fail_over(&mut self, random: &mut Random, end: u64) {
        let node = random.index(self.replicas);
        let peer = Peer::Catalog(node);
        let at = random.between(100..end / 2);
        let down_for = random.millis(400..900);
        let leave = match random.between(0..4) {
            0 => Fault::Kill { node, down_for },
            1 => Fault::Freeze { node, down_for },
            2 => Fault::Cut { peer, down: random.chance(70), up: random.chance(70), down_for },
            _ => Fault::Stall { peer, down_for },
        };
        self.faults.push((Duration::from_millis(at), leave));
        let back = Duration::from_millis(at) + down_for;
        let fail = Fault::KillFront { down_for: random.millis(1..60) };
        self.faults.push((back + random.millis(1..400), fail));
        if random.chance(50) {
            let node = random.index(self.replicas);
            let fault = Fault::Kill { node, down_for: random.millis(100..900) };
            self.faults.push((back + random.millis(1..600), fault));
        }
    }

    /// What is on its way reaches some members only, the front end fails, and those members are gone while
    /// the next one takes over: what they have that the others lack is to be undone when they come back.
    fn send_to_some_and_fail_over(&mut self, random: &mut Random, end: u64) {
        let reached = random.index(self.replicas);
        let begin = random.between(100..end - end / 4);
        let ms = Duration::from_millis;
        for node in (0..self.replicas).filter(|node| *node != reached) {
            let peer = Peer::Catalog(node);
            let cut = Fault::Cut { peer, down: true, up: false, down_for: random.millis(30..120) };
            self.faults.push((ms(begin), cut));
        }
        let fails = ms(begin) + random.millis(2..60);
        let takes_over = match self.day {
            Day::TwoWriters if random.chance(60) => Fault::SecondFront,
            _ => Fault::KillFront { down_for: random.millis(1..30) },
        };
        self.faults.push((fails, takes_over));
        let down_for = random.millis(300..1000);
        let gone = match random.between(0..4) {
            0 => Fault::Freeze { node: reached, down_for },
            1 => Fault::Stall { peer: Peer::Catalog(reached), down_for },
            _ => Fault::Kill { node: reached, down_for },
        };
        self.faults.push((fails + random.millis(0..15), gone));
        if random.chance(40) {
            // And once more, when it has just come back or is about to.
            let again = Fault::KillFront { down_for: random.millis(1..30) };
            self.faults.push((fails + down_for + random.millis(0..200), again));
        }
    }

    /// An order node can't be reached while orders are sold. Then it loses power or its front end fails, so that what
    /// it had followed and what it follows next do not meet by themselves.
    fn cut_off_an_order_node(&mut self, random: &mut Random, end: u64) {
        let order = random.index(self.order_nodes);
        let at = Duration::from_millis(random.between(100..end - end / 4));
        let down_for = random.millis(50..700);
        let peer = Peer::Order(order);
        let cut = Fault::Cut { peer, down: random.chance(60), up: random.chance(60), down_for };
        self.faults.push((at, cut));
        if random.chance(70) {
            let kill = Fault::KillOrder { order, down_for: random.millis(1..300), loss: Loss::Unsynced };
            self.faults.push((at + down_for / 2, kill));
        }
        if random.chance(40) {
            let fail = Fault::KillFront { down_for: random.millis(1..60) };
            self.faults.push((at + down_for + random.millis(0..50), fail));
        }
    }

    pub(crate) fn any_fault(&self, random: &mut Random) -> Fault {
        let node = random.index(self.replicas);
        let order = random.index(self.order_nodes);
        let (peer, down_for) = (Peer::Catalog(node), random.millis(5..1200));
        match random.between(0..35) {
            0..=4 => Fault::Kill { node, down_for },
            5 | 6 => Fault::Freeze { node, down_for },
            7..=9 => Fault::Break { peer },
            10 | 11 => Fault::Stall { peer, down_for },
            12..=14 => Fault::Cut { peer, down: random.chance(60), up: random.chance(60), down_for },
            15 => Fault::CutBetween { node, down_for },
            16 => Fault::SlowDisk { node, down_for },
            17 | 18 => Fault::FailingDisk { node, down_for },
            19 => Fault::ReplaceDisk { node, down_for },
            20 => {
                let loss = [Loss::Nothing, Loss::Unsynced, Loss::All][random.index(3)];
                Fault::KillOrder { order, down_for, loss }
            }
            21 => Fault::FreezeOrder { order, down_for },
            22 => Fault::FreezeFront { down_for },
            23 => Fault::PowerLoss { down_for },
            24 if self.day != Day::TwoWriters => Fault::LoseViewStore { kills: random.chance(70) },
            25 => Fault::Break { peer: Peer::Order(order) },
            26 | 27 => Fault::Stall { peer: Peer::Order(order), down_for },
            28 | 29 => {
                let (down, up) = (random.chance(60), random.chance(60));
                Fault::Cut { peer: Peer::Order(order), down, up, down_for }
            }
            _ => Fault::KillFront { down_for },
        }
    }
}
