//! One book, its stock, and all books.

use axum::extract::State;
use axum::response::Response;
use common::api::FieldError;
use http::HeaderMap;
use protocol::call::PageQuery;
use protocol::ids::BookId;

use super::cached::{self, Side};
use super::conditions::freshness;
use super::extract::Args;
use super::fields::{Call, Fields};
use super::paging;
use super::problem::Problem;
use super::route::Route;
use crate::app::App;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::at("/lookup/{id}").read(lookup),
        Route::at("/lookup").post(lookup),
        Route::at("/quantity/{id}").read(quantity),
        Route::at("/quantity").post(quantity),
        Route::at("/list").read(list).post(list),
    ]
}

/// A call about one book.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OneBook {
    pub(super) id: BookId,
}

impl Call for OneBook {
    const KEYS: &'static [&'static str] = &["id"];

    fn read(fields: &mut Fields) -> Result<Self, FieldError> {
        Ok(Self { id: fields.required("id")? })
    }
}

/// A page of all books.
#[derive(Debug, PartialEq, Eq)]
struct List {
    after: Option<BookId>,
    limit: u32,
}

impl Call for List {
    const KEYS: &'static [&'static str] = &["page_size", "page_token"];

    fn read(fields: &mut Fields) -> Result<Self, FieldError> {
        Ok(Self { limit: paging::page_size(fields)?, after: paging::after_book(fields)? })
    }
}

async fn lookup(
    State(app): State<App>,
    asked: HeaderMap,
    Args(OneBook { id }): Args<OneBook>,
) -> Result<Response, Problem> {
    show(&app, id, Side::Book, &asked).await
}

async fn quantity(
    State(app): State<App>,
    asked: HeaderMap,
    Args(OneBook { id }): Args<OneBook>,
) -> Result<Response, Problem> {
    show(&app, id, Side::Quantity, &asked).await
}

async fn show(app: &App, id: BookId, side: Side, asked: &HeaderMap) -> Result<Response, Problem> {
    let served = app.book(id, freshness(asked)).await?;
    Ok(cached::read_book(id, side, &served, asked))
}

async fn list(
    State(app): State<App>,
    asked: HeaderMap,
    Args(List { after, limit }): Args<List>,
) -> Result<Response, Problem> {
    let query = PageQuery { topic: None, words: None, after, limit };
    Ok(cached::page(&app.page(query, freshness(&asked)).await?, &asked))
}
