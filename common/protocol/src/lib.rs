//! The replication protocol as pure state machines.
//!
//! Nothing here opens a socket, touches a disk, reads a clock or draws a random number: events and the
//! time come in as arguments, and a closed set of effects goes out for a driver to carry out. The same
//! code is driven by the services over real sockets and files, and by tests over a simulated network.
//!
//! - [`ids`], [`catalogue`], [`command`], [`entry`], [`view`]: the nouns. What a write is, how the log
//!   chains its entries, who is a member.
//! - [`message`]: what a writer and its replicas say to each other. [`call`]: what travels on each connection.
//! - [`writer`]: the one front end that gives a shard's writes their order.
//! - [`release`]: whether the answer to a read may be shown.
//! - [`replica`] and [`resync`]: one copy of a shard, taking appends, and coming back after an absence.
//! - [`heartbeat`]: who is up, suspect or down. [`balance`]: which replica gets the next read.
//! - [`mod@mutant`]: safeguards that tests can switch off.
//! - [`fill`]: which cache fills may be stored, and which misses may share one request.
//!
//! The rules and invariants that the modules cite (I1, R1, C2, …) are those of `docs/PROTOCOL.md`.

pub mod balance;
pub mod call;
pub mod catalogue;
pub mod command;
pub mod entry;
pub mod fill;
pub mod heartbeat;
pub mod ids;
pub mod message;
pub mod mutant;
pub mod release;
pub mod replica;
pub mod resync;
pub mod view;
pub mod writer;
