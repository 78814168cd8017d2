//! What can be typed: commands, flags and their checks.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;

use bookends::BulkFormat;
use bookends::client::DEFAULT_URL;
use bookends::generate::BOOKS_MAX;
use bookends::load::Mix;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use protocol::ids::BookId;

const EXAMPLES: &str = "\
Examples:
  bookends list
  bookends search 'distributed systems' --query rpc
  bookends buy 2 --quantity 3
  bookends buy 1 2:5                      one order, all of it or nothing
  bookends import books.csv               needs the admin token
  bookends --url http://a:8080 --url http://b:8080 test --threads 4
  bookends load --connections 64 --duration 10 --mix lookup=90,search=5,buy=5

Exit codes: 0 done, 1 failed, 2 wrong use.";

/// The client of a bookends store.
#[derive(Debug, Parser)]
#[command(name = "bookends", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What holds for all commands.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct Globals {
    /// A front end; give it several times (or a list with commas in the variable) to fail over between them
    #[arg(long, global = true, env = "BOOKENDS_URL", value_delimiter = ',', default_value = DEFAULT_URL)]
    pub(crate) url: Vec<String>,
    /// Write JSON for scripts instead of tables
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The admin token; others can see it in the process list, so prefer the variable or --token-file
    #[arg(long, global = true, env = "BOOKENDS_ADMIN_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// A file with the admin token [default: admin.token in the data directory of the configuration]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The store's configuration, which tells where its token is [default: config.toml]
    #[arg(long, global = true, value_name = "FILE", env = "BOOKENDS_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// How long a call may take with all its retries, in seconds
    #[arg(long, global = true, value_name = "SECONDS", default_value = "10")]
    pub(crate) timeout: NonZeroU32,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the books by id
    List(Paging),
    /// Show a book
    Lookup { id: BookId },
    /// Find books by topic, by words, or both
    #[command(after_help = "Example: bookends search 'graduate school' --query cooking")]
    Search(SearchArgs),
    /// List the topics
    Topics,
    /// Buy books, all of one order or nothing
    #[command(after_help = "Examples:\n  bookends buy 2 --quantity 3\n  bookends buy 1 2:5 7")]
    Buy(BuyArgs),
    /// Show an order
    Order { order_id: String },
    /// List the orders, newest first (admin)
    Orders(Paging),
    /// Set the price of a book (admin)
    SetCost { id: BookId, cents: u64 },
    /// Add copies to the stock of a book; a negative number takes some away (admin)
    AddStock {
        id: BookId,
        #[arg(allow_negative_numbers = true)]
        amount: i64,
    },
    /// Add a book, or replace the one of its id (admin)
    #[command(after_help = "Examples:
  bookends add-book --title 'RPCs for Dummies' --topic 'distributed systems' --cost-cents 1999 --quantity 5
  echo '{\"title\":\"A\",\"topic\":\"b\",\"cost_cents\":1,\"quantity\":1}' | bookends add-book --file -")]
    AddBook(Box<AddBookArgs>),
    /// Remove a book (admin)
    RemoveBook { id: BookId },
    /// Load the books of a file: CSV with a header line, or NDJSON (admin)
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// Write all books to a file: .csv or .ndjson, as import reads them
    Export { file: PathBuf },
    /// Copy the whole store into a new folder while it runs (admin)
    #[command(after_help = BACKUP_EXAMPLES)]
    Backup(BackupArgs),
    /// Put a backup into a store that has no data yet and does not run
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore {
        /// The folder of the backup
        backup: PathBuf,
    },
    /// Make up a catalogue of any size, for trials
    #[command(after_help = GENERATE_EXAMPLES)]
    Generate(GenerateArgs),
    /// Show how the store stands
    Status {
        /// Show it again each second
        #[arg(long)]
        watch: bool,
    },
    /// Drop a book from the front end's cache (admin)
    Invalidate { id: BookId },
    /// Run test threads that check every answer
    Test(TestArgs),
    /// Compare sales with stock: what was sold and what is left make what there was (admin)
    #[command(after_help = AUDIT_EXAMPLES)]
    Audit(AuditArgs),
    /// Put load on the store and measure how it answers
    #[command(after_help = LOAD_EXAMPLES)]
    Load(LoadArgs),
}

const LOAD_EXAMPLES: &str = "\
Without --rate each connection sends as soon as it has its answer (closed loop). With --rate requests
have fixed times, and latency counts from them, also while the store is slow (open loop).

Examples:
  bookends load --connections 64 --duration 10
  bookends load --requests 100000 --mix lookup=1 --json
  bookends load --rate 2000 --duration 30 --mix lookup=90,search=5,buy=5";

const AUDIT_EXAMPLES: &str = "\
It works while the store is in use. Checked are: each book's stock at its version, each order once in
every order node, and that replicas at one place have one content. Books are read from a replica, past
the cache. What does not fit is looked at four times before it is told.

Books whose first stock the log no longer has can't be proven; they are counted, and are no fault.

Exit codes: 0 nothing is wrong, 1 something is or the store can't be asked, 2 wrong use.

Examples:
  bookends audit
  bookends audit --save monday.json       keep the stocks for a later audit
  bookends audit --start monday.json      begin there, where the log does not reach back far enough
  bookends audit --json | jq .faults      what does not fit, for scripts";

#[derive(Debug, ClapArgs)]
pub(crate) struct AuditArgs {
    /// Begin with the stocks of an earlier audit
    #[arg(long, value_name = "FILE")]
    pub(crate) start: Option<PathBuf>,
    /// Keep the stocks, if all is well, for a later --start
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
}

const IMPORT_EXAMPLES: &str = "\
A file is sent in parts. Each has a key that follows from its content and its place in the file, so an import
that ended early is run again as it was: parts that are loaded already change nothing, also when books of them
have been sold since. For the same reason a file that was loaded before is not loaded again without --anew.

Examples:
  bookends import books.csv
  bookends generate --books 1000000 | bookends import -
  bookends import --anew books.ndjson      the same file once more, in place of all changes since";

const BACKUP_EXAMPLES: &str = "\
Books, orders and idempotency keys, each shard as of a moment while the backup was made. The folder appears when
all of it is there and checked.

Example:
  bookends backup backups/monday";

const RESTORE_EXAMPLES: &str = "\
Every file is checked before anything is written. Then start the store: the other replicas copy from those that
were restored.

Example:
  bookends restore backups/monday --config config.toml && ./starter.sh";

const GENERATE_EXAMPLES: &str = "\
Examples:
  bookends generate --books 1000000 --output books.csv
  bookends generate --books 1000 --seed 7 --format ndjson | bookends import -";

/// Which part of a list to show.
#[derive(Debug, ClapArgs)]
pub(crate) struct Paging {
    /// How many to ask for at once
    #[arg(long)]
    pub(crate) page_size: Option<NonZeroU32>,
    /// Show all pages, not only the first
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, ClapArgs)]
#[group(skip)]
pub(crate) struct SearchArgs {
    /// The whole topic; spaces, - and _ and upper and lower case are the same
    #[arg(required_unless_present = "query")]
    pub(crate) topic: Option<String>,
    /// Words in title, author and topic; the last may be a beginning
    #[arg(long, value_name = "WORDS")]
    pub(crate) query: Option<String>,
    #[command(flatten)]
    pub(crate) paging: Paging,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BuyArgs {
    /// A book, with the number of copies after a colon if it is not 1
    #[arg(required = true, value_name = "ID[:N]")]
    pub(crate) lines: Vec<BuyLine>,
    /// The number of copies, for a single book
    #[arg(long)]
    pub(crate) quantity: Option<NonZeroU64>,
}

/// A line of an order as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BuyLine {
    pub(crate) book: BookId,
    pub(crate) quantity: Option<NonZeroU64>,
}

impl FromStr for BuyLine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (book, quantity) = match text.split_once(':') {
            Some((book, quantity)) => (book, Some(quantity)),
            None => (text, None),
        };
        let book = book.parse::<BookId>().map_err(|e| e.to_string())?;
        let parse = |text: &str| text.parse().map_err(|_| "the number of copies is at least 1".to_owned());
        Ok(Self { book, quantity: quantity.map(parse).transpose()? })
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AddBookArgs {
    /// A JSON object of the book, from a file or - for the standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "title", "topic", "author", "isbn", "year",
        "description", "cost_cents", "quantity"])]
    pub(crate) file: Option<PathBuf>,
    /// Its number; without one, the store chooses
    #[arg(long)]
    pub(crate) id: Option<BookId>,
    #[arg(long, required_unless_present = "file")]
    pub(crate) title: Option<String>,
    #[arg(long, required_unless_present = "file")]
    pub(crate) topic: Option<String>,
    #[arg(long)]
    pub(crate) author: Option<String>,
    #[arg(long)]
    pub(crate) isbn: Option<String>,
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) year: Option<i32>,
    #[arg(long)]
    pub(crate) description: Option<String>,
    /// The price of one copy
    #[arg(long, value_name = "CENTS", required_unless_present = "file")]
    pub(crate) cost_cents: Option<u64>,
    /// Copies in stock
    #[arg(long, default_value = "0")]
    pub(crate) quantity: u64,
}

/// The form of a file of books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table with a header line
    Csv,
    /// A JSON object a line
    Ndjson,
}

impl From<Format> for BulkFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Csv => Self::Csv,
            Format::Ndjson => Self::Ndjson,
        }
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ImportArgs {
    /// The file; - for the standard input
    pub(crate) file: PathBuf,
    /// Its form [default: by the ending of its name; for the standard input, by its first character]
    #[arg(long)]
    pub(crate) format: Option<Format>,
    /// Load it even if the same file was loaded before
    #[arg(long)]
    pub(crate) anew: bool,
    /// How long to wait for a store that does not answer before giving up, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub(crate) patience: NonZeroU32,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BackupArgs {
    /// The folder to make
    pub(crate) folder: PathBuf,
    /// How long to wait for a store that gives no copy before giving up, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub(crate) patience: NonZeroU32,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct GenerateArgs {
    /// How many; their ids begin with 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=BOOKS_MAX))]
    pub(crate) books: u64,
    /// The same seed gives the same books
    #[arg(long, default_value = "1")]
    pub(crate) seed: u64,
    /// The form [default: by the ending of the file's name, else csv]
    #[arg(long)]
    pub(crate) format: Option<Format>,
    /// Where to write them [default: the standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TestArgs {
    /// How many threads
    #[arg(long, default_value = "2")]
    pub(crate) threads: NonZeroUsize,
    /// How many calls each makes
    #[arg(long, default_value = "100")]
    pub(crate) requests: NonZeroU64,
    /// Repeat the choices of an earlier run
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct LoadArgs {
    /// How many threads drive the connections
    #[arg(long, default_value = "1")]
    pub(crate) threads: NonZeroUsize,
    /// How many connections, spread over the threads
    #[arg(long, default_value = "16")]
    pub(crate) connections: NonZeroUsize,
    /// How many seconds [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "requests")]
    pub(crate) duration: Option<std::time::Duration>,
    /// How many requests, instead of a duration
    #[arg(long)]
    pub(crate) requests: Option<NonZeroU64>,
    /// Which calls, by weight: lookup, quantity, search, list, topics, buy
    #[arg(long, default_value = "lookup=90,search=5,buy=5")]
    pub(crate) mix: Mix,
    /// Requests a second, at fixed times; without it each connection sends as fast as it is answered
    #[arg(long, value_name = "PER_SECOND")]
    pub(crate) rate: Option<NonZeroU32>,
    /// Repeat the choices of an earlier run
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

/// A time of at most a day, such as `10` or `0.5`.
fn seconds(text: &str) -> Result<std::time::Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|seconds| *seconds > 0.0 && *seconds <= 86_400.0)
        .map(std::time::Duration::from_secs_f64)
        .ok_or_else(|| "a number of seconds above 0, at most 86400".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Args, ErrorKind> {
        Args::try_parse_from(std::iter::once("bookends").chain(line.split(' '))).map_err(|e| e.kind())
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_is_right_is_taken() {
        for line in [
            "list",
            "list --page-size 5 --all",
            "lookup 7 --json",
            "search t",
            "search --query a",
            "search t --query a --all",
            "topics",
            "buy 1",
            "buy 1 --quantity 2",
            "buy 1 2:5",
            "order 0193",
            "orders --all",
            "set-cost 1 5",
            "add-stock 1 -5",
            "add-book --title t --topic x --cost-cents 1",
            "add-book --file -",
            "remove-book 1",
            "import a.csv",
            "import - --format ndjson --anew --patience 5",
            "backup b",
            "restore b --config c.toml",
            "generate --books 5",
            "generate --books 0 --seed 7 --format ndjson --output a.ndjson",
            "export a.csv",
            "status --watch",
            "invalidate 1",
            "test --threads 2 --requests 100",
            "audit --start a.json --save b.json --json",
            "load --threads 2 --connections 4 --duration 0.5 --mix buy=1 --rate 100 --json",
            "load --requests 5",
            "--url http://a --url http://b list",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (line, kind) in [
            ("sell 1", ErrorKind::InvalidSubcommand),
            ("lookup", ErrorKind::MissingRequiredArgument),
            ("lookup 0", ErrorKind::ValueValidation),
            ("lookup 9007199254740992", ErrorKind::ValueValidation),
            ("lookup seven", ErrorKind::ValueValidation),
            ("search", ErrorKind::MissingRequiredArgument),
            ("buy", ErrorKind::MissingRequiredArgument),
            ("buy 1:0", ErrorKind::ValueValidation),
            ("buy 1 --quantity 0", ErrorKind::ValueValidation),
            ("set-cost 1 -5", ErrorKind::UnknownArgument),
            ("add-book --title t --topic x", ErrorKind::MissingRequiredArgument),
            ("add-book --file - --title t", ErrorKind::ArgumentConflict),
            ("list --page-size 0", ErrorKind::ValueValidation),
            ("import", ErrorKind::MissingRequiredArgument),
            ("import a --format xml", ErrorKind::InvalidValue),
            ("generate", ErrorKind::MissingRequiredArgument),
            ("generate --books -1", ErrorKind::UnknownArgument),
            ("generate --books 1000000000", ErrorKind::ValueValidation),
            ("test --threads 0", ErrorKind::ValueValidation),
            ("load --duration 1 --requests 1", ErrorKind::ArgumentConflict),
            ("load --duration 0", ErrorKind::ValueValidation),
            ("load --mix fly=1", ErrorKind::ValueValidation),
        ] {
            assert_eq!(parse(line).err(), Some(kind), "{line}");
        }
    }

    #[test]
    fn all_front_ends_are_kept_in_order() {
        let args = parse("list --url http://b --url http://a").unwrap();
        assert_eq!(args.globals.url, ["http://b", "http://a"]);
    }

    #[test]
    fn a_line_of_an_order_has_a_book_and_perhaps_a_number() {
        let line =
            |text: &str| text.parse::<BuyLine>().map(|l| (l.book.get(), l.quantity.map(NonZeroU64::get)));
        assert_eq!(line("3"), Ok((3, None)));
        assert_eq!(line("3:4"), Ok((3, Some(4))));
        for bad in ["", ":", "3:", "3:-1", ":4", "3:4:5"] {
            assert!(line(bad).is_err(), "{bad}");
        }
    }
}
