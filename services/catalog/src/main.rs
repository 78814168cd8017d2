//! The catalog node's process.

use std::process::ExitCode;

use catalog::Node;
use common::process;

const ABOUT: &str = "A catalog node of a Bookends store: one copy of each shard that it holds";

fn main() -> ExitCode {
    process::run("catalog", ABOUT, async |config, id, shutdown| {
        Node::open(config, id).await?.run(shutdown).await
    })
}
