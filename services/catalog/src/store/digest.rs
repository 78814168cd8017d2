//! The digest as it follows the rows: each change of a row takes its old hash away and adds the new one's.
//!
//! A row is hashed as the encoding of a tuple that begins with the number of its kind: field by field with
//! lengths, so no two rows share an encoding. What is hashed does not follow how the tables are laid out, so
//! that replicas of different versions can be compared:
//!
//! | kind | row |
//! | --- | --- |
//! | 1 | the facts of a book, with its topic's key |
//! | 2 | the stock of a book, apart from its facts, so that a sale does not hash a description |
//! | 3 | a line of a sale |
//! | 4 | the outcome of a command, under its key |
//!
//! What follows from these, the index of words, the count of topics and the index of keys, is not in it.

use protocol::ids::Digest;
use serde::Serialize;

use super::codec::encode_onto;

/// A digest in the making.
#[derive(Debug, Default)]
pub(super) struct Sum {
    pub(super) digest: Digest,
    /// The row that is hashed; kept for its memory.
    row: Vec<u8>,
}

/// Whether a row comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Plus,
    Minus,
}

impl Sum {
    /// Goes on from a digest.
    pub(super) fn from(digest: Digest) -> Self {
        Self { digest, row: Vec::new() }
    }

    pub(super) fn count<T: Serialize>(&mut self, sign: Sign, row: &T) {
        self.row.clear();
        encode_onto(row, &mut self.row);
        self.digest = match sign {
            Sign::Plus => self.digest.plus_row(&self.row),
            Sign::Minus => self.digest.minus_row(&self.row),
        };
    }

    pub(super) fn plus<T: Serialize>(&mut self, row: &T) {
        self.count(Sign::Plus, row);
    }

    pub(super) fn minus<T: Serialize>(&mut self, row: &T) {
        self.count(Sign::Minus, row);
    }
}
