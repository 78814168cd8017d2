//! Starting the supervisor, for all nodes or for one.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use common::secret::admin_token;

use crate::failure::Failure;
use crate::layout::SENTINEL;
use crate::machine::hosts::check_ssh;
use crate::node::Node;
use crate::store::Store;
use crate::{logs, ports};

/// Starts the supervisor, which makes itself independent of this process and its terminal. It starts all
/// nodes, or the one that is named.
///
/// # Errors
/// If what the nodes need is missing; nothing is started then.
pub(crate) fn supervisor(store: &Store, only: Option<&Node>) -> Result<Child, Failure> {
    let nodes = || store.nodes.iter().filter(|node| only.is_none_or(|only| only.id == node.id));
    check_programs(store, nodes())?;
    check_ssh(store)?;
    let here = store.here();
    let is_new = |node: &&Node| node.host.is_none() && here.find(node.id.as_str()).is_none();
    if let Some(problem) = ports::problem(nodes().filter(is_new)) {
        return Err(Failure::Failed(problem));
    }
    store.layout.make().map_err(Failure::io("cannot make the directories for logs and pids"))?;
    // Made here, so that what is wrong with them is told here, and not in the log of each node.
    store.secret()?;
    admin_token(&store.config.cluster.data_dir)?;

    let failed = |doing: &str| Failure::io(format!("cannot {doing}"));
    let output = logs::open(&store.layout.log(SENTINEL), logs::ROTATE_BYTES);
    let output = output.map_err(failed("open the sentinel's log"))?;
    let errors = output.try_clone().map_err(failed("open the sentinel's log"))?;
    let program = std::env::current_exe().map_err(failed("find the sentinel's own program"))?;
    let mut command = Command::new(program);
    command.args(["watch", "--config"]).arg(&store.config.path);
    if let Some(node) = only {
        command.args(["--only", node.id.as_str()]);
    }
    command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn().map_err(failed("start the sentinel"))
}

fn check_programs<'a>(store: &Store, nodes: impl Iterator<Item = &'a Node>) -> Result<(), Failure> {
    let here = store.here();
    let missing: Option<PathBuf> = nodes.map(|node| here.program(node)).find(|program| !program.is_file());
    match missing {
        Some(program) => Err(Failure::Failed(format!("the program {} is missing", program.display()))),
        None => Ok(()),
    }
}
