//! Whether the store is ready: every node has a process, every front end says so itself, and sees all
//! back-end nodes up.

use common::api::{NodeState, Role, Status};

use crate::control::{NodeReport, Overview, State};
use crate::front_end::{Asker, FrontEnd};
use crate::machine::Exit;

/// A node that died so often before it was ready even once will not become so.
const STARTS_MAX: u32 = 5;

/// How far the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Clients can come.
    Ready,
    /// Not yet, and this is what is missing.
    Waiting(String),
    /// It won't be: this node does not come up.
    Hopeless {
        /// Which node.
        node: String,
        /// How it fails.
        why: String,
    },
}

/// How far the store is now.
pub(crate) async fn look(overview: &Overview, front_ends: &[FrontEnd], asker: &Asker) -> Readiness {
    if let Some(verdict) = judge_processes(&overview.nodes) {
        return verdict;
    }
    let expected = overview.nodes.iter().filter(|node| node.role == Role::Frontend).count();
    if front_ends.len() < expected {
        return Readiness::Waiting("a front end has not said where it listens".to_owned());
    }
    for front_end in front_ends {
        if let Some(why) = asker.not_ready(front_end).await {
            return Readiness::Waiting(why);
        }
        let Some((_, status)) = asker.status(front_end).await else {
            return Readiness::Waiting(format!("{} does not tell its status", front_end.id));
        };
        if let Some(why) = missing_back_end(&overview.nodes, &status) {
            return Readiness::Waiting(format!("{} {why}", front_end.id));
        }
    }
    Readiness::Ready
}

fn judge_processes(nodes: &[NodeReport]) -> Option<Readiness> {
    let why = |node: &NodeReport| {
        let exit = || node.last_exit.map_or_else(|| "cannot be started".to_owned(), |exit| exit.to_string());
        let exit = node.problem.clone().unwrap_or_else(exit);
        format!("{} is {} ({exit}, {} restarts)", node.id, node.state, node.restarts)
    };
    let hopeless = nodes.iter().find(|node| is_hopeless(node));
    if let Some(node) = hopeless {
        return Some(Readiness::Hopeless { node: node.id.as_str().to_owned(), why: why(node) });
    }
    let down = nodes.iter().find(|node| node.pid.is_none() || node.state == State::Unreachable);
    down.map(|node| Readiness::Waiting(why(node)))
}

fn is_hopeless(node: &NodeReport) -> bool {
    let ends_by_itself = matches!(node.last_exit, Some(Exit::Code(_)) | None);
    node.state == State::Failed
        || (node.state == State::Backoff && ends_by_itself && node.restarts >= STARTS_MAX)
}

fn missing_back_end(nodes: &[NodeReport], status: &Status) -> Option<String> {
    let mut back_ends = nodes.iter().filter(|node| node.role != Role::Frontend);
    back_ends.find_map(|node| {
        let seen = status.nodes.iter().find(|seen| seen.id == node.id.as_str());
        match seen.map(|seen| seen.state) {
            Some(NodeState::Up) => None,
            Some(NodeState::Suspect) => Some(format!("suspects {}", node.id)),
            Some(NodeState::Down) | None => Some(format!("has not heard of {}", node.id)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: State, restarts: u32, last_exit: Option<Exit>) -> NodeReport {
        let pid = matches!(state, State::Starting | State::Running).then_some(7);
        let id = "catalog-1".into();
        let (uptime_s, problem) = (None, None);
        NodeReport { id, role: Role::Catalog, state, pid, uptime_s, restarts, last_exit, problem }
    }

    #[test]
    fn a_node_that_keeps_dying_by_itself_is_hopeless_and_others_are_waited_for() {
        let cases = [
            (report(State::Running, 0, None), "go on"),
            (report(State::Running, 9, Some(Exit::Code(1))), "go on"),
            (report(State::Backoff, 4, Some(Exit::Code(1))), "wait"),
            (report(State::Backoff, 5, Some(Exit::Code(1))), "hopeless"),
            (report(State::Backoff, 5, None), "hopeless"),
            (report(State::Backoff, 5, Some(Exit::Signal(9))), "wait"),
            (report(State::Failed, 0, Some(Exit::Code(2))), "hopeless"),
            (report(State::Stopped, 0, None), "wait"),
            (report(State::Unreachable, 9, None), "wait"),
        ];
        for (node, expected) in cases {
            let verdict = match judge_processes(std::slice::from_ref(&node)) {
                None => "go on",
                Some(Readiness::Waiting(_)) => "wait",
                Some(Readiness::Hopeless { .. }) => "hopeless",
                Some(Readiness::Ready) => "ready",
            };
            assert_eq!(verdict, expected, "{node:?}");
        }
    }

    #[test]
    fn each_back_end_must_be_seen_up() {
        let nodes = [report(State::Running, 0, None)];
        let status = |state: &str| -> Status {
            serde_json::from_value(serde_json::json!({
                "shards": [], "cache": {"entries":0,"bytes":0,"hits":0,"misses":0,"invalidations":0,"voided_fills":0},
                "nodes": [{"id":"catalog-1","role":"catalog","state":state,"address":"x"}]
            }))
            .unwrap()
        };
        assert_eq!(missing_back_end(&nodes, &status("up")), None);
        for state in ["suspect", "down"] {
            assert!(missing_back_end(&nodes, &status(state)).is_some(), "{state}");
        }
        assert!(missing_back_end(&nodes, &Status::default()).is_some());
    }
}
