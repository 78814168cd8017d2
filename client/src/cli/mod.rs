//! The command line: from arguments to calls, from results to text, from failures to exit codes.

pub(crate) mod args;
mod audit;
mod backup;
mod books;
mod export;
mod generate;
mod import;
mod progress;
mod restore;
mod screen;
mod sink;
mod status;
mod tables;
mod token;
mod trial;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bookends::load::LoadError;
use bookends::{BuildError, Client, ClientError};

use self::args::{Args, Command, Globals};
use self::screen::Screen;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// A call failed.
    #[error("{0}")]
    Call(#[source] ClientError),
    /// A call was refused for want of a token.
    #[error("{0}; no admin token at hand: set BOOKENDS_ADMIN_TOKEN or give --token-file")]
    NoToken(#[source] ClientError),
    /// There can be no such client.
    #[error("{0}")]
    Build(#[source] BuildError),
    /// The load can't be put on.
    #[error("{0}")]
    Load(#[source] LoadError),
    /// What was typed makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A file can't be read or written.
    #[error("{what} {}", path.display())]
    File {
        /// What was tried, such as `can't read`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The result can't be written.
    #[error("can't write the result")]
    Output(#[source] io::Error),
    /// Another program that was called for it ended with this code, and has said why.
    #[error("nothing was restored")]
    Called(u8),
    /// It was carried out, and the outcome is bad.
    #[error("{0}")]
    Outcome(String),
}

impl CliError {
    /// An error of a file.
    fn file(what: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::File { what, path: path.to_owned(), source: source.into() }
    }

    /// 1 for what failed, 2 for wrong use.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Called(code) => *code,
            Self::Usage(_) | Self::Build(_) => 2,
            Self::Call(_)
            | Self::NoToken(_)
            | Self::Load(_)
            | Self::File { .. }
            | Self::Output(_)
            | Self::Outcome(_) => 1,
        }
    }

    /// Whether the reader of the output has gone, as `head` does: that is its good right.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        Self::Call(error)
    }
}

/// Carries out what was typed.
pub(crate) async fn run(args: Args) -> Result<(), CliError> {
    let Args { globals, command } = args;
    let screen = Screen::new(globals.json);
    let client = client(&globals)?;
    let result = dispatch(&client, &globals, screen, command).await;
    match result {
        Err(CliError::Call(error)) if !client.has_token() && matches!(error.problem(), Some((401, _))) => {
            Err(CliError::NoToken(error))
        }
        other => other,
    }
}

fn client(globals: &Globals) -> Result<Client, CliError> {
    let deadline = Duration::from_secs(globals.timeout.get().into());
    let builder = Client::builder().deadline(deadline).token(token::find(globals)?);
    globals.url.iter().fold(builder, |builder, url| builder.url(url)).build().map_err(CliError::Build)
}

async fn dispatch(
    client: &Client,
    globals: &Globals,
    screen: Screen,
    command: Command,
) -> Result<(), CliError> {
    match command {
        Command::List(paging) => books::list(client, screen, &paging).await,
        Command::Lookup { id } => books::lookup(client, screen, id).await,
        Command::Search(args) => books::search(client, screen, args).await,
        Command::Topics => books::topics(client, screen).await,
        Command::Buy(args) => books::buy(client, screen, &args).await,
        Command::Order { order_id } => books::order(client, screen, &order_id).await,
        Command::Orders(paging) => books::orders(client, screen, &paging).await,
        Command::SetCost { id, cents } => books::set_cost(client, screen, id, cents).await,
        Command::AddStock { id, amount } => books::add_stock(client, screen, id, amount).await,
        Command::AddBook(args) => books::add_book(client, screen, *args).await,
        Command::RemoveBook { id } => books::remove_book(client, screen, id).await,
        Command::Import(args) => import::import(client, screen, &args).await,
        Command::Export { file } => export::export(client, screen, &file).await,
        Command::Backup(args) => backup::backup(client, screen, &args).await,
        Command::Restore { backup } => restore::restore(globals, &backup).await,
        Command::Generate(args) => generate::generate(&args),
        Command::Status { watch: false } => status::show(client, screen).await,
        Command::Status { watch: true } => status::watch(client, screen).await,
        Command::Invalidate { id } => books::invalidate(client, screen, id).await,
        Command::Test(args) => trial::test(client, screen, &args).await,
        Command::Audit(args) => audit::audit(client, screen, &args).await,
        Command::Load(args) => trial::load(client, globals, screen, args).await,
    }
}
