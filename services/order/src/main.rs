//! The order node's process.

use std::process::ExitCode;

use common::process;
use order::Node;

const ABOUT: &str = "An order node of a Bookends store: carries out buys and keeps a book of orders";

fn main() -> ExitCode {
    process::run("order", ABOUT, async |config, id, shutdown| {
        Node::open(config, id).await?.run(shutdown).await
    })
}
