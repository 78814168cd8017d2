//! From the text of a configuration to its checked form, with all defaults.

use std::num::{NonZeroU16, NonZeroU32};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::ids::NodeId;
use toml::de::DeTable;

use super::claims::Claims;
use super::reader::{Mistakes, Section};
use super::{
    Address, Balancing, Cache, CatalogNode, Cluster, Config, FrontendNode, Heartbeat, Limits, Log, LogFormat,
    Logging, OrderNode, Shards, Ssh, Timeouts,
};
use crate::telemetry;

const ADDRESS: &str = "an address such as \"127.0.0.1:8080\"";
const ID: &str =
    "a name of 1 to 40 of a-z A-Z 0-9 - _ that begins with no `-` and is neither `run` nor `logs`";
const LEVEL: &str = "off, error, warn, info, debug or trace, or a list such as \"info,catalog=debug\"";
/// An hour: whoever wants to wait longer than that has mistaken the unit.
const MILLISECONDS_MAX: u64 = 3_600_000;
/// Where the only front end listens: for clients, for the other processes, for heartbeats.
const FRONTEND_PORTS: [Option<u16>; 3] = [Some(8080), Some(8081), Some(8082)];

/// Checks what a configuration's file holds.
pub(super) fn check(bytes: &[u8], path: &Path) -> Result<Config, Vec<(usize, String)>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count();
        vec![(line, "the file must be UTF-8 text".to_owned())]
    })?;
    let mut mistakes = Mistakes::new(text);
    let (table, problems) = DeTable::parse_recoverable(text);
    if !problems.is_empty() {
        // What was recovered from broken text may be anything, so its values are not worth judging.
        for problem in problems {
            mistakes.at(&problem.span().unwrap_or(0..0), problem.message().to_owned());
        }
        return Err(mistakes.into_lines());
    }
    let span = table.span();
    let mut root = Section::new("", span, table.into_inner());
    let config = read(&mut root, path, &mut mistakes);
    root.finish(&mut mistakes);
    let found = mistakes.into_lines();
    if found.is_empty() { Ok(config) } else { Err(found) }
}

fn read(root: &mut Section<'_>, path: &Path, mistakes: &mut Mistakes) -> Config {
    let cluster = cluster(root.table("cluster", mistakes), path, mistakes);
    let catalog_list = root.span_of("catalog").unwrap_or_default();
    let mut nodes = Claims::default();
    let frontends = frontends(root.tables("frontend", mistakes), &mut nodes, mistakes);
    let catalogs: Vec<CatalogNode> = back_ends(root, "catalog", [8101, 8102], &mut nodes, mistakes)
        .into_iter()
        .map(|(id, listen, host)| CatalogNode { id, listen, host })
        .collect();
    let orders = back_ends(root, "order", [8201, 8202], &mut nodes, mistakes)
        .into_iter()
        .map(|(id, listen, host)| OrderNode { id, listen, host })
        .collect();
    nodes.check(mistakes);
    let shards = shards(root.table("shards", mistakes), catalogs.len(), &catalog_list, mistakes);
    Config {
        path: path.to_owned(),
        cluster,
        shards,
        frontends,
        catalogs,
        orders,
        balancing: balancing(root.table("balancing", mistakes), mistakes),
        cache: cache(root.table("cache", mistakes), mistakes),
        heartbeat: heartbeat(root.table("heartbeat", mistakes), mistakes),
        timeouts: timeouts(root.table("timeouts", mistakes), mistakes),
        log: log(root.table("log", mistakes), mistakes),
        limits: limits(root.table("limits", mistakes), mistakes),
        logging: logging(root.table("logging", mistakes), mistakes),
        ssh: ssh(root.table("ssh", mistakes), path, mistakes),
    }
}

fn cluster(mut section: Section<'_>, path: &Path, mistakes: &mut Mistakes) -> Cluster {
    let is_text = |text: &str| !text.trim().is_empty() && !text.contains(char::is_control);
    let text = |text: &str| is_text(text).then(|| text.to_owned());
    let name = section.parsed("name", "a text of visible characters", text, mistakes);
    let data_dir = section.parsed("data_dir", "the path of a directory", text, mistakes);
    section.finish(mistakes);
    let folder = path.parent().unwrap_or(Path::new("/"));
    let data_dir = data_dir.map_or_else(|| PathBuf::from("data"), |dir| PathBuf::from(dir.into_inner()));
    Cluster {
        name: name.map_or_else(|| "bookends".to_owned(), toml::Spanned::into_inner),
        data_dir: folder.join(&data_dir),
        data_dir_written: data_dir,
    }
}

fn shards(
    mut section: Section<'_>,
    nodes: usize,
    catalog_list: &Range<usize>,
    mistakes: &mut Mistakes,
) -> Shards {
    let nodes = u64::try_from(nodes).unwrap_or(u64::MAX);
    let count = count(&mut section, "count", 1, 1024, mistakes);
    let given = section.span_of("copies");
    // One that is wrong by itself is noted as such and then taken for 0, which is not too many.
    let default = if given.is_some() { 0 } else { 2 };
    let copies = section.number("copies", default, 1..=u64::from(u32::MAX), mistakes);
    if copies > nodes {
        let (span, which) = match &given {
            Some(span) => (span, ""),
            None => (catalog_list, ", the default"),
        };
        let right = format!("must be at most {nodes}, the number of catalog nodes");
        mistakes.at(span, format!("`shards.copies` {right}, found {copies}{which}"));
    }
    section.finish(mistakes);
    Shards { count, copies: at_least_one(copies) }
}

fn id(section: &mut Section<'_>, kind: &str, claims: &mut Claims, mistakes: &mut Mistakes) -> NodeId {
    section.missing("id", ID, mistakes);
    // A name that is wrong is noted and claims nothing; what stands for it is never seen.
    let Some(id) = section.parsed("id", ID, parse_id, mistakes) else { return NodeId::from("") };
    let span = id.span();
    let id = NodeId::from(id.into_inner());
    claims.id(kind, &id, Some(span));
    id
}

/// An address that is in the file, or else its default, if it has one.
fn address(
    section: &mut Section<'_>,
    key: &'static str,
    default: Option<u16>,
    claims: &mut Claims,
    mistakes: &mut Mistakes,
) -> Address {
    if default.is_none() {
        section.missing(key, ADDRESS, mistakes);
    }
    let machine = section.peek("host").map(str::to_owned);
    let path = section.path(key);
    let is_given = section.has(key);
    match section.parsed(key, ADDRESS, |text| text.parse::<Address>().ok(), mistakes) {
        Some(found) => {
            let span = found.span();
            let address = found.into_inner();
            claims.address(path, &address, machine.as_deref(), Some(span));
            address
        }
        None => {
            let address = loopback(default.unwrap_or(0));
            if !is_given {
                claims.address(path, &address, machine.as_deref(), section.place());
            }
            address
        }
    }
}

fn parse_id(text: &str) -> Option<String> {
    let fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    // A name with a hyphen in front would be taken for an option on a command line.
    (fits && !text.starts_with('-') && (1..=40).contains(&text.len()) && text != "run" && text != "logs")
        .then(|| text.to_owned())
}

fn loopback(port: u16) -> Address {
    let text = format!("127.0.0.1:{port}");
    Address { host_length: text.len() - text.rfind(':').map_or(0, |colon| text.len() - colon), text, port }
}

fn host(section: &mut Section<'_>, mistakes: &mut Mistakes) -> Option<String> {
    let is_visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    let parse = |text: &str| (is_visible(text) && !text.starts_with('-')).then(|| text.to_owned());
    Some(section.parsed("host", "the name of a machine, as ssh has it", parse, mistakes)?.into_inner())
}

fn frontends(
    sections: Option<Vec<Section<'_>>>,
    nodes: &mut Claims,
    mistakes: &mut Mistakes,
) -> Vec<FrontendNode> {
    let Some(sections) = sections else {
        let mut section = Section::empty("frontend");
        let id = NodeId::from("frontend-1");
        nodes.id("frontend", &id, None);
        return vec![frontend(&mut section, id, FRONTEND_PORTS, nodes, mistakes)];
    };
    // The default ports are those of a single front end; several must each say theirs.
    let ports = if sections.len() == 1 { FRONTEND_PORTS } else { [None; 3] };
    let mut found = Vec::new();
    for mut section in sections {
        let id = id(&mut section, "frontend", nodes, mistakes);
        found.push(frontend(&mut section, id, ports, nodes, mistakes));
        section.finish(mistakes);
    }
    found
}

fn frontend(
    section: &mut Section<'_>,
    id: NodeId,
    [public, internal, heartbeat]: [Option<u16>; 3],
    nodes: &mut Claims,
    mistakes: &mut Mistakes,
) -> FrontendNode {
    FrontendNode {
        public: address(section, "public", public, nodes, mistakes),
        internal: address(section, "internal", internal, nodes, mistakes),
        heartbeat: address(section, "heartbeat", heartbeat, nodes, mistakes),
        host: host(section, mistakes),
        id,
    }
}

fn back_ends(
    root: &mut Section<'_>,
    kind: &'static str,
    default_ports: [u16; 2],
    nodes: &mut Claims,
    mistakes: &mut Mistakes,
) -> Vec<(NodeId, Address, Option<String>)> {
    let Some(sections) = root.tables(kind, mistakes) else {
        let ports = default_ports.into_iter().zip(1..);
        let default = ports.map(|(port, number)| (NodeId::from(format!("{kind}-{number}")), loopback(port)));
        return default
            .map(|(id, listen)| {
                nodes.id(kind, &id, None);
                nodes.address(format!("{kind}.listen"), &listen, None, None);
                (id, listen, None)
            })
            .collect();
    };
    let mut found = Vec::new();
    for mut section in sections {
        let id = id(&mut section, kind, nodes, mistakes);
        let listen = address(&mut section, "listen", None, nodes, mistakes);
        let host = host(&mut section, mistakes);
        section.finish(mistakes);
        found.push((id, listen, host));
    }
    found
}

fn balancing(mut section: Section<'_>, mistakes: &mut Mistakes) -> Balancing {
    let right = "\"round-robin\", \"least-connections\" or \"least-response-time\"";
    let policy = section.parsed("policy", right, |text| text.parse().ok(), mistakes);
    section.finish(mistakes);
    Balancing { policy: policy.map(toml::Spanned::into_inner).unwrap_or_default() }
}

fn cache(mut section: Section<'_>, mistakes: &mut Mistakes) -> Cache {
    let cache = Cache {
        capacity_bytes: section.number("capacity_bytes", 64 << 20, 1..=1 << 40, mistakes),
        enabled: section.boolean("enabled", true, mistakes),
    };
    section.finish(mistakes);
    cache
}

fn heartbeat(mut section: Section<'_>, mistakes: &mut Mistakes) -> Heartbeat {
    let heartbeat = Heartbeat {
        interval: milliseconds(&mut section, "interval_ms", 250, mistakes),
        missed_limit: count(&mut section, "missed_limit", 4, 1000, mistakes),
    };
    section.finish(mistakes);
    heartbeat
}

fn timeouts(mut section: Section<'_>, mistakes: &mut Mistakes) -> Timeouts {
    let timeouts = Timeouts {
        read: milliseconds(&mut section, "read_ms", 1000, mistakes),
        write: milliseconds(&mut section, "write_ms", 1000, mistakes),
    };
    section.finish(mistakes);
    timeouts
}

fn log(mut section: Section<'_>, mistakes: &mut Mistakes) -> Log {
    let log = Log {
        keep_entries: section.number("keep_entries", 200_000, 1000..=i64::MAX.unsigned_abs(), mistakes),
    };
    section.finish(mistakes);
    log
}

fn limits(mut section: Section<'_>, mistakes: &mut Mistakes) -> Limits {
    let most = u64::from(u32::MAX);
    let per_client = section.number("requests_per_second_per_client", 0, 0..=most, mistakes);
    let limits = Limits {
        body_bytes: section.number("body_bytes", 1 << 20, 1024..=64 << 20, mistakes),
        connections: count(&mut section, "connections", 20_000, most, mistakes).get(),
        requests_per_second_per_client: u32::try_from(per_client).ok().and_then(NonZeroU32::new),
    };
    section.finish(mistakes);
    limits
}

fn logging(mut section: Section<'_>, mistakes: &mut Mistakes) -> Logging {
    let format = |text: &str| match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    };
    let format = section.parsed("format", "\"text\" or \"json\"", format, mistakes);
    let level = |text: &str| telemetry::filter(text).is_ok().then(|| text.to_owned());
    let level = section.parsed("level", LEVEL, level, mistakes);
    section.finish(mistakes);
    Logging {
        format: format.map_or(LogFormat::Text, toml::Spanned::into_inner),
        level: level.map_or_else(|| "info".to_owned(), toml::Spanned::into_inner),
    }
}

fn ssh(mut section: Section<'_>, path: &Path, mistakes: &mut Mistakes) -> Ssh {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let is_text = |text: &str| !text.contains(char::is_control);
    let mut file = |key, right: &str| {
        let parse = |text: &str| is_text(text).then(|| text.to_owned());
        let found = section.parsed(key, right, parse, mistakes).map(toml::Spanned::into_inner);
        found.filter(|text| !text.is_empty()).map(|text| folder.join(text))
    };
    let identity = file("identity", "the path of a key, or empty");
    let config = file("config", "the path of a configuration of ssh, or empty");
    let port = section.number("port", 0, 0..=u64::from(u16::MAX), mistakes);
    let parse = |text: &str| (is_text(text) && !text.trim().is_empty()).then(|| text.to_owned());
    let dir = section.parsed("dir", "the path of a folder", parse, mistakes);
    let ssh = Ssh {
        port: u16::try_from(port).ok().and_then(NonZeroU16::new),
        identity,
        config,
        dir: dir.map_or_else(|| "bookends".to_owned(), toml::Spanned::into_inner),
        connect: milliseconds(&mut section, "connect_ms", 5000, mistakes),
    };
    section.finish(mistakes);
    ssh
}

fn milliseconds(
    section: &mut Section<'_>,
    key: &'static str,
    default: u64,
    mistakes: &mut Mistakes,
) -> Duration {
    Duration::from_millis(section.number(key, default, 1..=MILLISECONDS_MAX, mistakes))
}

fn count(
    section: &mut Section<'_>,
    key: &'static str,
    default: u64,
    most: u64,
    mistakes: &mut Mistakes,
) -> NonZeroU32 {
    at_least_one(section.number(key, default, 1..=most, mistakes))
}

fn at_least_one(number: u64) -> NonZeroU32 {
    u32::try_from(number).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}
