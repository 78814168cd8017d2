//! The real sentinel with stand-ins for the nodes: what can't work, and how plainly it is said.

use std::net::TcpListener;

use serde_json::Value;

use crate::stage::{Stage, is_started};

#[test]
fn a_port_in_use_is_one_line_and_nothing_is_started() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let stage = Stage::with_config(&format!(
        r#"
        [[frontend]]
        id = "frontend-1"
        public = "127.0.0.1:0"
        internal = "127.0.0.1:0"
        heartbeat = "127.0.0.1:0"
        [[catalog]]
        id = "catalog-1"
        listen = "127.0.0.1:{port}"
        [[catalog]]
        id = "catalog-2"
        listen = "127.0.0.1:0"
        [[order]]
        id = "order-1"
        listen = "127.0.0.1:0"
        "#
    ));
    let ran = stage.run(&["up"]);
    assert_eq!(ran.code, Some(1));
    let line = format!("error: catalog-1: port {port} of `listen` (127.0.0.1:{port}) is in use\n");
    assert_eq!(ran.err, line);
    assert_eq!(stage.processes(), []);
}

#[test]
fn a_front_end_of_another_store_is_not_taken_for_ones_own() {
    let other = Stage::new();
    other.ok(&["up"]);
    let addresses: Value = serde_json::from_str(&other.read("data/run/frontend-1.addr")).unwrap();
    let stage = Stage::at(addresses["public"].as_str().unwrap());
    assert_eq!(stage.run(&["status"]).code, Some(1), "nothing of it runs");
    stage.ok(&["start", "catalog-1"]);
    for node in ["frontend-1", "catalog-2", "order-1"] {
        assert!(stage.row(node).contains(" stopped "), "{}", stage.row(node));
    }
    let table = stage.ok(&["status"]);
    assert!(table.contains("no front end answers") && !table.contains("SHARD"), "{table}");
    // Nor is it told of, or sold from.
    for args in [&["status", "--json"][..], &["test"]] {
        let ran = stage.run(args);
        assert!(ran.code == Some(1) && ran.err.contains("no front end answers"), "{ran:?}");
    }
    assert!(!stage.path("bookends.args").exists());
}

#[test]
fn a_missing_or_wrong_configuration_is_wrong_use() {
    let stage = Stage::with_config("[clutser]\n[cache]\ncapacity_bytes = -1\n");
    for verb in ["up", "status", "down", "watch"] {
        assert_eq!(stage.run(&[verb]).code, Some(2), "{verb}");
    }
    std::fs::remove_file(stage.path("config.toml")).unwrap();
    let ran = stage.run(&["up"]);
    assert_eq!((ran.code, ran.err.lines().count()), (Some(2), 1), "{ran:?}");
    assert!(ran.err.contains("config.toml"), "{ran:?}");
}

#[test]
fn another_machine_needs_addresses_that_are_reached_from_elsewhere() {
    let stage = Stage::with_config(
        r#"
        [[catalog]]
        id = "catalog-1"
        listen = "127.0.0.1:0"
        [[catalog]]
        id = "catalog-2"
        listen = "127.0.0.1:0"
        host = "elsewhere.example"
        "#,
    );
    let ran = stage.run(&["up"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("`listen` of catalog-2 (127.0.0.1:0) must name a fixed port"), "{}", ran.err);
    assert!(
        ran.err.contains("`internal` of frontend-1 (127.0.0.1:8081) must name an address"),
        "{}",
        ran.err
    );
    assert_eq!(stage.processes(), []);
}

#[test]
fn a_node_that_dies_at_every_start_ends_the_start() {
    let stage = Stage::new();
    stage.write("catalog-2.does", "exit 1");
    let ran = stage.run(&["up"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("catalog-2: the stand-in was told to end"), "{}", ran.err);
    assert!(ran.err.contains("error: catalog-2 is ") && ran.err.contains("exit code 1"), "{}", ran.err);
    assert_eq!(stage.processes(), []);
}

#[test]
fn a_node_that_refuses_its_configuration_is_not_started_again() {
    let stage = Stage::new();
    stage.write("order-1.does", "exit 2");
    let ran = stage.run(&["up"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("error: order-1 is failed (exit code 2, 0 restarts)"), "{}", ran.err);
    assert_eq!(stage.read("order-1.starts").lines().count(), 1);
    assert_eq!(stage.processes(), []);
}

#[test]
fn a_node_that_was_given_up_can_be_started_by_hand() {
    let stage = Stage::new();
    stage.ok(&["up"]);
    stage.write("order-1.does", "exit 2");
    stage.ok(&["kill", "order-1"]);
    stage.wait("giving up", |stage| stage.row("order-1").contains(" failed "));
    std::fs::remove_file(stage.path("order-1.does")).unwrap();
    assert!(is_started(&stage.ok(&["start", "order-1"])));
    stage.wait("running", |stage| stage.row("order-1").contains(" running "));
}

#[test]
fn orders_for_unknown_nodes_or_a_stopped_store_are_told_apart() {
    let stage = Stage::new();
    let unknown = stage.run(&["kill", "catalog-9"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("there is no node `catalog-9`; there are catalog-1, "), "{}", unknown.err);
    for verb in [&["kill", "catalog-1"][..], &["stop", "catalog-1"], &["test"]] {
        let ran = stage.run(verb);
        assert_eq!(ran.code, Some(1), "{verb:?}");
        assert!(ran.err.contains("not running"), "{verb:?}: {}", ran.err);
    }
}

#[test]
fn the_control_channel_is_closed_to_strangers() {
    use std::io::{Read, Write};
    let stage = Stage::new();
    stage.ok(&["up"]);
    let pid = stage.pid("catalog-1");
    let address = stage.read("data/run/sentinel.addr");
    for header in ["", "Authorization: Bearer wrong\r\n", "Authorization: Bearer \r\n"] {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        let request =
            format!("POST /nodes/catalog-1/kill HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    assert_eq!(stage.pid("catalog-1"), pid);
    let secret = stage.read("data/cluster.secret");
    let secret = secret.trim();
    assert!(!secret.is_empty());
    for process in stage.processes() {
        let line = std::fs::read_to_string(format!("/proc/{}/cmdline", process.as_raw_nonzero())).unwrap();
        assert!(!line.contains(secret));
    }
}

#[test]
fn clean_removes_the_data_only_when_it_may() {
    let stage = Stage::new();
    stage.ok(&["up"]);
    assert_eq!(stage.run(&["clean"]).code, Some(2));
    assert_eq!(stage.processes().len(), 5);
    stage.ok(&["clean", "--yes"]);
    assert_eq!(stage.processes(), []);
    assert!(!stage.path("data").exists() && stage.path("config.toml").exists());
    stage.ok(&["clean", "--yes"]);

    std::fs::create_dir(stage.path("data")).unwrap();
    stage.write("data/diary.txt", "dear diary");
    assert_eq!(stage.run(&["clean", "--yes"]).code, Some(1));
    assert_eq!(stage.read("data/diary.txt"), "dear diary");
}

#[test]
fn logs_show_the_last_lines_of_one_or_of_all() {
    let stage = Stage::new();
    stage.ok(&["up"]);
    assert_eq!(stage.ok(&["logs", "order-1", "--no-follow"]), "order-1: the stand-in starts\n");
    let all = stage.ok(&["logs", "--no-follow"]);
    assert!(
        all.contains("order-1    | order-1: the stand-in starts\n") && all.contains("sentinel   | "),
        "{all}"
    );
    assert_eq!(stage.run(&["logs", "order-9", "--no-follow"]).code, Some(2));
}

#[test]
fn test_becomes_the_client() {
    let stage = Stage::new();
    stage.ok(&["up"]);
    assert_eq!(stage.run(&["test", "5"]).code, Some(7));
    let args = stage.read("bookends.args");
    let token = stage.path("data/admin.token");
    assert!(args.starts_with("test --threads 5 --url http://127.0.0.1:"), "{args}");
    assert!(args.trim_end().ends_with(&format!(" --token-file {}", token.display())), "{args}");
    let secret = stage.read("data/admin.token");
    assert!(!secret.is_empty() && !args.contains(secret.trim()));
}
