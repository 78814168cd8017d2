//! The order node's process.

use std::process::ExitCode;

use common::process;
use mimalloc::MiMalloc;
use order::Node;

const ABOUT: &str = "An order node of a Bookends store: carries out buys and keeps a book of orders";

/// Many small pieces of memory come and go with each request, on several threads.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    process::run("order", ABOUT, async |config, id, shutdown| {
        Node::open(config, id).await?.run(shutdown).await
    })
}
