//! The front end's process.

use std::process::ExitCode;

use common::process;
use frontend::Frontend;
use mimalloc::MiMalloc;

const ABOUT: &str = "The front end of a Bookends store: REST, cache, and the writer of every shard";

/// Many small pieces of memory come and go with each request, on several threads.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    process::run("frontend", ABOUT, async |config, id, shutdown| {
        Frontend::open(config, id).await?.run(shutdown).await
    })
}
