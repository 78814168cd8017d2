//! The integers and names of the protocol, each a type of its own.
//!
//! An epoch can't be passed for an index, nor a node for a store: what they are is checked once, where
//! they are parsed, and carried by the type from there on.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The largest book id: the largest integer that JSON's readers hold without loss.
pub const BOOK_ID_MAX: u64 = (1 << 53) - 1;

/// A book's number, from 1 to 2^53 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct BookId(u64);

/// A number that is no book id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a book id is an integer from 1 to {BOOK_ID_MAX}")]
pub struct NotABookId;

impl BookId {
    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for BookId {
    type Error = NotABookId;

    fn try_from(id: u64) -> Result<Self, NotABookId> {
        if (1..=BOOK_ID_MAX).contains(&id) { Ok(Self(id)) } else { Err(NotABookId) }
    }
}

impl From<BookId> for u64 {
    fn from(id: BookId) -> Self {
        id.0
    }
}

impl FromStr for BookId {
    type Err = NotABookId;

    /// Digits only: no sign, no spaces.
    fn from_str(text: &str) -> Result<Self, NotABookId> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NotABookId);
        }
        text.parse::<u64>().map_err(|_| NotABookId)?.try_into()
    }
}

impl fmt::Display for BookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A part of the catalogue, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(pub u32);

impl ShardId {
    /// The shard that holds a book when the catalogue is cut into `count` shards. Stable for ever: a
    /// change of this function would misplace every stored book.
    #[must_use]
    pub fn of_book(book: BookId, count: u32) -> Self {
        Self(Self::bucket(&book.get().to_le_bytes(), count))
    }

    /// The shard that a write without a book id goes to, by its key: a retry must find the same shard.
    #[must_use]
    pub fn of_key(key: &[u8], count: u32) -> Self {
        Self(Self::bucket(key, count))
    }

    fn bucket(bytes: &[u8], count: u32) -> u32 {
        if count <= 1 {
            return 0;
        }
        let hash = blake3::hash(bytes);
        let [a, b, c, d, ..] = *hash.as_bytes();
        u32::from_le_bytes([a, b, c, d]) % count
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a process in config.toml, such as `catalog-1`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for NodeId {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for NodeId {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Made with a replica's file and never again: a file made anew under an old name is another store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreId(pub u128);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Made when a process starts and never again: what one run of it was asked is nothing to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub u128);

/// The number of a view; each change of a view raises it. 0 is before the first view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in a shard's log, from 1 without gaps. 0 is the empty log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Index(pub u64);

impl Index {
    /// The place after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A hash over a log's whole history up to an entry: equal (index, chain) means equal history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Chain(pub u128);

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A sum of the hashes of all rows of a replica's tables: equal digests mean equal tables.
///
/// A sum, so that each change costs the rows it touches and not the table: take the old row's hash
/// away, add the new one's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub u128);

impl Digest {
    /// With a row of this content added to the tables.
    #[must_use]
    pub fn plus_row(self, row: &[u8]) -> Self {
        Self(self.0.wrapping_add(Self::row_hash(row)))
    }

    /// With a row of this content taken from the tables.
    #[must_use]
    pub fn minus_row(self, row: &[u8]) -> Self {
        Self(self.0.wrapping_sub(Self::row_hash(row)))
    }

    fn row_hash(row: &[u8]) -> u128 {
        short_hash(&blake3::hash(row))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The first 16 bytes of a hash as a number: 128 bits are far beyond accident.
pub(crate) fn short_hash(hash: &blake3::Hash) -> u128 {
    let (head, _) = hash.as_bytes().split_at(16);
    head.iter().fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
}

/// A sale's name, a UUID of version 7, so that ids sort by the time of their making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderId(pub u128);

/// Text that is no order id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an order id has the form 01234567-89ab-7cde-8f01-23456789abcd")]
pub struct NotAnOrderId;

impl FromStr for OrderId {
    type Err = NotAnOrderId;

    fn from_str(text: &str) -> Result<Self, NotAnOrderId> {
        let hyphens = [8, 13, 18, 23];
        if text.len() != 36 {
            return Err(NotAnOrderId);
        }
        let mut value = 0_u128;
        for (place, byte) in text.bytes().enumerate() {
            if hyphens.contains(&place) {
                if byte != b'-' {
                    return Err(NotAnOrderId);
                }
                continue;
            }
            let digit = char::from(byte).to_digit(16).ok_or(NotAnOrderId)?;
            value = (value << 4) | u128::from(digit);
        }
        Ok(Self(value))
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            v >> 96,
            (v >> 80) & 0xffff,
            (v >> 64) & 0xffff,
            (v >> 48) & 0xffff,
            v & 0xffff_ffff_ffff
        )
    }
}

/// Milliseconds since 1970-01-01 in UTC, as an entry carries it. Never used to measure durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn book_ids_have_edges() {
        for good in ["1", "7", "9007199254740991"] {
            assert_eq!(good.parse::<BookId>().unwrap().to_string(), good);
        }
        for bad in ["", "0", "-1", "+1", " 1", "1.0", "9007199254740992", "99999999999999999999", "seven"] {
            assert_eq!(bad.parse::<BookId>(), Err(NotABookId), "{bad}");
        }
    }

    #[test]
    fn order_ids_read_what_they_write() {
        let id = OrderId(0x0193_5a2b_7c00_7abc_8def_0123_4567_89ab);
        assert_eq!(id.to_string(), "01935a2b-7c00-7abc-8def-0123456789ab");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "01935a2b7c007abc8def0123456789ab", "01935a2b-7c00-7abc-8def-0123456789ag"] {
            assert_eq!(bad.parse::<OrderId>(), Err(NotAnOrderId), "{bad}");
        }
    }

    #[test]
    fn a_row_taken_away_leaves_the_digest_as_it_was() {
        let before = Digest::default().plus_row(b"one");
        assert_eq!(before.plus_row(b"two").minus_row(b"two"), before);
        assert_ne!(before, before.plus_row(b""));
    }

    #[test]
    fn the_place_of_a_book_never_changes() {
        let of = |id: u64, count| ShardId::of_book(BookId::try_from(id).unwrap(), count).0;
        assert_eq!([of(1, 1), of(2, 1)], [0, 0]);
        // Written down once: another value here would misplace books that are already stored.
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(|id| of(id, 4)), SHARDS_OF_SEVEN);
    }

    const SHARDS_OF_SEVEN: [u32; 7] = [2, 2, 3, 0, 2, 3, 3];
}
