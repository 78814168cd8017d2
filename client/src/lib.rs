//! The client of a bookstore: typed calls with retries and fail-over between front ends, and on top of
//! them test threads that check every answer, a load generator, and an audit of sales against stock.
//!
//! [`Client`] is the way in for programs; the `bookends` command line uses nothing else. A write carries
//! a key that stays the same over all retries, so that a call that failed half way is never carried out
//! twice. There is no cache here: caching is the front end's business.

pub mod audit;
pub mod backup;
pub mod client;
pub mod error;
pub mod generate;
pub mod import;
pub mod load;
pub mod random;
pub mod retry;
pub mod threads;

pub use client::{BulkFormat, Client, ClientBuilder, IdempotencyKey, Search, Stored, Token, Transfer};
pub use error::{BuildError, ClientError};
