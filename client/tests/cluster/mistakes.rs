//! Wrong use, wrong configuration, wrong moment: one clear end each, with the exit code that says which.

use std::fs;
use std::net::TcpListener;

use tempfile::TempDir;

use crate::harness::{Cluster, Setup, run};

const PROGRAMS: [(&str, &str); 3] =
    [("frontend", "frontend-1"), ("catalog", "catalog-1"), ("order", "order-1")];

fn folder(config: &str) -> (TempDir, String) {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("config.toml");
    fs::write(&path, config).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[tokio::test]
async fn all_mistakes_of_a_configuration_are_told_in_one_run() {
    let text = "[cluster]\nnam = \"x\"\n[timeouts]\nread_ms = 0\n[balancing]\npolicy = \"dice\"\n\
                [[catalog]]\nid = \"a\"\nlisten = \"127.0.0.1:8080\"\n[[catalog]]\nid = \"a\"\nlisten = \"nowhere\"\n";
    let (_dir, path) = folder(text);
    for (program, id) in PROGRAMS {
        let ran = run(program, &["--config", &path, "--id", id]).await;
        assert_eq!(ran.code, Some(2), "{program}: {ran:?}");
        let expected =
            [(2, "nam"), (4, "read_ms"), (6, "policy"), (9, "8080"), (11, "`catalog.id`"), (12, "listen")];
        for (line, part) in expected {
            let named = |told: &&str| told.contains(&format!("config.toml:{line}: ")) && told.contains(part);
            assert_eq!(ran.err.lines().filter(named).count(), 1, "{program} on line {line}: {}", ran.err);
        }
        assert_eq!(ran.err.lines().count(), expected.len(), "{program}: {}", ran.err);
    }
    let ran = run("sentinel", &["up", "--config", &path]).await;
    assert_eq!((ran.code, ran.err.lines().count()), (Some(2), 6), "{ran:?}");
}

#[tokio::test]
async fn an_unknown_node_and_a_missing_configuration_are_wrong_use() {
    let (dir, path) = folder("");
    let missing = dir.path().join("missing.toml").to_str().unwrap().to_owned();
    for (program, id) in PROGRAMS {
        let ran = run(program, &["--config", &path, "--id", "nobody"]).await;
        assert_eq!((ran.code, ran.err.lines().count()), (Some(2), 1), "{program}: {ran:?}");
        assert!(ran.err.contains("nobody") && ran.err.contains("config.toml"), "{program}: {ran:?}");
        let ran = run(program, &["--config", &missing, "--id", id]).await;
        assert_eq!((ran.code, ran.err.lines().count()), (Some(2), 1), "{program}: {ran:?}");
        assert!(ran.err.contains("missing.toml"), "{program}: {ran:?}");
        let ran = run(program, &["--config", &path]).await;
        assert_eq!(ran.code, Some(2), "{program} without --id: {ran:?}");
    }
    assert!(!dir.path().join("data").exists(), "nothing is made for a node that is none");
}

#[tokio::test]
async fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (program, id) in PROGRAMS {
        let (kind, _) = id.split_once('-').unwrap();
        let text = Setup::default().config().replace("\"127.0.0.1:0\"", "\"127.0.0.1:0\" ");
        let listener = if kind == "frontend" { "internal" } else { "listen" };
        let section = format!("[[{kind}]]\nid = \"{id}\"\n");
        let (before, after) = text.split_once(&section).unwrap();
        let after = after.replacen(
            &format!("{listener} = \"127.0.0.1:0\""),
            &format!("{listener} = \"{address}\""),
            1,
        );
        let (_dir, path) = folder(&format!("{before}{section}{after}"));
        let ran = run(program, &["--config", &path, "--id", id]).await;
        assert_eq!(ran.code, Some(1), "{program}: {ran:?}");
        let told: Vec<&str> =
            ran.err.lines().filter(|line| line.starts_with(&format!("{program}: "))).collect();
        assert_eq!(told.len(), 1, "{program}: {ran:?}");
        assert!(told[0].contains(&address) && told[0].contains("in use"), "{program}: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_same_data_is_refused() {
    let cluster = Cluster::start(Setup::default()).await;
    let path = cluster.path("config.toml").to_str().unwrap().to_owned();
    for (program, id) in PROGRAMS {
        let ran = run(program, &["--config", &path, "--id", id]).await;
        assert_eq!(ran.code, Some(1), "{program}: {ran:?}");
        let told = ran.err.lines().last().unwrap();
        assert!(told.contains("in use by another process") && told.contains(id), "{program}: {ran:?}");
    }
    // And the first ones have not been touched.
    cluster.level().await;
}

#[tokio::test]
async fn a_bad_line_of_the_first_books_refuses_the_file() {
    let (dir, path) = folder(&Setup::default().config());
    let books = "id,title,topic,cost_cents,quantity\n1,A,x,5,5\n2,B,x,many,5\n";
    fs::write(dir.path().join("catalogue.csv"), books).unwrap();
    let ran = run("frontend", &["--config", &path, "--id", "frontend-1"]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.lines().last().unwrap().contains("catalogue.csv:3: "), "{ran:?}");
}
