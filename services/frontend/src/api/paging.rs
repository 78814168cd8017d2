//! Pages: how many, and from where on.

use common::api::FieldError;
use protocol::ids::{BookId, OrderId};

use super::fields::Fields;
use crate::render;

/// How many rows a page has if the caller does not say.
const PAGE_SIZE_DEFAULT: u64 = 50;
/// The largest page: an answer of a few MB at the very most.
const PAGE_SIZE_MAX: u64 = 1000;
/// The length of a token of [`order_token`].
const ORDER_TOKEN_DIGITS: usize = 32;

/// `page_size`.
pub(crate) fn page_size(fields: &mut Fields) -> Result<u32, FieldError> {
    let size = fields.within("page_size", 1..=PAGE_SIZE_MAX)?.unwrap_or(PAGE_SIZE_DEFAULT);
    Ok(u32::try_from(size).unwrap_or(u32::MAX))
}

/// `page_token` of a page of books: the last book of the page before.
pub(crate) fn after_book(fields: &mut Fields) -> Result<Option<BookId>, FieldError> {
    token(fields, render::decode_token)
}

/// `page_token` of a page of orders: the oldest order of the page before.
pub(crate) fn before_order(fields: &mut Fields) -> Result<Option<OrderId>, FieldError> {
    token(fields, |text| {
        let is_token = text.len() == ORDER_TOKEN_DIGITS
            && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        u128::from_str_radix(text, 16).ok().filter(|_| is_token).map(OrderId)
    })
}

/// What asks for the orders before this one.
pub(crate) fn order_token(order: OrderId) -> String {
    format!("{:032x}", order.0)
}

fn token<T>(fields: &mut Fields, decode: impl Fn(&str) -> Option<T>) -> Result<Option<T>, FieldError> {
    let Some(text) = fields.optional::<String>("page_token")? else { return Ok(None) };
    let refused = || fields.error("page_token", "must be a next_page_token that the store gave out");
    decode(&text).map(Some).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: &str, value: &str) -> Fields {
        Fields::of_url(vec![(name.to_owned(), value.to_owned())]).unwrap()
    }

    #[test]
    fn page_sizes_have_edges() {
        let size = |text: &str| page_size(&mut fields("page_size", text));
        assert_eq!((size("1"), size("1000"), size("")), (Ok(1), Ok(1000), Ok(50)));
        for bad in ["0", "1001", "-1", "many", "1.5"] {
            assert_eq!(size(bad).unwrap_err().field, "page_size", "{bad}");
        }
    }

    #[test]
    fn tokens_of_orders_come_back_as_they_went() {
        let order = OrderId(0x0193_5a2b_7c00_7abc_8def_0123_4567_89ab);
        assert_eq!(before_order(&mut fields("page_token", &order_token(order))), Ok(Some(order)));
        assert_eq!(before_order(&mut fields("page_token", "")), Ok(None));
        let upper = order_token(order).to_uppercase();
        for bad in ["x", "0", "+1935a2b7c007abc8def0123456789ab", upper.as_str()] {
            assert_eq!(
                before_order(&mut fields("page_token", bad)).unwrap_err().field,
                "page_token",
                "{bad}"
            );
        }
    }

    #[test]
    fn tokens_of_books_come_back_as_they_went() {
        let book = BookId::try_from(7).unwrap();
        assert_eq!(after_book(&mut fields("page_token", &render::encode_token(book))), Ok(Some(book)));
        for bad in ["x", "!!", "7 "] {
            assert_eq!(after_book(&mut fields("page_token", bad)).unwrap_err().field, "page_token", "{bad}");
        }
    }
}
