//! `config.toml`.

use std::collections::BTreeSet;
use std::path::Path;

use common::config::{Config, ConfigError};
use frontend::render::node_header;
use proptest::prelude::*;

use crate::Verdict;

/// The one that the repository comes with: every key that there is.
const EVERY_KEY: &str = include_str!("../../../config.toml");

/// Checks a configuration: whatever is accepted can be used, and each mistake has a line of the file.
pub fn check(bytes: &[u8]) -> Verdict {
    let read = || Config::parse(bytes, Path::new("config.toml"), Path::new("/store/config.toml"));
    match read() {
        Ok(config) => {
            assert_eq!(read().ok().as_ref(), Some(&config));
            usable(&config);
            Verdict::Accepted
        }
        Err(ConfigError::Mistaken { mistakes }) => {
            assert!(!mistakes.is_empty());
            let lines = 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
            let mut last = 0;
            for mistake in &mistakes {
                let line = mistake.strip_prefix("config.toml:").and_then(|rest| rest.split(':').next());
                let line =
                    line.and_then(|line| line.parse().ok()).expect("a mistake begins with file and line");
                assert!((1..=lines).contains(&line) && line >= last, "line {line} of {lines}: {mistake}");
                last = line;
            }
            Verdict::Refused
        }
        Err(problem @ ConfigError::Unreadable { .. }) => panic!("no file is read: {problem}"),
    }
}

fn usable(config: &Config) {
    let names = config.frontends.iter().map(|node| &node.id);
    let names = names.chain(config.catalogs.iter().map(|node| &node.id));
    let names: Vec<_> = names.chain(config.orders.iter().map(|node| &node.id)).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "no name twice");
    for name in names {
        assert!(!node_header(name).is_empty());
        assert!(config.node_dir(name).starts_with(&config.cluster.data_dir));
    }
    for shard in config.shard_ids() {
        let replicas: BTreeSet<_> = config.replicas_of(shard).into_iter().map(|node| &node.id).collect();
        assert_eq!(replicas.len(), config.shards.copies.get() as usize, "shard {shard}");
    }
    assert!(!config.heartbeat.limit().is_zero());
}

/// Configurations with some of the keys, and the one with all.
pub fn valid() -> BoxedStrategy<Vec<u8>> {
    let nodes = (1..4_u32, 1..3_u32, 0..2_u32).prop_map(|(catalogs, orders, named)| {
        let node = |kind: &str, port: u32, number: u32| {
            let host = if number < named { "host = \"shelf-2\"\n" } else { "" };
            format!("[[{kind}]]\nid = \"{kind}-{number}\"\nlisten = \"127.0.0.1:{}\"\n{host}", port + number)
        };
        let catalogs = (0..catalogs).map(|number| node("catalog", 8100, number));
        catalogs.chain((0..orders).map(|number| node("order", 8200, number))).collect::<String>()
    });
    let number = (1..1000_u32).prop_map(|ms| format!("[timeouts]\nread_ms = {ms}\nwrite_ms = 0x{ms:x}\n"));
    let some = prop_oneof![
        Just("[cache]\nenabled = false\n".to_owned()),
        Just("[balancing]\npolicy = \"least-connections\"\n".to_owned()),
        Just("[logging]\nformat = \"json\"\nlevel = \"info,catalog=debug\"\n".to_owned()),
        Just("limits = { body_bytes = 2048, connections = 10 }\n".to_owned()),
        Just(String::new()),
    ];
    let built = (some, number, nodes, 1..9_u32).prop_map(|(some, number, nodes, shards)| {
        format!("{some}{number}{nodes}[shards]\ncount = {shards}\ncopies = 1\n")
    });
    prop_oneof![9 => built, 1 => Just(EVERY_KEY.to_owned())].prop_map(String::into_bytes).boxed()
}
