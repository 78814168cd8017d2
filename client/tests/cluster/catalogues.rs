//! Large catalogues: made up, loaded, and loaded on after whatever broke the load off.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bookends::generate::Catalogue;
use common::api::{Book, NewBook};
use protocol::ids::BookId;
use tokio::task::JoinSet;

use crate::harness::{Cluster, Ran, Relay, Setup, book, program, run, run_within, wait_for};

const BOOKS: u64 = 60_000;
/// How long an import of so many may take; a few seconds on an idle machine.
const IMPORT_MAX: Duration = Duration::from_secs(180);

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
    let args = ["import", file, "--url", url, "--token-file", token, "--patience", &patience];
    run_within(IMPORT_MAX, &program("bookends"), &args).await
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
    let from = cluster.status().await.unwrap().shards[0].commit_index;
    let mut importing = JoinSet::new();
    importing.spawn(async move {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run_within(IMPORT_MAX, &program("bookends"), &args).await
    });
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
    let mut importing = begun(&cluster, url, 15).await;
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

/// `bookends export` or `import` with a file, at a store.
async fn move_books(cluster: &Cluster, verb: &str, file: &Path) -> String {
    let token = cluster.path("data/admin.token");
    let args =
        [verb, file.to_str().unwrap(), "--url", &cluster.url(), "--token-file", token.to_str().unwrap()];
    let ran = run("bookends", &args).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.out
}

/// More than a few pages of an export, and what a form of file could get wrong.
fn round_trip_books() -> String {
    let mut text = "id,title,topic,author,isbn,year,description,cost_cents,quantity\n".to_owned();
    text.push_str("1,\"a, \"\"b\"\"\nc\",topic,,,-44,\"\u{e9}\u{1f4da} \",0,0\n");
    text.push_str("9007199254740991,last,topic,An Author,9780306406157,2025,,100000000,1000000000\n");
    for book in Catalogue::new(1_700, 3) {
        let (id, title) = (book.id.unwrap().get() + 1, book.title);
        text.push_str(&format!(
            "{id},\"{title}\",{},,,,,{},{}\n",
            book.topic,
            book.cost_cents,
            book.quantity + 1
        ));
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_exported_is_imported_elsewhere_as_it_was_in_both_forms() {
    const ALL: u64 = 1_702;
    let more = "[shards]\ncount = 2\n";
    let mut cluster = Cluster::start(Setup { more, catalogue: round_trip_books(), ..empty() }).await;
    // As they are now, not as they were loaded.
    let client = cluster.client();
    client.buy(book(7), 1).await.unwrap();
    client.set_cost(book(8), 12_345).await.unwrap();
    let before = all_books(&cluster).await;
    assert_eq!(before.len() as u64, ALL);
    let files = ["first.csv", "first.ndjson"].map(|name| cluster.path(name));
    for file in &files {
        let told = move_books(&cluster, "export", file).await;
        assert!(told.starts_with(&format!("exported {ALL} books to ")), "{told}");
        assert!(fs::read_to_string(file).unwrap().contains("12345"), "{}", file.display());
    }
    cluster.kill_all();

    for from in &files {
        // Into a store with fewer shards, and with none of these books.
        let mut other = cluster.another(empty());
        other.start_all().await;
        other.level().await;
        assert_eq!(move_books(&other, "import", from).await, format!("loaded {ALL} books\n"));
        let after = all_books(&other).await;
        // Versions belong to their store.
        let plain = |book: &Book| Book { version: 0, ..book.clone() };
        assert!(before.values().map(plain).eq(after.values().map(plain)));
        for file in &files {
            let again = other.path(file.file_name().unwrap().to_str().unwrap());
            move_books(&other, "export", &again).await;
            assert!(
                fs::read(&again).unwrap() == fs::read(file).unwrap(),
                "{} of {}",
                again.display(),
                from.display()
            );
        }
        other.kill_all();
    }
}
