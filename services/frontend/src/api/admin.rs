//! Changes of the catalogue, for those who hold the admin token.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use common::api::{self, FieldError, Invalidated};
use protocol::catalogue::{COST_CENTS_MAX, NewBook, STOCK_MAX};
use protocol::command::Action;
use protocol::ids::BookId;

use super::books::OneBook;
use super::extract::{AdminWrite, Args};
use super::fields::{Call, Fields, Integer};
use super::outcome::{self, NO_STORE};
use super::problem::Problem;
use super::route::Route;
use crate::app::App;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::at("/update_cost/{id}/{cost_cents}").get_that_writes(update_cost),
        Route::at("/update_cost").post(update_cost),
        Route::at("/update_quantity/{id}/{amount}").get_that_writes(update_quantity),
        Route::at("/update_quantity").post(update_quantity),
        Route::at("/books").post(put_book),
        Route::at("/books/{id}").delete(remove_book),
        Route::at("/invalidate/{id}").get_that_writes(invalidate),
        Route::at("/invalidate").post(invalidate),
    ]
}

/// A new price.
#[derive(Debug, PartialEq, Eq)]
struct Cost {
    book: BookId,
    cost_cents: u64,
}

impl Call for Cost {
    const KEYS: &'static [&'static str] = &["id", "cost_cents"];

    fn read(fields: &mut Fields) -> Result<Self, FieldError> {
        let book = fields.required("id")?;
        Ok(Self { book, cost_cents: required_within(fields, "cost_cents", COST_CENTS_MAX)? })
    }
}

/// Copies more, or fewer.
#[derive(Debug, PartialEq, Eq)]
struct Stock {
    book: BookId,
    amount: i64,
}

impl Call for Stock {
    const KEYS: &'static [&'static str] = &["id", "amount"];

    fn read(fields: &mut Fields) -> Result<Self, FieldError> {
        let book = fields.required("id")?;
        let Integer(found) = fields.required("amount")?;
        let most = i128::from(STOCK_MAX);
        match i64::try_from(found) {
            Ok(amount) if found != 0 && (-most..=most).contains(&found) => Ok(Self { book, amount }),
            _ => {
                let problem = format!("must be an integer from -{most} to {most} but not 0, found {found}");
                Err(fields.error("amount", problem))
            }
        }
    }
}

/// A book to add, or to put in another's place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Put(pub(super) NewBook);

impl Call for Put {
    const KEYS: &'static [&'static str] =
        &["id", "title", "topic", "author", "isbn", "year", "description", "cost_cents", "quantity"];

    fn read(fields: &mut Fields) -> Result<Self, FieldError> {
        let book = api::NewBook {
            id: fields.optional("id")?,
            title: fields.required("title")?,
            topic: fields.required("topic")?,
            author: fields.optional("author")?,
            isbn: fields.optional("isbn")?,
            year: fields.optional("year")?,
            description: fields.optional("description")?,
            cost_cents: required_within(fields, "cost_cents", COST_CENTS_MAX)?,
            quantity: required_within(fields, "quantity", STOCK_MAX)?,
        };
        NewBook::try_from(book).map(Self)
    }
}

fn required_within(fields: &mut Fields, name: &str, max: u64) -> Result<u64, FieldError> {
    fields.within(name, 0..=max)?.ok_or_else(|| fields.error(name, "is missing"))
}

async fn update_cost(
    State(app): State<App>,
    write: AdminWrite,
    Args(Cost { book, cost_cents }): Args<Cost>,
) -> Result<Response, Problem> {
    change(&app, write, Action::SetPrice { book, cost_cents }).await
}

async fn update_quantity(
    State(app): State<App>,
    write: AdminWrite,
    Args(Stock { book, amount }): Args<Stock>,
) -> Result<Response, Problem> {
    change(&app, write, Action::AddStock { book, amount }).await
}

async fn put_book(
    State(app): State<App>,
    write: AdminWrite,
    Args(Put(book)): Args<Put>,
) -> Result<Response, Problem> {
    change(&app, write, Action::PutBook(Box::new(book))).await
}

async fn remove_book(
    State(app): State<App>,
    write: AdminWrite,
    Args(OneBook { id: book }): Args<OneBook>,
) -> Result<Response, Problem> {
    change(&app, write, Action::RemoveBook { book }).await
}

async fn change(app: &App, write: AdminWrite, action: Action) -> Result<Response, Problem> {
    let (outcome, node) = app.write(write.trace, write.key.whole(), action).await?;
    outcome::answer(outcome, &node)
}

async fn invalidate(State(app): State<App>, _: AdminWrite, Args(OneBook { id }): Args<OneBook>) -> Response {
    let dropped = app.invalidate(id);
    (NO_STORE, Json(Invalidated { id, dropped })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::json::Json;

    fn read<C: Call>(json: &str) -> Result<C, FieldError> {
        Fields::of_json(Json::read(json.as_bytes()).unwrap()).unwrap().into_call()
    }

    fn book(id: u64) -> BookId {
        id.try_into().unwrap()
    }

    #[test]
    fn prices_have_edges() {
        for cost_cents in [0, 100_000_000] {
            let json = format!(r#"{{"id":1,"cost_cents":{cost_cents}}}"#);
            assert_eq!(read(&json), Ok(Cost { book: book(1), cost_cents }));
        }
        for bad in ["-1", "100000001", "1.5", "\"5\"", "null", "1e400", "99999999999999999999"] {
            let json = format!(r#"{{"id":1,"cost_cents":{bad}}}"#);
            if let Ok(json) = Json::read(json.as_bytes()) {
                let read = Fields::of_json(json).unwrap().into_call::<Cost>();
                assert_eq!(read.unwrap_err().field, "cost_cents", "{bad}");
            }
        }
    }

    #[test]
    fn amounts_have_edges() {
        for amount in [1, -1, 1_000_000_000, -1_000_000_000] {
            let json = format!(r#"{{"id":1,"amount":{amount}}}"#);
            assert_eq!(read(&json), Ok(Stock { book: book(1), amount }));
        }
        for bad in ["0", "1000000001", "-1000000001", "9223372036854775808", "1.0", "\"1\"", "null"] {
            let json = format!(r#"{{"id":1,"amount":{bad}}}"#);
            assert_eq!(read::<Stock>(&json).unwrap_err().field, "amount", "{bad}");
        }
    }

    #[test]
    fn a_book_is_read_with_its_limits() {
        let put: Put = read(r#"{"title":"t","topic":"x","year":-44,"cost_cents":1,"quantity":2}"#).unwrap();
        assert_eq!((put.0.id, put.0.facts.year, put.0.quantity), (None, Some(-44), 2));
        for (json, field) in [
            ("{}", "title"),
            (r#"{"title":"t"}"#, "topic"),
            (r#"{"title":"t","topic":"x","quantity":2}"#, "cost_cents"),
            (r#"{"title":"t","topic":"x","cost_cents":1,"quantity":1000000001}"#, "quantity"),
            (r#"{"title":" ","topic":"x","cost_cents":1,"quantity":1}"#, "title"),
            (r#"{"title":"t","topic":"x","cost_cents":1,"quantity":1,"version":3}"#, "version"),
            (r#"{"title":"t","topic":"x","cost_cents":1,"quantity":1,"year":2147483648}"#, "year"),
            (r#"{"id":0,"title":"t","topic":"x","cost_cents":1,"quantity":1}"#, "id"),
        ] {
            assert_eq!(read::<Put>(json).unwrap_err().field, field, "{json}");
        }
    }
}
