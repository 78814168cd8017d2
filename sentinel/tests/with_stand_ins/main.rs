//! The real sentinel, beside stand-ins for the programs that it starts.

mod bad_days;
mod lifecycle;
mod stage;
