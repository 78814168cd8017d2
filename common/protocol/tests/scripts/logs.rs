//! Logs to write scripts with: named, made of small commands, branching where a script wants it.

use std::collections::BTreeMap;
use std::error::Error;

use protocol::command::{Action, Command, CommandKey, Scope};
use protocol::entry::{EncodedCommand, Entry};
use protocol::ids::{BookId, Chain, Epoch, Index, Timestamp};

type Failure = Box<dyn Error>;

/// The logs by name; `main` is always there.
#[derive(Debug)]
pub(crate) struct Logs(BTreeMap<String, Vec<Entry>>);

impl Logs {
    pub(crate) fn new() -> Self {
        Self(BTreeMap::from([("main".to_owned(), Vec::new())]))
    }

    /// `extend [log=NAME] count=N epoch=E`: more entries. `branch NAME after=I [log=NAME]`: a log that is
    /// another's up to an index.
    pub(crate) fn command(&mut self, command: &goldenscript::Command) -> Result<String, Failure> {
        let mut args = command.consume_args();
        let name = args.take_key("log").unwrap_or("main").to_owned();
        match command.name.as_str() {
            "extend" => {
                let count: u64 = args.take_key("count").ok_or("count is missing")?.parse()?;
                let epoch = Epoch(args.take_key("epoch").ok_or("epoch is missing")?.parse()?);
                for _ in 0..count {
                    let log = self.0.get_mut(&name).ok_or("no such log")?;
                    let (index, chain) = log.last().map_or_else(Default::default, |e| (e.index, e.chain));
                    let price = epoch.0 * 100 + index.next().0;
                    log.push(Entry::after(chain, index.next(), epoch, set_price(&price.to_string())));
                }
            }
            _ => {
                let after: u64 = args.take_key("after").ok_or("after is missing")?.parse()?;
                let new = args.next_pos().ok_or("the name is missing")?.to_owned();
                let log = self.0.get(&name).ok_or("no such log")?;
                let shared = log.iter().take_while(|entry| entry.index.0 <= after).cloned().collect();
                self.0.insert(new, shared);
            }
        }
        args.reject_next()?;
        Ok(String::new())
    }

    /// Keeps what a writer has issued, in `main`.
    pub(crate) fn learn(&mut self, entries: &[Entry]) {
        let main = self.0.get_mut("main").expect("it is always there");
        for entry in entries {
            main.retain(|known| known.index < entry.index);
            main.push(entry.clone());
        }
    }

    /// The entries after one index up to another.
    pub(crate) fn between(&self, name: &str, after: u64, upto: u64) -> Result<Vec<Entry>, Failure> {
        let log = self.0.get(name).ok_or("no such log")?;
        Ok(log.iter().filter(|e| e.index.0 > after && e.index.0 <= upto).cloned().collect())
    }

    /// The chain at an index.
    pub(crate) fn chain(&self, name: &str, index: u64) -> Result<Chain, Failure> {
        if index == 0 {
            return Ok(Chain::default());
        }
        let entry = self.between(name, index - 1, index)?.pop();
        Ok(entry.ok_or_else(|| format!("{name} has no entry {index}"))?.chain)
    }

    /// The last index.
    pub(crate) fn last(&self, name: &str) -> Index {
        self.0.get(name).and_then(|log| log.last()).map_or(Index(0), |entry| entry.index)
    }
}

/// A command under a key; the price is made from it.
pub(crate) fn set_price(key: &str) -> EncodedCommand {
    let cost_cents = key.bytes().fold(0, |sum, byte| sum * 31 + u64::from(byte));
    EncodedCommand::of(&Command {
        key: CommandKey::new(Scope::Public, key.as_bytes()),
        at: Timestamp(0),
        action: Action::SetPrice { book: BookId::try_from(1).expect("1 is a book id"), cost_cents },
    })
}
