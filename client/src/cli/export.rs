//! A whole catalogue out: page by page into a file that appears whole or not at all.

use std::io::BufWriter;
use std::path::Path;

use bookends::{BulkFormat, Client};
use common::api::{Book, NewBook};
use indicatif::ProgressBar;
use serde_json::json;

use super::CliError;
use super::progress::style;
use super::screen::Screen;
use super::sink::Sink;

/// How many books a page of an export has: few calls, and answers of a handy size.
const PAGE_SIZE: u32 = 500;

pub(crate) async fn export(client: &Client, screen: Screen, path: &Path) -> Result<(), CliError> {
    let format = BulkFormat::of_path(path).ok_or_else(|| {
        CliError::Usage(format!("{}: the file's name must end in .csv, .ndjson or .jsonl", path.display()))
    })?;
    let failed = |problem| CliError::file("can't write", path, problem);
    // In the same folder, so that the last step is a rename: the file appears whole or not at all.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = new_file(folder).map_err(failed)?;
    let mut sink = Sink::new(format, BufWriter::new(file)).map_err(failed)?;
    let bar = ProgressBar::new_spinner().with_style(style("{spinner} {human_pos} books"));
    let mut token = None;
    let mut books: u64 = 0;
    loop {
        let page = client.list(Some(PAGE_SIZE), token.as_deref()).await?;
        for book in page.books {
            sink.write(&as_new(book)).map_err(failed)?;
            books += 1;
        }
        bar.set_position(books);
        token = page.next_page_token;
        if token.is_none() {
            break;
        }
    }
    let file = sink.finish().map_err(failed)?.into_inner().map_err(|e| failed(e.into_error()))?;
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

/// A book as an import takes it: without its version, which belongs to its store.
fn as_new(book: Book) -> NewBook {
    let Book { id, title, topic, author, isbn, year, description, cost_cents, quantity, version: _ } = book;
    NewBook { id: Some(id), title, topic, author, isbn, year, description, cost_cents, quantity }
}
