//! Chaos: the real programs under load, while processes are killed and frozen, ways between them are cut and
//! slowed, disks are full and files are harmed; and a verdict over all that callers saw.
//!
//! - [`proxy`]: the network between the processes, which can be made to fail without being root.
//! - `store`: the processes, each with a configuration of its own that leads through the proxies.
//! - `load`: callers in an open loop, and the record of every call.
//! - `faults`: what is done, by a seed, and how the store is helped where its manual says so.
//! - `audits`: what was sold and what is left, while the store is at work.
//! - [`namespace`]: the right to fill disks without being root.
//! - `round`: all of it together; `ledger` and `verdict`: what must hold afterwards.
//!
//! What must hold: the history of all calls is linearizable, book by book; each acknowledged order is in the
//! ledger once, as it was acknowledged, and nothing is in it that nobody asked for; the audit balances; after each
//! fault the store is whole again, and at the end its replicas are equal. Which faults come is decided by the seed; what
//! they meet is not, so that a seed alone does not bring a failure back. Its history and logs are kept for that.

mod audits;
mod error;
mod faults;
mod ledger;
mod load;
pub mod namespace;
pub mod proxy;
mod round;
pub mod store;
mod verdict;

pub use self::error::ChaosError;
pub use self::round::{Length, Plan, Said, run};
pub use self::verdict::Report;
