//! What happens to the store, told to everyone who listens: the log and `/events`.

use protocol::heartbeat::{Change, State};
use protocol::writer::Happening;
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// How many events a listener may be behind before it loses the oldest; it is told that it did.
const EVENTS_KEPT: usize = 256;

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its kind, such as `node-down`.
    pub name: &'static str,
    /// What is known of it.
    pub data: Value,
}

/// Where events are told and heard. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Happenings(broadcast::Sender<Event>);

impl Default for Happenings {
    fn default() -> Self {
        Self(broadcast::channel(EVENTS_KEPT).0)
    }
}

impl Happenings {
    /// All events from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }

    /// Tells what a shard's writer has seen.
    pub fn shard(&self, happening: &Happening) {
        let (name, data) = describe(happening);
        match happening {
            Happening::Halted { .. } | Happening::MembersDiffer { .. } => {
                tracing::error!(event = name, %data)
            }
            Happening::Suspected { .. } | Happening::SteppedDown { .. } | Happening::ReplicaFailed { .. } => {
                tracing::warn!(event = name, %data);
            }
            Happening::ViewChanged { .. }
            | Happening::TookOffice { .. }
            | Happening::ResyncStarted { .. }
            | Happening::Joining { .. }
            | Happening::ResyncDone { .. } => tracing::info!(event = name, %data),
        }
        self.tell(name, data);
    }

    /// Tells that a node's heart beats again, or no longer.
    pub fn node(&self, change: &Change) {
        let name = match change.to {
            State::Up => "node-up",
            State::Suspect => "node-suspect",
            State::Down => "node-down",
        };
        let data = json!({ "node": change.node.as_str() });
        if change.to == State::Up {
            tracing::info!(event = name, %data);
        } else {
            tracing::warn!(event = name, %data);
        }
        self.tell(name, data);
    }

    fn tell(&self, name: &'static str, data: Value) {
        // Without listeners there is nobody to tell.
        drop(self.0.send(Event { name, data }));
    }
}

fn describe(happening: &Happening) -> (&'static str, Value) {
    match happening {
        Happening::ViewChanged { view } => {
            let members: Vec<&str> = view.members.iter().map(|member| member.node.as_str()).collect();
            let data = json!({
                "shard": view.shard, "epoch": view.epoch, "writer": view.writer.as_str(), "members": members,
            });
            ("view-changed", data)
        }
        Happening::TookOffice { shard, epoch, commit } => {
            ("took-office", json!({ "shard": shard, "epoch": epoch, "commit_index": commit }))
        }
        Happening::SteppedDown { shard, why } => ("stepped-down", json!({ "shard": shard, "why": why })),
        Happening::Suspected { shard, node, why } => {
            ("replica-suspected", json!({ "shard": shard, "node": node.as_str(), "why": format!("{why:?}") }))
        }
        Happening::ResyncStarted { shard, node, source } => {
            ("resync-started", json!({ "shard": shard, "node": node.as_str(), "source": source.as_str() }))
        }
        Happening::Joining { shard, node } => ("joining", json!({ "shard": shard, "node": node.as_str() })),
        Happening::ResyncDone { shard, node, epoch } => {
            ("resync-done", json!({ "shard": shard, "node": node.as_str(), "epoch": epoch }))
        }
        Happening::MembersDiffer { shard, index } => {
            ("members-differ", json!({ "shard": shard, "index": index }))
        }
        Happening::ReplicaFailed { shard, node, problem } => {
            ("replica-failed", json!({ "shard": shard, "node": node.as_str(), "problem": problem }))
        }
        Happening::Halted { shard, problem } => ("halted", json!({ "shard": shard, "problem": problem })),
    }
}
