//! Reads are linearizable: what is shown was so at some moment between the beginning of the read and its
//! end, and never from before what anyone had been told by the time that the read began.
//!
//! Where front ends compete, that is asked of the one by whose view the store goes when the read begins. One that was
//! displaced and does not know it may be behind: of it is asked that it does not fall behind what it has committed or
//! shown itself.

use std::collections::BTreeMap;

use common::api;
use frontend::cache::Cached;
use protocol::call::Query;
use protocol::catalogue::Book;
use protocol::ids::{BookId, Index};

use crate::oracle::model::Model;
use crate::world::FrontId;

/// Up to where the shard had come, as anyone could know, when a read began at a front end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Floor {
    front: FrontId,
    index: Index,
    /// Whether it is what all front ends have told.
    pub(crate) is_of_all: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Reads {
    told: Index,
    /// What each front end has told that it knew itself.
    told_by: BTreeMap<FrontId, Index>,
}

impl Reads {
    pub(crate) fn floor(&self, front: FrontId, is_current: bool) -> Floor {
        let own = self.told_by.get(&front).copied().unwrap_or_default();
        Floor { front, index: if is_current { self.told } else { own }, is_of_all: is_current }
    }

    /// Somebody knows by now of this entry, and by this front end, if it knows itself.
    pub(crate) fn told(&mut self, front: Option<FrontId>, index: Index) {
        self.told = self.told.max(index);
        if let Some(front) = front {
            let own = self.told_by.entry(front).or_default();
            *own = index.max(*own);
        }
    }

    /// What was shown: returns the first moment at which things looked so.
    pub(crate) fn shown(
        &mut self,
        query: &Query,
        shown: &Cached,
        Floor { front, index: floor, .. }: Floor,
        model: &Model,
        spoilt: Option<BookId>,
    ) -> Index {
        let at = match (query, shown) {
            (Query::Book(id), Cached::Book(answer)) => {
                let body = answer.found.as_ref().map(|found| &found.body);
                let book = body.map(|body| serde_json::from_slice(body).expect("a body is JSON"));
                book_was_so(*id, book, floor, model, spoilt)
            }
            (Query::Page(page), Cached::Rendered(rendered)) => {
                let shown: api::BookPage = serde_json::from_slice(&rendered.body).expect("a body is JSON");
                moments(floor, model).find(|index| {
                    let (books, more) = model.page_at(page, *index);
                    books.len() == shown.books.len()
                        && more == shown.next_page_token.is_some()
                        && books
                            .into_iter()
                            .zip(&shown.books)
                            .all(|(book, shown)| is_shown(book, shown, spoilt))
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
        self.told(Some(front), at);
        at
    }
}

fn moments(floor: Index, model: &Model) -> impl Iterator<Item = Index> {
    (floor.0..=model.last().0).map(Index)
}

/// The first moment, not before the floor, at which a book was as it is shown.
fn book_was_so(
    id: BookId,
    shown: Option<api::Book>,
    floor: Index,
    model: &Model,
    spoilt: Option<BookId>,
) -> Option<Index> {
    let states = model.states(id);
    let nothing = [(Index(0), None)];
    let before = if states.first().is_none_or(|(made, _)| *made > Index(0)) { &nothing[..] } else { &[] };
    let all: Vec<&(Index, Option<Book>)> = before.iter().chain(states).collect();
    all.iter().enumerate().find_map(|(place, (made, state))| {
        // An entry may change a book twice: the last change of it counts.
        let ends = all.get(place + 1).map(|(made, _)| *made);
        let lasts = ends.is_none_or(|ends| ends > floor && ends > *made);
        let same = match (state, &shown) {
            (Some(book), Some(shown)) => is_shown(book, shown, spoilt),
            (None, None) => true,
            _ => false,
        };
        (lasts && same).then_some((*made).max(floor))
    })
}

/// Whether a book is shown as it is; of a row that was changed from outside, all but its stock.
fn is_shown(book: &Book, shown: &api::Book, spoilt: Option<BookId>) -> bool {
    // First what is cheap and mostly tells.
    if book.version.0 != shown.version {
        return false;
    }
    let mut expected = api::Book::from(book.clone());
    if spoilt == Some(book.id) {
        expected.quantity = shown.quantity;
    }
    expected == *shown
}

fn topics_at(model: &Model, index: Index) -> Vec<api::Topic> {
    let mut topics = BTreeMap::new();
    for book in model.books_at(index) {
        let key = protocol::catalogue::TopicKey::of(&book.facts.topic);
        let topic = || api::Topic { topic: book.facts.topic.clone(), books: 0 };
        topics.entry(key).or_insert_with(topic).books += 1;
    }
    topics.into_values().collect()
}
