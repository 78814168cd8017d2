//! Reads are linearizable: what is shown was so at some moment between the beginning of the read and its
//! end, and never from before what anyone had been told by the time that the read began.

use common::api;
use frontend::cache::Cached;
use protocol::call::Query;
use protocol::catalogue::Book;
use protocol::ids::{BookId, Index};

use crate::oracle::model::Model;

/// Up to where the shard had come, as anyone could know, when a read began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Floor(Index);

#[derive(Debug, Default)]
pub(crate) struct Reads {
    told: Index,
}

impl Reads {
    pub(crate) fn floor(&self) -> Floor {
        Floor(self.told)
    }

    /// Somebody knows by now of this entry.
    pub(crate) fn told(&mut self, index: Index) {
        self.told = self.told.max(index);
    }

    /// What was shown: returns the first moment at which things looked so.
    pub(crate) fn shown(&mut self, query: &Query, shown: &Cached, floor: Floor, model: &Model) -> Index {
        let Floor(floor) = floor;
        let at = match (query, shown) {
            (Query::Book(id), Cached::Book(answer)) => {
                let body = answer.found.as_ref().map(|found| &found.body);
                let book = body.map(|body| serde_json::from_slice(body).expect("a body is JSON"));
                book_was_so(*id, book, floor, model)
            }
            (Query::Page(page), Cached::Rendered(rendered)) => {
                let shown: api::BookPage = serde_json::from_slice(&rendered.body).expect("a body is JSON");
                moments(floor, model).find(|index| {
                    let (books, more) = model.page_at(page, *index);
                    books.len() == shown.books.len()
                        && more == shown.next_page_token.is_some()
                        && books.into_iter().zip(&shown.books).all(|(book, shown)| is_shown(book, shown))
                })
            }
            (Query::Topics, Cached::Rendered(rendered)) => {
                let shown: api::Topics = serde_json::from_slice(&rendered.body).expect("a body is JSON");
                moments(floor, model).find(|index| topics_at(model, *index) == shown.topics)
            }
            (query, _) => unreachable!("{query:?} is answered with something else"),
        };
        let at = at.unwrap_or_else(|| {
            let upto = model.last();
            panic!("not linearizable: {query:?} is shown as it never was from {floor} to {upto}: {shown:?}")
        });
        self.told(at);
        at
    }
}

fn moments(floor: Index, model: &Model) -> impl Iterator<Item = Index> {
    (floor.0..=model.last().0).map(Index)
}

/// The first moment, not before the floor, at which a book was as it is shown.
fn book_was_so(id: BookId, shown: Option<api::Book>, floor: Index, model: &Model) -> Option<Index> {
    let states = model.states(id);
    let nothing = [(Index(0), None)];
    let before = if states.first().is_none_or(|(made, _)| *made > Index(0)) { &nothing[..] } else { &[] };
    let all: Vec<&(Index, Option<Book>)> = before.iter().chain(states).collect();
    all.iter().enumerate().find_map(|(place, (made, state))| {
        // An entry may change a book twice: the last change of it counts.
        let ends = all.get(place + 1).map(|(made, _)| *made);
        let lasts = ends.is_none_or(|ends| ends > floor && ends > *made);
        let same = match (state, &shown) {
            (Some(book), Some(shown)) => is_shown(book, shown),
            (None, None) => true,
            _ => false,
        };
        (lasts && same).then_some((*made).max(floor))
    })
}

fn is_shown(book: &Book, shown: &api::Book) -> bool {
    book.version.0 == shown.version && api::Book::from(book.clone()) == *shown
}

fn topics_at(model: &Model, index: Index) -> Vec<api::Topic> {
    let mut topics = std::collections::BTreeMap::new();
    for book in model.books_at(index) {
        let key = protocol::catalogue::TopicKey::of(&book.facts.topic);
        let topic = || api::Topic { topic: book.facts.topic.clone(), books: 0 };
        topics.entry(key).or_insert_with(topic).books += 1;
    }
    topics.into_values().collect()
}
