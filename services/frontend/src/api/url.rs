//! What a URL says: percent-decoding, queries, and the named parts of a path.
//!
//! Strict where the usual decoders are lenient: a broken escape or bytes that are not UTF-8 are refused
//! with the name of the argument, for a guess could sell the wrong book.

use std::borrow::Cow;

use common::api::FieldError;

/// How many arguments a query may have: far more than any call knows.
const PAIRS_MAX: usize = 32;

/// The arguments of a query, decoded.
///
/// # Errors
/// If one of them can't be decoded, or if there are too many.
pub fn query_pairs(query: &str) -> Result<Vec<(String, String)>, FieldError> {
    let mut pairs = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        if pairs.len() == PAIRS_MAX {
            return Err(FieldError::new("query", format!("has more than {PAIRS_MAX} arguments")));
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let name = decode(name, Plus::IsSpace).map_err(|problem| FieldError::new("query", problem))?;
        let value = decode(value, Plus::IsSpace).map_err(|problem| FieldError::new(&*name, problem))?;
        pairs.push((name.into_owned(), value.into_owned()));
    }
    Ok(pairs)
}

/// The parts of a path that its template gives a name, decoded: `/lookup/{id}` names `id`.
///
/// # Errors
/// If one of them can't be decoded.
pub fn path_pairs(template: &str, path: &str) -> Result<Vec<(String, String)>, FieldError> {
    let named = template.split('/').zip(path.split('/')).filter_map(|(template, part)| {
        let name = template.strip_prefix('{')?.strip_suffix('}')?;
        Some((name, part))
    });
    let decoded = named.map(|(name, part)| {
        let value = decode(part, Plus::IsPlus).map_err(|problem| FieldError::new(name, problem))?;
        Ok((name.to_owned(), value.into_owned()))
    });
    decoded.collect()
}

/// What a `+` stands for: a space in a query, itself in a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    IsSpace,
    IsPlus,
}

fn decode(text: &str, plus: Plus) -> Result<Cow<'_, str>, &'static str> {
    if !text.bytes().any(|b| b == b'%' || (b == b'+' && plus == Plus::IsSpace)) {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => break,
            [b'%', high, low, rest @ ..] => {
                let (high, low) = hex(*high).zip(hex(*low)).ok_or(BROKEN_ESCAPE)?;
                bytes.push(high << 4 | low);
                rest
            }
            [b'%', ..] => return Err(BROKEN_ESCAPE),
            [b'+', rest @ ..] if plus == Plus::IsSpace => {
                bytes.push(b' ');
                rest
            }
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        };
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| "is not UTF-8 once it is decoded")
}

const BROKEN_ESCAPE: &str = "holds a `%` that is not followed by two hexadecimal digits";

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn queries_are_decoded() {
        let cases: [(&str, &[(&str, &str)]); 5] = [
            ("", &[]),
            ("a=1&b=", &[("a", "1"), ("b", "")]),
            ("a=x+y%2Bz&&b", &[("a", "x y+z"), ("b", "")]),
            ("q=%C3%A9t%c3%a9", &[("q", "été")]),
            ("a=b=c", &[("a", "b=c")]),
        ];
        for (query, expected) in cases {
            assert_eq!(query_pairs(query), Ok(pairs(expected)), "{query}");
        }
    }

    #[test]
    fn broken_escapes_name_their_argument() {
        for (query, field) in
            [("a=%", "a"), ("a=1&b=%4", "b"), ("a=%zz", "a"), ("a=%ff", "a"), ("%=1", "query")]
        {
            assert_eq!(query_pairs(query).unwrap_err().field, field, "{query}");
        }
        assert_eq!(query_pairs(&"a=1&".repeat(33)).unwrap_err().field, "query");
    }

    #[test]
    fn paths_are_taken_apart_by_their_template() {
        let found = path_pairs("/search/{topic}", "/search/a%20b+c%2Fd");
        assert_eq!(found, Ok(pairs(&[("topic", "a b+c/d")])));
        let found = path_pairs("/update_cost/{id}/{cost_cents}", "/update_cost/1/%ff");
        assert_eq!(found.unwrap_err().field, "cost_cents");
        assert_eq!(path_pairs("/list", "/list"), Ok(vec![]));
    }
}
