//! The catalog node's process; and `catalog restore`, which makes stores from a backup before there is one.

use std::path::PathBuf;
use std::process::ExitCode;

use catalog::Node;
use catalog::restore::{Restored, restore};
use clap::Parser;
use common::config::Config;
use common::exit::complain;
use common::process::{self, Failure};
use mimalloc::MiMalloc;

const ABOUT: &str = "A catalog node of a Bookends store: one copy of each shard that it holds.\n\
                     `catalog restore --help`: a backup put back";

/// Puts a backup in place of the data that a store does not have yet. `bookends restore` calls it.
#[derive(Debug, Parser)]
#[command(name = "catalog restore", version)]
#[command(after_help = "Example:\n  catalog restore backups/monday --config config.toml")]
struct RestoreArguments {
    /// The folder of the backup.
    backup: PathBuf,
    /// The configuration of the store that is to have it.
    #[arg(long, env = "BOOKENDS_CONFIG")]
    config: Option<PathBuf>,
}

/// Many small pieces of memory come and go with each request, on several threads.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|verb| verb == "restore") {
        arguments.remove(1);
        return run_restore(RestoreArguments::parse_from(arguments));
    }
    process::run("catalog", ABOUT, async |config, id, shutdown| {
        Node::open(config, id).await?.run(shutdown).await
    })
}

fn run_restore(arguments: RestoreArguments) -> ExitCode {
    let config = match Config::load(&Config::path_from_env_or(arguments.config)) {
        Ok(config) => config,
        Err(problems) => return complain("catalog restore", &problems, 2),
    };
    match restore(&config, &arguments.backup) {
        Ok(restored) => show(&restored),
        Err(problem) => complain("catalog restore", &problem, if problem.is_wrong_use() { 2 } else { 1 }),
    }
}

fn show(restored: &[Restored]) -> ExitCode {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    for Restored { shard, node, last, digest } in restored {
        let line = writeln!(out, "shard {shard}: on {node}, up to entry {last}, digest {digest}");
        if let Err(problem) = line {
            return complain("catalog restore", &problem, 1);
        }
    }
    ExitCode::SUCCESS
}
