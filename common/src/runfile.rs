//! What a running process leaves for others in the data directory: a lock on its own folder, and the
//! addresses at which it really listens.
//!
//! The addresses matter where the configuration leaves the port to the system (port 0): whoever wants
//! to reach such a node reads them from `<data_dir>/run/<node>.addr`.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use protocol::ids::NodeId;

use crate::config::{Address, Config};

/// Locks a folder for this process, for as long as the file is held. `None` if another process has it.
///
/// # Errors
/// If the lock file can't be opened.
pub fn lock(directory: &Path) -> io::Result<Option<File>> {
    let file = File::options().create(true).append(true).open(directory.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(problem)) => Err(problem),
    }
}

/// Where a node's addresses are written.
#[must_use]
pub fn addresses_path(config: &Config, node: &NodeId) -> PathBuf {
    config.run_dir().join(format!("{node}.addr"))
}

/// Writes at which addresses a node listens: a JSON object of names and addresses, replaced as a whole.
///
/// # Errors
/// If the file can't be written.
pub fn write_addresses(config: &Config, node: &NodeId, addresses: &[(&str, SocketAddr)]) -> io::Result<()> {
    fs::create_dir_all(config.run_dir())?;
    let named: BTreeMap<&str, String> =
        addresses.iter().map(|(name, address)| (*name, address.to_string())).collect();
    let mut file = tempfile::NamedTempFile::new_in(config.run_dir())?;
    serde_json::to_writer(&mut file, &named)?;
    file.write_all(b"\n")?;
    file.persist(addresses_path(config, node)).map_err(|failed| failed.error)?;
    Ok(())
}

/// The address at which a node is reached: the configured one, or, where that leaves the port to the
/// system, the one that the node has written down. Without such a file it is the configured one, which
/// can't be reached: the caller tries again later.
#[must_use]
pub fn resolve(config: &Config, node: &NodeId, name: &str, configured: &Address) -> Address {
    if configured.port() != 0 {
        return configured.clone();
    }
    let written = fs::read(addresses_path(config, node)).ok();
    let named: Option<BTreeMap<String, String>> = written.and_then(|text| serde_json::from_slice(&text).ok());
    named.and_then(|named| named.get(name)?.parse().ok()).unwrap_or_else(|| configured.clone())
}
