//! The client against a stand-in for the store: a small server in this process that speaks the REST
//! contract, and fails or lies as a test tells it to. What the real store does is tested with real
//! processes elsewhere.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod calls;
mod command_line;
mod load;
mod stand_in;
mod threads;
