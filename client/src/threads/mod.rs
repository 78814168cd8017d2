//! Test threads: they use the store as customers do, all at once, and check every answer.
//!
//! What they hold the store to: an answer is about what was asked; a book's version never goes back and
//! one version has one stock; an order fits what was asked and can be read back; a key gives the same
//! order twice; what is not there is said to be not there. The books are the store's own, so a book that
//! sells out is no fault; it is restocked if the client holds the admin token.
//!
//! They do not measure what the store can take: that is [`crate::load`].

mod checks;
mod tally;
mod tester;

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use common::api::Book;
use serde::Serialize;
use tokio::task::JoinSet;

use self::tally::Tally;
use self::tester::Tester;
use crate::client::Client;
use crate::error::ClientError;
use crate::random::Random;

/// The most books that are looked at before the threads begin.
const BOOKS_MAX: usize = 10_000;
/// How many of them are asked for at once.
const PAGE_SIZE: u32 = 500;

/// How much is to be tested.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many threads.
    pub threads: NonZeroUsize,
    /// How many calls each makes, at least.
    pub requests: NonZeroU64,
    /// What fixes their choices.
    pub seed: u64,
}

/// What one thread saw, or all of them together.
#[derive(Clone, Debug, Serialize)]
pub struct ThreadReport {
    /// How many calls it made.
    pub calls: u64,
    /// How many orders it placed.
    pub orders: u64,
    /// How often a book was sold out.
    pub out_of_stock: u64,
    /// How many answers were wrong.
    pub wrong: u64,
    /// How many calls had no answer, or an unexpected refusal.
    pub failed: u64,
    /// Half of the calls were as fast as this, or faster; retries count.
    pub p50_us: u64,
    /// 99 of 100 were.
    pub p99_us: u64,
    /// The first of what went wrong.
    pub faults: Vec<String>,
}

/// What all threads saw.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Each thread.
    pub threads: Vec<ThreadReport>,
    /// All together.
    pub total: ThreadReport,
    /// How many attempts were made beyond the first ones.
    pub retries: u64,
    /// The seed of all choices.
    pub seed: u64,
}

impl Summary {
    /// Whether every answer was right.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.total.wrong == 0 && self.total.failed == 0
    }
}

/// What all threads know of the store, and of what they do to it.
struct Shop {
    books: Vec<Book>,
    /// How many restocks have begun.
    restocks_begun: AtomicU64,
    /// How many of them are done. While this equals the other, nothing of ours raises any stock.
    restocks_done: AtomicU64,
}

/// Lists the books of a store, at most some ten thousand.
///
/// # Errors
/// If a page can't be had.
pub async fn books_of(client: &Client) -> Result<Vec<Book>, ClientError> {
    let mut books: Vec<Book> = Vec::new();
    let mut token = None;
    loop {
        let page = client.list(Some(PAGE_SIZE), token.as_deref()).await?;
        books.extend(page.books);
        token = page.next_page_token;
        if token.is_none() || books.len() >= BOOKS_MAX {
            return Ok(books);
        }
    }
}

/// Runs the threads to their end.
///
/// # Errors
/// If the books can't be listed, without which there is nothing to test. All else is in the summary.
pub async fn run(client: &Client, plan: Plan) -> Result<Summary, ClientError> {
    let shop = Arc::new(Shop {
        books: books_of(client).await?,
        restocks_begun: AtomicU64::new(0),
        restocks_done: AtomicU64::new(0),
    });
    let mut running = JoinSet::new();
    for thread in 0..plan.threads.get() {
        let place = u64::try_from(thread).unwrap_or_default();
        let random = Random::seeded(plan.seed.wrapping_add(place));
        let tester = Tester::new(client.clone(), Arc::clone(&shop), random);
        running.spawn(async move { (thread, tester.run(plan.requests).await) });
    }
    let mut tallies = running.join_all().await;
    tallies.sort_by_key(|(thread, _)| *thread);
    let mut total = Tally::new();
    for (_, tally) in &tallies {
        total.add(tally);
    }
    Ok(Summary {
        threads: tallies.iter().map(|(_, tally)| tally.report()).collect(),
        total: total.report(),
        retries: client.retries(),
        seed: plan.seed,
    })
}
