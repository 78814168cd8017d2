//! The rules of the configuration, each broken once, and the shipped file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

/// Loads a text as a file; a refusal gives its lines without the path before them.
fn load(text: impl AsRef<[u8]>) -> Result<Config, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    fs::write(&path, text).unwrap();
    let prefix = format!("{}:", path.display());
    Config::load(&path).map_err(|error| {
        let lines = error.to_string();
        lines
            .lines()
            .map(|line| line.strip_prefix(&prefix).expect("each line names the file").to_owned())
            .collect()
    })
}

/// What a configuration says, whatever file it is from.
fn content(config: Config) -> Config {
    let folder = config.path.parent().unwrap();
    let data_dir = config.cluster.data_dir.strip_prefix(folder).unwrap().to_owned();
    Config { path: PathBuf::new(), cluster: Cluster { data_dir, ..config.cluster }, ..config }
}

fn defaults() -> Config {
    content(load("").unwrap())
}

fn shipped_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config.toml")
}

/// The lines `# key = value` of the shipped file, by number from 0.
fn commented_keys(text: &str) -> Vec<usize> {
    let is_key = |line: &str| {
        let Some((key, _)) = line.strip_prefix("# ").and_then(|rest| rest.split_once(" = ")) else {
            return false;
        };
        key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    text.lines().enumerate().filter(|(_, line)| is_key(line)).map(|(number, _)| number).collect()
}

fn uncommented(text: &str, numbers: &[usize]) -> String {
    let line = |(number, line): (usize, &str)| {
        let line = if numbers.contains(&number) { line.trim_start_matches("# ") } else { line };
        format!("{line}\n")
    };
    text.lines().enumerate().map(line).collect()
}

#[test]
fn an_empty_file_is_one_front_end_two_catalogs_and_two_order_nodes() {
    let config = defaults();
    let [frontend] = &config.frontends[..] else { panic!("{config:?}") };
    assert_eq!(frontend.id.as_str(), "frontend-1");
    let addresses = [&frontend.public, &frontend.internal, &frontend.heartbeat].map(Address::as_str);
    assert_eq!(addresses, ["127.0.0.1:8080", "127.0.0.1:8081", "127.0.0.1:8082"]);
    let catalogs: Vec<_> = config.catalogs.iter().map(|n| (n.id.as_str(), n.listen.as_str())).collect();
    assert_eq!(catalogs, [("catalog-1", "127.0.0.1:8101"), ("catalog-2", "127.0.0.1:8102")]);
    let orders: Vec<_> = config.orders.iter().map(|n| (n.id.as_str(), n.listen.as_str())).collect();
    assert_eq!(orders, [("order-1", "127.0.0.1:8201"), ("order-2", "127.0.0.1:8202")]);
    assert_eq!((config.shards.count.get(), config.shards.copies.get()), (1, 2));
    assert_eq!(
        (config.cluster.name.as_str(), config.cluster.data_dir.as_path()),
        ("bookends", Path::new("data"))
    );
    assert_eq!(config.balancing.policy, Policy::RoundRobin);
    assert_eq!(config.cache, Cache { capacity_bytes: 67_108_864, enabled: true });
    assert_eq!(
        (config.heartbeat.interval, config.heartbeat.limit()),
        (Duration::from_millis(250), Duration::from_secs(1))
    );
    assert_eq!(
        (config.timeouts.read, config.timeouts.write),
        (Duration::from_secs(1), Duration::from_secs(1))
    );
    assert_eq!(config.log.keep_entries, 200_000);
    assert_eq!((config.limits.body_bytes, config.limits.connections), (1_048_576, 20_000));
    assert_eq!(config.limits.requests_per_second_per_client, None);
    assert_eq!((config.logging.format, config.logging.level.as_str()), (LogFormat::Text, "info"));
}

#[test]
fn the_shipped_file_says_what_the_defaults_are() {
    assert_eq!(content(Config::load(&shipped_path()).unwrap()), defaults());
}

#[test]
fn each_commented_key_of_the_shipped_file_is_its_default() {
    let shipped = fs::read_to_string(shipped_path()).unwrap();
    let keys = commented_keys(&shipped);
    assert_eq!(keys.len(), 22, "a key is missing from the shipped file, or from this number");
    for key in &keys {
        let config = load(uncommented(&shipped, &[*key])).unwrap();
        assert_eq!(content(config), defaults(), "line {}", key + 1);
    }
    assert_eq!(content(load(uncommented(&shipped, &keys)).unwrap()), defaults());
}

#[test]
fn each_key_of_the_shipped_file_is_read() {
    let shipped = fs::read_to_string(shipped_path()).unwrap();
    for key in commented_keys(&shipped) {
        let text = uncommented(&shipped, &[key]);
        let changed = |(number, line): (usize, &str)| match line.split_once(" = ") {
            Some((name, _)) if number == key => format!("{name} = [7]\n"),
            _ => format!("{line}\n"),
        };
        let text: String = text.lines().enumerate().map(changed).collect();
        let problems = load(text).unwrap_err();
        assert!(problems.iter().any(|p| p.starts_with(&format!("{}: ", key + 1))), "{problems:?}");
    }
}

#[test]
fn each_rule_names_line_key_and_what_would_be_right() {
    let cases: &[(&str, &str)] = &[
        ("[cahce]", "1: `cahce` is unknown; did you mean `cache`?"),
        ("[cache]\ncapacity = 5", "2: `cache.capacity` is unknown; known here: capacity_bytes, enabled"),
        ("[cache]\nenabledd = true", "2: `cache.enabledd` is unknown; did you mean `enabled`?"),
        (
            "[[order]]\nid = \"o\"\nlisten = \"a:1\"\nprot = 1",
            "4: `order.prot` is unknown; known here: id, listen, host",
        ),
        ("name = \"x\"", "1: `name` is unknown"),
        ("cache = 5", "1: `cache` must be a section, written [cache], found 5"),
        (
            "[catalog]\nid = \"c\"",
            "1: `catalog` must be a list of at least one section, each written [[catalog]], found a section",
        ),
        ("[[cache]]", "1: `cache` must be a section, written [cache], found a list"),
        (
            "catalog = []",
            "1: `catalog` must be a list of at least one section, each written [[catalog]], found an empty list",
        ),
        ("\n\n[cache]\ncapacity_bytes = 0", "4: `cache.capacity_bytes` must be at least 1, found 0"),
        (
            "[cache]\ncapacity_bytes = \"64M\"",
            "2: `cache.capacity_bytes` must be a whole number, found \"64M\"",
        ),
        ("[cache]\ncapacity_bytes = 1.5", "2: `cache.capacity_bytes` must be a whole number, found 1.5"),
        ("[cache]\nenabled = 1", "2: `cache.enabled` must be true or false, found 1"),
        ("[shards]\ncount = 0", "2: `shards.count` must be at least 1, found 0"),
        ("[shards]\ncount = 1025", "2: `shards.count` must be at most 1024, found 1025"),
        ("[shards]\ncopies = 0", "2: `shards.copies` must be at least 1, found 0"),
        ("[shards]\ncopies = true", "2: `shards.copies` must be a whole number, found true"),
        (
            "[shards]\ncopies = 3",
            "2: `shards.copies` must be at most 2, the number of catalog nodes, found 3",
        ),
        (
            "\n[[catalog]]\nid = \"c\"\nlisten = \"a:1\"",
            "2: `shards.copies` must be at most 1, the number of catalog nodes, found 2, the default",
        ),
        (
            "[balancing]\npolicy = \"random\"",
            "2: `balancing.policy` must be \"round-robin\", \"least-connections\" or \"least-response-time\", found \"random\"",
        ),
        ("[heartbeat]\ninterval_ms = 0", "2: `heartbeat.interval_ms` must be at least 1, found 0"),
        ("[heartbeat]\ninterval_ms = -250", "2: `heartbeat.interval_ms` must be at least 1, found -250"),
        ("[heartbeat]\nmissed_limit = 0", "2: `heartbeat.missed_limit` must be at least 1, found 0"),
        ("[timeouts]\nread_ms = 0", "2: `timeouts.read_ms` must be at least 1, found 0"),
        (
            "[timeouts]\nwrite_ms = 99999999999999999999999",
            "2: `timeouts.write_ms` must be at most 3600000, found 99999999999999999999999",
        ),
        ("[log]\nkeep_entries = 999", "2: `log.keep_entries` must be at least 1000, found 999"),
        ("[limits]\nbody_bytes = 1023", "2: `limits.body_bytes` must be at least 1024, found 1023"),
        (
            "[limits]\nbody_bytes = 67108865",
            "2: `limits.body_bytes` must be at most 67108864, found 67108865",
        ),
        ("[limits]\nconnections = 0", "2: `limits.connections` must be at least 1, found 0"),
        (
            "[limits]\nrequests_per_second_per_client = -1",
            "2: `limits.requests_per_second_per_client` must be at least 0, found -1",
        ),
        ("[logging]\nformat = \"xml\"", "2: `logging.format` must be \"text\" or \"json\", found \"xml\""),
        ("[logging]\nlevel = \"verbose\"", "2: `logging.level` must be off, error, warn"),
        ("[ssh]\nport = 65536", "2: `ssh.port` must be at most 65535, found 65536"),
        ("[ssh]\ndir = \" \"", "2: `ssh.dir` must be the path of a folder, found \" \""),
        ("[ssh]\nidentity = 7", "2: `ssh.identity` must be the path of a key, or empty, found 7"),
        ("[ssh]\nconfig = true", "2: `ssh.config` must be the path of a configuration of ssh, or empty"),
        ("[ssh]\nconnect_ms = 0", "2: `ssh.connect_ms` must be at least 1, found 0"),
        ("[cluster]\nname = \"\"", "2: `cluster.name` must be a text of visible characters, found \"\""),
        ("[cluster]\ndata_dir = \"a\\u0000b\"", "2: `cluster.data_dir` must be the path of a directory"),
        ("[[order]]\nid = \"o\"", "1: `order.listen` is missing"),
        ("[[order]]\nlisten = \"a:1\"", "1: `order.id` is missing"),
        ("[[order]]\nid = \"a/b\"\nlisten = \"a:1\"", "2: `order.id` must be a name"),
        ("[[order]]\nid = \"-a\"\nlisten = \"a:1\"", "2: `order.id` must be a name"),
        ("[[order]]\nid = \"\"\nlisten = \"a:1\"", "2: `order.id` must be a name"),
        ("[[order]]\nid = \"run\"\nlisten = \"a:1\"", "2: `order.id` must be a name"),
        ("[[order]]\nid = \"logs\"\nlisten = \"a:1\"", "2: `order.id` must be a name"),
        (
            "[[order]]\nid = \"o\"\nlisten = \"8080\"",
            "3: `order.listen` must be an address such as \"127.0.0.1:8080\", found \"8080\"",
        ),
        ("[[order]]\nid = \"o\"\nlisten = 8080", "3: `order.listen` must be an address"),
        (
            "[[order]]\nid = \"o\"\nlisten = \"a:1\"\nhost = \"-oProxyCommand=x\"",
            "4: `order.host` must be the name of a machine",
        ),
        (
            "[[order]]\nid = \"o\"\nlisten = \"a:1\"\n[[order]]\nid = \"o\"\nlisten = \"a:2\"",
            "5: `order.id` must be one of its own, found \"o\": \"o\" is taken by `order.id` on line 2",
        ),
        (
            "[[order]]\nid = \"catalog-2\"\nlisten = \"a:1\"",
            "2: `order.id` must be one of its own, found \"catalog-2\": \"catalog-2\" is taken by `catalog.id` of a default node",
        ),
        (
            "[[catalog]]\nid = \"order-1\"\nlisten = \"a:1\"\n[[catalog]]\nid = \"c\"\nlisten = \"a:2\"",
            "2: `catalog.id` must be one of its own",
        ),
        ("[[order]]\nid = \"frontend-1\"\nlisten = \"a:1\"", "2: `order.id` must be one of its own"),
        (
            "[[order]]\nid = \"o\"\nlisten = \"127.0.0.1:8101\"",
            "3: `order.listen` must be one of its own, found \"127.0.0.1:8101\": \"127.0.0.1:8101\" is taken by `catalog.listen` of a default node",
        ),
        (
            "[[order]]\nid = \"o\"\nlisten = \"LOCALHOST:8080\"",
            "3: `order.listen` must be one of its own, found \"LOCALHOST:8080\": \"127.0.0.1:8080\" is taken",
        ),
        ("[[order]]\nid = \"o\"\nlisten = \"0.0.0.0:8082\"", "3: `order.listen` must be one of its own"),
        (
            "[[frontend]]\nid = \"f\"\npublic = \"a:1\"\ninternal = \"a:1\"",
            "4: `frontend.internal` must be one of its own",
        ),
        ("[cache]\nenabled = yes", "2: "),
        ("[cache]\nenabled = true\nenabled = false", "3: duplicate key"),
    ];
    for (text, expected) in cases {
        let problems = load(text).expect_err(text);
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        let found = problems[0].trim_start();
        assert!(found.starts_with(expected), "{text}\n found: {found}\n wants: {expected}");
    }
}

#[test]
fn all_mistakes_of_a_file_are_told_in_the_order_of_their_lines() {
    let text = r#"[cluster]
nmae = "x"
[shards]
count = 0
copies = "two"
[[catalog]]
id = "a b"
listen = "nowhere"
[[catalog]]
id = "order-1"
[[frontend]]
id = "run"
public = "127.0.0.1:8201"
colour = "red"
[cache]
capacity_bytes = 0
enabled = "no"
[heartbeat]
interval_ms = -1
[limit]
[logging]
level = "loud"
format = 3
"#;
    let problems = load(text).unwrap_err();
    let lines: Vec<&str> = problems.iter().map(|problem| problem.split(':').next().unwrap()).collect();
    let expected = ["2", "4", "5", "7", "8", "9", "10", "12", "13", "14", "16", "17", "19", "20", "22", "23"];
    assert_eq!(lines, expected, "{problems:#?}");
}

#[test]
fn broken_toml_is_told_by_its_lines() {
    let problems = load("[cache\nenabled = true\n\n[log]\nkeep_entries = \n").unwrap_err();
    assert!(problems[0].starts_with("1: ") && problems.iter().any(|p| p.starts_with("5: ")), "{problems:?}");
    assert_eq!(load(b"[cache]\n# \xff").unwrap_err(), ["2: the file must be UTF-8 text"]);
}

#[test]
fn port_0_and_wildcards_of_different_machines_do_not_clash() {
    let node = |id: &str, listen: &str, host: &str| {
        format!("[[catalog]]\nid = \"{id}\"\nlisten = \"{listen}\"\nhost = \"{host}\"\n")
    };
    assert!(load(node("a", "127.0.0.1:0", "m") + &node("b", "127.0.0.1:0", "m")).is_ok());
    assert!(load(node("a", "0.0.0.0:9000", "m") + &node("b", "0.0.0.0:9000", "n")).is_ok());
    assert!(load(node("a", "0.0.0.0:9000", "m") + &node("b", "[::]:9000", "m")).is_err());
    assert!(load(node("a", "10.0.0.1:9000", "m") + &node("b", "10.0.0.1:9000", "n")).is_err());
}

#[test]
fn addresses_come_apart_into_host_and_port() {
    for (text, host, port) in [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("[::1]:65535", "[::1]", 65535),
        ("node-3.example_net.org:80", "node-3.example_net.org", 80),
    ] {
        let address: Address = text.parse().unwrap();
        assert_eq!((address.as_str(), address.host(), address.port()), (text, host, port));
    }
    for bad in [
        "",
        "8080",
        "a",
        ":80",
        "::1:80",
        "[::g]:80",
        "[127.0.0.1]:80",
        "127.0.0.256:80",
        "127.1:80",
        "a..b:80",
        "-a:80",
        "a b:80",
        "http://a:80",
        "a:",
        "a:65536",
        "a:-1",
        "a:+1",
        "a:http",
        "a:80 ",
    ] {
        assert_eq!(bad.parse::<Address>(), Err(NotAnAddress), "{bad:?}");
    }
}

#[test]
fn each_shard_is_on_as_many_nodes_as_it_has_copies_around_the_ring() {
    let node = |n: u32| format!("[[catalog]]\nid = \"c{n}\"\nlisten = \"127.0.0.1:{}\"\n", 9000 + n);
    let nodes: String = (0..3).map(node).collect();
    let config = load(format!("{nodes}[shards]\ncount = 5\ncopies = 2\n")).unwrap();
    let names = |shard| config.replicas_of(ShardId(shard)).iter().map(|n| n.id.as_str()).collect::<Vec<_>>();
    assert_eq!(names(0), ["c0", "c1"]);
    assert_eq!(names(2), ["c2", "c0"]);
    assert_eq!(names(4), ["c1", "c2"]);
    assert_eq!(config.shards_of(&"c0".into()), [0, 2, 3].map(ShardId));
    assert_eq!(config.shards_of(&"other".into()), []);
}

#[test]
fn files_are_beside_the_configuration_and_below_the_data_directory() {
    let config = load("[cluster]\ndata_dir = \"deep/data\"").unwrap();
    let folder = config.path.parent().unwrap();
    assert!(config.path.is_absolute());
    assert_eq!(config.catalogue_csv(), folder.join("catalogue.csv"));
    assert_eq!(config.run_dir(), folder.join("deep/data/run"));
    assert_eq!(config.logs_dir(), folder.join("deep/data/logs"));
    assert_eq!(config.node_dir(&"order-1".into()), folder.join("deep/data/order-1"));
    let config = load("[cluster]\ndata_dir = \"/var/lib/bookends\"").unwrap();
    assert_eq!(config.cluster.data_dir, Path::new("/var/lib/bookends"));
    let config = load("[ssh]\nidentity = \"key\"\nconfig = \"/etc/shop/ssh\"").unwrap();
    assert_eq!(config.ssh.identity, Some(config.path.with_file_name("key")));
    assert_eq!(config.ssh.config, Some(PathBuf::from("/etc/shop/ssh")));
    assert_eq!(Config::path_from_env_or(Some("x.toml".into())), Path::new("x.toml"));
}

#[test]
fn a_missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.toml");
    let error = Config::load(&path).unwrap_err();
    assert!(matches!(&error, ConfigError::Unreadable { path: named, .. } if *named == path), "{error}");
    assert!(error.to_string().contains("none.toml"), "{error}");
}

#[test]
fn mistakes_cost_no_more_when_there_are_many() {
    // Of each kind so many that a look at all others, or at the whole file, for each would take half a minute.
    const MANY: usize = 20_000;
    let unknown: String = (0..MANY).map(|number| format!("x{number} = 1 # {:99}\n", "")).collect();
    let nodes: String = (0..MANY)
        .map(|number| format!("[[catalog]]\nid = \"c{number}\"\nlisten = \"h{number}:1\"\n"))
        .collect();
    let clashes = "[[order]]\nid = \"o\"\nlisten = \"0.0.0.0:1\"\n".repeat(MANY);
    let broken = "x = \n".repeat(MANY);
    for (text, least) in [(unknown, MANY), (nodes, 0), (clashes, 2 * (MANY - 1)), (broken, MANY)] {
        let began = std::time::Instant::now();
        let found = checks::check(text.as_bytes(), Path::new("/store/config.toml"))
            .err()
            .map_or(0, |found| found.len());
        assert!(found >= least, "{found}");
        assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
    }
}
