//! Buying, and looking at orders.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use common::api::{FieldError, Order, OrderPage};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use protocol::catalogue::{LINE_QUANTITY_MAX, ORDER_LINES_MAX, OrderLine};
use protocol::command::Outcome;
use protocol::ids::{NodeId, OrderId};

use super::cached::JSON;
use super::extract::{Admin, Args, Traced, Write};
use super::fields::{Call, Fields};
use super::outcome::{NO_STORE, mismatch, served_by};
use super::paging;
use super::problem::Problem;
use super::route::Route;
use super::trace::X_SERVED_BY;
use crate::app::App;
use crate::render::node_header;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::at("/buy/{id}").get_that_writes(buy),
        Route::at("/buy").post(buy),
        Route::at("/orders/{order_id}").read(order),
        Route::at("/orders").read(orders),
    ]
}

/// What is to be bought: one book, or a list of books.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Buy {
    lines: Vec<OrderLine>,
}

impl Call for Buy {
    const KEYS: &'static [&'static str] = &["id", "quantity", "items"];

    fn read(fields: &mut Fields) -> Result<Self, FieldError> {
        let items = fields.objects("items")?;
        let Some(items) = items else {
            if !fields.has("id") {
                return Err(fields.error("id", "is missing, and so is `items`: one of them is needed"));
            }
            return Ok(Self { lines: vec![line(fields)?] });
        };
        if let Some(name) = ["id", "quantity"].into_iter().find(|name| fields.has(name)) {
            return Err(fields.error(name, "must not be given beside `items`"));
        }
        if !(1..=ORDER_LINES_MAX).contains(&items.len()) {
            let problem = format!("must have 1 to {ORDER_LINES_MAX} entries, found {}", items.len());
            return Err(fields.error("items", problem));
        }
        let mut lines: Vec<OrderLine> = Vec::with_capacity(items.len());
        for mut item in items {
            item.only(&["id", "quantity"])?;
            let line = line(&mut item)?;
            if lines.iter().any(|earlier| earlier.book == line.book) {
                return Err(
                    item.error("id", format!("must be a book that no other entry has, found {}", line.book))
                );
            }
            lines.push(line);
        }
        Ok(Self { lines })
    }
}

fn line(fields: &mut Fields) -> Result<OrderLine, FieldError> {
    let quantity = fields.within("quantity", 1..=LINE_QUANTITY_MAX)?.unwrap_or(1);
    Ok(OrderLine { book: fields.required("id")?, quantity })
}

/// A call about one order.
struct OneOrder {
    order: OrderId,
}

impl Call for OneOrder {
    const KEYS: &'static [&'static str] = &["order_id"];

    fn read(fields: &mut Fields) -> Result<Self, FieldError> {
        let text: String = fields.required("order_id")?;
        let order = text.parse().map_err(|_| fields.error("order_id", FORM_OF_AN_ORDER_ID))?;
        Ok(Self { order })
    }
}

const FORM_OF_AN_ORDER_ID: &str = "must have the form 01234567-89ab-7cde-8f01-23456789abcd";

/// A page of orders.
struct Orders {
    node: Option<NodeId>,
    before: Option<OrderId>,
    limit: u32,
}

impl Call for Orders {
    const KEYS: &'static [&'static str] = &["node", "page_size", "page_token"];

    fn read(fields: &mut Fields) -> Result<Self, FieldError> {
        let node = fields.optional::<String>("node")?.map(NodeId::from);
        Ok(Self { node, limit: paging::page_size(fields)?, before: paging::before_order(fields)? })
    }
}

async fn buy(State(app): State<App>, write: Write, Args(what): Args<Buy>) -> Response {
    sell(&app, write, what).await.map(Body::from)
}

/// Sells, and says what came of it.
pub(super) async fn sell(app: &App, write: Write, Buy { lines }: Buy) -> http::Response<Bytes> {
    let (outcome, node) = match app.buy(write.trace, write.key.whole(), lines).await {
        Ok(bought) => bought,
        Err(failure) => return Problem::from(failure).response(),
    };
    let mut response = match outcome {
        Outcome::Sold(order) => sold(&Order::from(order)),
        Outcome::Refused(refusal) => Problem::from(refusal).response(),
        other @ (Outcome::Changed(_) | Outcome::Added(_) | Outcome::Removed | Outcome::Loaded { .. }) => {
            return mismatch("buy", &other).response();
        }
    };
    response.headers_mut().insert(X_SERVED_BY, node_header(&node));
    response
}

fn sold(order: &Order) -> http::Response<Bytes> {
    let body = serde_json::to_vec(order).expect("an order's keys are text");
    let mut response = http::Response::new(Bytes::from(body));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().extend(NO_STORE.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

async fn order(
    State(app): State<App>,
    Traced(trace): Traced,
    Args(OneOrder { order }): Args<OneOrder>,
) -> Result<Response, Problem> {
    let (found, node) = app.order(trace, order).await?;
    Ok(match found {
        Some(order) => (served_by(&node), NO_STORE, Json(Order::from(order))).into_response(),
        None => {
            let problem = Problem::NotFound { detail: format!("there is no order {order}"), id: None };
            (served_by(&node), problem).into_response()
        }
    })
}

async fn orders(
    State(app): State<App>,
    Traced(trace): Traced,
    _: Admin,
    Args(Orders { node, before, limit }): Args<Orders>,
) -> Result<Response, Problem> {
    if let Some(unknown) = node.as_ref().filter(|node| !app.parts().orders.has(node)) {
        let problem = format!("must be an order node, found `{unknown}`");
        return Err(FieldError::new("node", problem).into());
    }
    let ((orders, more), node) = app.orders(trace, node.as_ref(), before, limit).await?;
    let last = orders.last().filter(|_| more).map(|order| order.id);
    let page = OrderPage {
        orders: orders.into_iter().map(Order::from).collect(),
        next_page_token: last.map(paging::order_token),
    };
    Ok((served_by(&node), NO_STORE, Json(page)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::json::Json;

    fn body(json: &str) -> Result<Buy, FieldError> {
        Fields::of_json(Json::read(json.as_bytes()).unwrap()).unwrap().into_call()
    }

    fn url(pairs: &[(&str, &str)]) -> Result<Buy, FieldError> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Fields::of_url(pairs.collect())?.into_call()
    }

    fn lines(lines: &[(u64, u64)]) -> Buy {
        let line = |&(book, quantity): &(u64, u64)| OrderLine { book: book.try_into().unwrap(), quantity };
        Buy { lines: lines.iter().map(line).collect() }
    }

    #[test]
    fn all_forms_of_a_buy_are_read() {
        assert_eq!(url(&[("id", "3")]), Ok(lines(&[(3, 1)])));
        assert_eq!(url(&[("id", "3"), ("quantity", "")]), Ok(lines(&[(3, 1)])));
        assert_eq!(url(&[("id", "3"), ("quantity", "1000000")]), Ok(lines(&[(3, 1_000_000)])));
        assert_eq!(body(r#"{"id":3}"#), Ok(lines(&[(3, 1)])));
        assert_eq!(body(r#"{"id":3,"quantity":2,"items":null}"#), Ok(lines(&[(3, 2)])));
        assert_eq!(body(r#"{"items":[{"id":2,"quantity":5},{"id":1}]}"#), Ok(lines(&[(2, 5), (1, 1)])));
        let most: Vec<String> = (1..=50).map(|id| format!(r#"{{"id":{id}}}"#)).collect();
        assert_eq!(body(&format!(r#"{{"items":[{}]}}"#, most.join(","))).unwrap().lines.len(), 50);
    }

    #[test]
    fn what_is_wrong_with_a_buy_is_named() {
        let many: Vec<String> = (1..=51).map(|id| format!(r#"{{"id":{id}}}"#)).collect();
        let many = format!(r#"{{"items":[{}]}}"#, many.join(","));
        for (json, field) in [
            ("{}", "id"),
            (r#"{"quantity":1}"#, "id"),
            (r#"{"id":0}"#, "id"),
            (r#"{"id":"1"}"#, "id"),
            (r#"{"id":1,"quantity":0}"#, "quantity"),
            (r#"{"id":1,"quantity":1000001}"#, "quantity"),
            (r#"{"id":1,"quantity":-1}"#, "quantity"),
            (r#"{"id":1,"quantity":1.5}"#, "quantity"),
            (r#"{"id":1,"quantity":"1"}"#, "quantity"),
            (r#"{"id":1,"items":[{"id":2}]}"#, "id"),
            (r#"{"quantity":1,"items":[{"id":2}]}"#, "quantity"),
            (r#"{"items":[]}"#, "items"),
            (r#"{"items":{}}"#, "items"),
            (r#"{"items":[1]}"#, "items[0]"),
            (r#"{"items":[{"id":1},{"id":1}]}"#, "items[1].id"),
            (r#"{"items":[{"id":1},{"quantity":1}]}"#, "items[1].id"),
            (r#"{"items":[{"id":1,"quantity":0}]}"#, "items[0].quantity"),
            (r#"{"items":[{"id":1,"price":0}]}"#, "items[0].price"),
            (r#"{"id":1,"count":1}"#, "count"),
            (many.as_str(), "items"),
        ] {
            assert_eq!(body(json).unwrap_err().field, field, "{json}");
        }
        assert_eq!(url(&[("id", "1"), ("items", "2")]).unwrap_err().field, "items");
        assert_eq!(url(&[("id", "1"), ("id", "1")]).unwrap_err().field, "id");
    }
}
