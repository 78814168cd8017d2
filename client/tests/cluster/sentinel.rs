//! The sentinel over the real services: up, heal, stop, down, clean.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use common::api::{NodeState, Status};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{LIMIT, Ran, Setup, last_lines, program, run, wait_for};

/// A store that a sentinel runs. Dropping it leaves no process behind.
struct Stage {
    dir: TempDir,
}

impl Stage {
    fn new() -> Self {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let setup = Setup::default();
        fs::write(dir.path().join("config.toml"), setup.config()).unwrap();
        fs::write(dir.path().join("catalogue.csv"), setup.catalogue).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn run(&self, args: &[&str]) -> Ran {
        let config = self.path("config.toml");
        run("sentinel", &[args, &["--config", config.to_str().unwrap()]].concat()).await
    }

    async fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args).await;
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
        ran.out
    }

    async fn status(&self) -> Result<Status, String> {
        let ran = self.run(&["status", "--json"]).await;
        if ran.code != Some(0) {
            return Err(ran.err);
        }
        Ok(serde_json::from_str(&ran.out).unwrap())
    }

    /// Waits until the node is up as another process than before.
    async fn healed(&self, node: &str, before: Option<u32>) -> Option<u32> {
        wait_for(&format!("{node} is up again"), async || {
            let status = self.status().await?;
            let found = status.nodes.iter().find(|known| known.id == node).unwrap();
            let members = status.shards[0].members.len();
            if found.state == NodeState::Up && found.pid != before && members == 2 {
                Ok(found.pid)
            } else {
                Err(format!("{found:?}, {members} members"))
            }
        })
        .await
    }

    /// All processes whose command line names this folder.
    fn processes(&self) -> Vec<Pid> {
        let mine = self.dir.path().as_os_str().as_encoded_bytes();
        let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
        pids.filter(|pid| {
            let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
            line.windows(mine.len()).any(|part| part == mine)
        })
        .collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for entry in fs::read_dir(self.path("data/logs")).into_iter().flatten().filter_map(Result::ok) {
                eprintln!("--- {}:\n{}", entry.path().display(), last_lines(&entry.path(), 20));
            }
        }
        // Until none is left: a sentinel starts again what is killed before it.
        let begin = Instant::now();
        while begin.elapsed() < LIMIT {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            for pid in left {
                // One that has ended by itself in the meantime is as good.
                assert!(matches!(kill_process(pid, Signal::KILL), Ok(()) | Err(Errno::SRCH)));
            }
            std::thread::yield_now();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_started_healed_stopped_and_removed() {
    let stage = Stage::new();
    let welcome = stage.ok(&["up"]).await;
    assert!(welcome.contains("5 nodes are ready") && welcome.contains("http://127.0.0.1:"), "{welcome}");
    let status = stage.status().await.unwrap();
    assert!(status.nodes.iter().all(|node| node.state == NodeState::Up), "{status:?}");
    assert_eq!(status.shards[0].members, ["catalog-1", "catalog-2"]);
    let table = stage.ok(&["status"]).await;
    assert!(
        ["frontend-1", "catalog-2", "order-2", "member"].iter().all(|part| table.contains(part)),
        "{table}"
    );
    let tested = stage.ok(&["test", "3"]).await;
    assert!(!tested.is_empty());

    let second = stage.run(&["up"]).await;
    assert_eq!((second.code, second.err.lines().count()), (Some(1), 1), "{second:?}");
    assert!(second.err.contains("already running"), "{second:?}");

    for node in ["catalog-1", "order-2", "frontend-1"] {
        let status = stage.status().await.unwrap();
        let before = status.nodes.iter().find(|known| known.id == node).unwrap().pid;
        stage.ok(&["kill", node]).await;
        stage.healed(node, before).await;
    }
    stage.ok(&["stop", "catalog-2"]).await;
    wait_for("catalog-2 is down", async || {
        let status = stage.status().await?;
        let members = &status.shards[0].members;
        if members == &["catalog-1"] { Ok(()) } else { Err(format!("{members:?}")) }
    })
    .await;
    stage.ok(&["start", "catalog-2"]).await;
    stage.healed("catalog-2", None).await;
    stage.ok(&["test", "2"]).await;
    assert_eq!(stage.run(&["kill", "catalog-9"]).await.code, Some(2));

    stage.ok(&["down"]).await;
    assert_eq!(stage.processes(), []);
    assert!(stage.path("data/catalog-1/shard-0.db").is_file(), "data stays");
    assert_eq!(stage.run(&["status"]).await.code, Some(1));
    stage.ok(&["up"]).await;
    assert_eq!(stage.run(&["clean"]).await.code, Some(2), "nobody is there to be asked");
    stage.ok(&["clean", "--yes"]).await;
    assert_eq!(stage.processes(), []);
    assert!(!stage.path("data").exists());
    assert!(stage.path("config.toml").is_file());
}

/// Types a command at `starter.sh`, one that builds only what is missing. The programs are where a build leaves them.
fn starter(stage: &Stage, args: &[&str]) -> Output {
    let release = stage.path("target/release");
    if !release.is_dir() {
        fs::create_dir_all(&release).unwrap();
        for name in ["sentinel", "catalog", "order", "frontend", "bookends"] {
            fs::hard_link(program(name), release.join(name)).unwrap();
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../starter.sh");
    let mut command = Command::new(script);
    command.args(args).current_dir(stage.dir.path()).stdin(Stdio::null());
    for name in ["BOOKENDS_CLUSTER_SECRET", "BOOKENDS_ADMIN_TOKEN", "BOOKENDS_LOG", "BOOKENDS_LOG_FORMAT"] {
        command.env_remove(name);
    }
    command.env("CARGO_TARGET_DIR", "target").env("BOOKENDS_CONFIG", stage.path("config.toml"));
    command.output().unwrap()
}

fn starter_ok(stage: &Stage, args: &[&str]) -> String {
    let ran = starter(stage, args);
    assert_eq!(ran.status.code(), Some(0), "{args:?}: {ran:?}");
    String::from_utf8(ran.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_component_is_started_alone_by_the_script_and_the_others_one_by_one() {
    let stage = Stage::new();
    let row = |node: &str| {
        let table = starter_ok(&stage, &["status"]);
        table.lines().find(|line| line.starts_with(node)).unwrap_or_default().to_owned()
    };
    let started = starter_ok(&stage, &["start", "catalog-2"]);
    assert!(started.starts_with("catalog-2: started; now "), "{started}");
    wait_for("catalog-2 runs", async || {
        let row = row("catalog-2");
        if row.contains(" running ") { Ok(()) } else { Err(row) }
    })
    .await;
    let others = ["order-2", "frontend-1", "catalog-1", "order-1"];
    for node in others {
        assert!(row(node).contains(" stopped "), "{}", row(node));
    }
    let processes = stage.processes().len();
    assert_eq!(processes, 2, "a sentinel and a catalog node");
    let unknown = starter(&stage, &["start", "catalog-3"]);
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    for node in others {
        starter_ok(&stage, &["start", node]);
    }
    stage.healed("catalog-2", None).await;
    // By the script it would be built first, as by `up`.
    stage.ok(&["test", "2"]).await;
    starter_ok(&stage, &["stop", "catalog-2"]);
    assert!(row("catalog-2").contains(" stopped "), "{}", row("catalog-2"));
    starter_ok(&stage, &["down"]);
    assert_eq!(stage.processes(), []);
}
