//! The program as people run it: what it prints, how it ends, and that what it says is so. The programs of the store
//! are those beside it: `cargo build --workspace --bins` makes them. A round that finds something wrong leaves what it
//! saw in the folder that it names.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use history::{Answer, Call, History, Verdict, check};
use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bookends-chaos");
/// How the lines of faults begin, and as what the summary counts them. The longer come first.
const KINDS: [(&str, &str); 13] = [
    ("kill -9 of all", "kills of all"),
    ("kill -9 ", "kills"),
    ("freeze ", "freezes"),
    ("cut off the file of ", "files cut off"),
    ("cut: ", "cuts"),
    ("one-way cut ", "cuts"),
    ("break: ", "cuts"),
    ("delay of ", "delays"),
    ("loss of ", "losses"),
    ("full disk of ", "full disks"),
    ("flip bits ", "files with flipped bits"),
    ("an old copy ", "old copies"),
    ("remove what ", "files removed"),
];
/// Of this seed the first fault is a full disk, where there can be one.
const FULL_DISK_FIRST: &str = "24";
/// Of this seed the first fault is a cut: nobody's file is made anew.
const CUT_FIRST: &str = "28";

/// What a program has said.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    said: String,
    complained: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), said: text(output.stdout), complained: text(output.stderr) }
    }

    /// The rest of the only line that begins so.
    fn line(&self, begin: &str) -> &str {
        let mut lines = self.said.lines().filter_map(|line| line.strip_prefix(begin));
        let line = lines.next().unwrap_or_else(|| panic!("no line `{begin}…`: {self:?}"));
        assert_eq!(lines.next(), None, "`{begin}…` is said again: {self:?}");
        line.trim()
    }

    /// The number before a word in the line that begins so.
    fn number(&self, begin: &str, word: &str) -> u64 {
        let line = self.line(begin);
        let before =
            line.split_once(&format!(" {word}")).unwrap_or_else(|| panic!("no `{word}` in {line}")).0;
        before.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// What was done, as the lines of faults say, each of which tells of one or two.
    fn done(&self) -> BTreeMap<String, u64> {
        let mut done = BTreeMap::new();
        for line in self.said.lines() {
            let Some((what, _)) = line.split_once("; whole after ") else { continue };
            let (_, faults) = what.split_once(" s  ").unwrap();
            for fault in faults.split(" + ") {
                let kind = KINDS.iter().find(|(begin, _)| fault.starts_with(begin));
                let (_, kind) = kind.unwrap_or_else(|| panic!("what is that: {fault}"));
                *done.entry((*kind).to_owned()).or_default() += 1;
            }
        }
        done
    }

    /// What was done, as the summary says.
    fn counted(&self) -> BTreeMap<String, u64> {
        let faults = self.line("faults:").split(", ").filter_map(|part| part.split_once(' '));
        faults.filter_map(|(count, kind)| Some((kind.to_owned(), count.parse().ok()?))).collect()
    }

    fn kept(&self) -> PathBuf {
        PathBuf::from(self.line("kept:"))
    }
}

/// One round at a time: two whole stores and their callers would hold each other up.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock()
}

fn chaos(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A short round, in a folder of its own.
fn round(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = chaos(arguments);
    command.args(["--rate", "150", "--callers", "32", "--folder"]).arg(folder.path());
    command
}

fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn history(kept: &Path) -> History {
    History::read(BufReader::new(File::open(kept.join("history.jsonl")).unwrap())).unwrap()
}

#[test]
fn a_round_meets_every_kind_of_fault_and_keeps_every_promise() {
    let _turn = turn();
    let mut folder = folder();
    let ended = Ended::of(round(&folder, &["--faults", "15", "--seed", "4", "--keep"]).output().unwrap());
    println!("{}{}", ended.said, ended.complained);
    folder.disable_cleanup(ended.code != Some(0));
    assert_eq!((ended.code, &*ended.complained), (Some(0), ""));
    assert_eq!(ended.line("linearizable"), ", balanced, level: every promise was kept");

    let done = ended.done();
    assert_eq!(done, ended.counted(), "each fault has its line");
    for (_, kind) in KINDS {
        if kind == "full disks" && !done.contains_key(kind) {
            let why = ended.line("no disk is filled:");
            assert!(!why.is_empty() && ended.line("faults:").ends_with(&format!("no full disks ({why})")));
        } else {
            assert!(done.contains_key(kind), "no {kind}");
        }
    }

    assert!(!ended.said.contains("spared"), "each file was harmed");

    let calls = |word| ended.number("calls:", word);
    assert!(calls("answered") > 1000, "too little was asked");
    assert_eq!(calls("answered") + calls("reads failed") + calls("writes unknown"), calls("sent"));
    assert_eq!(calls("judged"), calls("sent"), "no call is left out");
    let history = history(&ended.kept());
    assert_eq!((history.calls().len() as u64, check(&history)), (calls("judged"), Verdict::Linearizable));
    let answered = history.calls().iter().filter(|call| call.answered.is_some()).count();
    assert_eq!(answered as u64, calls("answered"));

    let audits = |word| ended.number("audits:", word);
    assert!(audits("held") > 1, "one at work and one at rest");
    assert_eq!(audits("copies sold") + audits("left"), audits("stocked"));
    assert!(calls("orders") > 100 && audits("copies sold") >= calls("orders"));
    fs::remove_dir_all(ended.kept()).unwrap();
}

/// A round of one fault, a full disk if it can be had, by a process without the right to mount one.
fn without_the_right_to_mount(path: &str) -> Ended {
    let folder = folder();
    let round = round(&folder, &["--faults", "1", "--seed", FULL_DISK_FIRST]);
    let mut command = Command::new("env");
    if rustix::process::geteuid().is_root() {
        command = Command::new("setpriv");
        command.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "--", "env"]);
    }
    command.arg(format!("PATH={path}")).arg(round.get_program()).args(round.get_args());
    Ended::of(command.stdin(Stdio::null()).output().unwrap())
}

#[test]
fn who_can_fill_no_disk_says_why_once_and_in_the_summary() {
    let _turn = turn();
    let ended = without_the_right_to_mount("/nowhere");
    assert_eq!((ended.code, &*ended.complained), (Some(0), ""), "{ended:?}");
    let why = ended.line("no disk is filled:");
    assert!(why.starts_with("no tmpfs can be mounted: ") && why.contains("(os error "), "{why}");
    assert!(ended.line("faults:").ends_with(&format!(", no full disks ({why})")), "{ended:?}");
    assert_eq!(ended.done().get("full disks"), None);
}

#[test]
fn who_may_not_mount_fills_disks_in_a_namespace_where_there_are_some() {
    let _turn = turn();
    let ended = without_the_right_to_mount(&std::env::var("PATH").unwrap());
    assert_eq!((ended.code, &*ended.complained), (Some(0), ""), "{ended:?}");
    let unshare = ["--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "x", "/mnt"];
    if Command::new("unshare").args(unshare).output().is_ok_and(|ended| ended.status.success()) {
        assert_eq!(ended.done().get("full disks"), Some(&1), "{ended:?}");
        assert!(!ended.said.contains("no disk is filled"), "{ended:?}");
    } else {
        assert!(!ended.line("no disk is filled:").is_empty());
    }
}

/// Deletes an order of an order node as soon as it has one.
fn lose_an_order(folder: &Path) {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let lose = || {
        let round = fs::read_dir(folder).ok()?.next()?.ok()?.path();
        let book = Connection::open_with_flags(round.join("order-1/data/order-1/orders.db"), flags).ok()?;
        book.busy_timeout(Duration::from_secs(5)).ok()?;
        let first = "DELETE FROM orders WHERE order_id = (SELECT min(order_id) FROM orders)";
        book.execute(first, []).ok().filter(|lost| *lost == 1)
    };
    let begin = Instant::now();
    while lose().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(60), "there is no order");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_lost_order_is_found_and_what_was_seen_is_kept() {
    let _turn = turn();
    let folder = folder();
    let mut command = round(&folder, &["--faults", "1", "--seed", CUT_FIRST]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    lose_an_order(folder.path());
    let ended = Ended::of(child.wait_with_output().unwrap());
    assert_eq!((ended.code, &*ended.complained), (Some(1), ""), "{ended:?}");
    // Each audit says so.
    let is_told =
        |line: &str| line.starts_with("WRONG: ") && line.contains("OrderMissing { node: \"order-1\"");
    assert!(ended.said.lines().any(is_told), "{ended:?}");
    assert!(!ended.said.contains("every promise was kept"), "{ended:?}");
    assert_eq!(fs::read_to_string(ended.kept().join("seed")).unwrap().trim(), CUT_FIRST);
    assert!(ended.kept().join("logs/order-1.log").is_file());

    // Callers saw nothing of it: by what they saw alone all is well, until one of them has seen too much.
    let judged = |file: &Path| Ended::of(chaos(&["--check"]).arg(file).output().unwrap());
    let whole = judged(&ended.kept().join("history.jsonl"));
    assert_eq!(
        (whole.code, whole.said.trim().ends_with(" calls: linearizable")),
        (Some(0), true),
        "{whole:?}"
    );
    let mut spoilt = History::new(history(&ended.kept()).start().clone());
    for mut call in history(&ended.kept()).calls().iter().cloned() {
        if let (Call::Look(_), Answer::Book(seen)) = (&call.call, &mut call.answer) {
            seen.quantity += 1;
        }
        spoilt.push(call);
    }
    let file = folder.path().join("spoilt.jsonl");
    spoilt.write(File::create(&file).unwrap()).unwrap();
    let spoilt = judged(&file);
    assert_eq!((spoilt.code, spoilt.said.contains("fits nowhere")), (Some(1), true), "{spoilt:?}");
}

#[test]
fn wrong_use_is_told_from_a_find() {
    let folder = folder();
    let place = folder.path().to_str().unwrap();
    for wrong in [
        &["--minute", "5"][..],
        &["--minutes", "0"],
        &["--faults", "0"],
        &["--faults", "1", "--minutes", "1"],
        &["--seed", "x"],
        &["--check", "/nowhere/history.jsonl"],
        &["--folder", "/nowhere"],
        &["--programs", "/nowhere", "--folder", place],
    ] {
        let ended = Ended::of(chaos(wrong).output().unwrap());
        assert!(ended.code == Some(2) && !ended.complained.is_empty(), "{wrong:?}: {ended:?}");
    }
    assert_eq!(fs::read_dir(place).unwrap().count(), 0, "nothing is left behind");
}
