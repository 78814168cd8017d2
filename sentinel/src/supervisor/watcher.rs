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
use crate::machine::{Exit, Machine, MachineError, Process, STOP_GRACE};
use crate::node::Node;

/// The exit code by which a node says that its configuration is wrong, which no restart heals.
const EXIT_BAD_CONFIG: i32 = 2;

/// How often is looked whether a starting node has said where it listens, and whether a node on another
/// machine can be seen.
const LOOK: Duration = Duration::from_millis(50);

/// The pause before a machine is tried again that could not be reached when it was needed. It may seem to be in
/// touch and not be.
const PAUSE_UNREACHED: Duration = Duration::from_secs(1);

/// Watches one node.
#[derive(Debug)]
pub(crate) struct Watcher {
    node: Node,
    machine: Machine,
    wanted: bool,
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
    /// Nobody knows whether it has one before its machine is reached, which is not tried before this time.
    Unreached(Instant),
    /// It has none until that is ordered.
    Down,
    /// It has none, and the watcher is done.
    Finished,
}

type Done = oneshot::Sender<Result<(), String>>;

impl Watcher {
    /// A watcher and its end for others. Nothing is started yet, and nothing will be that is not `wanted`
    /// before that is ordered.
    pub(crate) fn new(node: Node, machine: Machine, wanted: bool) -> (Self, Handle) {
        let begin =
            Standing { state: State::Starting, process: None, restarts: 0, last_exit: None, problem: None };
        let (standing, seen) = watch::channel(begin);
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        let handle = Handle { id: node.id.clone(), role: node.role, standing: seen, orders: sender };
        (Self { node, machine, wanted, backoff: Backoff::default(), standing, orders }, handle)
    }

    /// Runs until it is told to finish. A process that an earlier supervisor left is taken over.
    pub(crate) async fn run(mut self) {
        let mut phase = self.begin().await;
        loop {
            phase = match phase {
                Phase::Live(process) => self.watch(process).await,
                Phase::Waiting(until) => self.wait(until).await,
                Phase::Unreached(until) => self.reach(until).await,
                Phase::Down => self.idle().await,
                Phase::Finished => return,
            };
        }
    }

    /// What is there when it begins, or when its machine is reached again.
    async fn begin(&mut self) -> Phase {
        match self.machine.find(self.node.id.as_str()).await {
            Ok(Some(process)) => self.adopt(process),
            Ok(None) if self.wanted => self.launch("started").await,
            Ok(None) => self.down(State::Stopped),
            Err(error) => self.unreached(&error),
        }
    }

    /// The machine was not reached; what is there is not known.
    fn unreached(&mut self, error: &MachineError) -> Phase {
        let problem = chain(error);
        if self.standing.borrow().problem.as_ref() != Some(&problem) {
            warn!(node = %self.node.id, "{} is out of reach: {problem}", self.node.id);
        }
        self.set(State::Unreachable, None);
        self.standing.send_modify(|standing| standing.problem = Some(problem));
        Phase::Unreached(Instant::now() + PAUSE_UNREACHED)
    }

    fn adopt(&mut self, process: Process) -> Phase {
        info!(node = %self.node.id, pid = process.pid(), "{} lives: taken over", self.node.id);
        self.set(State::Starting, Some(&process));
        Phase::Live(Box::new(process))
    }

    async fn launch(&mut self, how: &str) -> Phase {
        self.wanted = true;
        match self.machine.start(&self.node).await {
            Ok(process) => {
                info!(node = %self.node.id, pid = process.pid(), "{} {how}", self.node.id);
                self.set(State::Starting, Some(&process));
                Phase::Live(Box::new(process))
            }
            Err(error) if error.is_unreachable() => self.unreached(&error),
            Err(error) => {
                let problem = chain(&error);
                error!(node = %self.node.id, error = problem, "{} cannot be started", self.node.id);
                let next =
                    if error.is_final() { self.down(State::Failed) } else { self.decide(Duration::ZERO) };
                self.standing.send_modify(|standing| standing.problem = Some(problem));
                next
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
                _ = look.tick(), if starting || process.is_there() => self.look_at(&process),
            }
        }
    }

    /// Follows what can be seen of a living process.
    fn look_at(&mut self, process: &Process) {
        let view = process.view();
        let state = self.standing.borrow().state;
        let next = match (&view.problem, state) {
            (Some(_), _) => State::Unreachable,
            (None, State::Starting | State::Unreachable) if view.listens => State::Running,
            (None, State::Unreachable) => State::Starting,
            (None, state) => state,
        };
        // Also why it can't be seen may change, and the newest reason is the one to act on.
        if next == state && view.problem == self.standing.borrow().problem {
            return;
        }
        self.set(next, Some(process));
        if let Some(problem) = view.problem {
            warn!(node = %self.node.id, "{} can't be seen, and is taken to run: {problem}", self.node.id);
            self.standing.send_modify(|standing| standing.problem = Some(problem));
        } else if state == State::Unreachable {
            info!(node = %self.node.id, pid = process.pid(), "{} is seen again", self.node.id);
        }
    }

    /// While a restart is waited for.
    async fn wait(&mut self, until: Instant) -> Phase {
        tokio::select! {
            () = sleep_until(until.into()) => self.relaunch().await,
            order = self.orders.recv() => self.obey_down(order, Phase::Waiting(until)).await,
        }
    }

    /// While its machine can't be reached.
    async fn reach(&mut self, until: Instant) -> Phase {
        let machine = self.machine.clone();
        let reached = async {
            sleep_until(until.into()).await;
            machine.reached().await;
        };
        tokio::select! {
            () = reached => self.begin().await,
            order = self.orders.recv() => self.obey_unreached(order, until),
        }
    }

    /// What follows from an order while nobody knows whether there is a process.
    fn obey_unreached(&mut self, order: Option<Order>, until: Instant) -> Phase {
        let Order { task, done } = order.unwrap_or_else(Order::finish);
        info!(node = %self.node.id, ?task, "{}: ordered", self.node.id);
        let problem = self.standing.borrow().problem.clone().unwrap_or_default();
        let next = match task {
            Task::Act(Action::Start | Action::Restart) => {
                // It is carried out later.
                self.wanted = true;
                Phase::Unreached(until)
            }
            Task::Act(Action::Stop | Action::Kill | Action::KillForGood) => Phase::Unreached(until),
            Task::Finish => Phase::Finished,
        };
        answer(done, Err(problem));
        next
    }

    /// While it is down.
    async fn idle(&mut self) -> Phase {
        let order = self.orders.recv().await;
        self.obey_down(order, Phase::Down).await
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
                // Where the supervisor ends, there is nobody to try it again for.
                return matches!(task, Task::Finish).then_some(Phase::Finished);
            }
        };
        self.gone(process, exit);
        let next = match task {
            Task::Act(Action::Start | Action::Restart) => {
                self.backoff.forgive();
                self.launch("started").await
            }
            Task::Act(Action::Kill) => self.relaunch().await,
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
    async fn obey_down(&mut self, order: Option<Order>, stay: Phase) -> Phase {
        let Order { task, done } = order.unwrap_or_else(Order::finish);
        info!(node = %self.node.id, ?task, "{}: ordered", self.node.id);
        let (result, next) = match task {
            Task::Act(Action::Start | Action::Restart) => {
                self.backoff.forgive();
                (Ok(()), self.launch("started").await)
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

    async fn relaunch(&mut self) -> Phase {
        self.standing.send_modify(|standing| standing.restarts += 1);
        self.launch("healed: started again").await
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
            standing.problem = None;
            standing.process = process.map(|process| (process.pid(), process.since()));
        });
    }
}

fn answer(done: Done, result: Result<(), String>) {
    // Whoever gave the order may have gone away; it has been carried out all the same.
    drop(done.send(result));
}
