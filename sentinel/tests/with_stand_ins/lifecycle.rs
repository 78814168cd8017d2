//! The real sentinel with stand-ins for the nodes: start, heal, hand over, stop.

use rustix::process::Signal;

use crate::stage::{Stage, is_started};

const NODES: [&str; 4] = ["catalog-1", "catalog-2", "order-1", "frontend-1"];

#[test]
fn up_starts_everything_and_down_stops_it_and_keeps_the_data() {
    let stage = Stage::new();
    let out = stage.ok(&["up"]);
    assert!(out.contains("staged: 4 nodes are ready") && out.contains("http://127.0.0.1:"), "{out}");
    for node in NODES {
        let pid = stage.pid(node).unwrap().as_raw_nonzero().to_string();
        stage.wait("running", |stage| stage.row(node).contains(" running "));
        assert!(stage.row(node).contains(&format!(" {pid} ")), "{}", stage.row(node));
        assert!(stage.read(&format!("data/logs/{node}.log")).contains("the stand-in starts"));
    }
    let table = stage.ok(&["status"]);
    assert!(table.contains("SHARD  EPOCH  WRITER") && table.contains("frontend-1"), "{table}");
    let json = stage.ok(&["status", "--json"]);
    assert!(json.starts_with(r#"{"shards":[{"shard":0,"epoch":3"#), "{json}");

    assert_eq!(stage.processes().len(), 5);
    assert!(stage.ok(&["down"]).contains("stopped"));
    assert_eq!(stage.processes(), []);
    assert!(stage.path("data/cluster.secret").is_file());
    assert!(NODES.iter().all(|node| stage.pid(node).is_none()));
    assert!(stage.ok(&["down"]).contains("not running"));
    assert_eq!(stage.run(&["status"]).code, Some(1));
    assert_eq!(stage.run(&["status", "--json"]).code, Some(1));
}

#[test]
fn a_second_up_is_refused_and_changes_nothing() {
    let stage = Stage::new();
    stage.ok(&["up"]);
    let pids = NODES.map(|node| stage.pid(node));
    let ran = stage.run(&["up"]);
    let pid = stage.pid("sentinel").unwrap().as_raw_nonzero();
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.err, format!("error: already running: sentinel pid {pid}\n"));
    assert_eq!(NODES.map(|node| stage.pid(node)), pids);
}

#[test]
fn what_is_killed_comes_back_unless_it_is_to_stay_down() {
    let stage = Stage::new();
    stage.ok(&["up"]);
    let first = stage.pid("catalog-1");
    let killed = stage.ok(&["kill", "catalog-1"]);
    assert!(killed.starts_with("catalog-1: killed; now ") && is_started(&killed), "{killed}");
    let second = stage.pid("catalog-1");
    assert!(second.is_some() && second != first);
    stage.signal("catalog-1", Signal::KILL);
    stage.wait("healing", |stage| stage.pid("catalog-1").is_some_and(|pid| Some(pid) != second));
    assert!(stage.row("catalog-1").ends_with(" 2         signal 9"), "{}", stage.row("catalog-1"));

    assert!(stage.ok(&["kill", "catalog-1", "--stay-down"]).contains("now stayed-down"));
    assert!(stage.row("catalog-1").contains(" stayed-down "));
    assert_eq!(stage.run(&["kill", "catalog-1"]).err, "error: catalog-1 is not running\n");
    assert!(is_started(&stage.ok(&["start", "catalog-1"])));
    let before = stage.pid("order-1");
    stage.ok(&["restart", "order-1"]);
    assert_ne!(stage.pid("order-1"), before);
    stage.wait("running", |stage| stage.row("order-1").contains(" running "));
    assert!(stage.ok(&["stop", "order-1"]).contains("now stopped"));
    assert!(stage.row("order-1").ends_with("exit code 0"), "{}", stage.row("order-1"));
}

#[test]
fn nodes_outlive_a_killed_sentinel_and_the_next_one_takes_them_over() {
    let stage = Stage::new();
    stage.ok(&["up"]);
    let pids = NODES.map(|node| stage.pid(node));
    stage.signal("sentinel", Signal::KILL);
    stage.wait("the sentinel's end", |stage| stage.processes().len() == 4);
    assert!(stage.ok(&["status"]).contains("no sentinel watches it"));
    stage.signal("order-1", Signal::KILL);
    stage.wait("order-1's end", |stage| stage.processes().len() == 3);

    stage.ok(&["up"]);
    for (node, pid) in NODES.iter().zip(pids) {
        assert_eq!(stage.pid(node) == pid, *node != "order-1", "{node}");
    }
    stage.signal("catalog-2", Signal::KILL);
    stage.wait("healing", |stage| stage.pid("catalog-2").is_some_and(|pid| Some(pid) != pids[1]));
    stage.ok(&["down"]);
    assert_eq!(stage.processes(), []);
}

#[test]
fn down_stops_what_a_killed_sentinel_left() {
    let stage = Stage::new();
    stage.ok(&["up"]);
    stage.signal("sentinel", Signal::KILL);
    stage.wait("the sentinel's end", |stage| stage.processes().len() == 4);
    assert!(stage.ok(&["down"]).contains("stopped"));
    assert_eq!(stage.processes(), []);
}

#[test]
fn after_everything_was_killed_at_once_up_starts_anew() {
    let stage = Stage::new();
    stage.ok(&["up"]);
    let pids = NODES.map(|node| stage.pid(node));
    for name in ["sentinel"].iter().chain(&NODES) {
        stage.signal(name, Signal::KILL);
    }
    stage.wait("the end of all", |stage| stage.processes().is_empty());
    assert_eq!(stage.run(&["status"]).code, Some(1));
    stage.ok(&["up"]);
    assert!(NODES.iter().zip(pids).all(|(node, pid)| stage.pid(node).is_some() && stage.pid(node) != pid));
}

#[test]
fn two_starts_at_one_time_make_one_store() {
    let stage = Stage::new();
    let codes = std::thread::scope(|scope| {
        let starts = [(), ()].map(|()| scope.spawn(|| stage.run(&["up"])));
        starts.map(|start| start.join().unwrap())
    });
    let mut done: Vec<_> = codes.iter().map(|ran| ran.code).collect();
    done.sort_unstable();
    assert_eq!(done, [Some(0), Some(1)], "{codes:?}");
    assert!(codes.iter().any(|ran| ran.err.contains("already running")), "{codes:?}");
    assert_eq!(stage.processes().len(), 5);
}

#[test]
fn sigterm_to_the_sentinel_stops_the_store_front_ends_first() {
    let stage = Stage::new();
    stage.ok(&["up"]);
    stage.signal("sentinel", Signal::TERM);
    stage.wait("the end", |stage| stage.processes().is_empty());
    let log = stage.read("data/logs/sentinel.log");
    let end = |node: &str| log.find(&format!("{node} ended")).unwrap_or_else(|| panic!("{node}:\n{log}"));
    assert!(end("frontend-1") < end("order-1"));
    assert!(end("order-1") < end("catalog-1").min(end("catalog-2")));
}

#[test]
fn a_process_that_only_has_an_old_number_is_left_alone() {
    let stage = Stage::new();
    std::fs::create_dir_all(stage.path("data/run")).unwrap();
    let mut stranger = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    for name in ["catalog-1", "sentinel"] {
        stage.write(&format!("data/run/{name}.pid"), &stranger.id().to_string());
    }
    stage.ok(&["down"]);
    stage.ok(&["up"]);
    stage.ok(&["down"]);
    let lives = stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(lives);
}

#[test]
fn one_node_is_started_alone_and_others_join_it() {
    let stage = Stage::new();
    assert!(stage.ok(&["start", "catalog-2"]).starts_with("catalog-2: started; now "));
    stage.wait("running", |stage| stage.row("catalog-2").contains(" running "));
    assert_eq!(stage.processes().len(), 2, "the node and the sentinel");
    assert!(stage.row("order-1").contains(" stopped "));
    let up = stage.run(&["up"]);
    assert!(up.err.contains("; stopped: catalog-1, order-1, frontend-1 "), "{}", up.err);
    let first = stage.pid("catalog-2");
    stage.signal("catalog-2", Signal::KILL);
    stage.wait("healing", |stage| stage.pid("catalog-2").is_some_and(|pid| Some(pid) != first));
    stage.ok(&["start", "order-1"]);
    stage.wait("running", |stage| stage.row("order-1").contains(" running "));
    stage.ok(&["down"]);
    assert_eq!(stage.processes(), []);
}
