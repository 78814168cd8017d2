//! The nodes as the control channel sees them: what each reports, and where its orders go.

use std::sync::Arc;
use std::time::Instant;

use common::api::Role;
use protocol::ids::NodeId;
use tokio::sync::{mpsc, oneshot, watch};

use crate::control::{Action, NodeReport, State};
use crate::machine::Exit;

/// Orders wait while an earlier one is carried out; whoever brings one more than this waits as well.
pub(crate) const ORDERS_MAX: usize = 16;

/// How a node's process stands; the watching task alone changes it.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// What is being done about it.
    pub(crate) state: State,
    /// Its process and when that was started.
    pub(crate) process: Option<(i32, Instant)>,
    /// How many times it was started again because it had died.
    pub(crate) restarts: u32,
    /// How it ended the last time.
    pub(crate) last_exit: Option<Exit>,
    /// What keeps it from running, or from being seen.
    pub(crate) problem: Option<String>,
}

/// What a watching task is told to do.
#[derive(Debug)]
pub(crate) struct Order {
    /// What.
    pub(crate) task: Task,
    /// Hears when it is done, or why it won't be.
    pub(crate) done: oneshot::Sender<Result<(), String>>,
}

impl Order {
    /// To finish, with nobody waiting for it.
    pub(crate) fn finish() -> Self {
        Self { task: Task::Finish, done: oneshot::channel().0 }
    }
}

/// An action, or the end of the supervisor.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// Somebody asked for this.
    Act(Action),
    /// Stop the process and take no further orders.
    Finish,
}

/// A node's end for others.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    /// Its name in the configuration.
    pub(crate) id: NodeId,
    /// What it is.
    pub(crate) role: Role,
    /// Its standing, always the newest.
    pub(crate) standing: watch::Receiver<Standing>,
    /// Its orders.
    pub(crate) orders: mpsc::Sender<Order>,
}

impl Handle {
    /// Has an action done, and reports.
    pub(crate) async fn act(&self, action: Action) -> Result<NodeReport, String> {
        self.order(Task::Act(action)).await?;
        Ok(self.report())
    }

    /// Stops the process for good, and waits until it is gone.
    pub(crate) async fn finish(&self) -> Result<(), String> {
        self.order(Task::Finish).await
    }

    async fn order(&self, task: Task) -> Result<(), String> {
        let stopping = || "the store is being stopped".to_owned();
        let (done, answer) = oneshot::channel();
        self.orders.send(Order { task, done }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    fn report(&self) -> NodeReport {
        let Standing { state, process, restarts, last_exit, problem } = self.standing.borrow().clone();
        NodeReport {
            id: self.id.clone(),
            role: self.role,
            state,
            pid: process.map(|(pid, _)| pid),
            uptime_s: process.map(|(_, since)| since.elapsed().as_secs()),
            restarts,
            last_exit,
            problem,
        }
    }
}

/// All nodes. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Fleet(Arc<[Handle]>);

impl Fleet {
    /// These nodes, in the order in which they are started.
    pub(crate) fn new(handles: Vec<Handle>) -> Self {
        Self(handles.into())
    }

    /// How each stands.
    pub(crate) fn reports(&self) -> Vec<NodeReport> {
        self.0.iter().map(Handle::report).collect()
    }

    /// The node of a name.
    pub(crate) fn handle(&self, id: &str) -> Option<&Handle> {
        self.0.iter().find(|handle| handle.id.as_str() == id)
    }

    /// The nodes of a role.
    pub(crate) fn of_role(&self, role: Role) -> impl Iterator<Item = &Handle> {
        self.0.iter().filter(move |handle| handle.role == role)
    }
}
