//! The store that a verb works on: its configuration, its nodes and its files.

use std::path::PathBuf;

use common::config::Config;
use common::secret::{Secret, cluster_secret};

use crate::crossing;
use crate::failure::Failure;
use crate::layout::{Layout, SENTINEL};
use crate::machine::here::Here;
use crate::node::Node;

/// A store, seen from this machine.
#[derive(Debug)]
pub(crate) struct Store {
    /// Its configuration.
    pub(crate) config: Config,
    /// Its processes, in the order in which they are started.
    pub(crate) nodes: Vec<Node>,
    /// Where its processes leave their files.
    pub(crate) layout: Layout,
    /// Where the programs are: beside this one.
    pub(crate) programs: PathBuf,
}

impl Store {
    /// Reads the configuration.
    ///
    /// # Errors
    /// If it is missing or wrong.
    pub(crate) fn open(config: Option<PathBuf>) -> Result<Self, Failure> {
        let config = Config::load(&Config::path_from_env_or(config))?;
        let own = std::env::current_exe().map_err(Failure::io("cannot find the sentinel's own program"))?;
        Ok(Self {
            nodes: Node::all(&config),
            layout: Layout::new(config.run_dir(), config.logs_dir()),
            programs: own.parent().map(PathBuf::from).unwrap_or_default(),
            config,
        })
    }

    /// What starts and finds its processes on this machine.
    pub(crate) fn here(&self) -> Here {
        Here::new(self.programs.clone(), self.config.path.clone(), self.layout.clone())
    }

    /// The node of a name.
    ///
    /// # Errors
    /// If there is none; the message lists those that there are.
    pub(crate) fn node(&self, name: &str) -> Result<&Node, Failure> {
        self.nodes.iter().find(|node| node.id.as_str() == name).ok_or_else(|| {
            let names: Vec<&str> = self.nodes.iter().map(|node| node.id.as_str()).collect();
            Failure::WrongUse(format!("there is no node `{name}`; there are {}", names.join(", ")))
        })
    }

    /// What only holders of the cluster may know.
    ///
    /// # Errors
    /// If it can't be read or made.
    pub(crate) fn secret(&self) -> Result<Secret, Failure> {
        Ok(cluster_secret(&self.config.cluster.data_dir)?)
    }

    /// Checks that the sentinel can run every node of the configuration.
    ///
    /// # Errors
    /// If a node has the sentinel's own name, or an address that nodes on other machines can't reach.
    pub(crate) fn check_nodes(&self) -> Result<(), Failure> {
        let file = self.config.path.display();
        for Node { id, .. } in &self.nodes {
            if id.as_str() == SENTINEL {
                return Err(Failure::WrongUse(format!(
                    "{file}: no node may be named `{SENTINEL}`: that is the name of what starts them"
                )));
            }
        }
        if let Some(problems) = crossing::problem(&self.nodes) {
            let lines: Vec<String> = problems.lines().map(|line| format!("{file}: {line}")).collect();
            return Err(Failure::WrongUse(lines.join("\n")));
        }
        Ok(())
    }
}
