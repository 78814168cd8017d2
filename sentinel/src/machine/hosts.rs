//! All other machines that the configuration names, each of them attended to.

use std::collections::BTreeMap;

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::attendance::{self, Seen, attend};
use super::ssh::socket_dir;
use super::there::There;
use super::{Machine, MachineError};
use crate::node::Node;
use crate::store::Store;

/// The other machines. Dropping it lets go of them; what runs there runs on.
#[derive(Debug)]
pub(crate) struct Hosts {
    hosts: BTreeMap<String, There>,
    /// Ends with the last who attends.
    _attending: JoinSet<()>,
    _sockets: Option<TempDir>,
}

impl Hosts {
    /// Begins to attend to all of them; nothing is waited for.
    pub(crate) fn attend(store: &Store) -> Self {
        Self::new(store, true)
    }

    /// For single scripts, each over a connection of its own; how nodes stand is not known.
    pub(crate) fn unattended(store: &Store) -> Self {
        Self::new(store, false)
    }

    fn new(store: &Store, attended: bool) -> Self {
        let names: Vec<&str> = store.nodes.iter().filter_map(|node| node.host.as_deref()).collect();
        // Without shared connections each script makes one of its own.
        let sockets = if attended && !names.is_empty() { socket_dir() } else { None };
        let mut attending = JoinSet::new();
        let mut hosts: BTreeMap<String, There> = BTreeMap::new();
        for name in names {
            if hosts.contains_key(name) {
                continue;
            }
            let (sender, seen) = watch::channel(Seen::NotYet);
            let socket = sockets.as_ref().map(|dir| dir.path().join(hosts.len().to_string()));
            let there = There::new(name, store.programs.clone(), &store.config, socket.clone(), seen);
            if attended {
                attending.spawn(attend(there.ssh().clone(), there.script(attendance::TASK), socket, sender));
            }
            hosts.insert(name.to_owned(), there);
        }
        Self { hosts, _attending: attending, _sockets: sockets }
    }

    /// The machine of a node.
    pub(crate) fn machine_of(&self, node: &Node, store: &Store) -> Machine {
        match node.host.as_ref().and_then(|host| self.hosts.get(host)) {
            Some(there) => Machine::There(there.clone()),
            None => Machine::Here(store.here()),
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &There> {
        self.hosts.values()
    }
}

/// Whether there is an ssh to reach other machines with, if the store has any.
///
/// # Errors
/// If there is none.
pub(crate) fn check_ssh(store: &Store) -> Result<(), MachineError> {
    if store.nodes.iter().all(|node| node.host.is_none()) {
        return Ok(());
    }
    let mut ssh = std::process::Command::new("ssh");
    match ssh.arg("-V").stderr(std::process::Stdio::null()).status() {
        Ok(_) => Ok(()),
        Err(_) => Err(super::ssh::SshError::Missing.into()),
    }
}
