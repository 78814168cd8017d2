//! The configuration that all processes of a store share: one TOML file.
//!
//! This is the only place that reads it, and the only place that has its defaults; `config.toml` at the
//! top of the repository shows and explains each. Out come checked types: durations, addresses, numbers
//! within their limits. All mistakes of a file are reported in one run, each with its line, its key and
//! what would be right.

mod checks;
mod claims;
mod reader;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use protocol::balance::Policy;
use protocol::ids::{NodeId, ShardId};

/// The whole configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it came from, absolute.
    pub path: PathBuf,
    /// `[cluster]`
    pub cluster: Cluster,
    /// `[shards]`
    pub shards: Shards,
    /// `[[frontend]]`
    pub frontends: Vec<FrontendNode>,
    /// `[[catalog]]`
    pub catalogs: Vec<CatalogNode>,
    /// `[[order]]`
    pub orders: Vec<OrderNode>,
    /// `[balancing]`
    pub balancing: Balancing,
    /// `[cache]`
    pub cache: Cache,
    /// `[heartbeat]`
    pub heartbeat: Heartbeat,
    /// `[timeouts]`
    pub timeouts: Timeouts,
    /// `[log]`
    pub log: Log,
    /// `[limits]`
    pub limits: Limits,
    /// `[logging]`
    pub logging: Logging,
    /// `[ssh]`
    pub ssh: Ssh,
}

/// The store as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its name, for people.
    pub name: String,
    /// Where everything lies, absolute. A relative path counts from the file's folder.
    pub data_dir: PathBuf,
    /// The same as the file has it: on another machine, a relative path counts from another folder.
    pub data_dir_written: PathBuf,
}

/// How the catalogue is cut, and how often each part is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shards {
    /// How many parts.
    pub count: NonZeroU32,
    /// How many copies of each.
    pub copies: NonZeroU32,
}

/// A front end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontendNode {
    /// Its name.
    pub id: NodeId,
    /// Where clients reach it.
    pub public: Address,
    /// Where order nodes reach it.
    pub internal: Address,
    /// Where heartbeats reach it.
    pub heartbeat: Address,
    /// The machine it runs on, if not this one.
    pub host: Option<String>,
}

/// A catalog node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogNode {
    /// Its name.
    pub id: NodeId,
    /// Where front ends and peers reach it.
    pub listen: Address,
    /// The machine it runs on, if not this one.
    pub host: Option<String>,
}

/// An order node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderNode {
    /// Its name.
    pub id: NodeId,
    /// Where front ends reach it.
    pub listen: Address,
    /// The machine it runs on, if not this one.
    pub host: Option<String>,
}

/// How reads are spread over replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balancing {
    /// By which rule.
    pub policy: Policy,
}

/// The front ends' cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Its size.
    pub capacity_bytes: u64,
    /// Whether there is one.
    pub enabled: bool,
}

/// How life is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// From beat to beat.
    pub interval: Duration,
    /// How many may be missing.
    pub missed_limit: NonZeroU32,
}

impl Heartbeat {
    /// The silence after which a node is suspect.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.interval * self.missed_limit.get()
    }
}

/// How long something may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A read of one replica.
    pub read: Duration,
    /// A replica's answer to a batch of writes.
    pub write: Duration,
}

/// The write log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// How many committed entries a replica keeps for those that come back.
    pub keep_entries: u64,
}

/// What a front end takes from clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The size of a body.
    pub body_bytes: u64,
    /// Connections at a time.
    pub connections: u32,
    /// Requests of one client in a second; none if there is no limit.
    pub requests_per_second_per_client: Option<NonZeroU32>,
}

/// What the processes' logs look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// Readable or JSON.
    pub format: LogFormat,
    /// What is logged, as `tracing_subscriber`'s filter has it.
    pub level: String,
}

/// How other machines are reached, and where a store is on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    /// The port of their sshd; none if ssh's own configuration says it.
    pub port: Option<NonZeroU16>,
    /// The key to log in with, absolute; none if ssh's own configuration says it.
    pub identity: Option<PathBuf>,
    /// The configuration of ssh, absolute; none for that of the user.
    pub config: Option<PathBuf>,
    /// The folder there, relative to the home folder there unless it is absolute.
    pub dir: String,
    /// How long a connection may take to be made.
    pub connect: Duration,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

/// A host and a port. Port 0 leaves the choice to the system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    text: String,
    host_length: usize,
    port: u16,
}

/// Text that is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address has the form host:port")]
pub struct NotAnAddress;

impl Address {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the port.
    #[must_use]
    pub fn host(&self) -> &str {
        self.text.get(..self.host_length).unwrap_or_default()
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(NotAnAddress)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = match bracketed {
            Some(ip) => ip.parse::<Ipv6Addr>().is_ok(),
            None => is_name_or_ipv4(host),
        };
        if !is_host || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NotAnAddress);
        }
        let port = port.parse().map_err(|_| NotAnAddress)?;
        Ok(Self { text: text.to_owned(), host_length: host.len(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

fn is_name_or_ipv4(host: &str) -> bool {
    // A last part of digits is never a name: 127.0.0.256 is a slip, not a host to look up.
    let last = host.rsplit('.').next().unwrap_or_default();
    if !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()) {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('-');
    host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)) && host.split('.').all(is_part)
}

/// Why there is no configuration. Its text has a line for each mistake.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: can't be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it must be.
    #[error("{}", mistakes.join("\n"))]
    Mistaken {
        /// Each with the file, the line and the key.
        mistakes: Vec<String>,
    },
}

impl Config {
    /// Which file to read: the one named, else `BOOKENDS_CONFIG`, else `config.toml` here.
    #[must_use]
    pub fn path_from_env_or(flag: Option<PathBuf>) -> PathBuf {
        let variable = || std::env::var_os("BOOKENDS_CONFIG").filter(|path| !path.is_empty());
        let named = flag.or_else(|| variable().map(PathBuf::from));
        named.unwrap_or_else(|| PathBuf::from("config.toml"))
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// If it can't be read or holds mistakes; all of them are told at once.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let absolute = std::path::absolute(path).map_err(unreadable)?;
        Self::parse(&bytes, path, &absolute)
    }

    /// Checks what a file holds; `named` is the path as messages have it.
    ///
    /// # Errors
    /// If it holds mistakes; all of them are told at once.
    pub fn parse(bytes: &[u8], named: &Path, absolute: &Path) -> Result<Self, ConfigError> {
        checks::check(bytes, absolute).map_err(|mistakes| {
            let told = |(line, mistake): &(usize, String)| format!("{}:{line}: {mistake}", named.display());
            ConfigError::Mistaken { mistakes: mistakes.iter().map(told).collect() }
        })
    }

    /// The folder of a node's files.
    #[must_use]
    pub fn node_dir(&self, id: &NodeId) -> PathBuf {
        self.cluster.data_dir.join(id.as_str())
    }

    /// Where pids and addresses are kept.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.cluster.data_dir.join("run")
    }

    /// Where logs are kept.
    #[must_use]
    pub fn logs_dir(&self) -> PathBuf {
        self.cluster.data_dir.join("logs")
    }

    /// The books of a fresh store, beside the configuration.
    #[must_use]
    pub fn catalogue_csv(&self) -> PathBuf {
        self.path.with_file_name("catalogue.csv")
    }

    /// All shards.
    pub fn shard_ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards.count.get()).map(ShardId)
    }

    /// The catalog nodes that hold a shard: the one of its number and those behind it, round the ring.
    #[must_use]
    pub fn replicas_of(&self, shard: ShardId) -> Vec<&CatalogNode> {
        let first = shard.0 as usize;
        let copies = self.shards.copies.get() as usize;
        self.catalogs.iter().cycle().skip(first % self.catalogs.len().max(1)).take(copies).collect()
    }

    /// The shards that a catalog node holds.
    #[must_use]
    pub fn shards_of(&self, node: &NodeId) -> Vec<ShardId> {
        self.shard_ids()
            .filter(|shard| self.replicas_of(*shard).iter().any(|held| held.id == *node))
            .collect()
    }

    /// The front end of a name.
    #[must_use]
    pub fn frontend(&self, id: &NodeId) -> Option<&FrontendNode> {
        self.frontends.iter().find(|node| node.id == *id)
    }

    /// The catalog node of a name.
    #[must_use]
    pub fn catalog(&self, id: &NodeId) -> Option<&CatalogNode> {
        self.catalogs.iter().find(|node| node.id == *id)
    }

    /// The order node of a name.
    #[must_use]
    pub fn order(&self, id: &NodeId) -> Option<&OrderNode> {
        self.orders.iter().find(|node| node.id == *id)
    }
}
