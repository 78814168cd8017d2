//! Very many clients, and very slow ones.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{Cluster, LIMIT, Setup, book, program, wait_for};

const CROWD: usize = 10_000;
/// Connections that are opened at a time.
const AT_ONCE: usize = 100;
/// Files of this process beside the crowd's.
const OTHER_FILES: u64 = 300;
/// So much more memory the crowd may take, each of whom has just been answered: 200 MB.
const MEMORY_MAX_KIB: u64 = 200_000_000 / 1024;
/// Until when the slowest client must be gone: a body may take 20 s, a line of a load 30 s.
const SLOW_CLIENT_MAX: Duration = Duration::from_secs(70);
const GET: &[u8] = b"GET /lookup/1 HTTP/1.1\r\nhost: store\r\n\r\n";

fn raise_file_limit() {
    let limits = getrlimit(Resource::Nofile);
    let needed = u64::try_from(CROWD).unwrap() + OTHER_FILES;
    let possible = limits.maximum.unwrap_or(u64::MAX);
    assert!(
        possible >= needed,
        "this test needs {needed} open files, and its limit is {possible} (ulimit -Hn)"
    );
    setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, maximum: limits.maximum }).unwrap();
}

/// Memory that a process really has.
fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Asks for a book on an open connection; the answer's head and body come in one piece.
async fn ask(stream: &mut TcpStream) {
    stream.write_all(GET).await.unwrap();
    let mut answer = [0; 2048];
    let length = timeout(Duration::from_secs(10), stream.read(&mut answer)).await.unwrap().unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..length]));
}

/// Connections that have each been answered and are kept open. Who waits for the others asks again from time to time,
/// as a silent connection is closed after ten seconds.
async fn crowd(address: &str) -> Vec<TcpStream> {
    let mut opening = JoinSet::new();
    let done = Arc::new(AtomicUsize::new(0));
    for _ in 0..AT_ONCE {
        let (address, done) = (address.to_owned(), Arc::clone(&done));
        opening.spawn(async move {
            let mut open = Vec::new();
            for _ in 0..CROWD / AT_ONCE {
                let mut stream = TcpStream::connect(&address).await.unwrap();
                ask(&mut stream).await;
                open.push(stream);
            }
            done.fetch_add(1, Ordering::Relaxed);
            while done.load(Ordering::Relaxed) < AT_ONCE {
                tokio::time::sleep(Duration::from_millis(500)).await;
                for stream in &mut open {
                    ask(stream).await;
                }
            }
            open
        });
    }
    opening.join_all().await.into_iter().flatten().collect()
}

/// Sends a byte a second until it is cut off. Returns how long that took, and what it was told.
async fn drip(address: String, head: String, body: &'static str) -> (Duration, String) {
    let begin = Instant::now();
    let (mut read, mut write) = TcpStream::connect(&address).await.unwrap().into_split();
    write.write_all(head.as_bytes()).await.unwrap();
    let mut told = Vec::new();
    let dripping = async {
        // It fails once the other side has closed; then there is no more to send.
        for byte in body.bytes().cycle() {
            if write.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        std::future::pending::<()>().await;
    };
    let reading = read.read_to_end(&mut told);
    tokio::select! {
        () = dripping => {}
        // A reset is an end as well.
        ended = timeout(SLOW_CLIENT_MAX, reading) => drop(ended.expect("a slow client is cut off")),
    }
    (begin.elapsed(), String::from_utf8_lossy(&told).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_and_slow_clients_hold_nobody_up() {
    raise_file_limit();
    let cluster = Cluster::start(Setup::default()).await;
    let address = cluster.address("frontend-1", "public");
    let (client, http) = (cluster.client(), cluster.http());
    assert_eq!(http.get("/lookup/1").await.status, 200);
    let before = resident_kib(cluster.pid("frontend-1"));

    let token = cluster.token();
    let post = |path: &str, kind: &str, more: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: s\r\ncontent-type: {kind}\r\ncontent-length: 5000\r\n{more}\r\n"
        )
    };
    let admin = format!("authorization: Bearer {token}\r\n");
    let mut slow = JoinSet::new();
    for (what, head, body) in [
        ("head", "GET /lookup/1 HTTP/1.1\r\n".to_owned(), "x"),
        ("body", post("/buy", "application/json", ""), " "),
        ("load", post("/books/bulk", "text/csv", &admin), "x"),
    ] {
        let dripping = drip(address.clone(), head, body);
        slow.spawn(async move { (what, dripping.await) });
    }

    let mut open = crowd(&address).await;
    let metrics = http.get("/metrics").await.text;
    let count = metrics.lines().find_map(|line| line.strip_prefix("bookends_connections ")).unwrap();
    assert!(count.parse::<usize>().unwrap() >= CROWD, "{count} connections");
    let grown = resident_kib(cluster.pid("frontend-1")).saturating_sub(before);
    assert!(grown < MEMORY_MAX_KIB, "{CROWD} connections took {grown} KiB");
    // Newcomers are served, and so is whoever has been there.
    for _ in 0..20 {
        assert_eq!(http.get_with("/lookup/2", &[("cache-control", "no-cache")]).await.status, 200);
        assert_eq!(http.post("/buy", &[], &json!({"id": 3})).await.status, 200);
    }
    for stream in open.iter_mut().step_by(100) {
        ask(stream).await;
    }
    drop(open);
    wait_for("their places are free again", async || {
        let metrics = http.get("/metrics").await.text;
        let count = metrics.lines().find_map(|line| line.strip_prefix("bookends_connections ")).unwrap();
        if count.parse::<usize>().unwrap() < 100 { Ok(()) } else { Err(count.to_owned()) }
    })
    .await;

    let ends: BTreeMap<&str, (Duration, String)> = slow.join_all().await.into_iter().collect();
    let (took, told) = &ends["head"];
    assert!(*took < Duration::from_secs(50) && told.is_empty(), "{took:?} {told}");
    let (took, told) = &ends["body"];
    assert!(*took < Duration::from_secs(60) && told.contains("/problems/request-timeout"), "{took:?} {told}");
    assert!(ends["load"].1.contains("/problems/request-timeout"), "{ends:?}");
    client.buy(book(4), 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_fewer_files_may_be_open_than_are_wanted_a_front_end_says_so() {
    let cluster = Cluster::prepare(Setup::default()).await;
    let mut command = Command::new("sh");
    // Also the limit up to which it could raise its own.
    command.args(["-c", "ulimit -n 1000 && exec \"$0\" \"$@\""]).arg(program("frontend"));
    command.arg("--config").arg(cluster.path("config.toml")).args(["--id", "frontend-1"]);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("`limits.connections` is more than this process may have open") {
                return line;
            }
        }
        panic!("it ended");
    };
    let told = timeout(LIMIT, told).await.expect("it says so at its start");
    assert!(told.contains("configured=20000") && told.contains("connections=744"), "{told}");
    child.kill().await.unwrap();
}
