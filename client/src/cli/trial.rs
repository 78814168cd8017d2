//! The commands that try the store: test threads and load, with what they found.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bookends::Client;
use bookends::load::{self, Length, LoadError, Progress, Report};
use bookends::random::Random;
use bookends::threads::{self, Summary, ThreadReport};
use indicatif::{ProgressBar, ProgressStyle};

use super::CliError;
use super::args::{Globals, LoadArgs, TestArgs};
use super::screen::Screen;
use super::tables::{Cell, Side, Table, Tone};

/// How long a load goes on if nothing else is said.
const LOAD_TIME: Duration = Duration::from_secs(10);
/// How often a progress bar moves.
const REDRAW: Duration = Duration::from_millis(100);

pub(crate) async fn test(client: &Client, screen: Screen, args: &TestArgs) -> Result<(), CliError> {
    let seed = args.seed.unwrap_or_else(fresh_seed);
    let plan = threads::Plan { threads: args.threads, requests: args.requests, seed };
    let summary = threads::run(client, plan).await?;
    screen.show(&summary, |summary| summary_text(summary, screen.has_colour()))?;
    if summary.is_good() {
        return Ok(());
    }
    let ThreadReport { wrong, failed, .. } = summary.total;
    Err(CliError::Outcome(format!("{wrong} wrong answers and {failed} failed calls (seed {seed})")))
}

fn summary_text(summary: &Summary, colour: bool) -> String {
    let heads = ["thread", "calls", "orders", "sold out", "wrong", "failed", "p50", "p99"];
    let sides = [Side::Right; 8];
    let mut table = Table::new(std::array::from_fn(|i| (heads[i], sides[i])));
    let named = summary.threads.iter().enumerate().map(|(place, report)| ((place + 1).to_string(), report));
    for (name, report) in named.chain([("all".to_owned(), &summary.total)]) {
        let bad =
            |count: u64| Cell::toned(count.to_string(), if count == 0 { Tone::Plain } else { Tone::Bad });
        table.row([
            name.into(),
            report.calls.into(),
            report.orders.into(),
            report.out_of_stock.into(),
            bad(report.wrong),
            bad(report.failed),
            time(report.p50_us).into(),
            time(report.p99_us).into(),
        ]);
    }
    let mut out = table.render(colour);
    for fault in &summary.total.faults {
        out.extend([fault, "\n"]);
    }
    let verdict = if summary.is_good() { "every answer was right" } else { "not every answer was right" };
    out + &format!("{verdict}; {} retries, seed {}\n", summary.retries, summary.seed)
}

pub(crate) async fn load(
    client: &Client,
    globals: &Globals,
    screen: Screen,
    args: LoadArgs,
) -> Result<(), CliError> {
    let books = threads::books_of(client).await?;
    let topics: BTreeSet<String> = books.iter().map(|book| book.topic.clone()).collect();
    let length = match (args.requests, args.duration) {
        (Some(requests), _) => Length::Requests(requests),
        (None, time) => Length::Time(time.unwrap_or(LOAD_TIME)),
    };
    let plan = load::Plan {
        urls: globals.url.clone(),
        threads: args.threads,
        connections: args.connections,
        length,
        mix: args.mix,
        rate: args.rate,
        seed: args.seed.unwrap_or_else(fresh_seed),
        books: books.iter().map(|book| book.id).collect(),
        topics: topics.into_iter().collect(),
    };
    let report = watched(plan).await?;
    screen.show(&report, report_text)?;
    if report.failed() == 0 {
        return Ok(());
    }
    Err(CliError::Outcome(format!(
        "{} of {} requests failed",
        report.failed(),
        report.requests + report.unsent
    )))
}

/// Runs a load with a bar that moves; an interrupt ends it early, with its report.
async fn watched(plan: load::Plan) -> Result<Report, CliError> {
    let progress = Arc::new(Progress::default());
    let bar = bar_of(&plan);
    let (length, has_total) = (plan.length, plan.total());
    let shown = Arc::clone(&progress);
    let running = tokio::task::spawn_blocking(move || load::run(&plan, &shown));
    tokio::pin!(running);
    let start = Instant::now();
    let mut redraw = tokio::time::interval(REDRAW);
    let report = loop {
        tokio::select! {
            ended = &mut running => break ended,
            _ = redraw.tick() => {
                let answered = progress.answered();
                match (has_total, length) {
                    (Some(_), _) | (None, Length::Requests(_)) => bar.set_position(answered + progress.failed()),
                    (None, Length::Time(_)) => bar.set_position(millis(start.elapsed())),
                }
                bar.set_message(format!("{answered} answered, {} failed", progress.failed()));
            }
            // If no handler can be installed, an interrupt ends the process as usual.
            Ok(()) = tokio::signal::ctrl_c() => progress.stop(),
        }
    };
    bar.finish_and_clear();
    report.map_err(|_| CliError::Load(LoadError::Panicked))?.map_err(CliError::Load)
}

fn bar_of(plan: &load::Plan) -> ProgressBar {
    let end = match (plan.total(), plan.length) {
        (Some(total), _) => total,
        (None, Length::Time(time)) => millis(time),
        (None, Length::Requests(requests)) => requests.get(),
    };
    // The template is known to be right; if it were not, the plain bar would do.
    let style = ProgressStyle::with_template("{wide_bar} {percent} %  {msg}");
    ProgressBar::new(end).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn report_text(report: &Report) -> String {
    let loop_kind = report.rate.map_or_else(|| "closed loop".to_owned(), |rate| format!("{rate} a second"));
    let mut out = format!(
        "{} requests in {:.2} s, {:.0} answers a second ({} connections, {} threads, {loop_kind}, mix {}, seed {})\n\n",
        report.requests,
        report.seconds,
        report.per_second,
        report.connections,
        report.threads,
        report.mix,
        report.seed,
    );
    let heads = ["call", "answers", "p50", "p90", "p99", "p99.9", "max"];
    let mut table =
        Table::new(std::array::from_fn(|i| (heads[i], if i == 0 { Side::Left } else { Side::Right })));
    let calls = report.calls.iter().map(|(kind, call)| (kind.name(), call.answered, call.latency));
    for (name, answered, latency) in calls.chain([("all", report.answered, report.latency)]) {
        table.row([
            name.into(),
            answered.into(),
            time(latency.p50_us).into(),
            time(latency.p90_us).into(),
            time(latency.p99_us).into(),
            time(latency.p99_9_us).into(),
            time(latency.max_us).into(),
        ]);
    }
    out.push_str(&table.render(false));
    let known =
        [("sold out", report.out_of_stock), ("reconnects", report.reconnects), ("unsent", report.unsent)];
    let errors = report.errors.iter().map(|(kind, count)| (kind.as_str(), *count));
    for (name, count) in known.into_iter().filter(|(_, count)| *count > 0).chain(errors) {
        out.push_str(&format!("{name}: {count}\n"));
    }
    out
}

/// Microseconds as people read them.
fn time(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..1_000_000 => format!("{}.{:02} ms", micros / 1_000, micros % 1_000 / 10),
        _ => format!("{}.{:02} s", micros / 1_000_000, micros % 1_000_000 / 10_000),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Short enough to be typed again.
fn fresh_seed() -> u64 {
    Random::new().next_u64() % u64::from(NonZeroU32::MAX.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        for (micros, expected) in [(0, "0 us"), (999, "999 us"), (1_000, "1.00 ms"), (1_239_000, "1.23 s")] {
            assert_eq!(time(micros), expected);
        }
    }
}
