//! A store of real processes in a folder of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use bookends::{Client, Token};
use common::api::{NodeState, Order, ReplicaState, ShardStatus, Status};
use common::config::Config;
use parking_lot::RwLock;
use protocol::ids::NodeId;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::order_nodes::orders_of;
use super::process::Process;
use super::{Clock, Disk, Http, Setup, last_lines, wait_for};

/// So many clusters run at a time: each is six processes that want to be punctual.
static ROOM: Semaphore = Semaphore::const_new(2);

/// How much of each log is shown when a test fails.
const LINES_SHOWN: usize = 30;

/// How long a call of a test may take with its retries: longer than losing a replica takes.
const PATIENCE: Duration = Duration::from_secs(15);

/// The way to the front end, which has another port each time it is started. Cheap to clone.
pub(crate) type Door = Arc<RwLock<Option<(String, Client)>>>;

/// The store. Dropping it kills all of its processes.
pub(crate) struct Cluster {
    processes: BTreeMap<String, Process>,
    door: Door,
    setup: Setup,
    environment: Vec<(&'static str, PathBuf)>,
    // Unmounted before the folder that they are in is removed.
    disks: Vec<Disk>,
    dir: TempDir,
    _room: Option<SemaphorePermit<'static>>,
}

impl Cluster {
    /// A store that is ready.
    pub(crate) async fn start(setup: Setup) -> Self {
        let mut cluster = Self::prepare(setup).await;
        cluster.start_all().await;
        cluster.level().await;
        cluster
    }

    /// A folder with a configuration and first books, and no process yet.
    pub(crate) async fn prepare(setup: Setup) -> Self {
        let room = ROOM.acquire().await.unwrap();
        Self::prepare_in(Some(room), setup)
    }

    /// Another store, in the room of this one: not both of them run.
    pub(crate) fn another(&self, setup: Setup) -> Self {
        Self::prepare_in(None, setup)
    }

    fn prepare_in(room: Option<SemaphorePermit<'static>>, setup: Setup) -> Self {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::write(dir.path().join("config.toml"), setup.config()).unwrap();
        fs::write(dir.path().join("catalogue.csv"), &setup.catalogue).unwrap();
        fs::create_dir_all(dir.path().join("data/logs")).unwrap();
        Self {
            processes: BTreeMap::new(),
            door: Door::default(),
            setup,
            environment: Vec::new(),
            disks: Vec::new(),
            dir,
            _room: room,
        }
    }

    /// A small disk under a node's folder, which must not be there yet.
    pub(crate) fn put_on_small_disk(&mut self, node: &str) {
        let disk = Disk::mount(self.path("data").join(node));
        self.disks.push(disk);
    }

    /// The small disk of a node.
    pub(crate) fn disk(&self, node: &str) -> &Disk {
        self.disks.iter().find(|disk| disk.path().ends_with(node)).unwrap()
    }

    /// Nodes that are started from now on go by this clock.
    pub(crate) fn go_by(&mut self, clock: &Clock) {
        self.environment = clock.environment();
    }

    /// Starts every node that does not run.
    pub(crate) async fn start_all(&mut self) {
        let names = self.setup.nodes();
        let missing: Vec<String> =
            names.into_iter().filter(|node| !self.processes.contains_key(node)).collect();
        for node in &missing {
            self.spawn(node);
        }
        for node in &missing {
            self.wait_for_address(node).await;
        }
    }

    /// Starts a node and waits until it listens.
    pub(crate) async fn start_node(&mut self, node: &str) {
        self.spawn(node);
        self.wait_for_address(node).await;
    }

    fn spawn(&mut self, node: &str) {
        // What an earlier process has left there must not be taken for this one's.
        drop(fs::remove_file(self.address_path(node)));
        let process = Process::start(node, &self.path("config.toml"), self.log_path(node), &self.environment);
        assert!(self.processes.insert(node.to_owned(), process).is_none(), "{node} runs already");
    }

    async fn wait_for_address(&mut self, node: &str) {
        let path = self.address_path(node);
        let process = self.processes.get_mut(node).unwrap();
        wait_for(&format!("{node} listens"), async || {
            if let Some(status) = process.ended() {
                panic!("{node} ended ({status}):\n{}", last_lines(process.log(), LINES_SHOWN));
            }
            if path.is_file() { Ok(()) } else { Err("it has not said where".to_owned()) }
        })
        .await;
        if node.starts_with("frontend") {
            let url = format!("http://{}", self.address(node, "public"));
            let client = self.client_at(&url, PATIENCE);
            *self.door.write() = Some((url, client));
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, node: &str) {
        self.processes.remove(node).unwrap().kill();
    }

    /// `kill -9` of all at once.
    pub(crate) fn kill_all(&mut self) {
        for process in self.processes.values() {
            process.signal(Signal::KILL);
        }
        self.processes.clear();
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, node: &str, signal: Signal) {
        self.processes[node].signal(signal);
    }

    pub(crate) fn pid(&self, node: &str) -> u32 {
        self.processes[node].pid()
    }

    /// Waits until a node has ended by itself.
    pub(crate) async fn wait_for_end(&mut self, node: &str) -> ExitStatus {
        self.processes.remove(node).unwrap().wait().await
    }

    /// SIGTERM, and it ends cleanly.
    pub(crate) async fn stop(&mut self, node: &str) {
        self.signal(node, Signal::TERM);
        let status = self.wait_for_end(node).await;
        assert!(status.success(), "{node}: {status}");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config(&self) -> Config {
        Config::load(&self.path("config.toml")).unwrap()
    }

    pub(crate) fn log_path(&self, node: &str) -> PathBuf {
        self.path("data/logs").join(format!("{node}.log"))
    }

    pub(crate) fn log(&self, node: &str) -> String {
        fs::read_to_string(self.log_path(node)).unwrap_or_default()
    }

    /// A catalog node's file of shard 0.
    pub(crate) fn shard_file(&self, node: &str) -> PathBuf {
        self.path("data").join(node).join("shard-0.db")
    }

    fn address_path(&self, node: &str) -> PathBuf {
        self.path("data/run").join(format!("{node}.addr"))
    }

    /// Where a node listens.
    pub(crate) fn address(&self, node: &str, listener: &str) -> String {
        let text = fs::read_to_string(self.address_path(node)).unwrap();
        let addresses: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
        addresses[listener].clone()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address("frontend-1", "public"))
    }

    pub(crate) fn http(&self) -> Http {
        Http::new(self.url())
    }

    pub(crate) fn door(&self) -> Door {
        self.door.clone()
    }

    pub(crate) fn token(&self) -> String {
        fs::read_to_string(self.path("data/admin.token")).unwrap().trim().to_owned()
    }

    /// The typed client, with the admin token.
    pub(crate) fn client(&self) -> Client {
        self.client_at(&self.url(), PATIENCE)
    }

    fn client_at(&self, url: &str, patience: Duration) -> Client {
        let token = Some(Token::new(&self.token()));
        Client::builder().url(url).token(token).deadline(patience).build().unwrap()
    }

    /// How the store stands, if the front end answers.
    pub(crate) async fn status(&self) -> Result<Status, String> {
        let client = self.client_at(&self.url(), Duration::from_secs(2));
        client.status().await.map_err(|problem| problem.to_string())
    }

    /// Waits until the store is whole: ready, every node up, every replica a member, and all replicas
    /// of a shard at the same place with the same content.
    pub(crate) async fn level(&self) -> Status {
        wait_for("the store is whole and level", async || {
            let status = self.whole_now().await?;
            status.shards.iter().try_for_each(is_level)?;
            Ok(status)
        })
        .await
    }

    /// Waits until the store is whole, also while it is written to.
    pub(crate) async fn whole(&self) -> Status {
        wait_for("the store is whole", async || self.whole_now().await).await
    }

    async fn whole_now(&self) -> Result<Status, String> {
        let ready = self.http().send(reqwest::Method::GET, "/readyz", &[], None).await;
        let ready = ready.map_err(|problem| problem.to_string())?;
        if !ready.status.is_success() {
            return Err(ready.text);
        }
        let status = self.status().await?;
        for node in &status.nodes {
            let process = self.processes.get(&node.id).map(Process::pid);
            // By its pid, for what is said of an earlier process says nothing about this one.
            if node.state != NodeState::Up || node.pid != process {
                return Err(format!("{node:?} should be process {process:?}"));
            }
        }
        for shard in &status.shards {
            let members = shard.replicas.iter().filter(|replica| replica.state == ReplicaState::Member);
            if members.count() != shard.replicas.len() || shard.waiting_for.is_some() {
                return Err(format!("{shard:?}"));
            }
        }
        Ok(status)
    }

    /// Waits until these are the members of shard 0.
    pub(crate) async fn members_are(&self, expected: &[&str]) -> Status {
        wait_for(&format!("the members are {expected:?}"), async || {
            let status = self.status().await?;
            let members = &status.shards[0].members;
            if members == expected { Ok(status) } else { Err(format!("{members:?}")) }
        })
        .await
    }

    /// What an order node itself has, newest first.
    pub(crate) async fn orders_of(&self, node: &str) -> Vec<Order> {
        orders_of(&self.config(), &NodeId::from(node)).await
    }

    /// The names of the order nodes.
    pub(crate) fn order_nodes(&self) -> Vec<String> {
        self.setup.nodes().into_iter().filter(|node| node.starts_with("order")).collect()
    }
}

fn is_level(shard: &ShardStatus) -> Result<(), String> {
    let place = |at: usize| shard.replicas.get(at).map(|r| (r.last_index, &r.chain, &r.digest));
    let first = place(0);
    let level = (0..shard.replicas.len()).all(|at| place(at) == first)
        && first.is_some_and(|(last_index, ..)| last_index == shard.commit_index);
    if level { Ok(()) } else { Err(format!("{shard:?}")) }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // Stopped first, so that the logs end where the test did.
        self.processes.clear();
        for node in self.setup.nodes() {
            eprintln!(
                "--- the end of the log of {node}:\n{}",
                last_lines(&self.log_path(&node), LINES_SHOWN)
            );
        }
        if std::env::var_os("BOOKENDS_TEST_KEEP").is_some() {
            let kept: &Path = self.dir.path();
            eprintln!("--- kept: {}", kept.display());
            self.dir.disable_cleanup(true);
        }
    }
}
