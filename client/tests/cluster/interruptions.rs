//! A resync that is broken off again and again, early and late, by the death of either side or of the front end.
//!
//! Nothing is left to chance: the source sleeps until the resync has begun, and the front end, without which
//! nobody joins, from then on until it is broken off. So each turn interrupts one, and knows how far it had come.

use std::fs;
use std::path::Path;

use common::api::Order;
use protocol::catalogue::OrderLine;
use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::harness::{Cluster, Setup, book, wait_for};

const COPIES: u64 = 1_000_000;
/// What catalog-2 has missed at first: more than a page of the log, and more than a short log keeps.
const MISSED: u64 = 3_000;

/// How far a resync has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its source has not answered yet.
    Begun,
    /// A page of the log is entered; or a snapshot is on its way.
    UnderWay,
    /// It has all and has asked to join.
    AsksToJoin,
}
use Stage::{AsksToJoin, Begun, UnderWay};

/// Who is killed, and when. Where catalog-2 lives on, it has to come to the end by itself.
const TURNS: [(Stage, &[&str]); 9] = [
    (Begun, &["catalog-2"]),
    (UnderWay, &["catalog-2"]),
    (UnderWay, &["catalog-1", "catalog-2"]),
    (UnderWay, &["frontend-1", "catalog-2"]),
    (AsksToJoin, &["catalog-2"]),
    (AsksToJoin, &["catalog-1", "catalog-2"]),
    (UnderWay, &["catalog-1"]),
    (UnderWay, &["frontend-1"]),
    (AsksToJoin, &["frontend-1"]),
];

/// What a replica that missed something takes from its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Log,
    Snapshot,
}

/// So many buys, some at a time.
async fn buy(cluster: &Cluster, count: u64) -> Vec<Order> {
    let mut buyers = JoinSet::new();
    for number in 0..20 {
        let client = cluster.client();
        buyers.spawn(async move {
            let mut orders = Vec::new();
            for _ in 0..count / 20 {
                let line = OrderLine { book: book(1 + number % 8), quantity: 1 };
                orders.push(client.buy_many(&[line]).await.unwrap());
            }
            orders
        });
    }
    buyers.join_all().await.into_iter().flatten().collect()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::remove_dir_all(to).unwrap();
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// Where the log in a file ends, also while a process writes it.
fn last_index(file: &Path) -> i64 {
    let conn = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    conn.query_row("SELECT last FROM meta", [], |row| row.get(0)).unwrap()
}

/// Whether a snapshot is being fetched into a folder.
fn is_fetching(folder: &Path) -> bool {
    let mut names = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
    names.any(|name| name.to_string_lossy().contains(".copy-"))
}

/// What catalog-2 has logged since.
fn log_since(cluster: &Cluster, begin: usize) -> String {
    cluster.log("catalog-2").split_off(begin)
}

/// Starts catalog-2 and stops the world once its resync has come so far: catalog-2 and its source run, the front end
/// sleeps.
async fn level_up_to(cluster: &mut Cluster, stage: Stage, by: By) {
    let (file, folder) = (cluster.shard_file("catalog-2"), cluster.path("data/catalog-2"));
    let (begin, had) = (cluster.log("catalog-2").len(), last_index(&file));
    cluster.signal("catalog-1", Signal::STOP);
    cluster.start_node("catalog-2").await;
    let logged = async |cluster: &Cluster, part: &str| {
        wait_for(part, async || {
            let log = log_since(cluster, begin);
            if log.contains(part) { Ok(log) } else { Err(log) }
        })
        .await
    };
    logged(cluster, "resync started").await;
    assert_eq!(last_index(&file), had, "it begins at what was durable");
    cluster.signal("frontend-1", Signal::STOP);
    if stage == Begun {
        return;
    }
    cluster.signal("catalog-1", Signal::CONT);
    match (stage, by) {
        (Begun, _) => {}
        (UnderWay, By::Log) => {
            wait_for("a page is entered", async || {
                let last = last_index(&file);
                if last > had { Ok(()) } else { Err(format!("{last} of {had}")) }
            })
            .await;
        }
        (UnderWay, By::Snapshot) => {
            // A look may come too late for the fetching itself.
            wait_for("a snapshot is fetched", async || {
                let log = log_since(cluster, begin);
                let seen = is_fetching(&folder) || log.contains("a snapshot is installed");
                if seen { Ok(()) } else { Err(log) }
            })
            .await;
        }
        (AsksToJoin, _) => {
            let log = logged(cluster, "asking to join").await;
            assert_eq!(log.contains("a snapshot is installed"), by == By::Snapshot, "{log}");
        }
    }
}

/// How often catalog-2 has become a member again.
fn joins(cluster: &Cluster) -> usize {
    cluster.log("catalog-2").matches("a member again").count()
}

/// Catalog-2 misses much and comes back; in each turn it, its source or the front end is killed meanwhile.
async fn interrupted(by: By, more: &'static str) {
    let mut cluster = Cluster::start(Setup { more, ..Setup::default() }).await;
    cluster.kill("catalog-2");
    cluster.members_are(&["catalog-1"]).await;
    let old = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    copy_folder(&cluster.path("data/catalog-2"), old.path());
    let mut orders = buy(&cluster, MISSED).await;
    for (stage, victims) in TURNS {
        if by == By::Snapshot {
            // Else it would level by the log, once it has had a snapshot.
            copy_folder(old.path(), &cluster.path("data/catalog-2"));
        }
        let before = joins(&cluster);
        level_up_to(&mut cluster, stage, by).await;
        for victim in victims {
            cluster.kill(victim);
        }
        for node in ["catalog-1", "frontend-1"] {
            if victims.contains(&node) {
                cluster.start_node(node).await;
            } else {
                cluster.signal(node, Signal::CONT);
            }
        }
        if !victims.contains(&"catalog-2") {
            cluster.level().await;
            // The front end knows it a moment before the replica does.
            wait_for("it says that it is a member", async || {
                if joins(&cluster) > before { Ok(()) } else { Err(cluster.log("catalog-2")) }
            })
            .await;
            cluster.kill("catalog-2");
        } else {
            assert_eq!(joins(&cluster), before, "{stage:?} {victims:?}: it was interrupted");
        }
        cluster.members_are(&["catalog-1"]).await;
        orders.extend(buy(&cluster, 20).await);
    }
    let log = cluster.log("catalog-2");
    let installed = log.matches("a snapshot is installed").count();
    match by {
        By::Log => assert_eq!(installed, 0),
        By::Snapshot => copy_folder(old.path(), &cluster.path("data/catalog-2")),
    }

    let begin = log.len();
    cluster.start_node("catalog-2").await;
    let status = cluster.level().await;
    assert_eq!(log_since(&cluster, begin).contains("a snapshot is installed"), by == By::Snapshot);
    let [one, other] = &status.shards[0].replicas[..] else { panic!("{status:?}") };
    assert_eq!((one.last_index, &one.digest), (other.last_index, &other.digest));
    cluster.kill("catalog-1");
    cluster.members_are(&["catalog-2"]).await;
    let client = cluster.client();
    let mut copies = 0;
    for id in 1..=8 {
        copies += client.lookup(book(id)).await.unwrap().quantity;
    }
    assert_eq!(copies + u64::try_from(orders.len()).unwrap(), 8 * COPIES);
    let listed = cluster.orders_of("order-1").await;
    assert_eq!(listed.len(), orders.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resync_by_the_log_that_is_interrupted_again_and_again_comes_to_its_end() {
    interrupted(By::Log, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resync_by_snapshot_that_is_interrupted_again_and_again_comes_to_its_end() {
    interrupted(By::Snapshot, "[log]\nkeep_entries = 1000\n").await;
}
