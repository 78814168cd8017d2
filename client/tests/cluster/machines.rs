//! A store on two machines: the other one is an sshd that the test starts, on another loopback address and
//! with a folder of its own as its home.

use std::fmt::Write;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::api::{NodeState, Status};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;

use crate::harness::{LIMIT, Ran, Setup, last_lines, program, run_program, wait_for};

const OTHER: &str = "127.0.0.2";
const SSHD: &str = "/usr/sbin/sshd";

/// Who is on the other machine, if nothing else is said.
const BACK_ENDS: [&str; 2] = ["catalog-2", "order-2"];

/// The programs of the store beside one another, as an installation has them, an sshd, and a configuration with
/// some nodes on the other machine. Dropping it leaves no process behind.
struct Stage {
    dir: TempDir,
    sshd: Option<Child>,
    port: u16,
}

/// A port that is free, and nobody else's until the listener is dropped.
fn free_port(address: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn keygen(path: &Path) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path);
    let status = command.status().expect("ssh-keygen is missing: apt-get install openssh-client");
    assert!(status.success());
}

impl Stage {
    /// With these nodes on the other machine, and further keys of `[ssh]`.
    fn new(there: &[&str], ssh: &str) -> Self {
        assert!(Path::new(SSHD).is_file(), "{SSHD} is missing: apt-get install openssh-server");
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (reserved, port) = free_port(OTHER);
        let mut stage = Self { dir, sshd: None, port };
        for name in ["sentinel", "catalog", "order", "frontend", "bookends"] {
            fs::hard_link(program(name), stage.path(name)).unwrap();
        }
        keygen(&stage.path("host_key"));
        keygen(&stage.path("user_key"));
        fs::copy(stage.path("user_key.pub"), stage.path("authorized_keys")).unwrap();
        let host_key = fs::read_to_string(stage.path("host_key.pub")).unwrap();
        stage.write("known_hosts", &format!("[{OTHER}]:{} {host_key}", stage.port));
        let ssh_config = format!("Host *\nUserKnownHostsFile {}\n", stage.path("known_hosts").display());
        stage.write("ssh_config", &ssh_config);
        let place = stage.path("").display().to_string();
        let sshd_config = format!(
            "ListenAddress {OTHER}:{}\nHostKey {place}host_key\nPidFile none\nStrictModes no\n\
             AuthorizedKeysFile {place}authorized_keys\nPasswordAuthentication no\nUsePAM no\n",
            stage.port
        );
        stage.write("sshd_config", &sshd_config);
        stage.write("catalogue.csv", &Setup::default().catalogue);
        stage.write("config.toml", &stage.config(there, ssh));
        drop(reserved);
        stage.start_sshd();
        stage
    }

    fn config(&self, there: &[&str], ssh: &str) -> String {
        let mut text = format!(
            "[cluster]\nname = \"test\"\ndata_dir = \"data\"\n\
             [ssh]\nport = {}\nidentity = \"user_key\"\nconfig = \"ssh_config\"\ndir = {:?}\n{ssh}",
            self.port,
            self.path("other/shop"),
        );
        let mut reserved = Vec::new();
        for node in ["frontend-1", "catalog-1", "catalog-2", "order-1", "order-2"] {
            let is_there = there.contains(&node);
            let address = if is_there { OTHER } else { "127.0.0.3" };
            let (kind, _) = node.split_once('-').unwrap();
            let listeners: &[&str] =
                if kind == "frontend" { &["public", "internal", "heartbeat"] } else { &["listen"] };
            writeln!(text, "[[{kind}]]\nid = \"{node}\"").unwrap();
            for listener in listeners {
                let (held, port) = free_port(address);
                reserved.push(held);
                writeln!(text, "{listener} = \"{address}:{port}\"").unwrap();
            }
            if is_there {
                writeln!(text, "host = \"{OTHER}\"").unwrap();
            }
        }
        text
    }

    fn start_sshd(&mut self) {
        if getuid().is_root() {
            // As its service makes it: sshd of root does not start without.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let log = fs::File::options().create(true).append(true).open(self.path("sshd.log")).unwrap();
        let mut command = Command::new(SSHD);
        command.arg("-D").arg("-e").arg("-f").arg(self.path("sshd_config"));
        self.sshd = Some(command.stdin(Stdio::null()).stderr(log).spawn().unwrap());
        let begin = Instant::now();
        while TcpStream::connect((OTHER, self.port)).is_err() {
            assert!(begin.elapsed() < LIMIT, "sshd does not listen");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// The other machine hangs, or goes on: connections to its sshd stay open, and new ones are taken by the
    /// system, but nobody says a word. What else runs there is not touched.
    fn signal_sshd(&self, signal: Signal) {
        let sshd = self.sshd.as_ref().unwrap().id();
        for pid in children(sshd).into_iter().chain([raw(Some(sshd))]) {
            // A child may have ended with its connection.
            assert!(matches!(kill_process(pid, signal), Ok(()) | Err(Errno::SRCH)));
        }
    }

    /// Ends sshd, with all of its connections: it leads none of the sessions of what runs there.
    fn end_sshd(&mut self) {
        let Some(mut sshd) = self.sshd.take() else { return };
        for pid in children(sshd.id()) {
            end(pid);
        }
        sshd.kill().unwrap();
        sshd.wait().unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn other(&self, name: &str) -> PathBuf {
        self.path("other/shop").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    async fn run(&self, args: &[&str]) -> Ran {
        let config = self.path("config.toml");
        run_program(&self.path("sentinel"), &[args, &["--config", config.to_str().unwrap()]].concat()).await
    }

    async fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args).await;
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
        ran.out
    }

    async fn status(&self) -> Result<Status, String> {
        let ran = self.run(&["status", "--json"]).await;
        if ran.code != Some(0) {
            return Err(ran.err);
        }
        Ok(serde_json::from_str(&ran.out).unwrap())
    }

    /// The row of a node in the table of `status`.
    async fn row(&self, node: &str) -> Result<String, String> {
        let ran = self.run(&["status"]).await;
        let row = ran.out.lines().find(|line| line.starts_with(&format!("{node} ")));
        row.map(str::to_owned).ok_or(ran.out.clone() + &ran.err)
    }

    async fn wait_for_row(&self, node: &str, part: &str) {
        wait_for(&format!("{node} is {part}"), async || {
            let row = self.row(node).await?;
            if row.contains(part) { Ok(()) } else { Err(row) }
        })
        .await;
    }

    /// Waits until a node is up, as another process than `before`, and all replicas are members.
    async fn whole(&self, node: &str, before: Option<u32>) -> Option<u32> {
        wait_for(&format!("{node} is up"), async || {
            let status = self.status().await?;
            let found = status.nodes.iter().find(|known| known.id == node).unwrap();
            let members = status.shards[0].members.len();
            if found.state == NodeState::Up && found.pid != before && members == 2 {
                Ok(found.pid)
            } else {
                Err(format!("{found:?}, {members} members"))
            }
        })
        .await
    }

    async fn pid(&self, node: &str) -> Option<u32> {
        self.status().await.unwrap().nodes.iter().find(|known| known.id == node).unwrap().pid
    }

    /// All processes of this stage, by command line or by the folder that they are in.
    fn processes(&self) -> Vec<Pid> {
        let mine = self.dir.path();
        let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
        let sshd = self.sshd.as_ref().map(Child::id);
        pids.filter(|pid| {
            let place = format!("/proc/{}", pid.as_raw_nonzero());
            let line = fs::read(format!("{place}/cmdline")).unwrap_or_default();
            let text = mine.as_os_str().as_encoded_bytes();
            let names_it = line.windows(text.len()).any(|part| part == text);
            let is_there = fs::read_link(format!("{place}/cwd")).is_ok_and(|cwd| cwd.starts_with(mine));
            (names_it || is_there) && Some(pid.as_raw_nonzero().get().cast_unsigned()) != sshd
        })
        .collect()
    }

    async fn nothing_runs(&self) {
        wait_for("nothing runs", async || {
            let left = self.processes();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
    }
}

fn children(of: u32) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// Ends a process; one that has ended by itself is as good.
fn end(pid: Pid) {
    assert!(matches!(kill_process(pid, Signal::KILL), Ok(()) | Err(Errno::SRCH)));
}

fn raw(pid: Option<u32>) -> Pid {
    Pid::from_raw(pid.unwrap().cast_signed()).unwrap()
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = ["data/logs", "other/shop/data/logs"].map(|dir| self.path(dir));
            for entry in logs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().filter_map(Result::ok)
            {
                eprintln!("--- {}:\n{}", entry.path().display(), last_lines(&entry.path(), 20));
            }
            eprintln!("--- sshd:\n{}", last_lines(&self.path("sshd.log"), 20));
        }
        // Until none is left: a sentinel starts again what is killed before it.
        let begin = Instant::now();
        while begin.elapsed() < LIMIT {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            left.into_iter().for_each(end);
            std::thread::yield_now();
        }
        self.end_sshd();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_on_another_machine_are_started_healed_stopped_and_removed() {
    let mut stage = Stage::new(&BACK_ENDS, "");
    let welcome = stage.ok(&["up"]).await;
    assert!(welcome.contains("5 nodes are ready"), "{welcome}");
    let table = stage.ok(&["status"]).await;
    assert!(table.contains(&format!("on {OTHER}: catalog-2, order-2")), "{table}");
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(stage.other("data/cluster.secret")), 0o600);
    assert!(!stage.other("data/admin.token").exists(), "only front ends need it");
    assert!(stage.other("data/catalog-2/shard-0.db").is_file() && !stage.path("data/catalog-2").exists());
    stage.ok(&["test", "2"]).await;

    // Dead, killed, stopped.
    let first = stage.pid("catalog-2").await;
    end(raw(first));
    let second = stage.whole("catalog-2", first).await;
    stage.wait_for_row("catalog-2", "signal 9").await;
    stage.ok(&["kill", "catalog-2"]).await;
    stage.whole("catalog-2", second).await;
    let before = stage.pid("order-2").await;
    stage.ok(&["stop", "order-2"]).await;
    assert!(stage.row("order-2").await.unwrap().contains(" stopped "));
    stage.ok(&["start", "order-2"]).await;
    stage.whole("order-2", before).await;
    let log = stage.ok(&["logs", "catalog-2", "--no-follow"]).await;
    assert!(log.contains("catalog-2") && log.lines().count() <= 20, "{log}");

    // A killed sentinel leaves them alone, and the next one takes them over.
    let (catalog, order) = (stage.pid("catalog-2").await, stage.pid("order-2").await);
    let sentinel = fs::read_to_string(stage.path("data/run/sentinel.pid")).unwrap().parse().unwrap();
    end(raw(Some(sentinel)));
    wait_for("the sentinel is gone", async || {
        let ran = stage.run(&["status"]).await;
        if ran.out.contains("no sentinel watches it") { Ok(()) } else { Err(ran.out) }
    })
    .await;
    assert!(stage.row("catalog-2").await.unwrap().contains(&format!(" running  {} ", catalog.unwrap())));
    stage.ok(&["up"]).await;
    assert_eq!((stage.pid("catalog-2").await, stage.pid("order-2").await), (catalog, order));

    stage.ok(&["down"]).await;
    stage.nothing_runs().await;
    assert!(stage.other("data/catalog-2/shard-0.db").is_file(), "data stays");
    assert_eq!(stage.ok(&["down"]).await, "not running\n");
    let strange = stage.other("diary.txt");
    fs::write(&strange, "dear diary").unwrap();
    stage.ok(&["clean", "--yes"]).await;
    assert!(!stage.path("data").exists() && !stage.other("data").exists() && !stage.other("bin").exists());
    assert!(strange.is_file(), "what is not the store's stays");
    stage.end_sshd();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_front_end_on_another_machine_is_started_healed_stopped_and_removed() {
    let mut stage = Stage::new(&["frontend-1"], "");
    let welcome = stage.ok(&["up"]).await;
    assert!(
        welcome.contains("5 nodes are ready") && welcome.contains(&format!("http://{OTHER}:")),
        "{welcome}"
    );
    let table = stage.ok(&["status"]).await;
    assert!(table.contains(&format!("on {OTHER}: frontend-1")), "{table}");
    for secret in ["data/cluster.secret", "data/admin.token"] {
        assert_eq!(
            fs::metadata(stage.other(secret)).unwrap().permissions().mode() & 0o7777,
            0o600,
            "{secret}"
        );
        assert_eq!(fs::read(stage.other(secret)).unwrap(), fs::read(stage.path(secret)).unwrap(), "{secret}");
    }
    assert!(stage.other("catalogue.csv").is_file(), "the first books are loaded there");
    assert!(stage.other("data/frontend-1/view-0.json").is_file() && !stage.path("data/frontend-1").exists());
    stage.ok(&["test", "2"]).await;

    // Dead, killed, stopped.
    let first = stage.pid("frontend-1").await;
    end(raw(first));
    let second = stage.whole("frontend-1", first).await;
    stage.wait_for_row("frontend-1", "signal 9").await;
    stage.ok(&["kill", "frontend-1"]).await;
    let third = stage.whole("frontend-1", second).await;
    stage.ok(&["stop", "frontend-1"]).await;
    let table = stage.ok(&["status"]).await;
    assert!(table.contains("no front end answers"), "{table}");
    stage.ok(&["start", "frontend-1"]).await;
    let fourth = stage.whole("frontend-1", third).await;

    // Its machine is out of reach of ssh alone: it serves on.
    stage.end_sshd();
    stage.wait_for_row("frontend-1", " unreachable ").await;
    stage.ok(&["test", "2"]).await;
    assert_eq!(stage.pid("frontend-1").await, fourth);
    stage.start_sshd();
    stage.wait_for_row("frontend-1", " running ").await;

    stage.ok(&["down"]).await;
    stage.nothing_runs().await;
    stage.ok(&["clean", "--yes"]).await;
    assert!(!stage.path("data").exists() && !stage.other("data").exists() && !stage.other("bin").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_says_nothing_any_more_is_named_and_holds_nobody_up() {
    let stage = Stage::new(&BACK_ENDS, "connect_ms = 4000\n");
    stage.ok(&["up"]).await;
    let pid = stage.pid("catalog-2").await;
    stage.signal_sshd(Signal::STOP);
    // Ordered before anybody knows.
    let stop = stage.run(&["stop", "order-2"]).await;
    assert_eq!((stop.code, stop.err.lines().count()), (Some(1), 1), "{stop:?}");
    assert!(stop.err.contains(&format!("cannot reach {OTHER} by ssh: ")), "{stop:?}");
    for node in BACK_ENDS {
        stage.wait_for_row(node, " unreachable ").await;
    }
    // Now each attempt to reach it is one that is taken and not answered.
    wait_for("it is told how the machine fails", async || {
        let table = stage.ok(&["status"]).await;
        let told = table.lines().find(|line| line.starts_with("catalog-2: cannot reach")).unwrap_or_default();
        if told.contains(OTHER) && told.contains("timed out") { Ok(()) } else { Err(table) }
    })
    .await;
    stage.ok(&["test", "2"]).await;
    assert_eq!(stage.pid("catalog-2").await, pid, "it serves on");
    stage.ok(&["restart", "order-1"]).await;
    let down = stage.run(&["down"]).await;
    assert_eq!((down.code, down.err.lines().count()), (Some(1), 1), "{down:?}");
    assert!(
        down.err.contains(&format!("not everything is stopped: cannot reach {OTHER} by ssh: ")),
        "{down:?}"
    );
    let start = stage.run(&["start", "catalog-2"]).await;
    assert_eq!((start.code, start.err.lines().count()), (Some(1), 1), "{start:?}");
    assert!(start.err.contains(&format!("cannot reach {OTHER} by ssh: ")), "{start:?}");

    stage.signal_sshd(Signal::CONT);
    stage.wait_for_row("catalog-2", " running ").await;
    wait_for("all can be stopped", async || {
        let ran = stage.run(&["down"]).await;
        if ran.code == Some(0) { Ok(()) } else { Err(ran.err) }
    })
    .await;
    stage.nothing_runs().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_can_not_be_reached_for_a_while_goes_on_serving() {
    let mut stage = Stage::new(&BACK_ENDS, "");
    stage.ok(&["up"]).await;
    let pid = stage.pid("catalog-2").await;
    stage.end_sshd();
    stage.wait_for_row("catalog-2", " unreachable ").await;
    let table = stage.ok(&["status"]).await;
    assert!(table.contains(&format!("catalog-2: cannot reach {OTHER} by ssh: ")), "{table}");
    stage.ok(&["test", "2"]).await;
    assert_eq!(stage.pid("catalog-2").await, pid);
    let members = stage.status().await.unwrap().shards[0].members.len();
    assert_eq!(members, 2, "it serves on");
    let stop = stage.run(&["stop", "order-2"]).await;
    assert_eq!((stop.code, stop.err.lines().count()), (Some(1), 1), "{stop:?}");
    assert!(stop.err.contains("cannot reach"), "{stop:?}");
    stage.ok(&["restart", "order-1"]).await;

    // It dies while nobody can see it, and is healed once its machine is back.
    end(raw(pid));
    wait_for("catalog-2 is missed", async || {
        let members = stage.status().await?.shards[0].members.clone();
        if members == ["catalog-1"] { Ok(()) } else { Err(format!("{members:?}")) }
    })
    .await;
    stage.start_sshd();
    stage.whole("catalog-2", pid).await;
    stage.wait_for_row("catalog-2", " running ").await;
    stage.wait_for_row("order-2", " running ").await;

    // Without its machine, `down` stops the rest and says so; it can be repeated.
    stage.end_sshd();
    let down = stage.run(&["down"]).await;
    assert_eq!((down.code, down.err.lines().count()), (Some(1), 1), "{down:?}");
    assert!(down.err.contains("not everything is stopped: cannot reach"), "{down:?}");
    assert!(!stage.processes().is_empty(), "what can't be reached runs on");
    stage.start_sshd();
    wait_for("all can be stopped", async || {
        let ran = stage.run(&["down"]).await;
        if ran.code == Some(0) { Ok(()) } else { Err(ran.err) }
    })
    .await;
    stage.nothing_runs().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_alone_and_what_is_copied_when_it_differs() {
    let stage = Stage::new(&BACK_ENDS, "");
    let out = stage.ok(&["start", "catalog-2"]).await;
    assert!(out.starts_with("catalog-2: started; now "), "{out}");
    stage.wait_for_row("catalog-2", " running ").await;
    for node in ["catalog-1", "order-2", "frontend-1"] {
        assert!(stage.row(node).await.unwrap().contains(" stopped "), "{node}");
    }
    let up = stage.run(&["up"]).await;
    assert!(up.code == Some(1) && up.err.contains("stopped: catalog-1, "), "{up:?}");

    // Untouched if it is the same, replaced as a whole if it is not.
    let made = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(stage.other(name)).unwrap().ino()
    };
    let (binary, config) = (made("bin/catalog"), made("config.toml"));
    stage.ok(&["restart", "catalog-2"]).await;
    assert_eq!((made("bin/catalog"), made("config.toml")), (binary, config));
    let text = fs::read_to_string(stage.path("config.toml")).unwrap() + "[logging]\nlevel = \"debug\"\n";
    stage.write("config.toml", &text);
    fs::write(stage.other("bin/catalog.old"), "").unwrap();
    fs::rename(stage.other("bin/catalog.old"), stage.other("bin/catalog")).unwrap();
    stage.ok(&["restart", "catalog-2"]).await;
    assert_ne!((made("bin/catalog"), made("config.toml")), (binary, config));
    assert_eq!(fs::read_to_string(stage.other("config.toml")).unwrap(), text);
    let programs = ["bin/catalog", "../../catalog"].map(|name| fs::read(stage.other(name)).unwrap());
    assert!(programs[0] == programs[1], "the program is brought again");
    stage.wait_for_row("catalog-2", " running ").await;
    for node in ["catalog-1", "order-1", "order-2", "frontend-1"] {
        stage.ok(&["start", node]).await;
    }
    stage.whole("catalog-2", None).await;

    // A program that does not run there is no death that a restart heals.
    stage.ok(&["stop", "order-2"]).await;
    fs::remove_file(stage.path("order")).unwrap();
    fs::write(stage.path("order"), "#!/nonexistent/loader\n").unwrap();
    let start = stage.run(&["start", "order-2"]).await;
    assert_eq!((start.code, start.err.lines().count()), (Some(1), 1), "{start:?}");
    assert!(start.err.contains("does not run there: "), "{start:?}");
    assert!(stage.row("order-2").await.unwrap().contains(" failed "));
    stage.ok(&["down"]).await;
    stage.nothing_runs().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_a_machine_away_is_one_line() {
    let stage = Stage::new(&BACK_ENDS, "");
    let cases = [
        ("authorized_keys", "", "Permission denied"),
        ("known_hosts", "", "host key is not known"),
        ("config.toml", "", "must name a fixed port"),
    ];
    for (file, text, expected) in cases {
        let good = fs::read_to_string(stage.path(file)).unwrap();
        let bad = if file == "config.toml" {
            let open = good.lines().filter(|line| line.starts_with("listen = \"127.0.0.2"));
            open.fold(good.clone(), |text, line| text.replace(line, "listen = \"127.0.0.2:0\""))
        } else {
            text.to_owned()
        };
        stage.write(file, &bad);
        let ran = stage.run(&["start", "catalog-2"]).await;
        let code = if file == "config.toml" { 2 } else { 1 };
        assert_eq!(ran.code, Some(code), "{file}: {ran:?}");
        assert!(ran.err.contains(expected), "{file}: {ran:?}");
        stage.write(file, &good);
        stage.ok(&["down"]).await;
    }
    stage.nothing_runs().await;
}
