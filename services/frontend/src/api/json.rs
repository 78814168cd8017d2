//! JSON as a tree that forgets nothing: a key that an object has twice is an error, not the last one wins.
//!
//! Bodies are small and flat, and callers deserve to hear which field is wrong and how; a tree that is
//! then taken apart by name tells that better than a derived reader does.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer that is not negative.
    Unsigned(u64),
    /// A negative integer.
    Signed(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// Its pairs as they came, no key twice.
    Object(Vec<(String, Json)>),
}

/// Text that is not JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What is wrong with it.
    pub problem: String,
    /// Line and column, from 1; none where the bytes are not even text.
    pub place: Option<(usize, usize)>,
}

impl Json {
    /// Reads a whole text.
    ///
    /// # Errors
    /// If it is not JSON, or has a key twice.
    pub fn read(bytes: &[u8]) -> Result<Self, Broken> {
        let text = std::str::from_utf8(bytes).map_err(|error| Broken {
            problem: format!("it is not UTF-8 at byte {}", error.valid_up_to() + 1),
            place: None,
        })?;
        if text.trim().is_empty() {
            return Err(Broken { problem: "it is empty".to_owned(), place: None });
        }
        serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let said = error.to_string();
            let problem = said.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&said);
            Broken { problem: problem.to_owned(), place: Some((line, column)) }
        })
    }

    /// What it is, in words, for messages.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Unsigned(value) => value.to_string(),
            Self::Signed(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(_) => "text".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Object(_) => "an object".to_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(u64::try_from(value).map_or(Json::Signed(value), Json::Unsigned))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Json, A::Error> {
        let mut pairs: Vec<(String, Json)> = Vec::new();
        while let Some(key) = object.next_key::<String>()? {
            if pairs.len() == KEYS_MAX {
                return Err(de::Error::custom(format!("an object has more than {KEYS_MAX} keys")));
            }
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(de::Error::custom(format!("the key `{key}` stands there twice")));
            }
            pairs.push((key, object.next_value()?));
        }
        Ok(Json::Object(pairs))
    }
}

/// No call knows a tenth as many; it keeps the look for doubles short.
const KEYS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_what_they_are() {
        let cases = [
            ("null", Json::Null),
            ("1", Json::Unsigned(1)),
            ("-1", Json::Signed(-1)),
            ("-0", Json::Float(-0.0)),
            ("1.0", Json::Float(1.0)),
            ("18446744073709551616", Json::Float(18_446_744_073_709_551_616.0)),
            (r#" "a" "#, Json::Text("a".to_owned())),
            (r#"[true,{"a":[]}]"#, {
                let object = Json::Object(vec![("a".to_owned(), Json::List(vec![]))]);
                Json::List(vec![Json::Bool(true), object])
            }),
        ];
        for (text, expected) in cases {
            assert_eq!(Json::read(text.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_broken_is_told_with_its_place() {
        let place = |bytes: &[u8]| Json::read(bytes).unwrap_err().place;
        assert_eq!(place(b"{\"a\":1,\n \"b\":}"), Some((2, 6)));
        assert_eq!(place(b"{"), Some((1, 1)));
        assert_eq!(place(b"{} x"), Some((1, 4)));
        assert_eq!(place(b"  "), None);
        assert_eq!(place(b"\"\xff\""), None);
        assert_eq!(place(br#"{"a":1,"a":1}"#), Some((1, 10)));
        assert!(place(br#"{"x":[{"a":1,"a":2}]}"#).is_some());
        assert!(place("[".repeat(1000).as_bytes()).is_some(), "deep nesting ends in an error");
    }
}
