//! Whole catalogues in and out: files that are sent while they are read, and written page by page.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bookends::{BulkFormat, Client};
use common::api::{Book, BulkReport, NewBook};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::CliError;
use super::screen::Screen;
use super::tables::{Side, Table};

/// How often a progress bar moves.
const REDRAW: Duration = Duration::from_millis(100);
/// How many books a page of an export has: few calls, and answers of a handy size.
const PAGE_SIZE: u32 = 500;
/// The columns of a CSV file, by the names that the JSON form has.
const COLUMNS: [&str; 9] =
    ["id", "title", "topic", "author", "isbn", "year", "description", "cost_cents", "quantity"];

pub(crate) async fn import(client: &Client, screen: Screen, path: &Path) -> Result<(), CliError> {
    let format = format_of(path)?;
    let size = std::fs::metadata(path).map_err(|e| CliError::file("can't read", path, e))?.len();
    let sent = Arc::new(AtomicU64::new(0));
    let bar = ProgressBar::new(size).with_style(style("{wide_bar} {bytes} of {total_bytes}"));
    let mut redraw = tokio::time::interval(REDRAW);
    let load = client.bulk(path, format, Arc::clone(&sent));
    tokio::pin!(load);
    let report = loop {
        tokio::select! {
            report = &mut load => break report?,
            _ = redraw.tick() => bar.set_position(sent.load(Ordering::Relaxed)),
        }
    };
    bar.finish_and_clear();
    show_report(screen, &report)?;
    if report.rejected.is_empty() {
        return Ok(());
    }
    let (bad, path) = (report.rejected.len(), path.display());
    Err(CliError::Outcome(format!("{path}: {bad} lines were rejected, {} books loaded", report.loaded)))
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
    screen.table(&table)
}

pub(crate) async fn export(client: &Client, screen: Screen, path: &Path) -> Result<(), CliError> {
    let format = format_of(path)?;
    let failed = |e: std::io::Error| CliError::file("can't write", path, e);
    // In the same folder, so that the last step is a rename: the file appears whole or not at all.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = new_file(folder).map_err(failed)?;
    let mut sink = Sink::new(format, BufWriter::new(file)).map_err(failed)?;
    let bar = ProgressBar::new_spinner().with_style(style("{spinner} {pos} books"));
    let mut token = None;
    let mut books: u64 = 0;
    loop {
        let page = client.list(Some(PAGE_SIZE), token.as_deref()).await?;
        for book in page.books {
            sink.write(book).map_err(failed)?;
            books += 1;
        }
        bar.set_position(books);
        token = page.next_page_token;
        if token.is_none() {
            break;
        }
    }
    let file = sink.finish().map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    bar.finish_and_clear();
    screen.show(&json!({"exported": books, "file": path.display().to_string()}), |_| {
        format!("exported {books} books to {}\n", path.display())
    })
}

/// A nameless file with the rights that any new file gets.
fn new_file(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    let rights = std::fs::Permissions::from_mode(0o666);
    tempfile::Builder::new().prefix(".bookends-export-").permissions(rights).tempfile_in(folder)
}

fn format_of(path: &Path) -> Result<BulkFormat, CliError> {
    BulkFormat::of_path(path).ok_or_else(|| {
        CliError::Usage(format!("{}: the file's name must end in .csv, .ndjson or .jsonl", path.display()))
    })
}

/// A template that is known to be right; if it were not, the plain bar would do.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A file in one of the two forms.
enum Sink<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Ndjson(W),
}

impl<W: Write> Sink<W> {
    fn new(format: BulkFormat, file: W) -> std::io::Result<Self> {
        match format {
            BulkFormat::Ndjson => Ok(Self::Ndjson(file)),
            BulkFormat::Csv => {
                let mut writer = csv::Writer::from_writer(file);
                writer.write_record(COLUMNS)?;
                Ok(Self::Csv(Box::new(writer)))
            }
        }
    }

    /// Writes a book as an import takes it: without its version, which belongs to its store.
    fn write(&mut self, book: Book) -> std::io::Result<()> {
        let Book { id, title, topic, author, isbn, year, description, cost_cents, quantity, version: _ } =
            book;
        match self {
            Self::Ndjson(file) => {
                let id = Some(id);
                let book =
                    NewBook { id, title, topic, author, isbn, year, description, cost_cents, quantity };
                serde_json::to_writer(&mut *file, &book)?;
                file.write_all(b"\n")
            }
            Self::Csv(writer) => {
                let year = year.map(|year| year.to_string());
                let optional = [author, isbn, year, description].map(Option::unwrap_or_default);
                let [author, isbn, year, description] = optional;
                let (id, cost, quantity) = (id.to_string(), cost_cents.to_string(), quantity.to_string());
                let record = [id, title, topic, author, isbn, year, description, cost, quantity];
                Ok(writer.write_record(&record)?)
            }
        }
    }

    fn into_inner(self) -> std::io::Result<W> {
        match self {
            Self::Ndjson(file) => Ok(file),
            Self::Csv(writer) => writer.into_inner().map_err(|e| std::io::Error::other(e.to_string())),
        }
    }
}

impl Sink<BufWriter<tempfile::NamedTempFile>> {
    fn finish(self) -> std::io::Result<tempfile::NamedTempFile> {
        self.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: BulkFormat) -> String {
        let text =
            r#"{"id":1,"title":"a, \"b\"","topic":"x","year":-5,"cost_cents":5,"quantity":2,"version":9}"#;
        let mut sink = Sink::new(format, Vec::new()).unwrap();
        sink.write(serde_json::from_str(text).unwrap()).unwrap();
        String::from_utf8(sink.into_inner().unwrap()).unwrap()
    }

    #[test]
    fn a_line_of_json_is_a_new_book() {
        let text = written(BulkFormat::Ndjson);
        let book: NewBook = serde_json::from_str(&text).unwrap();
        assert_eq!((book.title.as_str(), book.year, book.author), ("a, \"b\"", Some(-5), None));
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn a_csv_file_has_a_header_and_quotes_where_needed() {
        let expected = "id,title,topic,author,isbn,year,description,cost_cents,quantity\n\
                        1,\"a, \"\"b\"\"\",x,,,-5,,5,2\n";
        assert_eq!(written(BulkFormat::Csv), expected);
    }
}
