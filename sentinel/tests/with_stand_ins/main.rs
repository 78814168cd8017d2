//! The real sentinel, beside stand-ins for the programs that it starts.

#![expect(clippy::unwrap_used, reason = "a stage that can't be set up ends the test")]

mod bad_days;
mod lifecycle;
mod stage;
mod starter;
