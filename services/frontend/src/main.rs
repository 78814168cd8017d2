//! The front end's process.

use std::process::ExitCode;

use common::process;
use frontend::Frontend;

const ABOUT: &str = "The front end of a Bookends store: REST, cache, and the writer of every shard";

fn main() -> ExitCode {
    process::run("frontend", ABOUT, async |config, id, shutdown| {
        Frontend::open(config, id).await?.run(shutdown).await
    })
}
