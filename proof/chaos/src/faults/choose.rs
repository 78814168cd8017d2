//! Which fault comes next: a seed decides.

use std::time::Duration;

use bookends::random::Random;

use super::{Fault, Harm, Ways};
use crate::proxy::{Rule, Way};
use crate::store::layout::{CATALOGS, FRONTEND, LINKS, Link, NODES, ORDERS};

/// A fault. Only these nodes have a disk that can be full; damage that a file does not show when it is opened
/// comes only if it is asked for.
pub(crate) fn choose(random: &mut Random, disks: &[&'static str], silent_damage: bool) -> Fault {
    match random.below(100) {
        0..22 => kill(random),
        22..24 => Fault::KillAll,
        24..36 => Fault::Freeze(one(random, &NODES), span(random, 100, 3500)),
        36..54 => cut(random),
        54..64 => {
            let delay = Duration::from_millis(1 + random.next_u64() % 120);
            let way = Way { delay, jitter: delay, ..Way::default() };
            slow(random, &format!("delay of {delay:?} to {:?}", 2 * delay), way)
        }
        64..74 => {
            let loss = 5 + u16::try_from(random.below(200)).unwrap_or_default();
            let way = Way { loss, ..Way::default() };
            slow(random, &format!("loss of {loss} of 1000"), way)
        }
        74..84 if !disks.is_empty() => Fault::FullDisk(one(random, disks), span(random, 200, 3000)),
        _ => damage(random, silent_damage),
    }
}

fn one(random: &mut Random, of: &[&'static str]) -> &'static str {
    of[random.below(of.len())]
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
    Fault::Ways(Ways { what: format!("{how}: {which}"), links, rule, time: span(random, 100, 4000) })
}

fn slow(random: &mut Random, how: &str, way: Way) -> Fault {
    let (which, links) = which(random);
    let rule = Rule { forward: way, backward: way, broken: false };
    Fault::Ways(Ways { what: format!("{how}: {which}"), links, rule, time: span(random, 500, 4000) })
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

fn damage(random: &mut Random, silent: bool) -> Fault {
    let node = match random.below(8) {
        // An older view must not be put back, so says the manual; without any, the replicas know the newest.
        0 => return Fault::Damage(FRONTEND, Harm::Loss),
        1 | 2 => one(random, &ORDERS),
        _ => one(random, &CATALOGS),
    };
    let harm = match random.below(4) {
        0 if silent => Harm::Flips(random.next_u64()),
        1 if silent => Harm::Truncation(random.next_u64()),
        0 | 2 => Harm::OldCopy,
        _ => Harm::Loss,
    };
    Fault::Damage(node, harm)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::mem::discriminant;

    use super::*;

    #[test]
    fn a_seed_decides_and_every_kind_comes_up() {
        let of = |seed| {
            let mut random = Random::seeded(seed);
            (0..400).map(|_| choose(&mut random, &["catalog-2"], true)).collect::<Vec<_>>()
        };
        assert_eq!(of(7), of(7));
        let kinds: BTreeSet<String> =
            of(7).iter().map(|fault| format!("{:?}", discriminant(fault))).collect();
        assert_eq!(kinds.len(), 6);
        let mut random = Random::seeded(7);
        assert!((0..400).all(|_| {
            let fault = choose(&mut random, &[], false);
            !matches!(fault, Fault::FullDisk(..) | Fault::Damage(_, Harm::Flips(_) | Harm::Truncation(_)))
        }));
    }
}
