//! `bookends-chaos`: a round of chaos on this machine.

use std::fs::File;
use std::io::{BufReader, Write};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bookends::random::Random;
use chaos::{Plan, Said, run};
use clap::Parser;
use common::exit::with_causes;
use history::{History, check};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

const EXAMPLES: &str = "\
Starts a store of its own, puts load on it, kills, freezes, cuts, delays, fills and harms, and then judges
all that callers saw. Ctrl-C ends it with all of its processes. As root it fills disks as well.

Examples:
  bookends-chaos --minutes 5
  bookends-chaos --minutes 1 --seed 7 --rate 500
  bookends-chaos --check /tmp/bookends-chaos-abc/history.jsonl

Exit codes: 0 every promise was kept, 1 one was not (history and logs are kept), 2 wrong use.";

/// Real processes, real faults, and a verdict over all that callers saw.
#[derive(Debug, Parser)]
#[command(name = "bookends-chaos", version, after_help = EXAMPLES)]
struct Args {
    /// How long faults go on
    #[arg(long, default_value = "1", value_parser = minutes)]
    minutes: f64,
    /// Decides which faults and which calls come [default: by chance]
    #[arg(long)]
    seed: Option<u64>,
    /// Calls a second
    #[arg(long, default_value = "300")]
    rate: NonZeroU32,
    /// How many calls may be under way at a time
    #[arg(long, default_value = "48")]
    callers: NonZeroU32,
    /// Where the store lives meanwhile [default: the folder for temporary files]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Where the programs of the store are [default: beside this one]
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Also flip bits in files and cut off their ends, which the store need not notice at once
    #[arg(long)]
    silent_damage: bool,
    /// Keep history and logs in any case
    #[arg(long)]
    keep: bool,
    /// Only judge a history that was kept
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "it must be a number".to_owned())?;
    if (0.01..=10_000.0).contains(&minutes) {
        Ok(minutes)
    } else {
        Err("it must be 0.01 to 10000".to_owned())
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match held(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            complain(&format!("bookends-chaos: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn held(args: &Args) -> Result<bool, String> {
    if let Some(path) = &args.check {
        let named = |problem: String| format!("{}: {problem}", path.display());
        let file = File::open(path).map_err(|problem| named(problem.to_string()))?;
        let history = History::read(BufReader::new(file)).map_err(|problem| named(with_causes(&problem)))?;
        let verdict = check(&history);
        say(&format!("{} calls: {verdict}", history.calls().len()));
        return Ok(verdict.is_good());
    }
    let runtime = tokio::runtime::Runtime::new().map_err(|problem| problem.to_string())?;
    runtime.block_on(round(args))
}

async fn round(args: &Args) -> Result<bool, String> {
    let beside = || std::env::current_exe().ok().and_then(|path| path.parent().map(PathBuf::from));
    let programs = args.programs.clone().or_else(beside).ok_or("the programs' folder is not known")?;
    let plan = Plan {
        time: Duration::from_secs_f64(args.minutes * 60.0),
        seed: args.seed.unwrap_or_else(|| Random::new().next_u64() % 1_000_000_000),
        rate: args.rate.get(),
        callers: args.callers.get(),
        programs,
        folder: args.folder.clone().unwrap_or_else(std::env::temp_dir),
        silent_damage: args.silent_damage,
        keep: args.keep,
    };
    // The template is known to be right; if it were not, the plain bar would do.
    let style = ProgressStyle::with_template("{wide_bar} {percent} %").ok();
    let bar = ProgressBar::new(u64::try_from(plan.time.as_millis()).unwrap_or(u64::MAX));
    let bar = bar.with_style(style.unwrap_or_else(ProgressStyle::default_bar));
    let told = |said: Said<'_>| match said {
        Said::Line(line) => bar.suspend(|| say(line)),
        Said::Passed(time) => bar.set_position(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
    };
    told(Said::Line(&format!("seed {}, {:.1?}, {} calls a second", plan.seed, plan.time, plan.rate)));
    let mut terminate = signal(SignalKind::terminate()).map_err(|problem| problem.to_string())?;
    let held = tokio::select! {
        held = run(&plan, &told) => held.map_err(|problem| with_causes(&problem)),
        _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
        _ = terminate.recv() => Err("told to end".to_owned()),
    };
    bar.finish_and_clear();
    let report = held?;
    say(report.to_string().trim_end());
    Ok(report.is_good())
}

fn say(line: &str) {
    // Who closes the output wants no more of it.
    drop(writeln!(std::io::stdout(), "{line}"));
}

fn complain(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}
