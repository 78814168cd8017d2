//! The arguments of a call by name, whether they came in a URL or in a JSON body.
//!
//! A call lists the keys that it knows, takes what it needs, and hears of each mistake as a
//! [`FieldError`] with the full name of the field. Numbers in a URL are digits, in JSON they are numbers;
//! an argument that a URL leaves empty and one that is `null` in JSON are as good as absent.

use std::ops::RangeInclusive;

use common::api::FieldError;
use protocol::ids::{BOOK_ID_MAX, BookId};

use super::json::Json;

/// A call's arguments: the same type for its GET and its POST form.
pub(crate) trait Call: Sized {
    /// All keys that it knows.
    const KEYS: &'static [&'static str];

    /// Takes them, once it is sure that there are no others.
    fn read(fields: &mut Fields) -> Result<Self, FieldError>;
}

/// Named values, each taken once.
#[derive(Debug)]
pub(crate) struct Fields {
    /// Before each name in messages: `items[2].` within a list.
    prefix: String,
    pairs: Vec<(String, Value)>,
}

/// A value as it came.
#[derive(Debug)]
pub(crate) enum Value {
    /// From a path or a query, decoded.
    Url(String),
    /// From a body.
    Json(Json),
}

impl Fields {
    /// Arguments from a URL.
    pub(crate) fn of_url(pairs: Vec<(String, String)>) -> Result<Self, FieldError> {
        let mut seen: Vec<&str> = Vec::with_capacity(pairs.len());
        for (name, _) in &pairs {
            if seen.contains(&name.as_str()) {
                return Err(FieldError::new(name, "must be given once"));
            }
            seen.push(name);
        }
        let pairs = pairs.into_iter().map(|(name, value)| (name, Value::Url(value))).collect();
        Ok(Self { prefix: String::new(), pairs })
    }

    /// Arguments from an object; an error says what was found instead of one.
    pub(crate) fn of_json(json: Json) -> Result<Self, String> {
        match json {
            Json::Object(pairs) => {
                let pairs = pairs.into_iter().map(|(name, value)| (name, Value::Json(value))).collect();
                Ok(Self { prefix: String::new(), pairs })
            }
            other => Err(other.kind()),
        }
    }

    /// The whole of a call.
    pub(crate) fn into_call<C: Call>(mut self) -> Result<C, FieldError> {
        self.only(C::KEYS)?;
        C::read(&mut self)
    }

    /// Refuses keys that are not known.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), FieldError> {
        match self.pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) if known.is_empty() => Err(self.error(&clip(name), "is not known here")),
            Some((name, _)) => {
                let problem = format!("is not known here; known are {}", known.join(", "));
                Err(self.error(&clip(name), problem))
            }
        }
    }

    /// A value that must be there.
    pub(crate) fn required<T: FromValue>(&mut self, name: &str) -> Result<T, FieldError> {
        self.optional(name)?.ok_or_else(|| self.error(name, "is missing"))
    }

    /// A value that may be there.
    pub(crate) fn optional<T: FromValue>(&mut self, name: &str) -> Result<Option<T>, FieldError> {
        let Some(at) = self.pairs.iter().position(|(known, _)| known == name) else { return Ok(None) };
        let (_, value) = self.pairs.swap_remove(at);
        if value.is_absent() {
            return Ok(None);
        }
        T::from_value(value).map(Some).map_err(|problem| self.error(name, problem))
    }

    /// An integer within limits, if it is there.
    pub(crate) fn within(
        &mut self,
        name: &str,
        limits: RangeInclusive<u64>,
    ) -> Result<Option<u64>, FieldError> {
        let Some(Integer(found)) = self.optional(name)? else { return Ok(None) };
        match u64::try_from(found) {
            Ok(value) if limits.contains(&value) => Ok(Some(value)),
            _ => {
                let problem =
                    format!("must be an integer from {} to {}, found {found}", limits.start(), limits.end());
                Err(self.error(name, problem))
            }
        }
    }

    /// A list of objects, each with its own name in messages, if it is there.
    pub(crate) fn objects(&mut self, name: &str) -> Result<Option<Vec<Self>>, FieldError> {
        let Some(List(values)) = self.optional(name)? else { return Ok(None) };
        let named = values.into_iter().enumerate().map(|(at, value)| {
            let place = format!("{name}[{at}]");
            let object = Self::of_json(value);
            let object =
                object.map_err(|kind| self.error(&place, format!("must be an object, found {kind}")))?;
            Ok(Self { prefix: format!("{}{place}.", self.prefix), ..object })
        });
        named.collect::<Result<_, _>>().map(Some)
    }

    /// Whether a key came with a value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(known, value)| known == name && !value.is_absent())
    }

    /// An error of one of these fields.
    pub(crate) fn error(&self, name: &str, problem: impl Into<String>) -> FieldError {
        FieldError::new(format!("{}{name}", self.prefix), problem)
    }
}

impl Value {
    fn is_absent(&self) -> bool {
        match self {
            Self::Url(text) => text.is_empty(),
            Self::Json(json) => *json == Json::Null,
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Url(text) => format!("`{}`", clip(text)),
            Self::Json(json) => json.kind(),
        }
    }
}

/// What a value can be read as. The error is what is wrong with it, such as `must be text, found 1`.
pub(crate) trait FromValue: Sized {
    /// Reads it.
    fn from_value(value: Value) -> Result<Self, String>;
}

/// Any integer that fits 128 bits: wide enough that no limit has to be guessed here.
pub(crate) struct Integer(pub(crate) i128);

impl FromValue for Integer {
    fn from_value(value: Value) -> Result<Self, String> {
        let integer = match &value {
            Value::Url(text) => decimal(text),
            Value::Json(Json::Unsigned(number)) => Some(i128::from(*number)),
            Value::Json(Json::Signed(number)) => Some(i128::from(*number)),
            Value::Json(_) => None,
        };
        integer.map(Self).ok_or_else(|| format!("must be an integer, found {}", value.shown()))
    }
}

/// Digits with an optional minus before them, and nothing else: no `+`, no spaces.
fn decimal(text: &str) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

impl FromValue for BookId {
    fn from_value(value: Value) -> Result<Self, String> {
        let shown = value.shown();
        let id = Integer::from_value(value).ok().and_then(|Integer(id)| u64::try_from(id).ok());
        let id = id.and_then(|id| Self::try_from(id).ok());
        id.ok_or_else(|| format!("must be an integer from 1 to {BOOK_ID_MAX}, found {shown}"))
    }
}

impl FromValue for i32 {
    fn from_value(value: Value) -> Result<Self, String> {
        let shown = value.shown();
        let Integer(number) = Integer::from_value(value)?;
        Self::try_from(number).map_err(|_| format!("must be an integer of 32 bits, found {shown}"))
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::Url(text) | Value::Json(Json::Text(text)) => Ok(text),
            Value::Json(other) => Err(format!("must be text, found {}", other.kind())),
        }
    }
}

struct List(Vec<Json>);

impl FromValue for List {
    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::Json(Json::List(values)) => Ok(Self(values)),
            other => Err(format!("must be a list, found {}", other.shown())),
        }
    }
}

/// The part of a caller's text that is shown back.
fn clip(text: &str) -> String {
    const SHOWN_MAX: usize = 40;
    let mut shown: String = text.chars().take(SHOWN_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(value: &str) -> Fields {
        Fields::of_url(vec![("a".to_owned(), value.to_owned())]).unwrap()
    }

    fn json(value: &str) -> Fields {
        Fields::of_json(Json::read(format!(r#"{{"a":{value}}}"#).as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn book_ids_have_the_same_edges_in_both_forms() {
        for good in ["1", "9007199254740991"] {
            for mut fields in [url(good), json(good)] {
                assert_eq!(fields.required::<BookId>("a").unwrap().to_string(), good);
            }
        }
        for bad in ["0", "-1", "9007199254740992", "99999999999999999999999999999999999999999", "1.0", "1e3"]
        {
            for mut fields in [url(bad), json(bad)] {
                assert_eq!(fields.required::<BookId>("a").unwrap_err().field, "a", "{bad}");
            }
        }
        for bad in ["one", "+1", " 1", "0x1", "-", "١"] {
            assert!(url(bad).required::<BookId>("a").is_err(), "{bad}");
        }
        for bad in ["\"1\"", "true", "[]", "{}"] {
            assert!(json(bad).required::<BookId>("a").is_err(), "{bad}");
        }
    }

    #[test]
    fn absent_is_absent_in_each_form() {
        for mut fields in [url(""), json("null"), Fields::of_url(vec![]).unwrap()] {
            assert!(!fields.has("a"));
            assert_eq!(fields.required::<String>("a").unwrap_err().problem, "is missing");
        }
        assert_eq!(json("\"\"").optional::<String>("a"), Ok(Some(String::new())));
    }

    #[test]
    fn limits_include_their_ends() {
        let of = |text: &str| url(text).within("a", 1..=1000).map_err(|e| e.problem);
        assert_eq!((of("1"), of("1000"), of("")), (Ok(Some(1)), Ok(Some(1000)), Ok(None)));
        for bad in ["0", "1001", "-5"] {
            assert_eq!(of(bad), Err(format!("must be an integer from 1 to 1000, found {bad}")));
        }
    }

    #[test]
    fn a_field_in_a_list_is_named_with_its_place() {
        let mut fields = json(r#"[{"id":1},{"id":"x"}]"#);
        let mut items = fields.objects("a").unwrap().unwrap();
        assert_eq!(items[1].required::<BookId>("id").unwrap_err().field, "a[1].id");
        assert_eq!(json("[1]").objects("a").unwrap_err().to_string(), "`a[0]` must be an object, found 1");
    }

    #[test]
    fn unknown_and_doubled_keys_are_refused() {
        assert_eq!(url("1").only(&["b", "c"]).unwrap_err().problem, "is not known here; known are b, c");
        let twice = vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), "1".to_owned())];
        assert_eq!(Fields::of_url(twice).unwrap_err().field, "a");
    }
}
