//! `status`: what the supervisor knows of processes, joined with what a front end knows of the store.

use std::collections::BTreeMap;

use common::api::{NodeState, NodeStatus, ReplicaState, ShardStatus, Status};

use super::control;
use crate::control::{NodeReport, Overview, State};
use crate::failure::{Failure, chain};
use crate::front_end::{self, Asker};
use crate::machine::Process;
use crate::machine::hosts::Hosts;
use crate::node::{self, Node};
use crate::store::Store;
use crate::table::{cell, duration, render};
use crate::{addresses, console};

/// So much of a digest is enough for the eye to tell two apart.
const DIGEST_CHARS: usize = 8;

/// Prints tables, or the JSON of a front end's `/status` as it came.
///
/// # Errors
/// If nothing runs, or, for the JSON, no front end answers.
pub(crate) async fn run(store: &Store, json: bool) -> Result<(), Failure> {
    let asker = Asker::new()?;
    let told = first_status(store, &asker).await;
    if json {
        let (text, _) = told.ok_or_else(|| Failure::Failed("no front end answers /status".to_owned()))?;
        console::say(text.trim_end());
        return Ok(());
    }
    let status = told.map(|(_, status)| status);
    let overview = match control(store).await? {
        Some(control) => Some(control.overview().await?),
        None => None,
    };
    // Without a sentinel the machines themselves are asked.
    let hosts = if overview.is_none() { Some(Hosts::attend(store)) } else { None };
    let mut rows: Vec<Row<'_>> = Vec::new();
    for node in &store.nodes {
        let report = overview.as_ref().and_then(|overview| overview.nodes.iter().find(|r| r.id == node.id));
        let (left, problem) = match &hosts {
            Some(hosts) => match hosts.machine_of(node, store).find(node.id.as_str()).await {
                Ok(left) => (left, None),
                Err(error) => (None, Some(chain(&error))),
            },
            None => (None, report.and_then(|report| report.problem.clone())),
        };
        rows.push(Row { node, report, left, problem, address: addresses::main(&store.layout, node) });
    }
    if overview.is_none() && status.is_none() && rows.iter().all(|row| row.left.is_none()) {
        return Err(Failure::not_running());
    }
    console::say(page(store, overview.as_ref(), &rows, status.as_ref()).trim_end());
    Ok(())
}

async fn first_status(store: &Store, asker: &Asker) -> Option<(String, Status)> {
    for front_end in front_end::all(store) {
        if let Some(told) = asker.status(&front_end).await {
            return Some(told);
        }
    }
    None
}

/// What is known of a node from this machine.
struct Row<'a> {
    node: &'a Node,
    report: Option<&'a NodeReport>,
    /// A process that a supervisor that is gone has left.
    left: Option<Process>,
    /// What keeps it from running, or from being seen.
    problem: Option<String>,
    address: Option<String>,
}

fn page(store: &Store, overview: Option<&Overview>, rows: &[Row<'_>], status: Option<&Status>) -> String {
    let sentinel = overview.map_or_else(
        || "no sentinel watches it (`up` takes it over)".to_owned(),
        |overview| format!("sentinel pid {}", overview.pid),
    );
    let (name, dir) = (&store.config.cluster.name, store.config.cluster.data_dir.display());
    let mut text = format!("{name}: {sentinel}, data in {dir}\n\n");
    text.push_str(&nodes_table(rows, status));
    text.push_str(&notes(rows));
    match status {
        Some(status) if !status.shards.is_empty() => {
            text.push('\n');
            text.push_str(&shards_table(&status.shards));
            if status.shards.iter().any(|shard| !shard.replicas.is_empty()) {
                text.push('\n');
                text.push_str(&replicas_table(&status.shards));
            }
        }
        Some(_) => {}
        None => text.push_str("\nno front end answers: nothing is known of shards and replicas\n"),
    }
    text
}

fn nodes_table(rows: &[Row<'_>], status: Option<&Status>) -> String {
    let seen = |row: &Row<'_>| -> Option<&NodeStatus> {
        status?.nodes.iter().find(|seen| seen.id == row.node.id.as_str())
    };
    let cells: Vec<[String; 8]> = rows
        .iter()
        .map(|row| {
            let (report, seen) = (row.report, seen(row));
            let pid = report.and_then(|r| r.pid).or_else(|| row.left.as_ref().map(Process::pid));
            let left_s = row.left.as_ref().map(|process| process.since().elapsed().as_secs());
            let uptime = report.and_then(|r| r.uptime_s).or(left_s);
            [
                row.node.id.to_string(),
                node::program(row.node.role).to_owned(),
                state(row, pid.is_some(), seen),
                cell(pid.or_else(|| i32::try_from(seen.filter(|_| report.is_none())?.pid?).ok())),
                cell(row.address.as_deref()),
                cell(uptime.map(duration)),
                cell(report.map(|r| r.restarts)),
                cell(report.and_then(|r| r.last_exit)),
            ]
        })
        .collect();
    render(["NODE", "ROLE", "STATE", "PID", "ADDRESS", "UPTIME", "RESTARTS", "LAST EXIT"], &cells)
}

/// A line for each machine that is not this one, and for each node that something is wrong with.
fn notes(rows: &[Row<'_>]) -> String {
    let mut hosts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in rows {
        if let Some(host) = &row.node.host {
            hosts.entry(host).or_default().push(row.node.id.as_str());
        }
    }
    let mut text = String::new();
    for (host, nodes) in hosts {
        text.push_str(&format!("on {host}: {}\n", nodes.join(", ")));
    }
    for row in rows {
        if let Some(problem) = &row.problem {
            text.push_str(&format!("{}: {problem}\n", row.node.id));
        }
    }
    text
}

/// The supervisor's word, and that of the front end where it differs: a process may live and yet not be
/// heard of.
fn state(row: &Row<'_>, lives: bool, seen: Option<&NodeStatus>) -> String {
    let seen = seen.map(|seen| match seen.state {
        NodeState::Up => "up",
        NodeState::Suspect => "suspect",
        NodeState::Down => "down",
    });
    match (row.report, seen) {
        (Some(report), Some(seen)) if lives && seen != "up" => format!("{} ({seen})", report.state),
        (Some(report), _) => report.state.to_string(),
        (None, _) if lives => "running".to_owned(),
        (None, _) if row.problem.is_some() => State::Unreachable.to_string(),
        (None, seen) => seen.unwrap_or("down").to_owned(),
    }
}

fn shards_table(shards: &[ShardStatus]) -> String {
    let cells: Vec<[String; 6]> = shards
        .iter()
        .map(|shard| {
            [
                shard.shard.to_string(),
                shard.epoch.to_string(),
                cell(shard.writer.as_deref()),
                shard.members.join(", "),
                shard.commit_index.to_string(),
                cell(shard.waiting_for.as_deref()),
            ]
        })
        .collect();
    render(["SHARD", "EPOCH", "WRITER", "MEMBERS", "COMMITTED", "WAITS FOR"], &cells)
}

fn replicas_table(shards: &[ShardStatus]) -> String {
    let replicas = shards.iter().flat_map(|shard| shard.replicas.iter().map(move |replica| (shard, replica)));
    let cells: Vec<[String; 6]> = replicas
        .map(|(shard, replica)| {
            let state = match replica.state {
                ReplicaState::Member => "member",
                ReplicaState::Recovering => "recovering",
                ReplicaState::Suspect => "suspect",
                ReplicaState::Down => "down",
            };
            [
                shard.shard.to_string(),
                replica.id.clone(),
                state.to_owned(),
                replica.last_index.to_string(),
                replica.lag.to_string(),
                replica.digest.chars().take(DIGEST_CHARS).collect(),
            ]
        })
        .collect();
    render(["SHARD", "REPLICA", "STATE", "LAST", "LAG", "DIGEST"], &cells)
}
