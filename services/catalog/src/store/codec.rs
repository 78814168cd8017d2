//! How values are kept: numbers in columns, and values as bytes, one alone or many behind one another.

use std::marker::PhantomData;

use protocol::ids::BookId;
use rusqlite::Row;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{Fault, Step};

/// A number as SQLite keeps it. Nothing that passed the checks of the API is out of its range.
pub(super) fn signed(number: u64) -> Step<i64> {
    i64::try_from(number).map_err(|_| Fault::corrupt("an entry", format!("{number} can't be stored")))
}

/// A number that is never negative.
pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

/// The id of a book.
pub(super) fn book_id(row: &Row<'_>, column: usize) -> rusqlite::Result<BookId> {
    let value: i64 = row.get(column)?;
    let id = u64::try_from(value).ok().and_then(|id| BookId::try_from(id).ok());
    id.ok_or(rusqlite::Error::IntegralValueOutOfRange(column, value))
}

/// The bytes of a value.
pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_onto(value, &mut bytes);
    bytes
}

/// Puts the bytes of a value behind others.
pub(super) fn encode_onto<T: Serialize>(value: &T, bytes: &mut Vec<u8>) {
    // Memory is the only thing that it needs.
    postcard::to_io(value, bytes).expect("the store's own types have no unencodable values");
}

/// The values of a blob that holds many, first to last; nothing behind one that can't be read.
#[derive(Debug)]
pub(super) struct Values<'b, T> {
    rest: &'b [u8],
    of: PhantomData<T>,
}

impl<'b, T> Values<'b, T> {
    pub(super) fn of(bytes: &'b [u8]) -> Self {
        Self { rest: bytes, of: PhantomData }
    }
}

impl<'b, T: Deserialize<'b>> Iterator for Values<'b, T> {
    type Item = postcard::Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let taken = postcard::take_from_bytes(self.rest);
        self.rest = taken.as_ref().map_or(&[], |(_, rest)| rest);
        Some(taken.map(|(value, _)| value))
    }
}

/// Bytes that are encoded and read as a whole. They look as a list of bytes does, which is encoded byte by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raw<'b>(pub(super) &'b [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'b, 'b> Deserialize<'de> for Raw<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_behind_one_another_are_read_up_to_what_is_none() {
        let mut bytes = encode(&(7_u64, "seven"));
        encode_onto(&(8_u64, "eight"), &mut bytes);
        let values: Vec<(u64, &str)> = Values::of(&bytes).map(Result::unwrap).collect();
        assert_eq!(values, [(7, "seven"), (8, "eight")]);
        bytes.extend([9, 5, b'n']);
        let ends: Vec<bool> = Values::<(u64, &str)>::of(&bytes).map(|value| value.is_ok()).collect();
        assert_eq!(ends, [true, true, false]);
    }

    #[test]
    fn raw_bytes_look_as_a_list_of_bytes_does() {
        let bytes = vec![0, 127, 128, 255];
        assert_eq!(encode(&Raw(&bytes)), encode(&bytes));
        assert_eq!(postcard::from_bytes(&encode(&bytes)), Ok(Raw(&bytes)));
    }
}
