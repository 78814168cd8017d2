//! Nodes of a cut catalogue go: what still has a copy is served, and what has none is named.

use std::collections::BTreeSet;

use common::api::{Book, BookPage, Order};
use protocol::ids::{NodeId, ShardId};
use reqwest::Method;
use serde_json::{Value, json};

use super::{BOOKS, pages, setup, shard};
use crate::harness::{Answer, Cluster, Http, Setup, book, run, wait_for};

const PAST_CACHE: (&str, &str) = ("cache-control", "no-cache");

/// Everything that customers do works: each call is made once, past the cache, and must succeed.
async fn everything_is_served(cluster: &Cluster) {
    let http = cluster.http();
    for id in 1..=BOOKS {
        let before: Book = success(http.get_with(&format!("/lookup/{id}"), &[PAST_CACHE]).await).json();
        let order: Order = success(http.post("/buy", &[], &json!({"id": id})).await).json();
        let after: Book = success(http.get(&format!("/lookup/{id}")).await).json();
        assert_eq!((after.quantity + 1, order.items[0].id), (before.quantity, book(id)));
        let shown = success(http.get(&format!("/orders/{}", order.order_id)).await);
        assert_eq!(shown.json::<Order>(), order);
    }
    let ids = |page: &BookPage| page.books.iter().map(|book| book.id.get()).collect::<Vec<_>>();
    let listed: BookPage = success(http.get_with("/list", &[PAST_CACHE]).await).json();
    assert_eq!(ids(&listed), (1..=BOOKS).collect::<Vec<_>>());
    let found: BookPage = success(http.get_with("/search?q=number", &[PAST_CACHE]).await).json();
    assert_eq!(ids(&found), (1..=BOOKS).collect::<Vec<_>>());
    success(http.get_with("/topics", &[PAST_CACHE]).await);
    success(http.get("/readyz").await);
}

fn success(answer: Answer) -> Answer {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

async fn nodes_go_and_come_back(cluster: &mut Cluster, victims: &[usize]) {
    let victims: Vec<String> = victims.iter().map(|number| format!("catalog-{number}")).collect();
    for victim in &victims {
        cluster.kill(victim);
    }
    everything_is_served(cluster).await;
    let status = cluster.status().await.unwrap();
    for shard in &status.shards {
        let down = shard.members.iter().filter(|node| victims.contains(node)).count();
        assert_eq!(down, 0, "{shard:?}");
    }
    for victim in &victims {
        cluster.start_node(victim).await;
    }
    cluster.level().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_two_copies_any_node_may_go_and_any_two_that_are_not_neighbours() {
    let mut cluster = Cluster::start(setup()).await;
    for victims in [&[1][..], &[2], &[3], &[4], &[1, 3], &[2, 4]] {
        nodes_go_and_come_back(&mut cluster, victims).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_three_copies_any_two_nodes_may_go() {
    let more = "[shards]\ncount = 4\ncopies = 3\n";
    let mut cluster = Cluster::start(Setup { more, ..setup() }).await;
    assert!(cluster.status().await.unwrap().shards.iter().all(|shard| shard.members.len() == 3));
    for first in 1..=4 {
        for second in first + 1..=4 {
            nodes_go_and_come_back(&mut cluster, &[first, second]).await;
        }
    }
}

/// 503 that names the shard, with a time to come back.
fn assert_names_the_missing_shard(answer: &Answer, shard: ShardId) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
    let problem: Value = answer.json();
    assert_eq!(problem["type"], "/problems/unavailable", "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains(&format!("shard {shard}")), "{problem}");
}

/// One call of each kind about a book; writes begin with the method that they use.
async fn ask(http: &Http, token: &str, id: u64) -> Vec<Answer> {
    let authorization = format!("Bearer {token}");
    let admin = [("authorization", authorization.as_str())];
    let new = json!({"id": id, "title": "New", "topic": "topic 1", "cost_cents": 1, "quantity": 1});
    let path = format!("/books/{id}");
    let delete = http.send(Method::DELETE, &path, &admin, None);
    let (lookup, quantity) = (format!("/lookup/{id}"), format!("/quantity/{id}"));
    let (buy, price) = (json!({"id": id}), json!({"id": id, "cost_cents": 5}));
    let stock = json!({"id": id, "amount": 5});
    let (a, b, c, d, e, f) = tokio::join!(
        http.get_with(&lookup, &[PAST_CACHE]),
        http.get_with(&quantity, &[PAST_CACHE]),
        http.post("/buy", &[], &buy),
        http.post("/update_cost", &admin, &price),
        http.post("/update_quantity", &admin, &stock),
        http.post("/books", &admin, &new),
    );
    vec![a, b, c, d, e, f, delete.await.unwrap()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_without_copies_is_named_and_the_others_go_on() {
    let mut cluster = Cluster::start(setup()).await;
    let http = cluster.http();
    let of = |number: u32| (1..=BOOKS).filter(|id| shard(*id) == ShardId(number)).collect::<Vec<_>>();
    // The nodes of shard 1 are the second and the third.
    let holders: Vec<NodeId> =
        cluster.config().replicas_of(ShardId(1)).iter().map(|node| node.id.clone()).collect();
    assert_eq!(holders, [NodeId::from("catalog-2"), NodeId::from("catalog-3")]);
    let mut orders: Vec<Order> = Vec::new();
    for number in [0, 1] {
        orders.push(success(http.post("/buy", &[], &json!({"id": of(number)[0]})).await).json());
    }
    let cached = success(http.get(&format!("/lookup/{}", of(1)[1])).await);
    for victim in ["catalog-2", "catalog-3"] {
        cluster.kill(victim);
    }
    wait_for("the front end misses the shard, and it alone", async || {
        let status = cluster.status().await?;
        let waiting: Vec<u32> =
            status.shards.iter().filter(|s| s.waiting_for.is_some()).map(|s| s.shard).collect();
        let members = |shard: usize| status.shards[shard].members.len();
        let well = (members(0), members(2), members(3)) == (1, 1, 2);
        if waiting == [1] && well { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;

    // The other shards: everything.
    for number in [0, 2, 3] {
        for answer in ask(&http, &cluster.token(), of(number)[1]).await {
            assert!(answer.status.is_success(), "{answer:?}");
        }
    }
    // The missing one: what needs it says so, each call by itself.
    let missing = ShardId(1);
    let asked = ask(&http, &cluster.token(), of(1)[2]).await;
    for (place, answer) in asked.iter().enumerate() {
        assert_names_the_missing_shard(answer, missing);
        let outcome = answer.json::<Value>()["outcome"].clone();
        assert!(place < 2 || ["not-done", "unknown"].map(Value::from).contains(&outcome), "{answer:?}");
    }
    // What spans all shards is whole or refused: a list with a quarter of its books missing would lie.
    for path in ["/list", "/search?q=number", "/search/topic-1", "/topics"] {
        assert_names_the_missing_shard(&http.get_with(path, &[PAST_CACHE]).await, missing);
    }
    assert_names_the_missing_shard(&http.get("/readyz").await, missing);
    // What is cached is still true: nothing can change it.
    let again = success(http.get(&format!("/lookup/{}", of(1)[1])).await);
    assert_eq!(again.text, cached.text);
    // Orders are on the order nodes, wherever their books are.
    for order in &orders {
        let shown = success(http.get(&format!("/orders/{}", order.order_id)).await);
        assert_eq!(&shown.json::<Order>(), order);
    }
    assert_eq!(success(http.get("/livez").await).status, 200);

    for victim in ["catalog-3", "catalog-2"] {
        cluster.start_node(victim).await;
    }
    cluster.level().await;
    let listed = pages(&http, "/list?").await.0.len();
    // One book of each of the other shards was deleted, and of the missing one whatever was in doubt.
    let deleted = usize::try_from(BOOKS).unwrap() - listed;
    assert!((3..=4).contains(&deleted), "{deleted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_number_of_shards_over_existing_data_is_refused_and_setting_it_back_works() {
    // The last catalog node is given no shard.
    let more = "[shards]\ncount = 2\ncopies = 2\n";
    let mut cluster = Cluster::start(Setup { more, ..setup() }).await;
    cluster.client().buy(book(1), 1).await.unwrap();
    let before = cluster.level().await;
    let mut orders = Vec::new();
    for node in ["order-1", "order-2"] {
        orders.push(has_one_order(&cluster, node).await);
    }
    for node in ["frontend-1", "order-1", "order-2", "catalog-1", "catalog-2", "catalog-3", "catalog-4"] {
        cluster.stop(node).await;
    }
    let path = cluster.path("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    for count in [1, 3, 4, 8] {
        std::fs::write(&path, text.replace("count = 2", &format!("count = {count}"))).unwrap();
        for (program, node, held) in [
            ("catalog", "catalog-1", "data/catalog-1/shard-"),
            ("catalog", "catalog-3", "data/catalog-3/shard-"),
            ("order", "order-1", "data/order-1/orders.db"),
            ("order", "order-2", "data/order-2/orders.db"),
        ] {
            let ran = run(program, &["--config", path.to_str().unwrap(), "--id", node]).await;
            assert_eq!(ran.code, Some(2), "{count}: {ran:?}");
            let told = ran.err.lines().last().unwrap();
            let found = if program == "order" { "orders of 2 shards" } else { "of 2, but" };
            let wanted = format!("but `shards.count` is {count}; set it back");
            assert!([held, found, &wanted].iter().all(|part| told.contains(part)), "{ran:?}");
        }
        // Nothing tells a node without data that the count is wrong.
        cluster.start_node("catalog-4").await;
        cluster.stop("catalog-4").await;
    }
    assert!(cluster.path("data/catalog-4/shard-3.db").is_file(), "it has made files of the wrong count");
    // Nothing was touched by the refusals, and what was made meanwhile is in nobody's way.
    std::fs::write(&path, text).unwrap();
    cluster.start_all().await;
    let after = cluster.level().await;
    let digests = |status: &common::api::Status| {
        status.shards.iter().map(|shard| shard.replicas[0].digest.clone()).collect::<BTreeSet<_>>()
    };
    assert_eq!(digests(&after), digests(&before));
    assert_eq!(after.shards.len(), 2);
    for (node, order) in ["order-1", "order-2"].into_iter().zip(orders) {
        assert_eq!(has_one_order(&cluster, node).await, order, "{node}");
        let folder = std::fs::read_dir(cluster.path("data").join(node)).unwrap();
        let names: Vec<_> = folder.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        assert!(!names.iter().any(|name| name.contains("damaged")), "{names:?}");
    }
}

/// Waits until an order node has the one order that was made.
async fn has_one_order(cluster: &Cluster, node: &str) -> Order {
    wait_for(&format!("{node} has the order"), async || {
        let mut orders = cluster.orders_of(node).await;
        if orders.len() == 1 { Ok(orders.remove(0)) } else { Err(format!("{orders:?}")) }
    })
    .await
}
