//! What the tests stand on: clusters of real processes, load on them, and an audit afterwards.

mod clock;
mod cluster;
mod disk;
mod http;
mod order_nodes;
mod process;
mod programs;
mod relay;
mod setup;
mod shopping;
mod wait;

pub(crate) use clock::Clock;
pub(crate) use cluster::Cluster;
pub(crate) use disk::Disk;
pub(crate) use http::{Answer, Http};
pub(crate) use process::last_lines;
pub(crate) use programs::{Ran, program, run, run_program, run_within};
pub(crate) use relay::Relay;
pub(crate) use setup::{Setup, book, catalogue};
pub(crate) use shopping::{Receipts, Shopping, audit};
pub(crate) use wait::{LIMIT, wait_for};
