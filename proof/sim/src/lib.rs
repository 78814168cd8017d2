//! Whole clusters in memory, under faults: the production code of the store over a world that one seed decides.
//!
//! ```text
//!  clients ──► front end: Writer, Cache, FillTable, Shards, Feeds, Monitor ──► view store
//!                 │  ▲ network: delay, loss, repetition, cuts, breaks
//!                 ▼  │
//!  replicas: Replica, Resync, the store over SQLite in memory      order nodes: Projection, the book
//! ```
//!
//! Each run starts a few replicas, order nodes and a front end, over a network, disks, clocks and a view
//! store that delay, lose and break as real ones do, while clients look up, search, buy, restock and edit.
//! Then the faults end, and all must be live again: a write completes, every replica is a member, all are
//! equal, and every order node has every order. All the while the `oracle` watches that nothing happens
//! that the protocol rules out.
//!
//! What it does not do: sockets, files and HTTP (the tests of the client with real processes do), and several
//! shards (they know nothing of one another).

mod buys;
mod clients;
mod disk;
mod faults;
mod feeding;
mod fronts;
mod network;
mod nodes;
mod oracle;
mod orders;
mod plan;
mod pool;
mod random;
mod reads;
mod seeds;
mod sights;
mod trace;
mod watch;
mod world;

pub use pool::Pool;
pub use seeds::{Failure, Options, Summary, fresh_seed, run_one, run_seeds};
pub use sights::{Sight, Sights};
pub use trace::Lines;
pub use world::Run;
