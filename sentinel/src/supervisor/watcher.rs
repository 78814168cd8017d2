//! Watches one node: starts its process, starts it again when it dies, carries out orders.
//!
//! One task owns the process and everything known of it, so there is nothing to lock: others see the
//! standing and queue orders. Kills and stops that were ordered are no deaths; only what dies by
//! itself counts towards giving up.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{interval, sleep_until};
use tracing::{error, info, warn};

use super::backoff::{Backoff, Verdict};
use super::fleet::{Handle, ORDERS_MAX, Order, Standing, Task};
use crate::control::{Action, State};
use crate::failure::chain;
use crate::layout::Layout;
use crate::machine::{Exit, Machine, Process, STOP_GRACE};
use crate::node::Node;

/// The exit code by which a node says that its configuration is wrong, which no restart heals.
const EXIT_BAD_CONFIG: i32 = 2;

/// How often is looked whether a starting node has said where it listens.
const LOOK: Duration = Duration::from_millis(50);

/// Watches one node.
#[derive(Debug)]
pub(crate) struct Watcher {
    node: Node,
    machine: Machine,
    layout: Layout,
    backoff: Backoff,
    standing: watch::Sender<Standing>,
    orders: mpsc::Receiver<Order>,
}

/// Where the node is between two events.
#[derive(Debug)]
enum Phase {
    /// It has a process.
    Live(Box<Process>),
    /// It gets one at this time.
    Waiting(Instant),
    /// It has none until that is ordered.
    Down,
    /// It has none, and the watcher is done.
    Finished,
}

type Done = oneshot::Sender<Result<(), String>>;

impl Watcher {
    /// A watcher and its end for others. Nothing is started yet.
    pub(crate) fn new(node: Node, machine: Machine, layout: Layout) -> (Self, Handle) {
        let begin = Standing { state: State::Starting, process: None, restarts: 0, last_exit: None };
        let (standing, seen) = watch::channel(begin);
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        let handle = Handle { id: node.id.clone(), role: node.role, standing: seen, orders: sender };
        (Self { node, machine, layout, backoff: Backoff::default(), standing, orders }, handle)
    }

    /// Runs until it is told to finish. A process that an earlier supervisor left is taken over.
    pub(crate) async fn run(mut self) {
        let mut phase = match self.machine.find(self.node.id.as_str()) {
            Some(process) => self.adopt(process),
            None => self.launch("started"),
        };
        loop {
            phase = match phase {
                Phase::Live(process) => self.watch(process).await,
                Phase::Waiting(until) => self.wait(until).await,
                Phase::Down => self.idle().await,
                Phase::Finished => return,
            };
        }
    }

    fn adopt(&mut self, process: Process) -> Phase {
        info!(node = %self.node.id, pid = process.pid(), "{} lives: taken over", self.node.id);
        self.set(State::Starting, Some(&process));
        Phase::Live(Box::new(process))
    }

    fn launch(&mut self, how: &str) -> Phase {
        match self.machine.start(&self.node) {
            Ok(process) => {
                info!(node = %self.node.id, pid = process.pid(), "{} {how}", self.node.id);
                self.set(State::Starting, Some(&process));
                Phase::Live(Box::new(process))
            }
            Err(error) => {
                error!(node = %self.node.id, error = chain(&error), "{} cannot be started", self.node.id);
                self.decide(Duration::ZERO)
            }
        }
    }

    /// While the process lives.
    async fn watch(&mut self, mut process: Box<Process>) -> Phase {
        let mut look = interval(LOOK);
        loop {
            let starting = self.standing.borrow().state == State::Starting;
            tokio::select! {
                exit = process.ended() => return self.died(&process, exit),
                order = self.orders.recv() => {
                    if let Some(next) = self.obey_live(&mut process, order).await {
                        return next;
                    }
                }
                _ = look.tick(), if starting => {
                    if self.layout.addr(self.node.id.as_str()).exists() {
                        self.set(State::Running, Some(&process));
                    }
                }
            }
        }
    }

    /// While a restart is waited for.
    async fn wait(&mut self, until: Instant) -> Phase {
        tokio::select! {
            () = sleep_until(until.into()) => self.relaunch(),
            order = self.orders.recv() => self.obey_down(order, Phase::Waiting(until)),
        }
    }

    /// While it is down.
    async fn idle(&mut self) -> Phase {
        let order = self.orders.recv().await;
        self.obey_down(order, Phase::Down)
    }

    /// What follows from an order while the process lives; none if it goes on living.
    async fn obey_live(&mut self, process: &mut Process, order: Option<Order>) -> Option<Phase> {
        // With nobody left to give orders there is nobody left to run for.
        let Order { task, done } = order.unwrap_or_else(Order::finish);
        info!(node = %self.node.id, pid = process.pid(), ?task, "{}: ordered", self.node.id);
        let ended = match task {
            Task::Act(Action::Start) => {
                answer(done, Ok(()));
                return None;
            }
            Task::Act(Action::Stop | Action::Restart) | Task::Finish => process.stop(STOP_GRACE).await,
            Task::Act(Action::Kill | Action::KillForGood) => process.kill().await,
        };
        let exit = match ended {
            Ok(exit) => exit,
            Err(error) => {
                error!(node = %self.node.id, error = chain(&error), "{} can't be ended", self.node.id);
                answer(done, Err(chain(&error)));
                return None;
            }
        };
        self.gone(process, exit);
        let next = match task {
            Task::Act(Action::Start | Action::Restart) => {
                self.backoff.forgive();
                self.launch("started")
            }
            Task::Act(Action::Kill) => self.relaunch(),
            Task::Act(Action::Stop) => self.down(State::Stopped),
            Task::Act(Action::KillForGood) => self.down(State::StayedDown),
            Task::Finish => {
                self.set(State::Stopped, None);
                Phase::Finished
            }
        };
        answer(done, Ok(()));
        Some(next)
    }

    /// What follows from an order while there is no process; `stay` if nothing does.
    fn obey_down(&mut self, order: Option<Order>, stay: Phase) -> Phase {
        let Order { task, done } = order.unwrap_or_else(Order::finish);
        info!(node = %self.node.id, ?task, "{}: ordered", self.node.id);
        let (result, next) = match task {
            Task::Act(Action::Start | Action::Restart) => {
                self.backoff.forgive();
                (Ok(()), self.launch("started"))
            }
            Task::Act(Action::Stop) => (Ok(()), self.down(State::Stopped)),
            Task::Act(Action::KillForGood) => (Ok(()), self.down(State::StayedDown)),
            Task::Act(Action::Kill) => (Err(format!("{} is not running", self.node.id)), stay),
            Task::Finish => {
                self.set(State::Stopped, None);
                (Ok(()), Phase::Finished)
            }
        };
        answer(done, result);
        next
    }

    /// The process ended, and nobody asked for that.
    fn died(&mut self, process: &Process, exit: Exit) -> Phase {
        let lived = process.since().elapsed();
        self.gone(process, exit);
        if exit == Exit::Code(EXIT_BAD_CONFIG) {
            error!(node = %self.node.id, "{} refuses its configuration: given up", self.node.id);
            return self.down(State::Failed);
        }
        self.decide(lived)
    }

    /// What follows from a death, or from a start that failed.
    fn decide(&mut self, lived: Duration) -> Phase {
        let now = Instant::now();
        match self.backoff.died(now, lived) {
            Verdict::Restart(wait) if wait.is_zero() => self.relaunch(),
            Verdict::Restart(wait) => {
                self.set(State::Backoff, None);
                Phase::Waiting(now + wait)
            }
            Verdict::GiveUp => {
                error!(node = %self.node.id, "{} died too often: given up until `start`", self.node.id);
                self.down(State::Failed)
            }
        }
    }

    fn relaunch(&mut self) -> Phase {
        self.standing.send_modify(|standing| standing.restarts += 1);
        self.launch("healed: started again")
    }

    fn down(&mut self, state: State) -> Phase {
        self.set(state, None);
        Phase::Down
    }

    fn gone(&mut self, process: &Process, exit: Exit) {
        warn!(node = %self.node.id, pid = process.pid(), "{} ended: {exit}", self.node.id);
        self.machine.forget(self.node.id.as_str());
        self.standing.send_modify(|standing| standing.last_exit = Some(exit));
    }

    fn set(&mut self, state: State, process: Option<&Process>) {
        self.standing.send_modify(|standing| {
            standing.state = state;
            standing.process = process.map(|process| (process.pid(), process.since()));
        });
    }
}

fn answer(done: Done, result: Result<(), String>) {
    // Whoever gave the order may have gone away; it has been carried out all the same.
    drop(done.send(result));
}
