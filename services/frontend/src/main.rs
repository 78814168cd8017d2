//! The front end's process: arguments, configuration, logs, and a clean end.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use common::config::Config;
use common::{exit, shutdown, telemetry};
use protocol::ids::NodeId;

/// The front end of a Bookends store: REST, cache, and the writer of every shard.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Example:\n  frontend --config config.toml --id frontend-1\n\nStops on SIGTERM. Exit codes: 0 stopped, 1 failed, 2 wrong use or bad configuration."
)]
struct Arguments {
    /// The configuration that all processes of the store share.
    #[arg(long, env = "BOOKENDS_CONFIG")]
    config: Option<PathBuf>,
    /// Which of the configuration's front ends this is.
    #[arg(long)]
    id: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load(&Config::path_from_env_or(arguments.config)) {
        Ok(config) => config,
        Err(problems) => return exit::complain("frontend", &problems, 2),
    };
    let _lines = match telemetry::init(&config.logging, &arguments.id) {
        Ok(lines) => lines,
        Err(problem) => return exit::complain("frontend", &problem, 2),
    };
    let id = NodeId::from(arguments.id);
    if config.frontend(&id).is_none() {
        let problem = frontend::FrontendError::Unknown { id, path: config.path };
        return exit::complain("frontend", &problem, 2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => return exit::complain("frontend", &problem, 1),
    };
    let (trigger, shutdown) = shutdown::channel();
    let result = runtime.block_on(async {
        let frontend = frontend::Frontend::open(config, id).await?;
        let running = frontend.run(shutdown);
        tokio::pin!(running);
        tokio::select! {
            biased;
            // First, so that its handlers stand before anyone can know that the process runs.
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
        Err(problem) => exit::complain("frontend", &problem, if problem.is_wrong_use() { 2 } else { 1 }),
    }
}
