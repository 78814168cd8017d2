//! `bookends-chaos`: a round of chaos on this machine.

use std::fs::File;
use std::io::{BufReader, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bookends::random::Random;
use chaos::{ChaosError, Length, Plan, Said, namespace, run};
use clap::Parser;
use common::exit::with_causes;
use history::{History, check};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

const EXAMPLES: &str = "\
Starts a store of its own, puts load on it, kills, freezes, cuts, delays, fills and harms, and then judges
all that callers saw. Ctrl-C ends it with all of its processes. It fills disks where it may mount them: as root,
or in a namespace of its own if the system gives it one; else it says why not.

Examples:
  bookends-chaos --minutes 5
  bookends-chaos --minutes 1 --seed 7 --rate 500
  bookends-chaos --faults 15
  bookends-chaos --check /tmp/bookends-chaos-abc/history.jsonl

Exit codes: 0 every promise was kept, 1 one was not (history and logs are kept), 2 wrong use, or something is
missing that a round needs.";

/// Real processes, real faults, and a verdict over all that callers saw.
#[derive(Debug, Parser)]
#[command(name = "bookends-chaos", version, after_help = EXAMPLES)]
struct Args {
    /// How long faults go on
    #[arg(long, default_value = "1", value_parser = minutes)]
    minutes: f64,
    /// How many faults come, instead of how long; after 15, or 14 without full disks, each kind has come
    #[arg(long, conflicts_with = "minutes")]
    faults: Option<NonZeroU32>,
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

/// Why there is no verdict.
enum Failure {
    /// It was not called rightly, or something is missing.
    Use(String),
    /// The store did not let it go on, or somebody else.
    Round(String),
}

impl From<ChaosError> for Failure {
    fn from(problem: ChaosError) -> Self {
        let text = with_causes(&problem);
        match problem {
            ChaosError::NoProgram(_) | ChaosError::File { .. } | ChaosError::Proxy { .. } => Self::Use(text),
            ChaosError::Process { .. } | ChaosError::NotReady(_) | ChaosError::Call(_) => Self::Round(text),
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let held = match &args.check {
        Some(path) => judged(path),
        None => {
            namespace::enter_if_it_helps();
            let runtime = Runtime::new().map_err(|problem| Failure::Use(problem.to_string()));
            runtime.and_then(|runtime| runtime.block_on(round(&args)))
        }
    };
    match held {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            let (code, problem) = match failure {
                Failure::Round(problem) => (ExitCode::FAILURE, problem),
                Failure::Use(problem) => (ExitCode::from(2), problem),
            };
            complain(&format!("bookends-chaos: {problem}"));
            code
        }
    }
}

/// Judges a history that was kept.
fn judged(path: &Path) -> Result<bool, Failure> {
    let named = |problem: String| Failure::Use(format!("{}: {problem}", path.display()));
    let file = File::open(path).map_err(|problem| named(problem.to_string()))?;
    let history = History::read(BufReader::new(file)).map_err(|problem| named(with_causes(&problem)))?;
    let verdict = check(&history);
    say(&format!("{} calls: {verdict}", history.calls().len()));
    Ok(verdict.is_good())
}

async fn round(args: &Args) -> Result<bool, Failure> {
    let beside = || std::env::current_exe().ok().and_then(|path| path.parent().map(PathBuf::from));
    let programs = args.programs.clone().or_else(beside);
    let programs = programs.ok_or_else(|| Failure::Use("the programs' folder is not known".to_owned()))?;
    let time = Length::Time(Duration::from_secs_f64(args.minutes * 60.0));
    let plan = Plan {
        length: args.faults.map_or(time, |faults| Length::Faults(faults.get())),
        seed: args.seed.unwrap_or_else(|| Random::new().next_u64() % 1_000_000_000),
        rate: args.rate.get(),
        callers: args.callers.get(),
        programs,
        folder: args.folder.clone().unwrap_or_else(std::env::temp_dir),
        keep: args.keep,
    };
    // The template is known to be right; if it were not, the plain bar would do.
    let style = ProgressStyle::with_template("{wide_bar} {percent} %").ok();
    let bar = ProgressBar::new(1).with_style(style.unwrap_or_else(ProgressStyle::default_bar));
    let told = |said: Said<'_>| match said {
        Said::Line(line) => bar.suspend(|| say(line)),
        Said::Passed { done, all } => {
            bar.set_length(all);
            bar.set_position(done);
        }
    };
    told(Said::Line(&format!("seed {}, {}, {} calls a second", plan.seed, plan.length, plan.rate)));
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|problem| Failure::Use(problem.to_string()))?;
    let held = tokio::select! {
        held = run(&plan, &told) => held.map_err(Failure::from),
        _ = tokio::signal::ctrl_c() => Err(Failure::Round("interrupted".to_owned())),
        _ = terminate.recv() => Err(Failure::Round("told to end".to_owned())),
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
