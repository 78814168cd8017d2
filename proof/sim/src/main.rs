//! `bookends-sim`: runs seeds of the simulation, with a progress bar on a terminal.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what a program is for")]

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use protocol::mutant::Mutant;
use sim::{Lines, Options, Pool};

/// As in the services; a run makes and drops much that is small.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs whole clusters in memory under faults, each of them from one seed, and says which went wrong.
#[derive(Debug, Parser)]
#[command(name = "bookends-sim", version, after_help = EXAMPLES)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000, conflicts_with = "seed")]
    seeds: u64,
    /// The first of them; without it, one that no run before had.
    #[arg(long, conflicts_with = "seed")]
    from: Option<u64>,
    /// Run this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Print all that happens in it.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// On how many threads; one for each core without it.
    #[arg(long)]
    threads: Option<usize>,
    /// Go on after a failure.
    #[arg(long)]
    all: bool,
    /// Leave out this safeguard, to see that it is missed; may be given several times (only in builds with the
    /// feature `mutants`).
    #[arg(long, value_name = "NAME")]
    mutant: Vec<Mutant>,
}

const EXAMPLES: &str = "Examples:
  bookends-sim --seeds 10000             ten thousand seeds that no run before had
  bookends-sim --seeds 1000 --from 0     seeds 0 to 999
  bookends-sim --seed 42 --trace         all that happens in seed 42

Exit codes: 0 all is well, 1 a seed failed, 2 wrong use.";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(problem) = leave_out(&arguments.mutant) {
        eprintln!("bookends-sim: {problem}");
        return ExitCode::from(2);
    }
    match arguments.seed {
        Some(seed) => one(seed, arguments.trace),
        None => many(&arguments),
    }
}

#[cfg(feature = "mutants")]
fn leave_out(mutants: &[Mutant]) -> Result<(), &'static str> {
    protocol::mutant::select(mutants);
    Ok(())
}

#[cfg(not(feature = "mutants"))]
fn leave_out(mutants: &[Mutant]) -> Result<(), &'static str> {
    let problem = "built without mutants: cargo run --profile proof --features mutants -p bookends-sim";
    if mutants.is_empty() { Ok(()) } else { Err(problem) }
}

fn one(seed: u64, trace: bool) -> ExitCode {
    let text = Arc::new(Mutex::new(String::new()));
    let lines = if trace { Lines::Kept(text.clone()) } else { Lines::None };
    let run = sim::run_one(seed, lines, &mut Pool::default());
    print!("{}", text.lock());
    match run {
        Ok(run) => {
            println!("seed {seed} is well ({:016x})", run.hash);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("seed {seed} fails: {}", failure.problem);
            ExitCode::FAILURE
        }
    }
}

fn many(arguments: &Arguments) -> ExitCode {
    let first = arguments.from.unwrap_or_else(sim::fresh_seed);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.unwrap_or(cores);
    let options = Options { first, count: arguments.seeds, threads, stop_at_first: !arguments.all };
    let bar = progress_bar(arguments.seeds);
    let began = Instant::now();
    let summary = sim::run_seeds(&options, |done| bar.inc(done));
    bar.finish_and_clear();
    for failure in &summary.failures {
        eprintln!("seed {} fails: {}\n    {}", failure.seed, failure.problem, failure.command());
    }
    println!("{}", told(&summary, first, began.elapsed()));
    if summary.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn told(summary: &sim::Summary, first: u64, took: Duration) -> String {
    let seconds = took.as_secs_f64().max(0.001);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let per_minute = summary.runs as f64 / seconds * 60.0;
    let (runs, failed, beyond) = (summary.runs, summary.failures.len(), summary.beyond_help);
    format!(
        "{runs} seeds from {first}: {failed} failed, {beyond} beyond help; {seconds:.1} s, \
         {per_minute:.0} seeds a minute"
    )
}

fn progress_bar(seeds: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(seeds);
    let form = "{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(form).expect("the form is one that indicatif knows"));
    bar
}
