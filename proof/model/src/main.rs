//! `bookends-model`: checks the replication protocol exhaustively within bounds.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that people run: this is its answer"
)]

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use model::check::{Found, check};
use model::configurations::{Configuration, all};
use protocol::mutant::Mutant;

/// A search is little but small pieces of memory, on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Goes through all orders of what can happen in small stores, and looks whether the promises of
/// docs/PROTOCOL.md are kept.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:
  bookends-model                                    all configurations, as deep as the tests go
  bookends-model --list                             what there is
  bookends-model --configuration takeover --depth 24

Exit codes: 0 all is well, 1 something is not (a counter-example is printed), 2 wrong use."
)]
struct Arguments {
    /// Only this configuration; may be given several times.
    #[arg(long, value_name = "NAME")]
    configuration: Vec<String>,
    /// How many steps deep, instead of each configuration's own depth. Each step more takes about twice
    /// the time and the memory.
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u16).range(1..=1000))]
    depth: Option<u16>,
    /// Leave out this safeguard, to see that it is missed; may be given several times (only in builds with the
    /// feature `mutants`).
    #[arg(long, value_name = "NAME")]
    mutant: Vec<Mutant>,
    /// Lists the configurations with their bounds.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(problem) = leave_out(&arguments.mutant) {
        eprintln!("bookends-model: {problem}");
        return ExitCode::from(2);
    }
    let chosen = match choose(&arguments.configuration) {
        Ok(chosen) => chosen,
        Err(problem) => {
            eprintln!("bookends-model: {problem}");
            return ExitCode::from(2);
        }
    };
    if arguments.list {
        chosen.iter().for_each(describe);
        return ExitCode::SUCCESS;
    }
    let mut good = true;
    for configuration in &chosen {
        let found = run(configuration, arguments.depth.map_or(configuration.steps, usize::from));
        println!("{found}");
        // Less deep than the configuration is meant for, not everything can be reached.
        let is_shallow = found.steps < configuration.steps;
        good &= found.broken.is_none() && (is_shallow || found.missed.is_empty());
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(feature = "mutants")]
fn leave_out(mutants: &[Mutant]) -> Result<(), &'static str> {
    protocol::mutant::select(mutants);
    Ok(())
}

#[cfg(not(feature = "mutants"))]
fn leave_out(mutants: &[Mutant]) -> Result<(), &'static str> {
    let problem = "built without mutants: cargo run --profile proof --features mutants -p bookends-model";
    if mutants.is_empty() { Ok(()) } else { Err(problem) }
}

fn choose(names: &[String]) -> Result<Vec<Configuration>, String> {
    let all = all();
    if names.is_empty() {
        return Ok(all);
    }
    let known: Vec<&str> = all.iter().map(|configuration| configuration.name).collect();
    let find = |name: &String| {
        let found = all.iter().find(|configuration| configuration.name == name).cloned();
        found.ok_or_else(|| format!("there is no configuration `{name}`; there are {}", known.join(", ")))
    };
    names.iter().map(find).collect()
}

fn describe(configuration: &Configuration) {
    let Configuration { name, about, steps, whole, model } = configuration;
    let extent = if *whole { "all there are" } else { "not all there are" };
    println!("{name}: {about}");
    println!(
        "  {} replicas, {} front ends, {} commands, {steps} steps ({extent}); at most: {}",
        model.replicas,
        model.fronts,
        model.keys,
        model.budget.describe()
    );
}

fn run(configuration: &Configuration, steps: usize) -> Found {
    if !std::io::stderr().is_terminal() {
        return check(configuration, steps, |_| {});
    }
    let bar = ProgressBar::new(steps as u64);
    let style = ProgressStyle::with_template("{prefix:12} {wide_bar} step {pos}/{len}, {msg}, {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(configuration.name);
    bar.enable_steady_tick(Duration::from_millis(250));
    let found = check(configuration, steps, |progress| {
        bar.set_position(progress.steps as u64);
        bar.set_message(format!("{} states", progress.unique));
    });
    bar.finish_and_clear();
    found
}
