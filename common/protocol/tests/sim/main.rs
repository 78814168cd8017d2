//! A whole shard in memory, under faults: real writers and replicas, and a world that one seed decides.
//!
//! Each run starts a few replicas and a writer over a network, disks and a view store that delay, lose and
//! break as real ones do, while clients write and read. Then the faults end, and the shard must be live
//! again: a write completes, every replica is a member, and all are equal. All the while [`invariants`]
//! watches that nothing happens that the protocol rules out.
//!
//! `SIM_SEED=n` runs one seed and prints what happens; `SIM_SEEDS=n` runs that many fresh ones.
//!
//! What it does not do: the store's own tables (a tiny state machine stands for them), the cache (see
//! `fill`), and leases of several front ends.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of this is a test")]

mod clients;
mod cluster;
mod disk;
mod faults;
mod fronts;
mod invariants;
mod network;
mod nodes;
mod random;
mod seeds;
