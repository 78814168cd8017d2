//! An exhaustive check of the replication protocol, within small bounds.
//!
//! The state machines are those of `protocol`, the same code that the services run. Around them is a world
//! of a few processes in which anything may come next that can: a message arrives, late or twice, a
//! process dies or starts, a deadline passes, a disk is replaced. All orders of these are gone through,
//! breadth-first, with the `stateright` crate, and in each state the promises of docs/PROTOCOL.md are
//! looked at ("How it is proven").
//!
//! - [`state`], [`disk`]: what there is. [`action`]: what may come next. [`budget`]: how often.
//! - `front`, `node`, `reads`: drivers of the state machines, as the services have them.
//! - [`ghost`]: what was promised, to judge by. [`model`]: the properties.
//! - [`healing`]: liveness. [`configurations`]: the worlds; `preludes`: where they begin. [`check`]: the search, and telling a trace.
//!
//! Time is in the state as the core has it: each process has a clock, which stands still until a deadline
//! passes, and then is at that deadline. So any message may be faster than any deadline, and slower.

pub mod action;
pub mod budget;
pub mod check;
pub mod configurations;
pub mod disk;
mod front;
pub mod ghost;
pub mod healing;
pub mod model;
mod node;
mod preludes;
mod reads;
pub mod state;
