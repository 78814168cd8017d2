//! Search by topic and by words, and the list of topics.

use axum::extract::State;
use axum::response::Response;
use common::api::FieldError;
use http::HeaderMap;
use protocol::call::PageQuery;
use protocol::catalogue::{TOPIC_BYTES_MAX, TopicKey};

use super::cached;
use super::conditions::freshness;
use super::extract::Args;
use super::fields::{Call, Fields};
use super::paging;
use super::problem::Problem;
use super::route::Route;
use crate::app::App;

/// The longest text that is searched for: a title and its author fit, and it is part of a cache key.
const WORDS_BYTES_MAX: usize = 512;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::at("/search").read(search).post(search),
        Route::at("/search/{topic}").read(search),
        Route::at("/topics").read(topics),
    ]
}

/// What is searched for: by topic, by words, or by both.
#[derive(Debug, PartialEq, Eq)]
struct Search(PageQuery);

impl Call for Search {
    const KEYS: &'static [&'static str] = &["topic", "q", "page_size", "page_token"];

    fn read(fields: &mut Fields) -> Result<Self, FieldError> {
        let topic = topic(fields)?;
        let words = words(fields)?;
        if topic.is_none() && words.is_none() {
            return Err(fields.error("topic", "is missing, and so is `q`: one of them is needed"));
        }
        let limit = paging::page_size(fields)?;
        Ok(Self(PageQuery { topic, words, after: paging::after_book(fields)?, limit }))
    }
}

fn topic(fields: &mut Fields) -> Result<Option<TopicKey>, FieldError> {
    let Some(text) = fields.optional::<String>("topic")? else { return Ok(None) };
    if text.len() > TOPIC_BYTES_MAX {
        return Err(fields.error("topic", format!("must have at most {TOPIC_BYTES_MAX} bytes")));
    }
    let key = TopicKey::of(&text);
    if key.as_str().is_empty() {
        return Err(fields.error("topic", "must hold a word"));
    }
    Ok(Some(key))
}

/// The words with single spaces between them, so that one search has one place in the cache.
fn words(fields: &mut Fields) -> Result<Option<String>, FieldError> {
    let Some(text) = fields.optional::<String>("q")? else { return Ok(None) };
    if text.len() > WORDS_BYTES_MAX {
        return Err(fields.error("q", format!("must have at most {WORDS_BYTES_MAX} bytes")));
    }
    if !text.chars().any(char::is_alphanumeric) {
        return Err(fields.error("q", "must hold a word"));
    }
    if text.contains('\0') {
        return Err(fields.error("q", "must not hold control characters"));
    }
    Ok(Some(text.split_whitespace().collect::<Vec<_>>().join(" ")))
}

/// Nothing to say.
struct Nothing;

impl Call for Nothing {
    const KEYS: &'static [&'static str] = &[];

    fn read(_: &mut Fields) -> Result<Self, FieldError> {
        Ok(Self)
    }
}

async fn search(
    State(app): State<App>,
    asked: HeaderMap,
    Args(Search(query)): Args<Search>,
) -> Result<Response, Problem> {
    Ok(cached::page(&app.page(query, freshness(&asked)).await?, &asked))
}

async fn topics(
    State(app): State<App>,
    asked: HeaderMap,
    Args(Nothing): Args<Nothing>,
) -> Result<Response, Problem> {
    Ok(cached::page(&app.topics(freshness(&asked)).await?, &asked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::json::Json;

    fn read(json: &str) -> Result<PageQuery, FieldError> {
        Fields::of_json(Json::read(json.as_bytes()).unwrap()).unwrap().into_call().map(|Search(query)| query)
    }

    #[test]
    fn spellings_of_one_search_are_one_query() {
        let expected = read(r#"{"topic":"distributed systems","q":"rpc dum"}"#);
        assert!(expected.is_ok());
        assert_eq!(read(r#"{"topic":"Distributed_Systems","q":"  rpc\tdum "}"#), expected);
    }

    #[test]
    fn what_cannot_be_searched_for_is_named() {
        let long = "x".repeat(513);
        for (json, field) in [
            ("{}", "topic"),
            (r#"{"topic":" -_ "}"#, "topic"),
            (r#"{"topic":7}"#, "topic"),
            (r#"{"q":"!?"}"#, "q"),
            (r#"{"q":"a\u0000b"}"#, "q"),
            (&format!(r#"{{"q":"{long}"}}"#), "q"),
            (&format!(r#"{{"topic":"{long}"}}"#), "topic"),
            (r#"{"q":"a","page_size":0}"#, "page_size"),
            (r#"{"q":"a","page_token":"?"}"#, "page_token"),
            (r#"{"q":"a","page":1}"#, "page"),
        ] {
            assert_eq!(read(json).unwrap_err().field, field, "{json}");
        }
    }
}
