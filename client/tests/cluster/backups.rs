//! Backup and restore: a store that sells while it is copied, a fresh one made of the copy, and copies that
//! are no good.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::api::Order;
use common::backup::{MANIFEST, Manifest};

use crate::harness::{Cluster, Ran, Setup, Shopping, run};

const COPIES: u64 = 1_000_000;

async fn backup(cluster: &Cluster, folder: &Path) -> Ran {
    let token = cluster.path("data/admin.token");
    run(
        "bookends",
        &[
            "backup",
            folder.to_str().unwrap(),
            "--url",
            &cluster.url(),
            "--token-file",
            token.to_str().unwrap(),
        ],
    )
    .await
}

async fn restore(cluster: &Cluster, folder: &Path) -> Ran {
    let config = cluster.path("config.toml");
    run("bookends", &["restore", folder.to_str().unwrap(), "--config", config.to_str().unwrap()]).await
}

fn manifest(folder: &Path) -> Manifest {
    Manifest::read(&fs::read(folder.join(MANIFEST)).unwrap()).unwrap()
}

fn sharded(shards: &'static str) -> Setup {
    Setup { more: shards, ..Setup::default() }
}

async fn all_orders(cluster: &Cluster, node: &str) -> BTreeMap<String, Order> {
    cluster.orders_of(node).await.into_iter().map(|order| (order.order_id.clone(), order)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_sells_is_copied_and_comes_back_whole() {
    for shards in ["", "[shards]\ncount = 3\n"] {
        let mut cluster = Cluster::start(sharded(shards)).await;
        let folder = cluster.path("backup");
        let before = shop(&cluster).await;
        let selling = Shopping::start(&cluster).await;
        selling.goes_on(20).await;
        let ran = backup(&cluster, &folder).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        selling.goes_on(20).await;
        selling.close().await.nobody_noticed();
        let manifest = manifest(&folder);
        let after = all_orders(&cluster, "order-1").await;
        cluster.kill_all();

        let mut fresh = cluster.another(sharded(shards));
        let ran = restore(&fresh, &folder).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        fresh.start_all().await;
        let status = fresh.level().await;
        for file in &manifest.shards {
            let shard = &status.shards[file.snapshot.shard as usize];
            assert_eq!(shard.replicas.len(), 2);
            for replica in &shard.replicas {
                let held = (replica.last_index, &replica.chain, &replica.digest);
                assert_eq!(held, (file.snapshot.last_index, &file.snapshot.chain, &file.snapshot.digest));
            }
        }
        let restored = all_orders(&fresh, "order-1").await;
        assert_eq!(restored, all_orders(&fresh, "order-2").await);
        for (id, order) in &before {
            assert_eq!(restored.get(id), Some(order), "an order from before the backup");
        }
        for (id, order) in &restored {
            assert_eq!(after.get(id), Some(order), "an order that nobody placed");
        }
        // It sells on, and what is sold is what is left.
        let client = fresh.client();
        let sold: u64 = restored
            .values()
            .flat_map(|order| &order.items)
            .filter(|item| item.id.get() == 1)
            .map(|item| item.quantity)
            .sum();
        client.buy(crate::harness::book(1), 1).await.unwrap();
        assert_eq!(client.lookup(crate::harness::book(1)).await.unwrap().quantity, COPIES - sold - 1);
        let again = restore(&fresh, &folder).await;
        assert!(
            again.code == Some(2)
                && again.err.contains("exists: a backup is restored into a store without data"),
            "{again:?}"
        );
    }
}

async fn shop(cluster: &Cluster) -> BTreeMap<String, Order> {
    let shopping = Shopping::start(cluster).await;
    shopping.goes_on(40).await;
    let receipts = shopping.close().await;
    receipts.sales.into_iter().map(|(_, order)| (order.order_id.clone(), order)).collect()
}

async fn buy_some(cluster: &Cluster) -> BTreeMap<String, Order> {
    let client = cluster.client();
    let mut orders = BTreeMap::new();
    for id in 1..=8 {
        let order = client.buy(crate::harness::book(id), id).await.unwrap();
        orders.insert(order.order_id.clone(), order);
    }
    orders
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_used_before_the_backup_is_known_after_it() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let (headers, body) = ([("idempotency-key", "once")], serde_json::json!({"id": 3, "quantity": 2}));
    let first = cluster.http().post("/buy", &headers, &body).await;
    let folder = cluster.path("backup");
    assert_eq!(backup(&cluster, &folder).await.code, Some(0));
    cluster.kill_all();
    let mut fresh = cluster.another(Setup::default());
    assert_eq!(restore(&fresh, &folder).await.code, Some(0));
    fresh.start_all().await;
    fresh.level().await;
    let again = fresh.http().post("/buy", &headers, &body).await;
    assert_eq!((again.status, again.text), (first.status, first.text));
    assert_eq!(fresh.client().lookup(crate::harness::book(3)).await.unwrap().quantity, COPIES - 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_no_good_is_refused_and_nothing_is_changed() {
    let cluster = Cluster::start(sharded("[shards]\ncount = 2\n")).await;
    buy_some(&cluster).await;
    let good = cluster.path("backup");
    assert_eq!(backup(&cluster, &good).await.code, Some(0));
    let taken = backup(&cluster, &good).await;
    assert!(taken.code == Some(2) && taken.err.contains("exists already"), "{taken:?}");
    let fresh = cluster.another(sharded("[shards]\ncount = 2\n"));
    let other = cluster.another(Setup::default());
    let wrong = restore(&other, &good).await;
    assert!(wrong.code == Some(2) && wrong.err.contains("the backup is of 2 shards"), "{wrong:?}");

    type Damage = fn(&Path);
    let damages: [(&str, &str, Damage); 7] = [
        ("shard-1.db", "bytes, the manifest says", |bad| {
            let file = fs::File::options().write(true).open(bad.join("shard-1.db")).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        }),
        ("shard-1.db", "it is damaged", |bad| flip(&bad.join("shard-1.db"), 5000)),
        ("shard-0.db", "it is damaged", |bad| flip(&bad.join("shard-0.db"), 20)),
        ("shard-0.db", "No such file", |bad| fs::remove_file(bad.join("shard-0.db")).unwrap()),
        (MANIFEST, "No such file", |bad| fs::remove_file(bad.join(MANIFEST)).unwrap()),
        (MANIFEST, "checksum", |bad| {
            let text = fs::read_to_string(bad.join(MANIFEST)).unwrap();
            fs::write(bad.join(MANIFEST), text.replacen("\"last_index\": ", "\"last_index\": 1", 1)).unwrap();
        }),
        // The manifest is in order, but says of a sound file what it does not hold.
        ("shard-0.db", "does not hold what it should", |bad| {
            let mut manifest = manifest(bad);
            manifest.shards[0].snapshot.last_index += 1;
            let lying = Manifest::new("1", manifest.began_at, manifest.shards);
            fs::write(bad.join(MANIFEST), serde_json::to_vec(&lying).unwrap()).unwrap();
        }),
    ];
    for (file, problem, damage) in damages {
        let bad = cluster.path("bad");
        drop(fs::remove_dir_all(&bad));
        fs::create_dir(&bad).unwrap();
        for name in [MANIFEST, "shard-0.db", "shard-1.db"] {
            fs::copy(good.join(name), bad.join(name)).unwrap();
        }
        damage(&bad);
        let ran = restore(&fresh, &bad).await;
        assert_eq!(ran.code, Some(1), "{file} {problem}: {ran:?}");
        assert!(ran.err.contains(bad.join(file).to_str().unwrap()) && ran.err.contains(problem), "{ran:?}");
        for node in ["catalog-1", "catalog-2"] {
            let left: Vec<_> = fs::read_dir(fresh.path("data").join(node))
                .into_iter()
                .flatten()
                .map(|f| f.unwrap().file_name())
                .collect();
            assert!(left.iter().all(|name| name == "lock"), "{left:?}");
        }
    }
    let ran = restore(&fresh, &good).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 4;
    fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_needs_the_token_and_a_shard_that_exists() {
    let cluster = Cluster::start(Setup::default()).await;
    let http = cluster.http();
    let token = format!("Bearer {}", cluster.token());
    assert_eq!(http.get("/backup/0").await.status, 401);
    assert_eq!(http.get_with("/backup/1", &[("authorization", &token)]).await.status, 404);
    assert_eq!(http.get_with("/backup/x", &[("authorization", &token)]).await.status, 400);
}
