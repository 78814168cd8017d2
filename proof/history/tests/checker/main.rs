//! The checker against histories of which the verdict is known, against a slow checker that tries
//! everything, and against the clock.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod brute_force;
mod known;
mod large;
mod random;
mod shop;
