//! How the store stands: shards with their copies, processes, the cache.

use std::time::Duration;

use bookends::Client;
use common::api::{CacheStatus, NodeState, NodeStatus, ReplicaState, Role, ShardStatus, Status};

use super::CliError;
use super::screen::Screen;
use super::tables::{Cell, Side, Table, Tone, bytes};

/// How often a watch looks.
const LOOK: Duration = Duration::from_secs(1);
/// How much of a hash is shown: enough to see that two are equal.
const HASH_SHOWN: usize = 12;

pub(crate) async fn show(client: &Client, screen: Screen) -> Result<(), CliError> {
    screen.show(&client.status().await?, |status| render(status, screen.has_colour()))
}

/// Shows it again and again until the process is ended; a store that is away for a while is not an end.
pub(crate) async fn watch(client: &Client, screen: Screen) -> Result<(), CliError> {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let found = client.status().await;
        screen.clear()?;
        match found {
            Ok(status) => screen.show(&status, |status| render(status, screen.has_colour()))?,
            Err(error) if error.is_retryable() => {
                screen.show(&serde_json::json!({"error": error.to_string()}), |_| format!("{error}\n"))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn render(status: &Status, colour: bool) -> String {
    let mut out = nodes_table(&status.nodes).render(colour);
    for shard in &status.shards {
        out.push('\n');
        out.push_str(&shard_line(shard));
        out.push_str(&replicas_table(shard).render(colour));
    }
    out.push('\n');
    out.push_str(&cache_line(&status.cache));
    out
}

fn nodes_table(nodes: &[NodeStatus]) -> Table<7> {
    let heads = ["node", "role", "state", "address", "pid", "last beat", "up for"];
    let sides = [Side::Left, Side::Left, Side::Left, Side::Left, Side::Right, Side::Right, Side::Right];
    let mut table = Table::new(std::array::from_fn(|i| (heads[i], sides[i])));
    for node in nodes {
        let role = match node.role {
            Role::Frontend => "front end",
            Role::Catalog => "catalog",
            Role::Order => "order",
        };
        let state = match node.state {
            NodeState::Up => Cell::toned("up", Tone::Good),
            NodeState::Suspect => Cell::toned("suspect", Tone::Warning),
            NodeState::Down => Cell::toned("down", Tone::Bad),
        };
        table.row([
            (&node.id).into(),
            role.into(),
            state,
            (&node.address).into(),
            known(node.pid.map(|pid| pid.to_string())),
            known(node.last_beat_ms.map(|ms| format!("{ms} ms"))),
            known(node.uptime_s.map(span)),
        ]);
    }
    table
}

fn replicas_table(shard: &ShardStatus) -> Table<7> {
    let heads = ["replica", "state", "epoch", "last index", "lag", "chain", "digest"];
    let sides = [Side::Left, Side::Left, Side::Right, Side::Right, Side::Right, Side::Left, Side::Left];
    let mut table = Table::new(std::array::from_fn(|i| (heads[i], sides[i])));
    for replica in &shard.replicas {
        let state = match replica.state {
            ReplicaState::Member => Cell::toned("member", Tone::Good),
            ReplicaState::Recovering => Cell::toned("recovering", Tone::Warning),
            ReplicaState::Suspect => Cell::toned("suspect", Tone::Warning),
            ReplicaState::Down => Cell::toned("down", Tone::Bad),
        };
        table.row([
            (&replica.id).into(),
            state,
            replica.epoch.into(),
            replica.last_index.into(),
            replica.lag.into(),
            head_of(&replica.chain).into(),
            head_of(&replica.digest).into(),
        ]);
    }
    table
}

fn shard_line(shard: &ShardStatus) -> String {
    let ShardStatus { shard: number, epoch, writer, members, commit_index, waiting_for, replicas: _ } = shard;
    let writer = writer.as_deref().unwrap_or("none");
    let members = if members.is_empty() { "none".to_owned() } else { members.join(", ") };
    let mut line = format!(
        "shard {number}: epoch {epoch}, writer {writer}, members {members}, committed {commit_index}"
    );
    if let Some(missing) = waiting_for {
        line.push_str("; waits for ");
        line.push_str(missing);
    }
    line.push('\n');
    line
}

fn cache_line(cache: &CacheStatus) -> String {
    let CacheStatus { entries, bytes: size, hits, misses, invalidations, voided_fills } = *cache;
    let asked = hits.saturating_add(misses);
    let rate = (u128::from(hits) * 100).checked_div(asked.into()).unwrap_or_default();
    format!(
        "cache: {entries} entries, {}, {hits} hits and {misses} misses ({rate} %), \
         {invalidations} invalidations, {voided_fills} voided fills\n",
        bytes(size)
    )
}

fn known(value: Option<String>) -> Cell {
    value.unwrap_or_else(|| "-".to_owned()).into()
}

fn head_of(hash: &str) -> String {
    hash.chars().take(HASH_SHOWN).collect()
}

/// Seconds as people say them, by their two largest units.
fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        (_, _, _) => format!("{days}d {}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_tables() {
        let status: Status = serde_json::from_value(serde_json::json!({
            "shards": [{"shard": 0, "epoch": 3, "writer": "frontend-1", "members": ["catalog-1"],
                "commit_index": 41, "waiting_for": null, "replicas": [
                {"id": "catalog-1", "state": "member", "epoch": 3, "last_index": 41, "lag": 0,
                 "chain": "00112233445566778899aabbccddeeff", "digest": "ffeeddccbbaa99887766554433221100"},
                {"id": "catalog-2", "state": "down", "epoch": 2, "last_index": 7, "lag": 34,
                 "chain": "aa", "digest": "bb"}]}],
            "nodes": [{"id": "catalog-1", "role": "catalog", "state": "up", "address": "127.0.0.1:8101",
                "pid": 12, "last_beat_ms": 3, "uptime_s": 61, "version": "0.1.0"}],
            "cache": {"entries": 1, "bytes": 2048, "hits": 3, "misses": 1, "invalidations": 0,
                "voided_fills": 0}
        }))
        .unwrap();
        let expected = "\
node       role     state  address         pid  last beat  up for
catalog-1  catalog  up     127.0.0.1:8101   12       3 ms   1m 1s

shard 0: epoch 3, writer frontend-1, members catalog-1, committed 41
replica    state   epoch  last index  lag  chain         digest
catalog-1  member      3          41    0  001122334455  ffeeddccbbaa
catalog-2  down        2           7   34  aa            bb

cache: 1 entries, 2.0 KiB, 3 hits and 1 misses (75 %), 0 invalidations, 0 voided fills
";
        assert_eq!(render(&status, false), expected);
    }

    #[test]
    fn spans_have_two_units() {
        for (seconds, expected) in
            [(0, "0s"), (59, "59s"), (3_599, "59m 59s"), (3_600, "1h 0m"), (90_000, "1d 1h")]
        {
            assert_eq!(span(seconds), expected);
        }
    }
}
