//! The store under test: real processes, each with a folder of its own, and the network between them.

pub(crate) mod disk;
pub mod layout;
mod process;
mod standing;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bookends::{Client, Token};
use rustix::process::Signal;
use uuid::Uuid;

use self::disk::Disk;
use self::layout::{CATALOGS, CLIENTS, FRONTEND, LINKS, Link, NODES, ORDERS, listeners};
use self::process::{Process, Secrets};
use crate::error::ChaosError;
use crate::proxy::{Proxy, Rule, Target};

/// How long a process may take to listen, or a call of ours with its retries: far more than any needs.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether something has come about.
const LOOK: Duration = Duration::from_millis(20);

/// The store. Dropping it kills its processes and unmounts its disks.
#[derive(Debug)]
pub(crate) struct Store {
    // Processes end before the disks that they use are unmounted.
    processes: BTreeMap<&'static str, Process>,
    disks: BTreeMap<&'static str, Disk>,
    /// Why there are none, if so.
    no_disks: Option<String>,
    ways: BTreeMap<Link, Proxy>,
    folder: PathBuf,
    programs: PathBuf,
    secrets: Secrets,
}

impl Store {
    /// Folders, configurations and proxies; no process yet. The programs are those of a folder.
    pub(crate) async fn prepare(
        folder: &Path,
        programs: &Path,
        catalogue: &str,
        keep_entries: u32,
        seed: u64,
    ) -> Result<Self, ChaosError> {
        let mut ways = BTreeMap::new();
        for (number, link) in (0..).zip(LINKS) {
            let target = target(folder.join(link.to), link);
            let proxy = Proxy::open(target, seed.wrapping_add(number)).await;
            let Link { from, to, listener: _ } = link;
            ways.insert(link, proxy.map_err(|source| ChaosError::Proxy { from, to, source })?);
        }
        let addresses = ways.iter().map(|(link, proxy)| (*link, proxy.address())).collect();
        let logs = folder.join("logs");
        fs::create_dir_all(&logs).map_err(ChaosError::file("can't make", logs))?;
        let (mut disks, mut no_disks) = (BTreeMap::new(), None);
        for node in NODES {
            let data = folder.join(node).join("data");
            fs::create_dir_all(&data).map_err(ChaosError::file("can't make", &data))?;
            let config = folder.join(node).join("config.toml");
            let text = layout::config(node, &addresses, keep_entries);
            fs::write(&config, text).map_err(ChaosError::file("can't write", config))?;
            // One of each kind has a disk that can be full.
            if [CATALOGS[1], ORDERS[1]].contains(&node) {
                match Disk::mount(&data) {
                    Ok(disk) => drop(disks.insert(node, disk)),
                    Err(problem) => no_disks = Some(format!("no tmpfs can be mounted: {problem}")),
                }
            }
        }
        let books = folder.join(FRONTEND).join("catalogue.csv");
        fs::write(&books, catalogue).map_err(ChaosError::file("can't write", books))?;
        let secret = || Uuid::new_v4().simple().to_string();
        let secrets = Secrets { cluster: secret(), admin: secret() };
        Ok(Self {
            processes: BTreeMap::new(),
            disks,
            no_disks,
            ways,
            folder: folder.to_owned(),
            programs: programs.to_owned(),
            secrets,
        })
    }

    /// Starts a node and waits until it listens. `false` if it ends instead.
    pub(crate) async fn start(&mut self, node: &'static str) -> Result<bool, ChaosError> {
        let folder = self.folder.join(node);
        // What an earlier process has left there must not be taken for this one's.
        drop(fs::remove_file(addresses_path(&folder, node)));
        let process = Process::start(node, &self.programs, &folder, &self.log(node), &self.secrets)?;
        let process = self.processes.entry(node).insert_entry(process).into_mut();
        let begin = Instant::now();
        while address(&folder, node, listeners(node)[0]).is_none() {
            if process.ended().is_some() || begin.elapsed() > PATIENCE {
                self.processes.remove(node);
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(true)
    }

    /// Starts every node that does not run.
    pub(crate) async fn start_all(&mut self) -> Result<(), ChaosError> {
        for node in NODES {
            if !self.processes.contains_key(node) && !self.start(node).await? {
                let log = self.log(node);
                return Err(ChaosError::NotReady(format!("{node} ended, see {}", log.display())));
            }
        }
        Ok(())
    }

    /// `kill -9`, and it is gone when this returns.
    pub(crate) fn kill(&mut self, node: &str) {
        self.processes.remove(node);
    }

    /// `kill -9` of all at once.
    pub(crate) fn kill_all(&mut self) -> Result<(), ChaosError> {
        self.processes.values().try_for_each(|process| process.signal(Signal::KILL))?;
        self.processes.clear();
        Ok(())
    }

    /// Freezes a node, or lets it go on.
    pub(crate) fn freeze(&self, node: &str, frozen: bool) -> Result<(), ChaosError> {
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        self.processes.get(node).map_or(Ok(()), |process| process.signal(signal))
    }

    /// What holds on some ways from now on.
    pub(crate) fn set_ways(&self, rule: Rule, which: impl Fn(&Link) -> bool) {
        self.ways.iter().filter(|(link, _)| which(link)).for_each(|(_, proxy)| proxy.set(rule));
    }

    /// The nodes whose disk can be filled.
    pub(crate) fn disks(&self) -> Vec<&'static str> {
        self.disks.keys().copied().collect()
    }

    /// Why not all that should can be filled, if so.
    pub(crate) fn no_disks(&self) -> Option<&str> {
        self.no_disks.as_deref()
    }

    /// Fills a node's disk, or makes room on it.
    pub(crate) fn fill(&self, node: &str, full: bool) -> Result<(), ChaosError> {
        self.disks.get(node).map_or(Ok(()), |disk| if full { disk.fill() } else { disk.make_room() })
    }

    /// The folder with a node's databases.
    pub(crate) fn data(&self, node: &str) -> PathBuf {
        self.folder.join(node).join("data").join(node)
    }

    /// What a node has said.
    pub(crate) fn log(&self, node: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{node}.log"))
    }

    /// Where clients find the store: behind a proxy, always at the same address.
    pub(crate) fn url(&self) -> String {
        let way = self.ways.iter().find(|(link, _)| link.from == CLIENTS);
        way.map(|(_, proxy)| format!("http://{}", proxy.address())).unwrap_or_default()
    }

    pub(crate) fn admin_token(&self) -> &str {
        &self.secrets.admin
    }

    /// A client that goes past all proxies.
    pub(crate) fn client(&self, patience: Duration) -> Result<Client, ChaosError> {
        let address = address(&self.folder.join(FRONTEND), FRONTEND, "public");
        let address =
            address.ok_or_else(|| ChaosError::NotReady("the front end does not listen".to_owned()))?;
        let token = Some(Token::new(&self.secrets.admin));
        let client = Client::builder().url(format!("http://{address}")).token(token).deadline(patience);
        client.build().map_err(|problem| ChaosError::Call(problem.to_string()))
    }
}

/// Where the called process listens at the moment, as it has written itself.
fn target(folder: PathBuf, link: Link) -> Target {
    Arc::new(move || address(&folder, link.to, link.listener))
}

fn addresses_path(folder: &Path, node: &str) -> PathBuf {
    folder.join("data/run").join(format!("{node}.addr"))
}

fn address(folder: &Path, node: &str, listener: &str) -> Option<SocketAddr> {
    let text = fs::read(addresses_path(folder, node)).ok()?;
    let addresses: BTreeMap<String, SocketAddr> = serde_json::from_slice(&text).ok()?;
    addresses.get(listener).copied()
}
