//! The program `bookends`: what it prints, where, and how it exits.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::stand_in::{Fault, StandIn, TOKEN, nobody};

struct Ended {
    code: i32,
    out: String,
    err: String,
}

fn command(url: &str, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bookends"));
    command.args(line.split_whitespace()).stdin(Stdio::null()).kill_on_drop(true);
    for name in ["BOOKENDS_ADMIN_TOKEN", "BOOKENDS_CONFIG"] {
        command.env_remove(name);
    }
    command.env("BOOKENDS_URL", url);
    command
}

async fn ended(mut command: Command) -> Ended {
    let output = command.output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

async fn typed(store: &StandIn, line: &str) -> Ended {
    let mut command = command(&store.url(), line);
    command.env("BOOKENDS_ADMIN_TOKEN", TOKEN);
    ended(command).await
}

#[tokio::test]
async fn tables_are_for_people() {
    let store = StandIn::start().await;
    let list = typed(&store, "list --page-size 2").await;
    let expected = "id  title           topic                price  stock
 1  Volume1 of all  distributed systems   1.00     40
 2  Volume2 of all  distributed systems   2.00     40
there are more: --all shows them
";
    assert_eq!((list.code, list.out.as_str(), list.err.as_str()), (0, expected, ""));
    assert_eq!(typed(&store, "list --page-size 2 --all").await.out.lines().count(), 8);
    assert_eq!(typed(&store, "search graduate-school --query volume5").await.out.lines().count(), 2);
    let topics = typed(&store, "topics").await;
    assert_eq!(
        topics.out,
        "topic                books\ndistributed systems      4\ngraduate school          3\n"
    );
    assert!(typed(&store, "lookup 3").await.out.contains("price    3.00\n"));
    let order = typed(&store, "buy 1 2:5").await;
    assert!(order.out.contains("total   11.00\n"), "{}", order.out);
    assert!(typed(&store, "order order-0").await.out.contains("total   11.00\n"));
    assert_eq!(typed(&store, "orders").await.out.lines().count(), 2);
    assert!(typed(&store, "set-cost 1 1234").await.out.contains("price    12.34\n"));
    assert!(typed(&store, "add-stock 1 -9").await.out.contains("stock    30\n"));
    let added = typed(&store, "add-book --title New --topic x --cost-cents 5").await;
    assert!(added.out.starts_with("added book 8\n"), "{}", added.out);
    assert_eq!(typed(&store, "remove-book 8").await.out, "removed book 8\n");
    assert_eq!(typed(&store, "invalidate 1").await.out, "book 1: dropped from the cache\n");
    assert!(typed(&store, "status").await.out.contains("cache: 0 entries"));
}

#[tokio::test]
async fn json_is_for_scripts() {
    let store = StandIn::start().await;
    for (line, key) in [
        ("list", "books"),
        ("lookup 1", "cost_cents"),
        ("search --query volume", "books"),
        ("topics", "topics"),
        ("buy 1", "order_id"),
        ("orders", "orders"),
        ("status", "shards"),
        ("invalidate 1", "dropped"),
        ("test --requests 10", "total"),
        ("load --requests 20", "latency"),
    ] {
        let Ended { code, out, err } = typed(&store, &format!("{line} --json")).await;
        assert_eq!((code, err.as_str(), out.lines().count()), (0, "", 1), "{line}");
        assert!(serde_json::from_str::<Value>(&out).unwrap().get(key).is_some(), "{line}: {out}");
    }
}

#[tokio::test]
async fn failures_are_one_clear_line() {
    let store = StandIn::start().await;
    let missing = typed(&store, "lookup 99").await;
    assert_eq!((missing.code, missing.out.as_str()), (1, ""));
    assert_eq!(missing.err, "bookends: book 99 not found (404 not-found)\n");
    let greedy = typed(&store, "buy 1 --quantity 41").await;
    assert_eq!(
        (greedy.code, greedy.err.as_str()),
        (1, "bookends: book 1 has 40 copies (409 out-of-stock)\n")
    );
    let url = nobody().await;
    let away = ended(command(&url, "list --timeout 1")).await;
    assert_eq!(away.code, 1);
    assert!(away.err.starts_with(&format!("bookends: no answer from {url}: ")), "{}", away.err);
}

#[tokio::test]
async fn wrong_use_is_told_apart() {
    let store = StandIn::start().await;
    for line in [
        "",
        "sell 1",
        "lookup 0",
        "buy 1 2 --quantity 2",
        "import books.txt",
        "export books",
        "list --url ftp://a",
        "load --mix fly=1",
    ] {
        let Ended { code, out, err } = typed(&store, line).await;
        assert_eq!((code, out.as_str()), (2, ""), "{line}: {err}");
        assert!(!err.is_empty());
    }
    let help = typed(&store, "--help").await;
    assert!(help.code == 0 && help.out.contains("Examples:") && !help.out.contains(TOKEN));
    assert!(store.seen().is_empty());
}

#[tokio::test]
async fn the_token_comes_from_where_it_is_kept() {
    let store = StandIn::start().await;
    let folder = tempfile::tempdir().unwrap();
    let line = "set-cost 1 5";
    let refused = ended(in_folder(folder.path(), &store, line)).await;
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("(401 unauthorized); no admin token at hand"), "{}", refused.err);

    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let named = format!("{line} --token-file {}", file.display());
    assert_eq!(ended(in_folder(folder.path(), &store, &named)).await.code, 0);
    let missing = ended(in_folder(folder.path(), &store, &format!("{line} --token-file no/such"))).await;
    assert_eq!((missing.code, missing.err.starts_with("bookends: can't read no/such: ")), (1, true));
    assert_eq!(ended(in_folder(folder.path(), &store, &format!("{line} --token wrong"))).await.code, 1);

    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/admin.token"), TOKEN).unwrap();
    std::fs::write(folder.path().join("config.toml"), CONFIG).unwrap();
    assert_eq!(ended(in_folder(folder.path(), &store, line)).await.code, 0);
    let elsewhere = tempfile::tempdir().unwrap();
    let mut by_variable = in_folder(elsewhere.path(), &store, line);
    by_variable.env("BOOKENDS_CONFIG", folder.path().join("config.toml"));
    assert_eq!(ended(by_variable).await.code, 0);
}

/// The least that a store can be configured with.
const CONFIG: &str = r#"
[cluster]
data_dir = "data"
[shards]
copies = 1
[[frontend]]
id = "frontend-1"
[[catalog]]
id = "catalog-1"
listen = "127.0.0.1:8101"
[[order]]
id = "order-1"
listen = "127.0.0.1:8201"
"#;

fn in_folder(folder: &Path, store: &StandIn, line: &str) -> Command {
    let mut command = command(&store.url(), line);
    command.current_dir(folder);
    command
}

#[tokio::test]
async fn a_catalogue_goes_out_and_comes_in_again() {
    let (full, other) = (StandIn::start().await, StandIn::start().await);
    let folder = tempfile::tempdir().unwrap();
    typed(&full, "add-book --id 50 --title A,b --topic x --year 1999 --cost-cents 7 --quantity 3").await;
    for name in ["books.csv", "books.ndjson"] {
        let path = folder.path().join(name);
        let exported = typed(&full, &format!("export {}", path.display())).await;
        assert_eq!(exported.out, format!("exported 8 books to {}\n", path.display()));
        let imported = typed(&other, &format!("import {}", path.display())).await;
        assert_eq!((imported.code, imported.out.as_str()), (0, "loaded 8 books\n"), "{}", imported.err);
        let of = |text: String| serde_json::from_str::<Value>(&text).unwrap()["title"].clone();
        assert_eq!(of(typed(&other, "lookup 50 --json").await.out), "A,b");
        assert_eq!(typed(&other, "remove-book 50").await.code, 0);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside the files");
}

/// Makes up a catalogue into a pipe; gives how many bytes came, and how much memory that took at the most.
async fn made(books: u64) -> (u64, u64) {
    let mut command = command("http://127.0.0.1:1", &format!("generate --books {books}"));
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id().unwrap());
    let mut out = child.stdout.take().unwrap();
    let (mut bytes, mut peak_kib, mut part) = (0, 0, vec![0; 64 * 1024]);
    loop {
        let length = out.read(&mut part).await.unwrap();
        if length == 0 {
            break;
        }
        bytes += length as u64;
        // It never falls; once the last bytes are written the process may be gone.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak_kib = kib.unwrap_or(peak_kib);
    }
    assert!(child.wait().await.unwrap().success());
    (bytes, peak_kib)
}

#[tokio::test]
async fn a_large_catalogue_takes_no_more_memory_than_a_small_one() {
    const MORE_MAX_KIB: u64 = 8 * 1024;
    let (_, few) = made(5_000).await;
    let (bytes, many) = made(300_000).await;
    assert!(few > 0 && bytes > 8 * MORE_MAX_KIB * 1024 / 2, "{few} KiB, {bytes} bytes");
    assert!(many < few + MORE_MAX_KIB, "{many} KiB for {bytes} bytes, {few} KiB for a small one");
}

#[tokio::test]
async fn an_import_shows_its_progress_on_a_terminal_and_nowhere_else() {
    let store = StandIn::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.ndjson");
    let good = r#"{"title":"t","topic":"x","cost_cents":1,"quantity":1}"#;
    std::fs::write(&path, format!("{good}\n{good}\n")).unwrap();
    let size = format!("of {} B, 2 books", 2 * (good.len() + 1));

    let piped = typed(&store, &format!("import {}", path.display())).await;
    assert_eq!((piped.code, piped.out.as_str(), piped.err.as_str()), (0, "loaded 2 books\n", ""));
    // A terminal of its own.
    let line = format!(
        "stty cols 80 rows 24; exec '{}' import --anew '{}'",
        env!("CARGO_BIN_EXE_bookends"),
        path.display()
    );
    let mut on_terminal = Command::new("script");
    on_terminal.args(["-q", "-e", "-c", &line, "/dev/null"]).stdin(Stdio::null()).kill_on_drop(true);
    on_terminal.env("BOOKENDS_URL", store.url()).env("BOOKENDS_ADMIN_TOKEN", TOKEN).env("TERM", "xterm");
    on_terminal.env_remove("BOOKENDS_CONFIG");
    let shown = ended(on_terminal).await;
    assert_eq!(shown.code, 0, "{}{}", shown.out, shown.err);
    assert!(shown.out.contains(&size), "{:?}", shown.out);
    assert!(shown.out.trim_end().ends_with("loaded 2 books"), "{:?}", shown.out);
}

#[tokio::test]
async fn rejected_lines_are_reported() {
    let store = StandIn::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.ndjson");
    let good = r#"{"title":"t","topic":"x","cost_cents":1,"quantity":1}"#;
    std::fs::write(&path, format!("{good}\nnonsense\n")).unwrap();
    let Ended { code, out, err } = typed(&store, &format!("import {}", path.display())).await;
    assert!(code == 1 && out.starts_with("loaded 1 books\nline  rejected because\n   2  "), "{out}");
    assert!(err.ends_with("books.ndjson: 1 lines were rejected, 1 books loaded\n"), "{err}");
}

#[tokio::test]
async fn an_export_that_fails_leaves_what_was_there() {
    let store = StandIn::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.csv");
    std::fs::write(&path, "precious").unwrap();
    store.always(Fault::Refuse(500, None));
    assert_eq!(typed(&store, &format!("export {}", path.display())).await.code, 1);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn trials_tell_by_their_exit_code() {
    let store = StandIn::start().await;
    let good = typed(&store, "test --threads 3 --requests 50").await;
    assert_eq!(good.code, 0, "{}", good.err);
    assert!(good.out.contains("every answer was right") && good.out.lines().count() == 6, "{}", good.out);
    let load = typed(&store, "load --requests 100 --connections 3 --mix lookup=1").await;
    assert!(load.code == 0 && load.out.starts_with("100 requests in "), "{}{}", load.out, load.err);
    store.with_bug(crate::stand_in::Bug::WrongTotal);
    let bad = typed(&store, "test --requests 100").await;
    assert!(bad.code == 1 && bad.out.contains("wrong, buying: order "), "{}", bad.out);
}
