//! The sentinel: starts, watches, heals and stops the processes of a store, on this machine and on others.
//!
//! One program plays two parts. Typed by a person (mostly through `starter.sh`), it is a verb that does
//! its work and ends. As `sentinel watch`, started by `up`, it is the supervisor: it lives as long as
//! the store, starts again what dies, and takes orders from the verbs over a control channel on the
//! loopback interface that only holders of the cluster secret can use.
//!
//! | part | module |
//! | --- | --- |
//! | the command line | `cli`, `verbs`, `failure`, `console`, `table` |
//! | what the store consists of | `store`, `node`, `layout`, `addresses`, `crossing` |
//! | processes: start, find again, signal, wait for | `machine`, `identity` |
//! | the supervisor | `supervisor`, `control` |
//! | asking whether the store is ready | `front_end`, `readiness` |
//!
//! The supervisor may be killed at any moment: the nodes live on, and the next one finds them by their pid
//! files. It looks at processes, not at the protocol: whether a replica is a member is the front
//! end's business. Nodes on other machines are reached by ssh and need no sentinel there.

mod addresses;
mod cli;
mod console;
mod control;
mod crossing;
mod failure;
mod front_end;
mod identity;
mod layout;
mod logs;
mod machine;
mod node;
mod ports;
mod readiness;
mod running;
mod store;
mod supervisor;
mod table;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Verb};
use crate::failure::Failure;
use crate::store::Store;

/// Does what the command line says. 0 done, 1 failed, 2 wrong use or bad configuration.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            console::tell(&format!("error: {}", failure.chain()));
            failure.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let store = Store::open(cli.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::io("cannot start the runtime"))?;
    runtime.block_on(async {
        match cli.verb.unwrap_or(Verb::Up) {
            Verb::Up => verbs::up::run(&store).await,
            Verb::Status { json } => verbs::status::run(&store, json).await,
            Verb::Test { threads } => verbs::test::run(&store, threads).await,
            Verb::Kill { node, stay_down } => verbs::order::kill(&store, &node, stay_down).await,
            Verb::Stop { node } => verbs::order::stop(&store, &node).await,
            Verb::Start { node } => verbs::order::start(&store, &node).await,
            Verb::Restart { node } => verbs::order::restart(&store, &node).await,
            Verb::Logs { node, no_follow } => verbs::logs::run(&store, node.as_deref(), no_follow).await,
            Verb::Down => verbs::down::run(&store).await,
            Verb::Clean { yes } => verbs::clean::run(&store, yes).await,
            Verb::Watch { only } => supervisor::run(store, only.as_deref()).await,
        }
    })
}
