//! The order node's process: arguments, configuration, logs, and a clean end.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use common::config::Config;
use common::exit::complain;
use common::{shutdown, telemetry};
use protocol::ids::NodeId;

/// An order node of a Bookends store: carries out buys and keeps a book of orders.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Example:\n  order --config config.toml --id order-1\n\nStops on SIGTERM. Exit codes: 0 stopped, 1 failed, 2 wrong use or bad configuration."
)]
struct Arguments {
    /// The configuration that all processes of the store share.
    #[arg(long, env = "BOOKENDS_CONFIG")]
    config: Option<PathBuf>,
    /// Which of the configuration's order nodes this is.
    #[arg(long)]
    id: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load(&Config::path_from_env_or(arguments.config)) {
        Ok(config) => config,
        Err(problems) => return complain("order", &problems, 2),
    };
    let _lines = match telemetry::init(&config.logging, &arguments.id) {
        Ok(lines) => lines,
        Err(problem) => return complain("order", &problem, 2),
    };
    let id = NodeId::from(arguments.id);
    if config.order(&id).is_none() {
        let problem = order::NodeError::Unknown { id, path: config.path };
        return complain("order", &problem, 2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => return complain("order", &problem, 1),
    };
    let (trigger, shutdown) = shutdown::channel();
    let result = runtime.block_on(async {
        let node = order::Node::open(config, id).await?;
        let running = node.run(shutdown);
        tokio::pin!(running);
        tokio::select! {
            // The handlers stand before the node says that it serves.
            biased;
            signal = shutdown::termination() => match signal {
                Ok(name) => tracing::info!(signal = name, "stopping"),
                Err(problem) => tracing::error!(%problem, "signals can't be waited for; stopping"),
            },
            result = &mut running => return result,
        }
        trigger.fire();
        running.await
    });
    match result {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(problem) => complain("order", &problem, 1),
    }
}
