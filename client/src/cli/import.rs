//! A whole catalogue in: read, sent and reported as it goes.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;
use std::time::Duration;

use bookends::import::{ImportError, Options, Progress, import as load};
use bookends::{BulkFormat, Client};
use common::api::BulkReport;
use indicatif::ProgressBar;

use super::CliError;
use super::args::ImportArgs;
use super::progress::style;
use super::screen::Screen;
use super::tables::{Side, Table};

/// How often a progress bar moves when nothing else moves it.
const REDRAW: Duration = Duration::from_millis(250);

pub(crate) async fn import(client: &Client, screen: Screen, args: &ImportArgs) -> Result<(), CliError> {
    let source = open(args)?;
    let name = source.name.clone();
    let options = Options {
        format: source.format,
        anew: args.anew,
        patience: Duration::from_secs(args.patience.get().into()),
    };
    let bar = source.bar();
    bar.enable_steady_tick(REDRAW);
    let moved = |Progress { bytes, books }: Progress| {
        bar.set_position(bytes);
        bar.set_message(format!("{books} books"));
    };
    let loaded = load(client, source.file, options, moved).await;
    bar.finish_and_clear();
    let report = loaded.map_err(|problem| stopped(&name, args, problem))?;
    show_report(screen, &report)?;
    match report.rejections() {
        0 => Ok(()),
        bad => Err(CliError::Outcome(format!(
            "{name}: {bad} lines were rejected, {} books loaded",
            report.loaded
        ))),
    }
}

/// What is imported.
struct Source {
    name: String,
    format: BulkFormat,
    bytes: Option<u64>,
    file: Box<dyn Read + Send>,
}

impl Source {
    fn bar(&self) -> ProgressBar {
        match self.bytes {
            Some(bytes) => {
                ProgressBar::new(bytes).with_style(style("{wide_bar} {bytes} of {total_bytes}, {msg}"))
            }
            None => ProgressBar::new_spinner().with_style(style("{spinner} {bytes}, {msg}")),
        }
    }
}

fn open(args: &ImportArgs) -> Result<Source, CliError> {
    let path = args.file.as_path();
    if path == Path::new("-") {
        return standard_input(args);
    }
    let format =
        args.format.map(BulkFormat::from).or_else(|| BulkFormat::of_path(path)).ok_or_else(|| {
            let shown = path.display();
            CliError::Usage(format!(
                "{shown}: the file's name must end in .csv, .ndjson or .jsonl, or give --format"
            ))
        })?;
    let failed = |problem| CliError::file("can't read", path, problem);
    let file = File::open(path).map_err(failed)?;
    let kind = file.metadata().map_err(failed)?;
    if kind.is_dir() {
        return Err(CliError::Usage(format!("{}: is a folder", path.display())));
    }
    // Of a pipe with a name, nobody knows how much will come.
    let bytes = kind.is_file().then_some(kind.len());
    Ok(Source { name: path.display().to_string(), format, bytes, file: Box::new(file) })
}

/// A JSON object begins with a brace; no header of a table does.
fn standard_input(args: &ImportArgs) -> Result<Source, CliError> {
    let mut input = std::io::stdin();
    let mut begin = Vec::new();
    let mut format = args.format.map(BulkFormat::from);
    while format.is_none() {
        let mut byte = [0];
        if input.read(&mut byte).map_err(|e| CliError::file("can't read", &args.file, e))? == 0 {
            break;
        }
        begin.extend(byte);
        format = match byte {
            [b'{'] => Some(BulkFormat::Ndjson),
            [space] if space.is_ascii_whitespace() => None,
            _ => Some(BulkFormat::Csv),
        };
    }
    let file = Box::new(Cursor::new(begin).chain(input));
    Ok(Source {
        name: "standard input".to_owned(),
        format: format.unwrap_or(BulkFormat::Csv),
        bytes: None,
        file,
    })
}

/// Why an import ended early, and how to go on.
fn stopped(name: &str, args: &ImportArgs, problem: ImportError) -> CliError {
    let ImportError::Call { line, loaded, source } = problem else {
        return CliError::Outcome(format!("{name}: {problem}: {}", causes(&problem)));
    };
    if !source.is_retryable() {
        return CliError::Call(*source);
    }
    let again = if args.file == Path::new("-") {
        "pipe the same books in again"
    } else {
        "run the same command again"
    };
    // With keys of this run alone, another run can't know what this one has loaded.
    let how = if args.anew {
        format!("its part from line {line} on is missing; {again}, and all of it is loaded once more")
    } else {
        format!("{again} to go on from line {line}: what is loaded is not loaded twice")
    };
    CliError::Outcome(format!(
        "{name}: {loaded} books are loaded, then the store did not answer: {source}; {how}"
    ))
}

fn causes(problem: &dyn std::error::Error) -> String {
    problem.source().map_or_else(String::new, ToString::to_string)
}

fn show_report(screen: Screen, report: &BulkReport) -> Result<(), CliError> {
    if screen.is_json() {
        return screen.value(report);
    }
    screen.text(&format!("loaded {} books\n", report.loaded))?;
    if report.rejected.is_empty() {
        return Ok(());
    }
    let mut table = Table::new([("line", Side::Right), ("rejected because", Side::Left)]);
    for rejected in &report.rejected {
        table.row([rejected.line.into(), (&rejected.reason).into()]);
    }
    screen.table(&table)?;
    match report.rejected_more {
        0 => Ok(()),
        more => screen.text(&format!("and {more} more\n")),
    }
}
