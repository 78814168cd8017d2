//! Doing it, and undoing it: what a fault does to processes, ways and files, and how the store recovers.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::damage::{harm, keep_copy, kept, remove};
use super::{Fault, Harm, Ways};
use crate::error::ChaosError;
use crate::proxy::Rule;
use crate::store::Store;
use crate::store::layout::CATALOGS;

/// How long a store that nothing disturbs any more may take to be whole: a replica that was dropped for being
/// slow has to wait before it may come back, and on a busy machine everything takes longer.
const HEALING_MAX: Duration = Duration::from_secs(90);
/// How long a node with a harmed file may try by itself, before it is helped as its manual says.
const BY_ITSELF: Duration = Duration::from_secs(10);
/// How long losing a member may take before its file is harmed.
const DROPPING_MAX: Duration = Duration::from_secs(20);
/// How long the store is used after an old copy was made, so that the copy is old.
const AGEING: Duration = Duration::from_millis(1500);

/// How a fault went.
#[derive(Clone, Debug)]
pub(crate) struct Aftermath {
    /// How long the store took to be whole after it was over.
    pub(crate) healed_after: Duration,
    /// Nodes whose file had to be removed by hand.
    pub(crate) by_hand: Vec<&'static str>,
    /// Nodes whose file was not harmed, for they stayed members.
    pub(crate) spared: Vec<&'static str>,
    /// Why the store did not become whole.
    pub(crate) not_healed: Option<String>,
}

/// Does all of these at once, and waits until the store has recovered from all.
pub(crate) async fn strike(store: &mut Store, faults: &[Fault]) -> Result<Aftermath, ChaosError> {
    let (mut by_hand, mut spared) = (Vec::new(), Vec::new());
    let mut longest = Duration::ZERO;
    let mut harmed_at = None;
    for fault in faults {
        let since = Instant::now();
        longest = longest.max(begin(store, fault, &mut by_hand, &mut spared).await?);
        harmed_at = matches!(fault, Fault::Damage(..)).then_some(since);
    }
    sleep(longest).await;
    for fault in faults {
        end(store, fault)?;
    }
    // A harmed file counts from its harm on: its recovery is behind it by now.
    let begin = harmed_at.unwrap_or_else(Instant::now);
    let mut not_healed = match store.start_all().await {
        // What does not start does not recover either; the round goes on to its verdict.
        Err(ChaosError::NotReady(missing)) => Some(missing),
        started => {
            started?;
            store.whole(HEALING_MAX).await.err()
        }
    };
    // A harmed file may come to light only later.
    let harmed = faults.iter().filter_map(|fault| match fault {
        Fault::Damage(node, _) => Some(*node),
        _ => None,
    });
    for node in harmed {
        if not_healed.is_some() && !by_hand.contains(&node) {
            help(store, node).await?;
            by_hand.push(node);
            not_healed = store.whole(HEALING_MAX).await.err();
        }
    }
    Ok(Aftermath { healed_after: begin.elapsed(), by_hand, spared, not_healed })
}

/// Begins a fault. Says how long it is to last.
async fn begin(
    store: &mut Store,
    fault: &Fault,
    by_hand: &mut Vec<&'static str>,
    spared: &mut Vec<&'static str>,
) -> Result<Duration, ChaosError> {
    match fault {
        Fault::Kill(nodes, time) => {
            nodes.iter().for_each(|node| store.kill(node));
            Ok(*time)
        }
        Fault::KillAll => store.kill_all().map(|()| Duration::ZERO),
        Fault::Freeze(node, time) => store.freeze(node, true).map(|()| *time),
        Fault::Ways(Ways { links, rule, time, .. }) => {
            store.set_ways(*rule, |link| links.contains(link));
            Ok(*time)
        }
        Fault::FullDisk(node, time) => store.fill(node, true).map(|()| *time),
        Fault::Damage(node, harm) => {
            damage(store, node, *harm, by_hand, spared).await?;
            Ok(Duration::ZERO)
        }
    }
}

fn end(store: &Store, fault: &Fault) -> Result<(), ChaosError> {
    match fault {
        // What was killed is started by the one who knows all that was.
        Fault::Kill(..) | Fault::KillAll | Fault::Damage(..) => Ok(()),
        Fault::Freeze(node, _) => store.freeze(node, false),
        Fault::Ways(Ways { links, .. }) => {
            store.set_ways(Rule::default(), |link| links.contains(link));
            Ok(())
        }
        Fault::FullDisk(node, _) => store.fill(node, false),
    }
}

async fn damage(
    store: &mut Store,
    node: &'static str,
    kind: Harm,
    by_hand: &mut Vec<&'static str>,
    spared: &mut Vec<&'static str>,
) -> Result<(), ChaosError> {
    let file = kept(&store.data(node), node);
    if kind == Harm::OldCopy {
        store.kill(node);
        keep_copy(&file)?;
        store.start(node).await?;
        sleep(AGEING).await;
    }
    store.kill(node);
    // A member is believed to have all that was acknowledged: with less it may only come back as none.
    if CATALOGS.contains(&node) && store.dropped(node, DROPPING_MAX).await.is_err() {
        store.start(node).await?;
        spared.push(node);
        return Ok(());
    }
    harm(&file, kind)?;
    let is_up = store.start(node).await?;
    if !is_up || store.whole(BY_ITSELF).await.is_err() {
        help(store, node).await?;
        by_hand.push(node);
    }
    Ok(())
}

/// What the manual says for a file that can't be used: stop the node, remove the file, start the node.
async fn help(store: &mut Store, node: &'static str) -> Result<(), ChaosError> {
    store.kill(node);
    if CATALOGS.contains(&node) && store.dropped(node, DROPPING_MAX).await.is_err() {
        return Err(ChaosError::NotReady(format!("{node} with a harmed file is the last member")));
    }
    remove(&kept(&store.data(node), node))?;
    store.start(node).await?;
    Ok(())
}
