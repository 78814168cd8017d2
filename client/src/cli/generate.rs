//! A made-up catalogue, written to a file or into a pipe.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};

use bookends::BulkFormat;
use bookends::generate::Catalogue;
use indicatif::ProgressBar;

use super::CliError;
use super::args::GenerateArgs;
use super::progress::style;
use super::sink::Sink;

/// How much is gathered for one write to a file or a pipe.
const BUFFER_BYTES: usize = 256 * 1024;
/// How many books are made between two steps of the progress bar.
const STEP: u64 = 4096;

pub(crate) fn generate(args: &GenerateArgs) -> Result<(), CliError> {
    let named = args.output.as_deref().and_then(BulkFormat::of_path);
    let format = args.format.map(BulkFormat::from).or(named).unwrap_or(BulkFormat::Csv);
    let Some(path) = &args.output else {
        // A progress bar beside the books themselves would only disturb.
        let bar = if std::io::stdout().is_terminal() { ProgressBar::hidden() } else { bar(args.books) };
        return write(args, format, std::io::stdout().lock(), &bar).map_err(CliError::Output);
    };
    let failed = |problem| CliError::file("can't write", path, problem);
    let file = File::create(path).map_err(failed)?;
    write(args, format, file, &bar(args.books)).map_err(failed)
}

fn bar(books: u64) -> ProgressBar {
    ProgressBar::new(books).with_style(style("{wide_bar} {human_pos} of {human_len} books"))
}

fn write(
    args: &GenerateArgs,
    format: BulkFormat,
    file: impl Write,
    bar: &ProgressBar,
) -> std::io::Result<()> {
    let mut sink = Sink::new(format, BufWriter::with_capacity(BUFFER_BYTES, file))?;
    for (book, done) in Catalogue::new(args.books, args.seed).zip(0_u64..) {
        sink.write(&book)?;
        if done.is_multiple_of(STEP) {
            bar.set_position(done);
        }
    }
    sink.finish()?.flush()?;
    bar.finish_and_clear();
    Ok(())
}
