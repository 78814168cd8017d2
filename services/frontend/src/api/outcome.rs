//! What became of a write, as an answer.

use axum::Json;
use axum::response::{IntoResponse, Response};
use common::api::Book;
use http::header::{CACHE_CONTROL, LOCATION};
use http::{HeaderName, HeaderValue, StatusCode};
use protocol::command::Outcome;
use protocol::ids::NodeId;

use super::problem::{Problem, WriteOutcome};
use super::trace::X_SERVED_BY;
use crate::render::node_header;

/// Writes, orders and how things stand are never kept.
pub(super) const NO_STORE: [(HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

/// Names the node that an answer comes from.
pub(super) fn served_by(node: &NodeId) -> [(HeaderName, HeaderValue); 1] {
    [(X_SERVED_BY, node_header(node))]
}

/// The answer to a change of a book.
pub(super) fn answer(outcome: Outcome, node: &NodeId) -> Result<Response, Problem> {
    let head = (served_by(node), NO_STORE);
    match outcome {
        Outcome::Changed(book) => Ok((head, Json(Book::from(book))).into_response()),
        Outcome::Added(book) => {
            let location = [(LOCATION, format!("/lookup/{}", book.id))];
            Ok((StatusCode::CREATED, head, location, Json(Book::from(book))).into_response())
        }
        Outcome::Removed => Ok((StatusCode::NO_CONTENT, head).into_response()),
        Outcome::Refused(refusal) => Ok((served_by(node), Problem::from(refusal)).into_response()),
        other @ (Outcome::Sold(_) | Outcome::Loaded { .. }) => Err(mismatch("a change of a book", &other)),
    }
}

/// An outcome of another kind of write. It can't be, for the key's fingerprint covers the kind; should it
/// be all the same, nothing is claimed about the write.
pub(super) fn mismatch(asked: &str, outcome: &Outcome) -> Problem {
    tracing::error!(asked, ?outcome, "the outcome is of another kind of write");
    Problem::write_failed(
        "the store answered with the outcome of another kind of write",
        WriteOutcome::Unknown,
    )
}

#[cfg(test)]
mod tests {
    use protocol::catalogue;
    use protocol::ids::Index;

    use super::*;

    fn book() -> catalogue::Book {
        let facts = catalogue::Facts {
            title: "t".to_owned(),
            topic: "x".to_owned(),
            author: None,
            isbn: None,
            year: None,
            description: None,
        };
        catalogue::Book { id: 9.try_into().unwrap(), facts, cost_cents: 1, quantity: 2, version: Index(3) }
    }

    #[test]
    fn each_outcome_has_its_status() {
        let status =
            |outcome: Outcome| answer(outcome, &"frontend-1".into()).map(|answer| answer.status().as_u16());
        assert_eq!(status(Outcome::Changed(book())), Ok(200));
        assert_eq!(status(Outcome::Added(book())), Ok(201));
        assert_eq!(status(Outcome::Removed), Ok(204));
        assert_eq!(status(Outcome::Refused(protocol::command::Refusal::KeyConflict)), Ok(422));
        assert_eq!(status(Outcome::Loaded { books: 1 }).unwrap_err().status().as_u16(), 503);
    }

    #[test]
    fn a_write_is_never_kept_and_names_its_node() {
        let answer = answer(Outcome::Added(book()), &"frontend-1".into()).unwrap();
        assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(answer.headers()[X_SERVED_BY], "frontend-1");
        assert_eq!(answer.headers()[LOCATION], "/lookup/9");
    }
}
