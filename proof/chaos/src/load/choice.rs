//! What is called for next.

use bookends::random::Random;
use history::{Call, NewRow};
use protocol::catalogue::OrderLine;
use protocol::ids::BookId;

/// The copies of the books in the order of their ids: the first never run out, the others do all the time.
pub(crate) const COPIES: [u64; 8] = [1_000_000, 1_000_000, 1_000_000, 60, 60, 60, 40, 40];

/// How many of the books, the last ones, come and go.
const COMING_AND_GOING: usize = 4;

/// A call: mostly looks and sales, and some of everything else.
pub(super) fn choose(books: &[BookId], random: &mut Random) -> Call {
    let any = |random: &mut Random| books[random.below(books.len())];
    let book = any(random);
    match random.below(100) {
        0..48 => Call::Look(book),
        48..55 => Call::Page,
        55..83 => {
            let mut lines = vec![line(book, random)];
            let other = any(random);
            if other != book && random.below(3) == 0 {
                lines.push(line(other, random));
            }
            Call::Buy(lines)
        }
        83..90 => {
            let amount = i64::try_from(random.below(40)).unwrap_or_default() - 5;
            // Nothing at all can't be added.
            Call::AddStock(book, if amount == 0 { 20 } else { amount })
        }
        90..96 => Call::SetPrice(book, 100 + random.next_u64() % 100_000),
        rest => {
            let book = books[books.len() - 1 - random.below(COMING_AND_GOING)];
            let mut row = |book| {
                let (cost_cents, quantity) = (100 + random.next_u64() % 1000, random.next_u64() % 80);
                NewRow { book, cost_cents, quantity }
            };
            match rest {
                96 => Call::Remove(book),
                97 => Call::Load(books.iter().rev().take(2).copied().map(row).collect()),
                _ => Call::Put(row(book)),
            }
        }
    }
}

fn line(book: BookId, random: &mut Random) -> OrderLine {
    OrderLine { book, quantity: 1 + random.next_u64() % 3 }
}
