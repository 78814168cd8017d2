//! The catalog node's process.

use std::process::ExitCode;

use catalog::Node;
use common::process::{self, Drive};
use mimalloc::MiMalloc;

const ABOUT: &str = "A catalog node of a Bookends store: one copy of each shard that it holds";

/// Many small pieces of memory come and go with each request, on several threads.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    process::run("catalog", ABOUT, Drive::Alone, async |config, id, shutdown| {
        Node::open(config, id).await?.run(shutdown).await
    })
}
