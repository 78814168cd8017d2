//! Large catalogues: made up, loaded, and loaded on after whatever broke the load off.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bookends::generate::Catalogue;
use common::api::{Book, NewBook};
use protocol::ids::BookId;
use tokio::task::JoinSet;

use crate::harness::{Cluster, Ran, Relay, Setup, book, run, wait_for};

const BOOKS: u64 = 60_000;

/// A made-up catalogue in a file of the cluster's folder.
async fn generated(cluster: &Cluster) -> PathBuf {
    let path = cluster.path("books.csv");
    let (books, file) = (BOOKS.to_string(), path.to_str().unwrap());
    let made = run("bookends", &["generate", "--books", &books, "--seed", "5", "--output", file]).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    path
}

async fn import(cluster: &Cluster, url: &str, patience: u32) -> Ran {
    let (file, token) = (cluster.path("books.csv"), cluster.path("data/admin.token"));
    let (file, token) = (file.to_str().unwrap(), token.to_str().unwrap());
    let patience = patience.to_string();
    run("bookends", &["import", file, "--url", url, "--token-file", token, "--patience", &patience]).await
}

/// An import that has begun to load and is not done.
async fn begun(cluster: &Cluster, url: String, patience: u32) -> JoinSet<Ran> {
    let (file, token) = (cluster.path("books.csv"), cluster.path("data/admin.token"));
    let args: Vec<String> = [
        "import",
        file.to_str().unwrap(),
        "--url",
        &url,
        "--token-file",
        token.to_str().unwrap(),
        "--patience",
        &patience.to_string(),
    ]
    .map(str::to_owned)
    .to_vec();
    let mut importing = JoinSet::new();
    importing.spawn(async move {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run("bookends", &args).await
    });
    let from = cluster.status().await.unwrap().shards[0].commit_index;
    wait_for("the load is under way", async || {
        let now = cluster.status().await?.shards[0].commit_index;
        if now > from + 2 { Ok(()) } else { Err(format!("{from} to {now}")) }
    })
    .await;
    assert!(importing.try_join_next().is_none(), "too few books for this test");
    importing
}

async fn all_books(cluster: &Cluster) -> BTreeMap<BookId, Book> {
    let client = cluster.client();
    let (mut all, mut token) = (BTreeMap::new(), None::<String>);
    loop {
        let page = client.list(Some(1000), token.as_deref()).await.unwrap();
        all.extend(page.books.into_iter().map(|book| (book.id, book)));
        token = page.next_page_token;
        if token.is_none() {
            return all;
        }
    }
}

/// Every book of the file is there as the file has it, but for copies that were sold.
async fn is_loaded(cluster: &Cluster, sold: &BTreeMap<BookId, u64>) {
    cluster.level().await;
    let found = all_books(cluster).await;
    assert_eq!(found.len() as u64, BOOKS);
    for expected in Catalogue::new(BOOKS, 5) {
        let id = expected.id.unwrap();
        let Book { title, topic, author, isbn, year, description, cost_cents, quantity, .. } =
            found[&id].clone();
        let quantity = quantity + sold.get(&id).copied().unwrap_or(0);
        let there =
            NewBook { id: Some(id), title, topic, author, isbn, year, description, cost_cents, quantity };
        assert_eq!(there, expected);
    }
    let counted: u64 = cluster.client().topics().await.unwrap().iter().map(|topic| topic.books).sum();
    assert_eq!(counted, BOOKS);
}

fn empty() -> Setup {
    Setup { catalogue: crate::harness::catalogue(0, 0), ..Setup::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_goes_on_by_itself_over_the_death_of_a_catalog_and_of_the_front_end() {
    let mut cluster = Cluster::start(empty()).await;
    generated(&cluster).await;
    let relay = Relay::start(cluster.door()).await;
    let mut importing = begun(&cluster, relay.url(), 60).await;
    cluster.kill("catalog-2");
    cluster.kill("frontend-1");
    cluster.start_node("frontend-1").await;
    cluster.start_node("catalog-2").await;
    let ran = importing.join_next().await.unwrap().unwrap();
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), format!("loaded {BOOKS} books\n").as_str()),
        "{ran:?}"
    );
    is_loaded(&cluster, &BTreeMap::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_gave_up_is_run_again_and_undoes_no_sale() {
    let mut cluster = Cluster::start(empty()).await;
    generated(&cluster).await;
    let url = cluster.url();
    let mut importing = begun(&cluster, url, 1).await;
    cluster.kill("frontend-1");
    let ran = importing.join_next().await.unwrap().unwrap();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("run the same command again to go on from line "), "{}", ran.err);
    cluster.start_node("frontend-1").await;
    cluster.level().await;
    // Sold between the two runs: a line that is loaded twice would put the copies back.
    let client = cluster.client();
    let there =
        (1..=BOOKS).map(book).find(|id| Catalogue::new(id.get(), 5).last().unwrap().quantity > 3).unwrap();
    client.buy(there, 3).await.unwrap();
    let again = import(&cluster, &cluster.url(), 30).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    is_loaded(&cluster, &BTreeMap::from([(there, 3)])).await;
    let once_more = import(&cluster, &cluster.url(), 30).await;
    assert_eq!(once_more.out, format!("loaded {BOOKS} books\n"));
    is_loaded(&cluster, &BTreeMap::from([(there, 3)])).await;
}
