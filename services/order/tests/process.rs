//! The program itself: its exit codes, and that it can be killed at any moment.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use order::book::{Book, Change, Cursor, FILE};
use protocol::ids::{Chain, Index, ShardId};
use tempfile::TempDir;

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Process {
    fn start(config: &Path, id: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_order"));
        command.args(["--config".as_ref(), config.as_os_str(), "--id".as_ref(), id.as_ref()]);
        command.env_remove("BOOKENDS_LOG").env_remove("BOOKENDS_LOG_FORMAT");
        Self(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Reads its log until it serves.
    fn serving(&mut self) {
        let log = BufReader::new(self.0.stderr.as_mut().unwrap());
        let found = log.lines().map_while(Result::ok).any(|line| line.contains("serving"));
        assert!(found, "it ended before it served");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn end(mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.0.wait().unwrap(), log)
    }
}

fn place() -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let text = "[shards]\ncopies = 1\n[[catalog]]\nid = \"catalog-1\"\nlisten = \"127.0.0.1:0\"\n\
                [[order]]\nid = \"order-1\"\nlisten = \"127.0.0.1:0\"\n\
                [[frontend]]\nid = \"frontend-1\"\npublic = \"127.0.0.1:0\"\ninternal = \"127.0.0.1:0\"\n\
                heartbeat = \"127.0.0.1:0\"\n";
    fs::write(&path, text).unwrap();
    (dir, path)
}

#[test]
fn it_stops_on_sigterm_and_starts_again_after_sigkill() {
    let (_dir, config) = place();
    for (signal, clean) in [("KILL", false), ("TERM", true), ("INT", true)] {
        let mut process = Process::start(&config, "order-1");
        process.serving();
        process.signal(signal);
        let (status, log) = process.end();
        assert_eq!(status.success(), clean, "{signal}: {log}");
    }
}

#[test]
fn wrong_use_and_failure_have_their_exit_codes() {
    let (dir, config) = place();
    let (status, log) = Process::start(&config, "order-9").end();
    assert_eq!(status.code(), Some(2));
    assert!(log.contains("there is no [[order]] with the id order-9"), "{log}");
    let (status, log) = Process::start(&dir.path().join("none.toml"), "order-1").end();
    assert_eq!(status.code(), Some(2), "{log}");
    let mut first = Process::start(&config, "order-1");
    first.serving();
    let (status, log) = Process::start(&config, "order-1").end();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("is in use by another process"), "{log}");
}

#[test]
fn another_number_of_shards_is_wrong_use_and_setting_it_back_is_not() {
    let (dir, config) = place();
    let folder = dir.path().join("data/order-1");
    fs::create_dir_all(&folder).unwrap();
    let cursor = Cursor { index: Index(1), chain: Chain(1) };
    Book::open(&folder, 1).unwrap().book.write(&[Change::Advance { shard: ShardId(0), cursor }]).unwrap();
    let before = fs::read(folder.join(FILE)).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("[shards]\n", "[shards]\ncount = 2\n")).unwrap();
    let (status, log) = Process::start(&config, "order-1").end();
    assert_eq!(status.code(), Some(2), "{log}");
    let told = log.lines().last().unwrap();
    let file = folder.join(FILE).display().to_string();
    for part in [&*file, "it has orders of 1 shards, but `shards.count` is 2; set it back"] {
        assert!(told.contains(part), "{told}");
    }
    assert!(fs::read(folder.join(FILE)).unwrap() == before);
    fs::write(&config, text).unwrap();
    let mut process = Process::start(&config, "order-1");
    process.serving();
    process.signal("TERM");
    let (status, log) = process.end();
    assert!(status.success(), "{log}");
}
