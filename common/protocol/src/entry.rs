//! The log's entries and the chain that ties each one to all before it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::command::{Command, encode};
use crate::ids::{Chain, Epoch, Index, short_hash};

/// A command at its place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// Its place, without gaps from 1.
    pub index: Index,
    /// The epoch in which the writer gave it that place.
    pub epoch: Epoch,
    /// The command, encoded once by the writer and stored and passed on as it is.
    pub command: EncodedCommand,
    /// The hash over the chain before it and this entry.
    pub chain: Chain,
}

/// A command as bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EncodedCommand(pub Bytes);

/// Bytes that are no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes of a log entry are no command")]
pub struct NotACommand(#[source] postcard::Error);

impl EncodedCommand {
    /// A command's bytes.
    #[must_use]
    pub fn of(command: &Command) -> Self {
        Self(encode(command).into())
    }

    /// The command that the bytes hold.
    ///
    /// # Errors
    /// If they hold none, or if something follows it.
    pub fn decode(&self) -> Result<Command, NotACommand> {
        match postcard::take_from_bytes(&self.0) {
            Ok((command, [])) => Ok(command),
            Ok(_) => Err(NotACommand(postcard::Error::DeserializeBadEncoding)),
            Err(problem) => Err(NotACommand(problem)),
        }
    }
}

impl Entry {
    /// The entry after one whose chain is `before`.
    #[must_use]
    pub fn after(before: Chain, index: Index, epoch: Epoch, command: EncodedCommand) -> Self {
        let chain = chain_of(before, index, epoch, &command);
        Self { index, epoch, command, chain }
    }

    /// Whether this entry may stand behind one whose chain is `before`.
    #[must_use]
    pub fn follows(&self, before: Chain) -> bool {
        self.chain == chain_of(before, self.index, self.epoch, &self.command)
    }
}

fn chain_of(before: Chain, index: Index, epoch: Epoch, command: &EncodedCommand) -> Chain {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&before.0.to_le_bytes());
    hasher.update(&index.0.to_le_bytes());
    hasher.update(&epoch.0.to_le_bytes());
    hasher.update(&command.0);
    Chain(short_hash(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_covers_all_of_its_entry() {
        let command = EncodedCommand(Bytes::from_static(b"command"));
        let entry = Entry::after(Chain(1), Index(5), Epoch(2), command.clone());
        assert!(entry.follows(Chain(1)));
        assert!(!entry.follows(Chain(2)));
        for other in [
            Entry { index: Index(6), ..entry.clone() },
            Entry { epoch: Epoch(3), ..entry.clone() },
            Entry { command: EncodedCommand(Bytes::from_static(b"other")), ..entry.clone() },
        ] {
            assert!(!other.follows(Chain(1)), "{other:?}");
        }
    }

    #[test]
    fn foreign_bytes_are_no_command() {
        for bytes in [&b""[..], b"\xff\xff\xff", b"abc"] {
            assert!(EncodedCommand(Bytes::copy_from_slice(bytes)).decode().is_err());
        }
    }
}
