//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "Examples:
  starter.sh                               start everything and wait until it is ready
  starter.sh status                        nodes, shards and replicas at a glance
  starter.sh kill catalog-1                kill -9; the sentinel starts it again
  starter.sh kill catalog-1 --stay-down    …and leaves it down, until: starter.sh start catalog-1
  starter.sh start catalog-2               this node alone, if nothing runs yet
  starter.sh test 8                        eight client threads that check every answer
  BOOKENDS_CONFIG=other.toml starter.sh up another store

Exit codes: 0 done, 1 failed, 2 wrong use or bad configuration.";

/// Starts, watches, heals and stops a store.
#[derive(Debug, Parser)]
#[command(name = "sentinel", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// The configuration; else what `BOOKENDS_CONFIG` names, else config.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// What to do; `up` if nothing is said.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start every node, wait until the store is ready, say where it is
    Up,
    /// Show nodes, shards and replicas
    Status {
        /// Print the JSON of a front end's /status as it is
        #[arg(long)]
        json: bool,
    },
    /// Run the client's test threads against the store
    Test {
        /// How many threads
        #[arg(value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1024))]
        threads: u16,
    },
    /// Kill a node with SIGKILL; it is started again
    Kill {
        /// Its name in the configuration
        node: String,
        /// Leave it down until `start`
        #[arg(long)]
        stay_down: bool,
    },
    /// Stop a node: SIGTERM, and SIGKILL if it takes longer than 10 s
    Stop {
        /// Its name in the configuration
        node: String,
    },
    /// Start a node that was stopped, stayed down or was given up; alone, if nothing runs
    Start {
        /// Its name in the configuration
        node: String,
    },
    /// Stop a node and start it again
    Restart {
        /// Its name in the configuration
        node: String,
    },
    /// Follow the logs of all nodes, or of one
    Logs {
        /// A node, or `sentinel`
        node: Option<String>,
        /// Print the last lines and end
        #[arg(long)]
        no_follow: bool,
    },
    /// Stop everything; data stays
    Down,
    /// Stop everything and remove the data
    Clean {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// The supervisor itself, as `up` starts it
    #[command(hide = true)]
    Watch {
        /// Start this node and no other
        #[arg(long, value_name = "NODE")]
        only: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn verbs_read_as_they_are_documented() {
        let good: [&[&str]; 6] = [
            &[],
            &["status", "--json", "--config", "x.toml"],
            &["test", "8"],
            &["kill", "catalog-1", "--stay-down"],
            &["logs", "--no-follow"],
            &["clean", "--yes"],
        ];
        for args in good {
            assert!(Cli::try_parse_from([&["sentinel"], args].concat()).is_ok(), "{args:?}");
        }
        let bad: [&[&str]; 5] = [&["begin"], &["kill"], &["test", "0"], &["test", "two"], &["up", "now"]];
        for args in bad {
            let error = Cli::try_parse_from([&["sentinel"], args].concat()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
        }
    }
}
