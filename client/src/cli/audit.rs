//! The audit: its progress, its report, and the file by which a later one begins.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use bookends::Client;
use bookends::audit::{self, AuditError, Fault, Report, Start};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::CliError;
use super::args::AuditArgs;
use super::screen::Screen;

pub(crate) async fn audit(client: &Client, screen: Screen, args: &AuditArgs) -> Result<(), CliError> {
    let start = args.start.as_deref().map(read).transpose()?;
    // The template is known to be right; if it were not, the plain bar would do.
    let style = ProgressStyle::with_template("{spinner} {msg}").ok();
    let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(ProgressStyle::default_spinner));
    let progress = |what: &str, done: u64, of: Option<u64>| {
        bar.set_message(match of {
            Some(of) => format!("{what}: {done} of {of}"),
            None => format!("{what}: {done}"),
        });
        bar.tick();
    };
    let found = audit::run(client, start.as_ref(), &progress).await;
    bar.finish_and_clear();
    let (report, _) = found.map_err(|problem| match problem {
        AuditError::Call(error) => CliError::Call(error),
        AuditError::Start(error) => CliError::Outcome(error.to_string()),
    })?;
    if screen.is_json() {
        let mut value = json!(report);
        value["balanced"] = report.is_balanced().into();
        screen.value(&value)?;
    } else {
        screen.text(&text_of(&report, args.start.as_deref()))?;
    }
    match report.faults.len() {
        0 => {}
        1 => return Err(CliError::Outcome("one thing does not fit".to_owned())),
        more => return Err(CliError::Outcome(format!("{more} things do not fit"))),
    }
    match (&args.save, &report.end) {
        (Some(path), Some(end)) => write(path, end),
        _ => Ok(()),
    }
}

fn text_of(report: &Report, start: Option<&Path>) -> String {
    let Report { books, orders, stocked, sold, left, unproven, faults, end: _ } = report;
    let since = start.map(|path| format!(", from {} on", path.display())).unwrap_or_default();
    let mut out = format!("books listed: {books}; orders compared: {orders}\n");
    out += &format!("copies{since}: {sold} sold + {left} left");
    out += &if sold + left == *stocked {
        format!(" = {stocked} stocked\n")
    } else {
        format!(", but {stocked} were stocked\n")
    };
    if !unproven.is_empty() {
        out += &format!(
            "not proven: {}, such as book {}; neither the log nor a start says how it began\n",
            unproven.len(),
            unproven[0]
        );
    }
    for fault in faults {
        out += &line_of(fault);
    }
    out
}

fn line_of(fault: &Fault) -> String {
    let copies = |copies: &Option<u64>| match copies {
        Some(copies) => format!("{copies} in stock"),
        None => "no book".to_owned(),
    };
    match fault {
        Fault::Stock { id, version, expected, found } => {
            let (expected, found) = (copies(expected), copies(found));
            format!("book {id} in version {version}: {found}, by the ledger {expected}\n")
        }
        Fault::Oversold { id, index } => {
            format!("book {id}: entry {index} took more copies than there were\n")
        }
        Fault::SoldTwice { order_id } => format!("order {order_id}: sold twice\n"),
        Fault::OrderMissing { node, order_id } => format!("order {order_id}: {node} lacks it\n"),
        Fault::OrderTwice { node, order_id } => format!("order {order_id}: {node} has it twice\n"),
        Fault::OrderUnknown { node, order_id } => {
            format!("order {order_id}: {node} has it, and it was never sold\n")
        }
        Fault::OrderDiffers { node, order_id } => {
            format!("order {order_id}: {node} has it otherwise than it was sold\n")
        }
        Fault::Replicas { shard, index, nodes: [one, other] } => {
            format!("shard {shard}: {one} and {other} differ at index {index}\n")
        }
    }
}

fn read(path: &Path) -> Result<Start, CliError> {
    let text = fs::read(path).map_err(|problem| CliError::file("can't read", path, problem))?;
    serde_json::from_slice(&text).map_err(|problem| CliError::file("can't understand", path, problem))
}

/// Writes the file whole or not at all.
fn write(path: &Path, start: &Start) -> Result<(), CliError> {
    let wrong = |problem: io::Error| CliError::file("can't write", path, problem);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file =
        tempfile::NamedTempFile::new_in(folder.unwrap_or_else(|| Path::new("."))).map_err(wrong)?;
    let text = serde_json::to_vec(start).map_err(|problem| wrong(problem.into()))?;
    file.write_all(&text).map_err(wrong)?;
    file.persist(path).map_err(|problem| wrong(problem.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_named() {
        let mut report = Report { books: 1, orders: 2, stocked: 5, sold: 3, left: 2, ..Report::default() };
        let text = text_of(&report, None);
        assert_eq!(text, "books listed: 1; orders compared: 2\ncopies: 3 sold + 2 left = 5 stocked\n");
        report.left = 1;
        report.faults.push(Fault::Stock {
            id: 7.try_into().unwrap(),
            version: 9,
            expected: Some(2),
            found: Some(1),
        });
        report.faults.push(Fault::OrderMissing { node: "order-1".to_owned(), order_id: "x".to_owned() });
        let text = text_of(&report, Some(Path::new("a.json")));
        assert!(text.contains("copies, from a.json on: 3 sold + 1 left, but 5 were stocked\n"), "{text}");
        assert!(text.contains("book 7 in version 9: 1 in stock, by the ledger 2 in stock\n"), "{text}");
        assert!(text.ends_with("order x: order-1 lacks it\n"), "{text}");
    }
}
