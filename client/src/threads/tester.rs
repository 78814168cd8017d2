//! One test thread: chooses what to do, does it, has it checked, counts.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use common::api::Book;
use protocol::catalogue::{LINE_QUANTITY_MAX, OrderLine, TopicKey};
use protocol::ids::{BOOK_ID_MAX, BookId};

use super::Shop;
use super::checks::{self, Check, Memory};
use super::tally::{Fault, Tally};
use crate::client::{Client, IdempotencyKey, Search};
use crate::error::ClientError;
use crate::random::Random;

/// How many copies a restock brings: some rounds of buying, and no flood.
const RESTOCK: i64 = 100;
/// The largest page that is asked for, so that even a small catalogue has several.
const PAGE_MAX: usize = 8;
/// The shortest word that is searched for.
const WORD_MIN: usize = 3;

/// What a thread can do.
#[derive(Clone, Copy, Debug)]
enum Task {
    Lookup,
    Quantity,
    Search,
    List,
    Topics,
    Buy,
    LookupUnknown,
    BuyTooMany,
}

impl Task {
    /// Each as often as it is to come, in twenty.
    const WEIGHTED: [Self; 20] = [
        Self::Lookup,
        Self::Lookup,
        Self::Lookup,
        Self::Lookup,
        Self::Lookup,
        Self::Quantity,
        Self::Quantity,
        Self::Search,
        Self::Search,
        Self::Search,
        Self::List,
        Self::List,
        Self::Topics,
        Self::Buy,
        Self::Buy,
        Self::Buy,
        Self::Buy,
        Self::Buy,
        Self::LookupUnknown,
        Self::BuyTooMany,
    ];

    const fn words(self) -> &'static str {
        match self {
            Self::Lookup => "looking a book up",
            Self::Quantity => "asking for a stock",
            Self::Search => "searching",
            Self::List => "listing",
            Self::Topics => "asking for topics",
            Self::Buy => "buying",
            Self::LookupUnknown => "looking up a book that is not there",
            Self::BuyTooMany => "buying more than there is",
        }
    }
}

/// A thread at work.
pub(super) struct Tester {
    client: Client,
    shop: Arc<Shop>,
    random: Random,
    memory: Memory,
    tally: Tally,
}

impl Tester {
    pub(super) fn new(client: Client, shop: Arc<Shop>, random: Random) -> Self {
        Self { client, shop, random, memory: Memory::default(), tally: Tally::new() }
    }

    /// Works until at least so many calls were made.
    pub(super) async fn run(mut self, requests: NonZeroU64) -> Tally {
        while self.tally.calls < requests.get() {
            let task = self.random.pick(&Task::WEIGHTED).copied().unwrap_or(Task::Lookup);
            if let Err(fault) = self.work(task).await {
                self.tally.fault(task.words(), &fault);
            }
        }
        self.tally
    }

    async fn work(&mut self, task: Task) -> Result<(), Fault> {
        let shop = Arc::clone(&self.shop);
        let Some(book) = self.random.pick(&shop.books) else {
            // Without books, only what is not there can be asked for.
            return self.lookup_unknown().await;
        };
        match task {
            Task::Lookup => self.lookup(book.id).await.map(drop),
            Task::Quantity => self.quantity(book.id).await.map(drop),
            Task::Search => self.search(book).await,
            Task::List => self.list().await,
            Task::Topics => self.topics(book).await,
            Task::Buy => self.buy(book.id).await,
            Task::LookupUnknown => self.lookup_unknown().await,
            Task::BuyTooMany => self.buy_too_many(book.id).await,
        }
    }

    async fn lookup(&mut self, id: BookId) -> Result<Book, Fault> {
        let client = self.client.clone();
        let book = self.call(client.lookup(id)).await?;
        right(checks::book(id, &book).and_then(|()| self.memory.see_book(&book)))?;
        Ok(book)
    }

    async fn quantity(&mut self, id: BookId) -> Result<u64, Fault> {
        let client = self.client.clone();
        let stock = self.call(client.quantity(id)).await?;
        right(checks::stock(id, &stock).and_then(|()| self.memory.see(id, stock.version, stock.quantity)))?;
        Ok(stock.quantity)
    }

    async fn search(&mut self, book: &Book) -> Result<(), Fault> {
        let word = book.title.split(|c: char| !c.is_ascii_alphanumeric()).find(|word| word.len() >= WORD_MIN);
        let (topic, word) = (Some(book.topic.clone()), word.map(str::to_owned));
        let search = match self.random.below(3) {
            0 if word.is_some() => Search { topic: None, words: word },
            1 => Search { topic, words: word },
            _ => Search { topic, words: None },
        };
        let client = self.client.clone();
        let page = self.call(client.search(&search, None, None)).await?;
        right(
            checks::found(&search, &page)
                .and_then(|()| checks::page(None, u32::MAX, &page))
                .and_then(|()| self.memory.see_page(&page)),
        )?;
        if page.next_page_token.is_some() || page.books.iter().any(|found| found.id == book.id) {
            return Ok(());
        }
        let now = self.lookup(book.id).await?;
        let is_same = now.topic == book.topic && now.title == book.title;
        right(if is_same {
            Err(format!("book {} fits {search:?} and was not found", book.id))
        } else {
            Ok(())
        })
    }

    async fn list(&mut self) -> Result<(), Fault> {
        let client = self.client.clone();
        let size = u32::try_from(1 + self.random.below(PAGE_MAX)).unwrap_or(1);
        let first = self.call(client.list(Some(size), None)).await?;
        right(checks::page(None, size, &first).and_then(|()| self.memory.see_page(&first)))?;
        let Some(token) = first.next_page_token else { return Ok(()) };
        let last = first.books.last().map(|book| book.id);
        let second = self.call(client.list(Some(size), Some(&token))).await?;
        right(checks::page(last, size, &second).and_then(|()| self.memory.see_page(&second)))
    }

    async fn topics(&mut self, book: &Book) -> Result<(), Fault> {
        let client = self.client.clone();
        let topics = self.call(client.topics()).await?;
        right(checks::topics(&topics))?;
        let key = TopicKey::of(&book.topic);
        if topics.iter().any(|topic| TopicKey::of(&topic.topic) == key) {
            return Ok(());
        }
        let now = self.lookup(book.id).await?;
        let is_same = TopicKey::of(&now.topic) == key;
        right(if is_same {
            Err(format!("topic `{}` of book {} is missing", now.topic, now.id))
        } else {
            Ok(())
        })
    }

    async fn buy(&mut self, id: BookId) -> Result<(), Fault> {
        let restocks_done = self.shop.restocks_done.load(Ordering::SeqCst);
        let before = self.lookup(id).await?;
        let quantity = 1 + u64::try_from(self.random.below(2)).unwrap_or_default();
        let (line, key) = (OrderLine { book: id, quantity }, IdempotencyKey::new());
        let client = self.client.clone();
        let order = match self.call(client.buy_keyed(&[line], &key)).await {
            Ok(order) => order,
            Err(error) => return self.sold_out(line, error).await,
        };
        self.tally.orders += 1;
        right(checks::order(line, &order))?;
        let again = self.call(client.buy_keyed(&[line], &key)).await?;
        right(same(&order, &again, "the same key"))?;
        let read = self.call(client.order(&order.order_id)).await?;
        right(same(&order, &read, "reading it back"))?;
        let after = self.lookup(id).await?;
        let no_restock = self.shop.restocks_begun.load(Ordering::SeqCst) == restocks_done;
        right(checks::sale(&before, &order, &after, no_restock))
    }

    /// A sale was refused: right if it was for want of stock, which is then filled up if that is allowed.
    async fn sold_out(&mut self, line: OrderLine, error: ClientError) -> Result<(), Fault> {
        let OrderLine { book, quantity } = line;
        let Some(available) = error.out_of_stock() else { return Err(error.into()) };
        self.tally.out_of_stock += 1;
        right(if available < quantity {
            Ok(())
        } else {
            Err(format!("{quantity} of book {book} were refused with {available} available"))
        })?;
        if !self.client.has_token() {
            return Ok(());
        }
        let client = self.client.clone();
        self.shop.restocks_begun.fetch_add(1, Ordering::SeqCst);
        let stocked = self.call(client.add_stock(book, RESTOCK)).await;
        if stocked.is_ok() {
            self.shop.restocks_done.fetch_add(1, Ordering::SeqCst);
        }
        // One that failed may still come to pass, so it counts as under way for good.
        let stocked = stocked?;
        right(checks::book(book, &stocked).and_then(|()| self.memory.see_book(&stocked)))
    }

    async fn lookup_unknown(&mut self) -> Result<(), Fault> {
        let below = u64::try_from(self.random.below(1_000)).unwrap_or_default();
        let id =
            BookId::try_from(BOOK_ID_MAX - below).unwrap_or_else(|_| unreachable!("within the range of ids"));
        if self.shop.books.iter().any(|book| book.id == id) {
            return Ok(());
        }
        let client = self.client.clone();
        match self.call(client.lookup(id)).await {
            Ok(book) => right(Err(format!("book {id} is not listed, and looked up it is `{}`", book.title))),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn buy_too_many(&mut self, id: BookId) -> Result<(), Fault> {
        let stock = self.quantity(id).await?;
        if stock >= LINE_QUANTITY_MAX {
            return Ok(());
        }
        let client = self.client.clone();
        let error = match self.call(client.buy(id, LINE_QUANTITY_MAX)).await {
            Ok(order) => {
                let sold = order.order_id;
                return right(Err(format!(
                    "{LINE_QUANTITY_MAX} copies of book {id}, which had {stock}: order {sold}"
                )));
            }
            Err(error) => error,
        };
        match (error.problem(), error.out_of_stock()) {
            (Some((409, "out-of-stock")), Some(available)) if available < LINE_QUANTITY_MAX => Ok(()),
            (Some((409, _)), _) => right(Err(format!("refused without the stock that there is: {error}"))),
            _ => Err(error.into()),
        }
    }

    /// Makes a call, and takes its time.
    async fn call<T>(
        &mut self,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let since = Instant::now();
        let outcome = call.await;
        self.tally.call(since.elapsed());
        outcome
    }
}

fn right(check: Check) -> Result<(), Fault> {
    check.map_err(Fault::Wrong)
}

fn same(first: &common::api::Order, other: &common::api::Order, how: &str) -> Check {
    if first == other { Ok(()) } else { Err(format!("{how} gave another order: {other:?} after {first:?}")) }
}
