//! Files that a disk or a hand has spoilt: cut off, with other bits, or another program's.

use std::fs;
use std::path::{Path, PathBuf};

use common::api::Book;
use rusqlite::{Connection, OpenFlags};

use crate::harness::{Cluster, Receipts, Setup, Shopping, audit, run, wait_for};

const COPIES: u64 = 1_000_000;
const NODES: [&str; 5] = ["frontend-1", "order-1", "order-2", "catalog-1", "catalog-2"];

async fn shop(cluster: &Cluster, orders: u64) -> Receipts {
    let shopping = Shopping::start(cluster).await;
    shopping.goes_on(orders).await;
    shopping.close().await
}

fn cut_in_half(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

/// One bit in the head of each page behind the first.
fn flip_bits(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    for at in (4096..bytes.len()).step_by(4096) {
        bytes[at] ^= 0x10;
    }
    fs::write(path, bytes).unwrap();
}

/// One bit in the head of the first page of a table.
fn flip_a_bit_of(path: &Path, table: &str) {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let page: i64 = conn.query_row(sql, [table], |row| row.get(0)).unwrap();
    drop(conn);
    let mut bytes = fs::read(path).unwrap();
    bytes[usize::try_from(page - 1).unwrap() * 4096] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// Another letter in each copy of a title: a row that can be read and is not what was written.
fn change_a_title(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let title = b"Book number 5";
    let places: Vec<usize> =
        (0..bytes.len() - title.len()).filter(|at| bytes[*at..].starts_with(title)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at] ^= 0x20;
    }
    fs::write(path, bytes).unwrap();
}

fn another_programs(path: &Path) {
    fs::remove_file(path).unwrap();
    let conn = Connection::open(path).unwrap();
    conn.execute_batch("CREATE TABLE notes (text); INSERT INTO notes VALUES ('mine')").unwrap();
}

/// A folder's file whose name begins so.
fn aside(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let found = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    found.into_iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix))
}

/// The second replica alone has everything right.
async fn the_second_replica_is_sound(cluster: &mut Cluster) {
    cluster.level().await;
    cluster.kill("catalog-1");
    cluster.members_are(&["catalog-2"]).await;
    let http = cluster.http();
    for id in 1..=8 {
        let shown: Book =
            http.get_with(&format!("/lookup/{id}"), &[("cache-control", "no-cache")]).await.json();
        assert_eq!(shown.title, format!("Book number {id}"));
    }
    cluster.start_node("catalog-1").await;
    cluster.level().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_file_can_not_be_opened_takes_everything_from_the_other() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let mut receipts = vec![shop(&cluster, 30).await];
    for damage in [cut_in_half, flip_bits] {
        cluster.stop("catalog-2").await;
        damage(&cluster.shard_file("catalog-2"));
        cluster.start_node("catalog-2").await;
        cluster.level().await;
        let set_aside = aside(&cluster.path("data/catalog-2"), "shard-0.db.damaged-").unwrap();
        fs::remove_file(set_aside).unwrap();
        assert!(cluster.log("catalog-2").contains("a damaged store is set aside"));
        receipts.push(shop(&cluster, 10).await);
    }
    the_second_replica_is_sound(&mut cluster).await;
    audit(&cluster, &receipts.iter().collect::<Vec<_>>(), COPIES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_that_is_found_later_is_mended_with_a_snapshot_even_in_a_member() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let mut receipts = vec![shop(&cluster, 30).await];
    let damages: [fn(&Path); 2] = [change_a_title, |path| flip_a_bit_of(path, "books")];
    for (turn, damage) in damages.into_iter().enumerate() {
        // All at once, so that the damaged one is a member when it comes back.
        for node in NODES {
            cluster.stop(node).await;
        }
        damage(&cluster.shard_file("catalog-2"));
        cluster.start_all().await;
        wait_for("a snapshot is taken", async || {
            let taken = cluster.log("catalog-2").matches("a snapshot is installed").count();
            if taken > turn { Ok(()) } else { Err(format!("{taken} of {turn}")) }
        })
        .await;
        cluster.level().await;
        assert!(cluster.log("frontend-1").contains("Unsound"));
    }
    the_second_replica_is_sound(&mut cluster).await;
    receipts.push(shop(&cluster, 10).await);
    audit(&cluster, &receipts.iter().collect::<Vec<_>>(), COPIES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_programs_file_is_refused_and_left_as_it_is() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let receipts = shop(&cluster, 30).await;
    cluster.stop("catalog-2").await;
    let path = cluster.shard_file("catalog-2");
    another_programs(&path);
    let before = fs::read(&path).unwrap();
    let config = cluster.path("config.toml").to_str().unwrap().to_owned();
    let ran = run("catalog", &["--config", &config, "--id", "catalog-2"]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let told = ran.err.lines().last().unwrap();
    assert!(told.contains("shard-0.db") && told.contains("not a catalog database"), "{ran:?}");
    assert!(fs::read(&path).unwrap() == before, "it was changed");
    fs::remove_file(&path).unwrap();
    cluster.start_node("catalog-2").await;
    audit(&cluster, &[&receipts], COPIES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_book_of_orders_that_is_spoilt_is_set_aside_and_built_anew() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let receipts = shop(&cluster, 40).await;
    let damages: [fn(&Path); 4] =
        [cut_in_half, flip_bits, another_programs, |path| fs::write(path, "no database").unwrap()];
    let mut set_aside = 0;
    for damage in damages {
        cluster.stop("order-1").await;
        let folder = cluster.path("data/order-1");
        damage(&folder.join("orders.db"));
        cluster.start_node("order-1").await;
        audit(&cluster, &[&receipts], COPIES).await;
        set_aside += usize::from(
            aside(&folder, "orders.db.damaged-").is_some_and(|path| fs::remove_file(path).is_ok()),
        );
    }
    // What lies in a part that nothing reads is no damage; the other programs' files certainly are.
    assert!(set_aside >= 2, "{set_aside}");
}
