//! Made-up catalogues of any size: titles, authors, topics and numbers that look like those of a shop.
//!
//! A seed fixes every byte. Each book needs a few random numbers and nothing of the books before it but
//! these, so a catalogue is a stream, and a longer one begins with a shorter one of the same seed.

mod words;

use common::api::NewBook;
use protocol::ids::BookId;

use self::words::{ADJECTIVES, FIRST_NAMES, LAST_NAMES, NOUNS, PLACES, PRAISES, READERS, TOPICS};
use crate::random::Random;

/// The most books of a catalogue: each has an ISBN of its own, of which 9 digits are free.
pub const BOOKS_MAX: u64 = 999_999_999;

/// What spreads ISBNs: without a factor in common with 10, so that no two ids share one.
const ISBN_STEP: u64 = 387_420_489;
const ISBNS: u64 = 1_000_000_000;

/// Books with ids from 1.
#[derive(Clone, Debug)]
pub struct Catalogue {
    random: Random,
    isbn_from: u64,
    next: u64,
    last: u64,
}

impl Catalogue {
    /// So many books of a seed, [`BOOKS_MAX`] at most.
    #[must_use]
    pub fn new(books: u64, seed: u64) -> Self {
        let mut random = Random::seeded(seed);
        let isbn_from = random.next_u64() % ISBNS;
        Self { random, isbn_from, next: 1, last: books.min(BOOKS_MAX) }
    }

    fn book(&mut self, number: u64, id: BookId) -> NewBook {
        let topic = self.topic();
        let title = self.title(topic);
        let author = self.author();
        let year = self.year();
        let description = self.description(topic);
        let cost_cents = self.price();
        let isbn = isbn((self.isbn_from + number * ISBN_STEP) % ISBNS);
        NewBook {
            id: Some(id),
            title,
            topic: topic.to_owned(),
            author: Some(author),
            isbn: Some(isbn),
            year: Some(year),
            description: Some(description),
            cost_cents,
            quantity: self.random.next_u64() % 1000,
        }
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        self.random.pick(from).copied().unwrap_or_default()
    }

    /// A topic; those in front are many times as common as those at the end.
    fn topic(&mut self) -> &'static str {
        let most = self.random.below(TOPICS.len());
        let place = self.random.below(most + 1);
        TOPICS.get(place).copied().unwrap_or_default()
    }

    fn title(&mut self, topic: &str) -> String {
        let subject = capitals(topic);
        let [adjective, noun, other] = [self.pick(ADJECTIVES), self.pick(NOUNS), self.pick(NOUNS)];
        let place = self.pick(PLACES);
        match self.random.below(12) {
            0 => format!("The {adjective} {noun}"),
            1 => format!("The {noun} of {place}"),
            2 => format!("The {adjective} {noun} of {place}"),
            3 => format!("{subject} for the {adjective} {noun}"),
            4 => format!("{subject}, {} History", with_article(adjective)),
            5 => format!("{subject} in {} Days", 7 + self.random.below(90)),
            6 => format!("The {noun} and the {other}"),
            7 => format!("{subject}: The {adjective} {noun}"),
            8 => format!("Principles of {subject}, Volume {}", 1 + self.random.below(9)),
            9 => format!("From {place} with {}", with_article(noun)),
            10 => format!("Notes from {} {noun}", with_article(adjective)),
            _ => format!("{noun}, {other} and {subject}"),
        }
    }

    fn author(&mut self) -> String {
        let first = format!("{} {}", self.pick(FIRST_NAMES), self.pick(LAST_NAMES));
        if self.random.below(6) > 0 {
            return first;
        }
        format!("{first}, {} {}", self.pick(FIRST_NAMES), self.pick(LAST_NAMES))
    }

    /// From 1900 on; half of them of the last two decades.
    fn year(&mut self) -> i32 {
        let span = if self.random.below(2) == 0 { 20 } else { 126 };
        let age = self.random.below(span);
        2025 - i32::try_from(age).unwrap_or_default()
    }

    fn description(&mut self, topic: &str) -> String {
        format!("{} {topic}, {}.", self.pick(PRAISES), self.pick(READERS))
    }

    /// What a price looks like: something and 99 cents, or 49.
    fn price(&mut self) -> u64 {
        let cents = if self.random.below(4) == 0 { 49 } else { 99 };
        (4 + self.random.next_u64() % 76) * 100 + cents
    }
}

impl Iterator for Catalogue {
    type Item = NewBook;

    fn next(&mut self) -> Option<NewBook> {
        if self.next > self.last {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let id = BookId::try_from(number).ok()?;
        Some(self.book(number, id))
    }
}

/// An ISBN-13 of nine digits, with the prefix of books and the digit that checks it.
fn isbn(digits: u64) -> String {
    let text = format!("978{digits:09}");
    let sum: u32 = text.bytes().zip([1, 3].into_iter().cycle()).map(|(b, w)| u32::from(b - b'0') * w).sum();
    format!("{text}{}", (10 - sum % 10) % 10)
}

/// A word with the article that its first letter asks for.
fn with_article(word: &str) -> String {
    let vowel = word.starts_with(['A', 'E', 'I', 'O', 'U']);
    format!("{} {word}", if vowel { "an" } else { "a" })
}

/// With a capital at each word, as titles are written.
fn capitals(text: &str) -> String {
    let mut at_start = true;
    let capital = |c: char| {
        let start = std::mem::replace(&mut at_start, c == ' ');
        if start { c.to_ascii_uppercase() } else { c }
    };
    text.chars().map(capital).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use protocol::catalogue::NewBook as Checked;

    use super::*;

    #[test]
    fn a_seed_fixes_the_books_and_a_longer_catalogue_begins_with_a_shorter_one() {
        let books = |books, seed| Catalogue::new(books, seed).collect::<Vec<_>>();
        assert_eq!(books(200, 1), books(200, 1));
        assert_ne!(books(200, 1), books(200, 2));
        assert_eq!(books(200, 1), books(300, 1)[..200]);
        assert_eq!(books(0, 1), []);
    }

    #[test]
    fn a_store_takes_every_book() {
        for (book, number) in Catalogue::new(20_000, 7).zip(1_u64..) {
            assert_eq!(book.id.map(BookId::get), Some(number));
            Checked::try_from(book).unwrap();
        }
    }

    #[test]
    fn isbns_are_valid_and_all_differ() {
        // Of real books, with the digits that are printed on them.
        assert_eq!(isbn(30_640_615), "9780306406157");
        assert_eq!(isbn(13_110_362), "9780131103627");
        let all: BTreeSet<String> = Catalogue::new(20_000, 3).filter_map(|book| book.isbn).collect();
        assert_eq!(all.len(), 20_000);
    }

    #[test]
    fn topics_are_as_uneven_as_in_a_shop() {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for book in Catalogue::new(20_000, 5) {
            *counts.entry(book.topic).or_default() += 1;
        }
        assert!(counts.len() > 100, "{}", counts.len());
        let rare = counts.values().filter(|count| **count < counts["fiction"] / 10).count();
        assert!(rare > 20, "{counts:?}");
    }
}
