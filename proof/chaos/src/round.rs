//! A round: a fresh store, load on it, one fault after the other, and the verdict.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bookends::random::Random;
use tempfile::TempDir;

use crate::audits::Audits;
use crate::error::ChaosError;
use crate::faults::{Aftermath, Deck, Fault, Kind, leave_reads_alone, strike};
use crate::load::choice::COPIES;
use crate::load::{Counts, Demand, Load, Seen};
use crate::store::Store;
use crate::verdict::{Excuse, Report, audit, judge, judge_history, judge_reads};

/// How long a fresh store may take to be whole.
const START_MAX: Duration = Duration::from_secs(60);
/// The longest rest between two faults.
const REST_MS_MAX: u64 = 1200;
/// How long a call of ours may take where nothing is at fault.
const CALL_MAX: Duration = Duration::from_secs(10);

/// The log is kept for so many seconds of calls, of which less than half are writes: longer than it takes from one
/// audit to the next, and no longer, so that who has lost its file needs a snapshot.
const KEPT_SECONDS: u32 = 60;
/// A log may not be shorter.
const KEPT_MIN: u32 = 1000;

/// What a round is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long it is.
    pub length: Length,
    /// Decides faults and calls.
    pub seed: u64,
    /// Calls a second.
    pub rate: u32,
    /// How many calls may be under way at a time.
    pub callers: u32,
    /// Where the programs are.
    pub programs: PathBuf,
    /// Where the store is to live while it does.
    pub folder: PathBuf,
    /// Whether everything is kept in any case, not only when something is wrong.
    pub keep: bool,
}

/// How long faults go on. Of those that come at the same time the last may be one too many.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// For so long.
    Time(Duration),
    /// Until there were so many.
    Faults(u32),
}

/// What is told while a round goes on.
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    /// Something for people to read.
    Line(&'a str),
    /// So much of so much is over.
    Passed {
        /// In milliseconds or faults.
        done: u64,
        /// In the same.
        all: u64,
    },
}

/// Holds a round. Dropping it ends all of its processes.
///
/// # Errors
/// If it can't be held; what it finds is in its report.
pub async fn run(plan: &Plan, say: &(dyn Fn(Said<'_>) + Sync)) -> Result<Report, ChaosError> {
    let folder = tempfile::Builder::new().prefix("bookends-chaos-").tempdir_in(&plan.folder);
    let mut folder = folder.map_err(ChaosError::file("can't make a folder in", &plan.folder))?;
    let held = hold(plan, folder.path(), say).await;
    let is_good = held.as_ref().is_ok_and(Report::is_good);
    // Without the programs nothing has happened.
    if (is_good && !plan.keep) || matches!(held, Err(ChaosError::NoProgram(_))) {
        return held;
    }
    folder.disable_cleanup(true);
    let kept = keep(&folder, plan);
    if held.is_err() {
        say(Said::Line(&format!("kept: {}", kept.display())));
    }
    held.map(|report| Report { kept: Some(kept), ..report })
}

/// The folder, with what is needed to know what it is of.
fn keep(folder: &TempDir, plan: &Plan) -> PathBuf {
    let path = folder.path().to_owned();
    // It is said on the screen as well.
    drop(fs::write(path.join("seed"), format!("{}\n", plan.seed)));
    path
}

async fn hold(plan: &Plan, folder: &Path, say: &(dyn Fn(Said<'_>) + Sync)) -> Result<Report, ChaosError> {
    let keep_entries = (plan.rate * KEPT_SECONDS).max(KEPT_MIN);
    let mut store = Store::prepare(folder, &plan.programs, &catalogue(), keep_entries, plan.seed).await?;
    store.start_all().await?;
    store.whole(START_MAX).await.map_err(ChaosError::NotReady)?;
    let demand = Demand { rate: plan.rate, callers: plan.callers, seed: plan.seed };
    let client = store.client(CALL_MAX)?;
    let load = Load::start(&store.url(), &client, store.admin_token(), demand).await?;
    let no_full_disks = store.no_disks().map(str::to_owned);
    if let Some(why) = &no_full_disks {
        say(Said::Line(&format!("no disk is filled: {why}")));
    }
    let mut report = Report { seed: plan.seed, no_full_disks, ..Report::default() };
    let mut audits = Audits::default();
    let excuses = trouble(plan, &mut store, &load, &mut audits, say, &mut report).await?;
    let mut seen = load.finish().await;
    say(Said::Line("the store is at rest; judging"));
    judge(&mut store, audits, &mut seen, &mut report).await;
    write(folder, &seen)?;
    judge_reads(&seen.history, &excuses, &mut report);
    judge_history(&seen.history, &mut report);
    Ok(report)
}

/// One fault after the other, until time is over or the store does not recover. Gives when reads might fail.
async fn trouble(
    plan: &Plan,
    store: &mut Store,
    load: &Load,
    audits: &mut Audits,
    say: &(dyn Fn(Said<'_>) + Sync),
    report: &mut Report,
) -> Result<Vec<Excuse>, ChaosError> {
    let mut excuses = Vec::new();
    let mut random = Random::seeded(plan.seed);
    let mut deck = Deck::new(random.next_u64(), store.disks());
    let mut kinds: BTreeMap<Kind, u32> = BTreeMap::new();
    let begin = Instant::now();
    loop {
        let (done, all) = plan.length.passed(begin.elapsed(), kinds.values().sum());
        say(Said::Passed { done, all });
        if done >= all {
            break;
        }
        tokio::time::sleep(Duration::from_millis(random.next_u64() % REST_MS_MAX)).await;
        let faults = deck.deal();
        let (at, from, before) = (begin.elapsed(), load.now(), load.counts());
        let aftermath = strike(store, &faults).await?;
        if !leave_reads_alone(&faults) || aftermath.not_healed.is_some() {
            excuses.push(Excuse { from, to: load.now() });
        }
        faults.iter().for_each(|fault| *kinds.entry(fault.kind()).or_default() += 1);
        report.healed_after_max = report.healed_after_max.max(aftermath.healed_after);
        report.by_hand += u32::try_from(aftermath.by_hand.len()).unwrap_or(u32::MAX);
        say(Said::Line(&line(at, &faults, &aftermath, before, load.counts())));
        if let Some(missing) = aftermath.not_healed {
            report.complaints.push(format!("the store did not recover: {missing}"));
            break;
        }
        if audits.are_due() {
            audit(store, audits, report).await;
        }
    }
    report.faults = kinds.into_iter().map(|(kind, count)| (kind.to_string(), count)).collect();
    Ok(excuses)
}

impl Length {
    /// How much of it is over after so long and so many faults.
    fn passed(self, time: Duration, faults: u32) -> (u64, u64) {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match self {
            Self::Time(all) => (ms(time), ms(all)),
            Self::Faults(all) => (faults.into(), all.into()),
        }
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(all) => write!(f, "{all:.1?}"),
            Self::Faults(all) => write!(f, "{all} faults"),
        }
    }
}

fn line(at: Duration, faults: &[Fault], aftermath: &Aftermath, before: Counts, after: Counts) -> String {
    let what: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let Aftermath { healed_after, by_hand, spared, not_healed } = aftermath;
    let healed = match not_healed {
        None => format!("whole after {healed_after:.2?}"),
        Some(missing) => format!("NOT whole after {healed_after:.0?}: {missing}"),
    };
    let nodes = |nodes: &[&str], what| {
        if nodes.is_empty() { String::new() } else { format!(", {} {what}", nodes.join(", ")) }
    };
    let (by_hand, spared) = (nodes(by_hand, "by hand"), nodes(spared, "spared as a member"));
    format!(
        "{:7.1} s  {}; {healed}{by_hand}{spared}; {} answers, {} reads failed, {} writes unknown",
        at.as_secs_f64(),
        what.join(" + "),
        after.answered - before.answered,
        after.failed - before.failed,
        after.unknown - before.unknown,
    )
}

fn write(folder: &Path, seen: &Seen) -> Result<(), ChaosError> {
    let path = folder.join("history.jsonl");
    let write = || {
        let mut file = BufWriter::new(File::create(&path)?);
        seen.history.write(&mut file)?;
        file.flush()
    };
    write().map_err(ChaosError::file("can't write", &path))
}

fn catalogue() -> String {
    let rows = (1..).zip(COPIES).map(|(id, copies)| format!("{id},Book {id},chaos,{},{copies}\n", 100 * id));
    std::iter::once("id,title,topic,cost_cents,quantity\n".to_owned()).chain(rows).collect()
}
