//! The books of a fresh store: `catalogue.csv` beside the configuration.
//!
//! The file is read and checked before anything is listened on. On a first start a bad line refuses the
//! whole file; a store that has begun does not need it any more. Once a shard's writer is in office and its log is empty, its part
//! of the file is loaded as one command, so that it is there as a whole or not at all.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use common::clock;
use common::config::Config;
use futures_util::future::join_all;
use protocol::call::WriteFailure;
use protocol::catalogue::NewBook;
use protocol::command::{Action, Command, CommandKey, Outcome, Scope};
use protocol::entry::EncodedCommand;
use protocol::ids::{BookId, Index, ShardId};

use crate::api::bulk::read_csv;
use crate::app::App;

/// The largest file: its part for a shard travels as one entry. Larger catalogues are imported.
pub const SEED_BYTES_MAX: u64 = 16 << 20;

/// The first books, by shard.
pub type Seed = BTreeMap<ShardId, Vec<NewBook>>;

/// Why a file of first books is refused.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// It can't be read.
    #[error("{}: can't be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is too large for a start.
    #[error("{}: has {bytes} bytes, at most {SEED_BYTES_MAX} are loaded at a start; import it instead", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A line of it is wrong.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Reads the first books. Without a file there are none.
///
/// # Errors
/// If any line of the file is wrong.
pub fn read(config: &Config) -> Result<Seed, SeedError> {
    let path = config.catalogue_csv();
    let bytes = match std::fs::metadata(&path) {
        Ok(found) => found.len(),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), "there is no such file: the store begins empty");
            return Ok(Seed::new());
        }
        Err(source) => return Err(SeedError::Unreadable { path, source }),
    };
    if bytes > SEED_BYTES_MAX {
        return Err(SeedError::TooLarge { path, bytes });
    }
    let text = std::fs::read(&path).map_err(|source| SeedError::Unreadable { path: path.clone(), source })?;
    parse(&path, &text, config.shards.count.get())
}

fn parse(path: &Path, text: &[u8], shards: u32) -> Result<Seed, SeedError> {
    let wrong = |line: u64, reason: String| SeedError::Line { path: path.to_owned(), line, reason };
    let mut seed = Seed::new();
    let mut lines: BTreeMap<BookId, u64> = BTreeMap::new();
    for (line, book) in read_csv(text).map_err(|problem| wrong(1, problem.to_string()))? {
        let book = book.map_err(|reason| wrong(line, reason))?;
        let id = book.id.ok_or_else(|| wrong(line, "`id` is missing".to_owned()))?;
        if let Some(other) = lines.insert(id, line) {
            return Err(wrong(line, format!("`id` {id} is that of line {other} already")));
        }
        seed.entry(ShardId::of_book(id, shards)).or_default().push(book);
    }
    Ok(seed)
}

/// Loads each shard's part, once its writer is in office, if its log is empty.
pub async fn load(app: App, mut seed: Seed) {
    let shards = app.config().shard_ids().map(|shard| {
        let books = seed.remove(&shard).unwrap_or_default();
        load_if_empty(&app, shard, books)
    });
    join_all(shards.collect::<Vec<_>>()).await;
}

async fn load_if_empty(app: &App, shard: ShardId, books: Vec<NewBook>) {
    let Some(state) = app.parts().shards.get(shard) else { return };
    state.leading().await;
    if state.commit_index() == Index(0) && !books.is_empty() {
        load_shard(app, shard, books).await;
    }
    state.set_seeded();
}

async fn load_shard(app: &App, shard: ShardId, books: Vec<NewBook>) {
    let key = CommandKey::new(Scope::Store, format!("seed/{shard}").as_bytes());
    let command = EncodedCommand::of(&Command { key, at: clock::now(), action: Action::Load { books } });
    loop {
        match app.parts().writers.submit(shard, command.clone()).await {
            Ok(Outcome::Loaded { books }) => {
                return tracing::info!(%shard, books, "the first books are loaded");
            }
            Ok(outcome) => return tracing::error!(%shard, ?outcome, "the first books are not loaded"),
            // With the same key it is done once, however often it is asked for.
            Err(WriteFailure::NotDone(why) | WriteFailure::Unknown(why)) => {
                tracing::warn!(%shard, %why, "the first books have to wait");
                if let Some(state) = app.parts().shards.get(shard) {
                    state.leading().await;
                }
            }
            Err(WriteFailure::BadRequest(why)) => {
                return tracing::error!(%shard, %why, "the first books are refused");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(text: &str) -> Result<usize, String> {
        let seed =
            parse(Path::new("catalogue.csv"), text.as_bytes(), 4).map_err(|problem| problem.to_string())?;
        Ok(seed.values().map(Vec::len).sum())
    }

    #[test]
    fn a_bad_line_refuses_the_whole_file_and_is_named() {
        let head = "id,title,topic,cost_cents,quantity\n";
        assert_eq!(seed(&format!("{head}1,T,x,100,5\n2,\"A, B\",y,200,0\n")), Ok(2));
        assert_eq!(seed(head), Ok(0));
        for (lines, place) in [
            ("1,T,x,100,5\n2,U,x,-1,5\n", "catalogue.csv:3:"),
            ("1,T,x,100,5\n1,U,x,1,5\n", "catalogue.csv:3: `id` 1 is that of line 2 already"),
            ("1,,x,100,5\n", "catalogue.csv:2: `title` is missing"),
            (",T,x,100,5\n", "catalogue.csv:2: `id` is missing"),
            ("1,T,x,100\n", "catalogue.csv:2:"),
            ("0,T,x,100,5\n", "catalogue.csv:2:"),
        ] {
            let error = seed(&format!("{head}{lines}")).unwrap_err();
            assert!(error.contains(place), "{error}");
        }
    }
}
