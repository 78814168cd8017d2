//! What the front end has done, for Prometheus.
//!
//! Requests are counted on stripes, so that threads that serve cached books at full speed don't write to one
//! another's cache lines. How the shards, replicas and the cache stand is not counted twice: it is taken
//! from `/status` when someone asks.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use common::api::{CacheStatus, NodeState, ReplicaState, Status};
use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// A kind of request, by its path: few enough to count each by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteClass {
    /// `/lookup`
    Lookup,
    /// `/quantity`
    Quantity,
    /// `/list`
    List,
    /// `/search` and `/topics`
    Search,
    /// `/buy`
    Buy,
    /// `/orders`
    Orders,
    /// `/update_cost`, `/update_quantity`, `/books`, `/invalidate`
    Admin,
    /// `/books/bulk`
    Bulk,
    /// `/backup`
    Backup,
    /// What operators ask.
    Operators,
    /// Any other path.
    Other,
}

const ROUTES: [RouteClass; 11] = [
    RouteClass::Lookup,
    RouteClass::Quantity,
    RouteClass::List,
    RouteClass::Search,
    RouteClass::Buy,
    RouteClass::Orders,
    RouteClass::Admin,
    RouteClass::Bulk,
    RouteClass::Backup,
    RouteClass::Operators,
    RouteClass::Other,
];

impl RouteClass {
    /// The kind of a path.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let first = path.strip_prefix('/').unwrap_or(path).split('/').next().unwrap_or_default();
        match first {
            "lookup" => Self::Lookup,
            "quantity" => Self::Quantity,
            "list" => Self::List,
            "search" | "topics" => Self::Search,
            "buy" => Self::Buy,
            "orders" => Self::Orders,
            "books" if path == "/books/bulk" => Self::Bulk,
            "backup" => Self::Backup,
            "update_cost" | "update_quantity" | "books" | "invalidate" => Self::Admin,
            "livez" | "healthz" | "readyz" | "metrics" | "status" | "events" | "docs" | "openapi.json" => {
                Self::Operators
            }
            _ => Self::Other,
        }
    }

    /// Whether requests of this kind change something, GETs included.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Buy | Self::Admin | Self::Bulk)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Quantity => "quantity",
            Self::List => "list",
            Self::Search => "search",
            Self::Buy => "buy",
            Self::Orders => "orders",
            Self::Admin => "admin",
            Self::Bulk => "bulk",
            Self::Backup => "backup",
            Self::Operators => "operators",
            Self::Other => "other",
        }
    }
}

/// The statuses that are counted by themselves; all others share the last place.
const STATUSES: [u16; 17] =
    [200, 201, 204, 304, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 503, 0];
/// As many as threads that serve at once on most machines.
const STRIPES: usize = 8;

/// Counters of one thread, or of a few. Aligned, so that no two share a cache line.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe {
    requests: [[AtomicU64; STATUSES.len()]; ROUTES.len()],
}

impl Default for Stripe {
    fn default() -> Self {
        Self { requests: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))) }
    }
}

thread_local! {
    static STRIPE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES
    };
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    stripes: [Stripe; STRIPES],
    latency: Family<RouteLabel, Histogram, fn() -> Histogram>,
    connections: AtomicI64,
    connections_refused: AtomicU64,
    rate_limited: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabel {
    shard: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReplicaLabels {
    shard: u32,
    node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabels {
    node: String,
}

/// From a quick read of a replica to the longest that a write is waited for.
const LATENCY_SECONDS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stripes: Default::default(),
            latency: Family::new_with_constructor(|| Histogram::new(LATENCY_SECONDS)),
            connections: AtomicI64::new(0),
            connections_refused: AtomicU64::new(0),
            rate_limited: AtomicU64::new(0),
        }
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, route: RouteClass, status: StatusCode) {
        let place = STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(STATUSES.len() - 1);
        let stripe = STRIPE.with(|stripe| *stripe);
        let counter = self
            .stripes
            .get(stripe)
            .and_then(|stripe| stripe.requests.get(route as usize))
            .and_then(|statuses| statuses.get(place));
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes how long an answer took that did not come from the cache at once.
    pub(crate) fn took(&self, route: RouteClass, time: Duration) {
        self.latency.get_or_create(&RouteLabel { route: route.name() }).observe(time.as_secs_f64());
    }

    /// Counts a request that was one too many for its client.
    pub(crate) fn limited(&self) {
        self.rate_limited.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that was refused.
    pub(crate) fn refused_connection(&self) {
        self.connections_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection as open until the guard is dropped.
    pub(crate) fn open_connection(&self) -> OpenConnection<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self)
    }

    /// All of it in the text form of Prometheus, with how the store stands.
    #[must_use]
    pub fn render(&self, status: &Status) -> String {
        let mut registry = Registry::with_prefix("bookends");
        self.register_requests(&mut registry);
        register_shards(&mut registry, status);
        register_nodes(&mut registry, status);
        register_cache(&mut registry, &status.cache);
        let mut text = String::new();
        if encode(&mut text, &registry).is_err() {
            // Writing to a string does not fail; half a page would mislead.
            text.clear();
        }
        text
    }

    fn register_requests(&self, registry: &mut Registry) {
        let requests = Family::<RequestLabels, Counter>::default();
        for route in ROUTES {
            for (place, status) in STATUSES.iter().enumerate() {
                let counts =
                    self.stripes.iter().filter_map(|stripe| stripe.requests.get(route as usize)?.get(place));
                let count: u64 = counts.map(|counter| counter.load(Ordering::Relaxed)).sum();
                if count > 0 {
                    let status = if *status == 0 { "other".to_owned() } else { status.to_string() };
                    requests.get_or_create(&RequestLabels { route: route.name(), status }).inc_by(count);
                }
            }
        }
        registry.register("requests", "Answers by kind of request and status", requests);
        let help = "Time from a request's head to its answer's, cached books aside";
        registry.register("request_duration_seconds", help, self.latency.clone());
        gauge(registry, "connections", "Open connections", self.connections.load(Ordering::Relaxed));
        let refused = self.connections_refused.load(Ordering::Relaxed);
        counter(registry, "connections_refused", "Connections refused for their number", refused);
        let limited = self.rate_limited.load(Ordering::Relaxed);
        counter(registry, "rate_limited", "Requests refused for their rate", limited);
    }
}

/// A connection that counts as open.
pub(crate) struct OpenConnection<'m>(&'m Metrics);

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn register_shards(registry: &mut Registry, status: &Status) {
    let epoch = Family::<ShardLabel, Gauge>::default();
    let commit = Family::<ShardLabel, Gauge>::default();
    let members = Family::<ShardLabel, Gauge>::default();
    let waiting = Family::<ShardLabel, Gauge>::default();
    let is_member = Family::<ReplicaLabels, Gauge>::default();
    let last = Family::<ReplicaLabels, Gauge>::default();
    let lag = Family::<ReplicaLabels, Gauge>::default();
    for shard in &status.shards {
        let label = ShardLabel { shard: shard.shard };
        epoch.get_or_create(&label).set(signed(shard.epoch));
        commit.get_or_create(&label).set(signed(shard.commit_index));
        members.get_or_create(&label).set(i64::try_from(shard.members.len()).unwrap_or(i64::MAX));
        waiting.get_or_create(&label).set(i64::from(shard.waiting_for.is_some()));
        for replica in &shard.replicas {
            let label = ReplicaLabels { shard: shard.shard, node: replica.id.clone() };
            is_member.get_or_create(&label).set(i64::from(replica.state == ReplicaState::Member));
            last.get_or_create(&label).set(signed(replica.last_index));
            lag.get_or_create(&label).set(signed(replica.lag));
        }
    }
    registry.register("shard_epoch", "The epoch of the shard's view", epoch);
    registry.register("shard_commit_index", "Up to where the shard is committed", commit);
    registry.register("shard_members", "How many replicas have every acknowledged write", members);
    registry.register("shard_waiting", "1 while something keeps the shard from taking writes", waiting);
    registry.register(
        "replica_member",
        "1 if the replica has every acknowledged write and is read",
        is_member,
    );
    registry.register("replica_last_index", "The replica's last index", last);
    registry.register("replica_lag_entries", "Entries that the replica is behind the commit index", lag);
}

fn register_nodes(registry: &mut Registry, status: &Status) {
    let up = Family::<NodeLabels, Gauge>::default();
    for node in &status.nodes {
        let label = NodeLabels { node: node.id.clone() };
        up.get_or_create(&label).set(i64::from(node.state == NodeState::Up));
    }
    registry.register("node_up", "1 if the node beats", up);
}

fn register_cache(registry: &mut Registry, cache: &CacheStatus) {
    let CacheStatus { entries, bytes, hits, misses, invalidations, voided_fills } = *cache;
    gauge(registry, "cache_entries", "Answers in the cache", signed(entries));
    gauge(registry, "cache_bytes", "Size of the answers in the cache", signed(bytes));
    counter(registry, "cache_hits", "Reads that the cache answered", hits);
    counter(registry, "cache_misses", "Reads that the cache could not answer", misses);
    counter(registry, "cache_invalidations", "Keys that writes made the cache drop", invalidations);
    counter(registry, "cache_voided_fills", "Answers not stored, for a write overtook them", voided_fills);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter: Counter = Counter::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use common::api::ShardStatus;

    use super::*;

    #[test]
    fn what_was_counted_is_shown() {
        let metrics = Metrics::new();
        for _ in 0..3 {
            metrics.answered(RouteClass::Lookup, StatusCode::OK);
        }
        metrics.answered(RouteClass::Buy, StatusCode::IM_A_TEAPOT);
        metrics.took(RouteClass::Buy, Duration::from_millis(3));
        let open = metrics.open_connection();
        let shard = ShardStatus {
            shard: 2,
            epoch: 3,
            writer: None,
            members: vec!["catalog-1".to_owned()],
            commit_index: 41,
            waiting_for: None,
            replicas: vec![],
        };
        let cache = CacheStatus { hits: 5, ..CacheStatus::default() };
        let text = metrics.render(&Status { shards: vec![shard], nodes: vec![], cache });
        for line in [
            r#"bookends_requests_total{route="lookup",status="200"} 3"#,
            r#"bookends_requests_total{route="buy",status="other"} 1"#,
            r#"bookends_request_duration_seconds_count{route="buy"} 1"#,
            "bookends_connections 1",
            r#"bookends_shard_commit_index{shard="2"} 41"#,
            "bookends_cache_hits_total 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        drop(open);
        assert!(metrics.render(&Status::default()).contains("bookends_connections 0\n"));
    }

    #[test]
    fn counts_of_several_threads_add_up() {
        let metrics = Metrics::new();
        std::thread::scope(|scope| {
            for _ in 0..STRIPES + 1 {
                scope.spawn(|| (0..1000).for_each(|_| metrics.answered(RouteClass::List, StatusCode::OK)));
            }
        });
        let text = metrics.render(&Status::default());
        let expected =
            format!(r#"bookends_requests_total{{route="list",status="200"}} {}"#, (STRIPES + 1) * 1000);
        assert!(text.contains(&expected), "{text}");
    }

    #[test]
    fn each_path_has_its_kind() {
        for (path, route) in [
            ("/lookup/1", RouteClass::Lookup),
            ("/lookup", RouteClass::Lookup),
            ("/books/bulk", RouteClass::Bulk),
            ("/backup/0", RouteClass::Backup),
            ("/books/7", RouteClass::Admin),
            ("/topics", RouteClass::Search),
            ("/openapi.json", RouteClass::Operators),
            ("/", RouteClass::Other),
            ("", RouteClass::Other),
            ("*", RouteClass::Other),
        ] {
            assert_eq!(RouteClass::of(path), route, "{path}");
        }
        for (place, route) in ROUTES.into_iter().enumerate() {
            assert_eq!(route as usize, place, "the place of a kind is its number");
        }
    }
}
