//! The store as a whole: real processes, real files and real sockets, on good days and on bad ones.
//!
//! `harness` starts clusters in folders of their own, puts load on them and audits them; the other modules
//! are what is shown. The programs are those beside this test: `cargo build --workspace --bins` makes them.
//! A test that fails shows the ends of the logs; with `BOOKENDS_TEST_KEEP` set it leaves its folder as well.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::print_stderr, reason = "what a failed test leaves to look at")]

mod harness;

mod audit;
mod backups;
mod bad_input;
mod cache;
mod catalogues;
mod clocks;
mod crowds;
mod damage;
mod edges;
mod freezes;
mod full_disks;
mod interruptions;
mod kills;
mod laggards;
mod losses;
mod machines;
mod mistakes;
mod old_copies;
mod outages;
mod privacy;
mod repeats;
mod replicas;
mod sentinel;
mod shards;
mod startup;
