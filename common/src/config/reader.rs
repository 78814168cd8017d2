//! Reading a TOML table key by key, collecting every mistake with its line.
//!
//! Deserialising into structs ends at the first mistake; whoever edits a configuration wants to hear of
//! all of them in one run. So the document is parsed into a tree that knows its places, and each key is
//! taken out of it with the type and the limits that it must have. What is left at the end is unknown.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// How many letters a name may be off to be taken for a slip of the finger.
const SLIPS_MAX: usize = 3;

/// All mistakes of a file.
#[derive(Debug)]
pub(super) struct Mistakes {
    /// Where each line of the file ends. Found once: a file may have as many mistakes as lines.
    line_ends: Vec<usize>,
    found: Vec<(usize, String)>,
}

impl Mistakes {
    pub(super) fn new(text: &str) -> Self {
        Self { line_ends: text.match_indices('\n').map(|(at, _)| at).collect(), found: Vec::new() }
    }

    /// Notes a mistake at a place of the file.
    pub(super) fn at(&mut self, span: &Range<usize>, message: String) {
        self.found.push((self.line(span), message));
    }

    /// The line of a place, from 1.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        1 + self.line_ends.partition_point(|end| *end < span.start)
    }

    /// All mistakes, by line.
    pub(super) fn into_lines(mut self) -> Vec<(usize, String)> {
        self.found.sort();
        self.found
    }
}

/// A table of the file, from which keys are taken one by one.
#[derive(Debug)]
pub(super) struct Section<'i> {
    name: String,
    span: Range<usize>,
    keys: BTreeMap<String, (Range<usize>, Spanned<DeValue<'i>>)>,
    known: Vec<&'static str>,
}

impl<'i> Section<'i> {
    pub(super) fn new(name: &str, span: Range<usize>, table: DeTable<'i>) -> Self {
        let keys = table.into_iter().map(|(key, value)| (key.get_ref().to_string(), (key.span(), value)));
        Self { name: name.to_owned(), span, keys: keys.collect(), known: Vec::new() }
    }

    pub(super) fn empty(name: &str) -> Self {
        Self { name: name.to_owned(), span: 0..0, keys: BTreeMap::new(), known: Vec::new() }
    }

    /// The full name of a key, as messages have it.
    pub(super) fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'i>>> {
        self.known.push(key);
        self.keys.remove(key).map(|(_, value)| value)
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'i>>, right: &str, mistakes: &mut Mistakes) {
        let found = describe(value.get_ref());
        mistakes.at(&value.span(), format!("`{}` must be {right}, found {found}", self.path(key)));
    }

    /// A sub-table; an empty one if it is not there.
    pub(super) fn table(&mut self, key: &'static str, mistakes: &mut Mistakes) -> Section<'i> {
        let Some(value) = self.take(key) else { return Section::empty(key) };
        let span = value.span();
        match value.get_ref() {
            DeValue::Table(_) => match value.into_inner() {
                DeValue::Table(table) => Section::new(key, span, table),
                _ => Section::empty(key),
            },
            _ => {
                self.wrong(key, &value, &format!("a section, written [{key}]"), mistakes);
                Section::empty(key)
            }
        }
    }

    /// A list of tables; nothing if it is not there.
    pub(super) fn tables(&mut self, key: &'static str, mistakes: &mut Mistakes) -> Option<Vec<Section<'i>>> {
        let value = self.take(key)?;
        let right = format!("a list of at least one section, each written [[{key}]]");
        let is_fit = matches!(value.get_ref(), DeValue::Array(array)
            if !array.is_empty() && array.iter().all(|item| matches!(item.get_ref(), DeValue::Table(_))));
        if !is_fit {
            self.wrong(key, &value, &right, mistakes);
            return None;
        }
        let DeValue::Array(array) = value.into_inner() else { return None };
        let sections = array.into_iter().filter_map(|item| {
            let span = item.span();
            match item.into_inner() {
                DeValue::Table(table) => Some(Section::new(key, span, table)),
                _ => None,
            }
        });
        Some(sections.collect())
    }

    /// A whole number within limits.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        default: u64,
        limits: RangeInclusive<u64>,
        mistakes: &mut Mistakes,
    ) -> u64 {
        let Some(value) = self.take(key) else { return default };
        let number = value.get_ref().as_integer().map(|integer| {
            let is_negative = integer.as_str().starts_with('-');
            // A number that does not fit is as good as the least or the largest that does.
            let nearest = if is_negative { 0 } else { u64::MAX };
            (u64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(nearest), is_negative)
        });
        let right = match number {
            Some((number, false)) if limits.contains(&number) => return number,
            Some((number, is_negative)) if is_negative || number < *limits.start() => {
                format!("at least {}", limits.start())
            }
            Some(_) => format!("at most {}", limits.end()),
            None => "a whole number".to_owned(),
        };
        self.wrong(key, &value, &right, mistakes);
        default
    }

    /// True or false.
    pub(super) fn boolean(&mut self, key: &'static str, default: bool, mistakes: &mut Mistakes) -> bool {
        let Some(value) = self.take(key) else { return default };
        if let DeValue::Boolean(boolean) = value.get_ref() {
            return *boolean;
        }
        self.wrong(key, &value, "true or false", mistakes);
        default
    }

    /// A text that `parse` accepts; `right` says which are. Nothing if it is not there, or wrong.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        right: &str,
        parse: impl FnOnce(&str) -> Option<T>,
        mistakes: &mut Mistakes,
    ) -> Option<Spanned<T>> {
        let value = self.take(key)?;
        let parsed = match value.get_ref() {
            DeValue::String(text) => parse(text),
            _ => None,
        };
        match parsed {
            Some(parsed) => Some(Spanned::new(value.span(), parsed)),
            None => {
                self.wrong(key, &value, right, mistakes);
                None
            }
        }
    }

    /// Notes that a key that must be there is not.
    pub(super) fn missing(&self, key: &str, right: &str, mistakes: &mut Mistakes) {
        if !self.keys.contains_key(key) {
            mistakes.at(&self.span, format!("`{}` is missing; it must be {right}", self.path(key)));
        }
    }

    /// Whether the key is in the file and has not been taken yet.
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// The place of a key's value, as long as it has not been taken.
    pub(super) fn span_of(&self, key: &str) -> Option<Range<usize>> {
        self.keys.get(key).map(|(_, value)| value.span())
    }

    /// A text that has not been taken, as it stands there.
    pub(super) fn peek(&self, key: &str) -> Option<&str> {
        self.keys.get(key).and_then(|(_, value)| value.get_ref().as_str())
    }

    /// The place of the section, if it is in the file.
    pub(super) fn place(&self) -> Option<Range<usize>> {
        (!self.span.is_empty()).then(|| self.span.clone())
    }

    /// Whatever was not taken is unknown.
    pub(super) fn finish(self, mistakes: &mut Mistakes) {
        for (key, (span, _)) in &self.keys {
            let near = self.known.iter().min_by_key(|known| distance(key, known));
            // Of a short name, two slips would leave nothing that it could be told by.
            let slips_max = SLIPS_MAX.min(key.len() / 2);
            let hint = match near.filter(|known| distance(key, known) <= slips_max) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            mistakes.at(span, format!("`{}` is unknown; {hint}", self.path(key)));
        }
    }
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{:?}", text.as_ref()),
        DeValue::Integer(integer) => integer.as_str().to_owned(),
        DeValue::Float(float) => float.as_str().to_owned(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(array) if array.is_empty() => "an empty list".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a section".to_owned(),
    }
}

/// How many characters must be changed, put in or taken out to get from one word to the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(&other) {
            let above = *cell;
            left = (diagonal + usize::from(a != *b)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_a_distance() {
        for (one, other, expected) in
            [("", "", 0), ("cache", "cache", 0), ("cahce", "cache", 2), ("id", "ids", 1)]
        {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }
}
