//! Which fault comes next: a seed decides. The kinds lie in a deck that is shuffled anew when all of it is dealt, so
//! that a short round meets each of them, too.

use std::time::Duration;

use bookends::random::Random;

use super::{Fault, Harm, Kind, Ways};
use crate::proxy::{Rule, Way};
use crate::store::layout::{CATALOGS, FRONTEND, LINKS, Link, NODES, ORDERS};

/// The deck: what happens more often in the world is in it more often.
const CARDS: [Kind; 15] = [
    Kind::Kill,
    Kind::Kill,
    Kind::Kill,
    Kind::KillAll,
    Kind::Freeze,
    Kind::Freeze,
    Kind::Cut,
    Kind::Cut,
    Kind::Delay,
    Kind::Loss,
    Kind::FullDisk,
    Kind::Flips,
    Kind::Truncation,
    Kind::OldCopy,
    Kind::Removal,
];

/// Where faults come from.
#[derive(Debug)]
pub(crate) struct Deck {
    random: Random,
    /// The nodes with a disk that can be full.
    disks: Vec<&'static str>,
    left: Vec<Kind>,
}

impl Deck {
    /// A deck that a seed shuffles. Without disks there are no full ones in it.
    pub(crate) fn new(seed: u64, disks: Vec<&'static str>) -> Self {
        Self { random: Random::seeded(seed), disks, left: Vec::new() }
    }

    /// One fault, or two at a time. What harms a file comes alone: a replica may be dropped for it, and there
    /// must be another one.
    pub(crate) fn deal(&mut self) -> Vec<Fault> {
        if self.left.is_empty() {
            self.shuffle();
        }
        let mut kinds: Vec<Kind> = self.left.pop().into_iter().collect();
        let goes_along =
            |next: &&Kind| kinds.iter().all(|kind| kind != *next && !kind.is_harm()) && !next.is_harm();
        if self.left.last().filter(goes_along).is_some() && self.random.below(3) == 0 {
            kinds.extend(self.left.pop());
        }
        kinds.into_iter().map(|kind| self.fault(kind)).collect()
    }

    fn shuffle(&mut self) {
        let can_be = |kind: &Kind| *kind != Kind::FullDisk || !self.disks.is_empty();
        self.left = CARDS.into_iter().filter(can_be).collect();
        for last in (1..self.left.len()).rev() {
            self.left.swap(last, self.random.below(last + 1));
        }
    }

    fn fault(&mut self, kind: Kind) -> Fault {
        let random = &mut self.random;
        match kind {
            Kind::Kill => kill(random),
            Kind::KillAll => Fault::KillAll,
            Kind::Freeze => Fault::Freeze(one(random, &NODES), span(random, 100, 3500)),
            Kind::Cut => cut(random),
            Kind::Delay => {
                let delay = Duration::from_millis(1 + random.next_u64() % 120);
                let way = Way { delay, jitter: delay, ..Way::default() };
                slow(random, kind, &format!("delay of {delay:?} to {:?}", 2 * delay), way)
            }
            Kind::Loss => {
                let loss = 5 + u16::try_from(random.below(200)).unwrap_or_default();
                let way = Way { loss, ..Way::default() };
                slow(random, kind, &format!("loss of {loss} of 1000"), way)
            }
            Kind::FullDisk => Fault::FullDisk(one(random, &self.disks), span(random, 200, 3000)),
            Kind::Flips => {
                // The book of orders has no digest by which it would notice.
                Fault::Damage(one(random, &CATALOGS), Harm::Flips(random.next_u64()))
            }
            Kind::Truncation => {
                let cut_off = Harm::Truncation(random.next_u64());
                Fault::Damage(database(random), cut_off)
            }
            Kind::OldCopy => Fault::Damage(database(random), Harm::OldCopy),
            // An older view must not be put back, so says the manual; without any, the replicas know the newest.
            Kind::Removal if random.below(4) == 0 => Fault::Damage(FRONTEND, Harm::Removal),
            Kind::Removal => Fault::Damage(database(random), Harm::Removal),
        }
    }
}

fn one(random: &mut Random, of: &[&'static str]) -> &'static str {
    of[random.below(of.len())]
}

/// A node with a database; rather one that has what nobody else can make.
fn database(random: &mut Random) -> &'static str {
    if random.below(4) == 0 { one(random, &ORDERS) } else { one(random, &CATALOGS) }
}

fn span(random: &mut Random, from_ms: u64, to_ms: u64) -> Duration {
    Duration::from_millis(from_ms + random.next_u64() % (to_ms - from_ms))
}

/// One process, or one of each kind: never both of the catalog nodes, for then nobody has to be served.
fn kill(random: &mut Random) -> Fault {
    let mut nodes = vec![one(random, &NODES)];
    if random.below(3) == 0 {
        nodes = vec![one(random, &CATALOGS), one(random, &ORDERS)];
        if random.below(3) == 0 {
            nodes.push(FRONTEND);
        }
    }
    Fault::Kill(nodes, span(random, 0, 1500))
}

/// A pair, in one direction or both, or all ways of one node; silent or broken.
fn cut(random: &mut Random) -> Fault {
    let stalled = Way { stalled: true, ..Way::default() };
    let (how, rule) = match random.below(4) {
        0 => ("cut", Rule { forward: stalled, backward: stalled, broken: false }),
        1 => ("one-way cut there", Rule { forward: stalled, ..Rule::default() }),
        2 => ("one-way cut back", Rule { backward: stalled, ..Rule::default() }),
        _ => ("break", Rule { broken: true, ..Rule::default() }),
    };
    let (which, links) = which(random);
    let (kind, what) = (Kind::Cut, format!("{how}: {which}"));
    Fault::Ways(Ways { kind, what, links, rule, time: span(random, 100, 4000) })
}

fn slow(random: &mut Random, kind: Kind, how: &str, way: Way) -> Fault {
    let (which, links) = which(random);
    let rule = Rule { forward: way, backward: way, broken: false };
    let what = format!("{how}: {which}");
    Fault::Ways(Ways { kind, what, links, rule, time: span(random, 500, 4000) })
}

fn which(random: &mut Random) -> (String, Vec<Link>) {
    if random.below(4) == 0 {
        let node = one(random, &NODES);
        let links = LINKS.into_iter().filter(|link| link.from == node || link.to == node);
        return (format!("all ways of {node}"), links.collect());
    }
    let Link { from, to, listener } = LINKS[random.below(LINKS.len())];
    (format!("{from} > {to} ({listener})"), vec![Link { from, to, listener }])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The kinds that come first, so many of them.
    fn dealt(seed: u64, disks: &[&'static str], count: usize) -> Vec<Fault> {
        let mut deck = Deck::new(seed, disks.to_vec());
        let mut faults = Vec::new();
        while faults.len() < count {
            faults.extend(deck.deal());
        }
        faults
    }

    fn counted<'a>(kinds: impl IntoIterator<Item = &'a Kind>) -> BTreeMap<Kind, usize> {
        kinds.into_iter().fold(BTreeMap::new(), |mut counts, kind| {
            *counts.entry(*kind).or_default() += 1;
            counts
        })
    }

    #[test]
    fn a_seed_decides_and_each_deck_has_every_kind() {
        assert_eq!(dealt(7, &["catalog-2"], 100), dealt(7, &["catalog-2"], 100));
        assert_ne!(dealt(7, &["catalog-2"], 100), dealt(8, &["catalog-2"], 100));
        for seed in 0..50 {
            let kinds: Vec<Kind> = dealt(seed, &["catalog-2"], 60).iter().map(Fault::kind).collect();
            for deck in kinds.chunks_exact(CARDS.len()) {
                assert_eq!(counted(deck), counted(&CARDS), "seed {seed}: {kinds:?}");
            }
            assert!(dealt(seed, &[], 60).iter().all(|fault| fault.kind() != Kind::FullDisk), "seed {seed}");
        }
    }

    #[test]
    fn a_file_is_harmed_alone_and_two_faults_are_of_two_kinds() {
        let mut deck = Deck::new(7, vec!["catalog-2"]);
        let mut pairs = 0;
        for _ in 0..1000 {
            let kinds: Vec<Kind> = deck.deal().iter().map(Fault::kind).collect();
            if let [one, other] = kinds[..] {
                assert!(one != other && !one.is_harm() && !other.is_harm(), "{kinds:?}");
                pairs += 1;
            }
        }
        assert!(pairs > 100, "{pairs}");
    }

    #[test]
    fn bits_are_flipped_only_where_a_digest_notices() {
        for fault in dealt(7, &[], 2000) {
            if let Fault::Damage(node, Harm::Flips(_)) = fault {
                assert!(CATALOGS.contains(&node), "{node}");
            }
        }
    }
}
