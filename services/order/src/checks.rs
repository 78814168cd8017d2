//! What an order must be before anything is done about it.
//!
//! Front ends check their callers' orders, too; a command in a log is applied by every replica without
//! a further opinion, so nothing that can't be gets that far from here.

use std::num::NonZeroU32;

use protocol::call::WriteFailure;
use protocol::catalogue::{LINE_QUANTITY_MAX, ORDER_LINES_MAX, OrderLine};
use protocol::ids::ShardId;

/// The shard that has all books of an order.
///
/// # Errors
/// If the order can't be; the text says what is wrong with it.
pub fn shard_of(lines: &[OrderLine], shards: NonZeroU32) -> Result<ShardId, WriteFailure> {
    check(lines, shards.get()).map_err(WriteFailure::BadRequest)
}

fn check(lines: &[OrderLine], shards: u32) -> Result<ShardId, String> {
    let Some(first) = lines.first() else { return Err("an order has at least one line".to_owned()) };
    if lines.len() > ORDER_LINES_MAX {
        return Err(format!("an order has at most {ORDER_LINES_MAX} lines, found {}", lines.len()));
    }
    let shard = ShardId::of_book(first.book, shards);
    for (place, OrderLine { book, quantity }) in lines.iter().enumerate() {
        if !(1..=LINE_QUANTITY_MAX).contains(quantity) {
            return Err(format!(
                "the quantity of book {book} must be from 1 to {LINE_QUANTITY_MAX}, found {quantity}"
            ));
        }
        if lines.iter().take(place).any(|line| line.book == *book) {
            return Err(format!("book {book} is in the order twice"));
        }
        let other = ShardId::of_book(*book, shards);
        if other != shard {
            return Err(format!(
                "an order can't hold books of several shards: book {} is in shard {shard}, book {book} in shard {other}",
                first.book
            ));
        }
    }
    Ok(shard)
}

#[cfg(test)]
mod tests {
    use protocol::ids::BookId;

    use super::*;

    fn line(book: u64, quantity: u64) -> OrderLine {
        OrderLine { book: BookId::try_from(book).unwrap(), quantity }
    }

    fn many(count: u64) -> Vec<OrderLine> {
        (1..=count).map(|book| line(book, 1)).collect()
    }

    #[test]
    fn each_rule_has_its_edge() {
        let cases: [(Vec<OrderLine>, Option<&str>); 9] = [
            (vec![line(1, 1)], None),
            (vec![line(1, 1_000_000), line(2, 1)], None),
            (many(50), None),
            (vec![], Some("an order has at least one line")),
            (many(51), Some("an order has at most 50 lines, found 51")),
            (vec![line(3, 0)], Some("the quantity of book 3 must be from 1 to 1000000, found 0")),
            (
                vec![line(1, 1), line(3, 1_000_001)],
                Some("the quantity of book 3 must be from 1 to 1000000, found 1000001"),
            ),
            (vec![line(3, 1), line(3, 1)], Some("book 3 is in the order twice")),
            (vec![line(3, 1), line(4, 1), line(3, 2)], Some("book 3 is in the order twice")),
        ];
        for (lines, problem) in cases {
            assert_eq!(check(&lines, 1).err().as_deref(), problem, "{lines:?}");
        }
    }

    #[test]
    fn an_order_stays_within_one_shard() {
        let two = NonZeroU32::new(2).unwrap();
        let shard = |book: u64| ShardId::of_book(BookId::try_from(book).unwrap(), 2);
        let home = shard(1);
        let same = (2..).find(|book| shard(*book) == home).unwrap();
        let other = (2..).find(|book| shard(*book) != home).unwrap();
        assert_eq!(shard_of(&[line(1, 1), line(same, 1)], two), Ok(home));
        let expected = format!(
            "an order can't hold books of several shards: book 1 is in shard {home}, book {other} in shard {}",
            shard(other)
        );
        let refused = shard_of(&[line(1, 1), line(other, 1)], two);
        assert_eq!(refused, Err(WriteFailure::BadRequest(expected)));
    }
}
