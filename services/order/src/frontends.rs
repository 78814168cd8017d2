//! The links to the front ends.
//!
//! One link to each front end's internal listener carries buys and questions; it is always read at once.
//! Another one, to one front end at a time, carries the feeds of the shards' logs; it is read only as
//! fast as the book of orders is written. They are two, so that the answer to a buy never stands in line
//! behind a history that is being fetched.

use std::sync::Arc;
use std::time::Duration;

use common::config::{Config, FrontendNode};
use common::exit::with_causes;
use common::link::{
    self, Backoff, Complaint, ConnectError, Connected, Credentials, Opened, Pending, RecvError,
};
use common::runfile;
use common::shutdown::Shutdown;
use protocol::call::{InternalCall, InternalReply};
use protocol::ids::NodeId;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::buys::{Answer, Buys, Line};
use crate::order_ids::OrderIds;
use crate::projection::Input;

/// The first and the longest pause between attempts to reach a front end. The longest is far below the
/// patience of a buy that waits for one.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// What is needed to reach front ends. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FrontEnds {
    /// Says where they are.
    pub config: Arc<Config>,
    /// Shown to them.
    pub credentials: Arc<Credentials>,
    /// Told of every order that comes along the log.
    pub ids: Arc<OrderIds>,
    /// This node.
    pub me: NodeId,
}

impl FrontEnds {
    /// Keeps a link to a front end, on which buys travel, until shutdown. `rank` is the front end's place
    /// in the configuration.
    pub async fn carry_buys(
        self,
        rank: usize,
        frontend: FrontendNode,
        buys: Arc<Buys>,
        mut shutdown: Shutdown,
    ) {
        let keep = async {
            let mut pauses = Pauses::new();
            loop {
                match self.connect(&frontend).await {
                    Ok(connected) => {
                        pauses.up(&frontend, "buys");
                        let problem = carry(connected, rank, &buys).await;
                        pauses.broke(&frontend, "buys", &problem);
                    }
                    Err(problem) => pauses.failed(&frontend, "buys", &problem),
                }
                pauses.pause().await;
            }
        };
        tokio::select! {
            () = keep => {}
            () = shutdown.wait() => {}
        }
    }

    /// Keeps a link to some front end, on which feeds travel, until shutdown.
    pub async fn follow(self, inputs: mpsc::Sender<Input>, mut shutdown: Shutdown) {
        let keep = async {
            let mut pauses = Pauses::new();
            for frontend in self.config.frontends.iter().cycle() {
                match self.connect(frontend).await {
                    Ok(connected) => {
                        pauses.up(frontend, "feeds");
                        let problem = feed(connected, &inputs, &self.ids).await;
                        pauses.broke(frontend, "feeds", &problem);
                    }
                    Err(problem) => pauses.failed(frontend, "feeds", &problem),
                }
                pauses.pause().await;
            }
        };
        tokio::select! {
            () = keep => {}
            () = shutdown.wait() => {}
        }
    }

    async fn connect(&self, frontend: &FrontendNode) -> Result<Connected, ConnectError> {
        let address = runfile::resolve(&self.config, &frontend.id, "internal", &frontend.internal);
        link::connect(address.as_str(), &self.credentials, &self.me, link::HANDSHAKE_TIMEOUT).await
    }
}

async fn carry(connected: Connected, rank: usize, buys: &Arc<Buys>) -> RecvError {
    let Opened { sender, mut receiver, flush } = link::open::<InternalCall, InternalReply>(connected);
    let line = Line { sender, commits: Pending::default() };
    let commits = line.commits.clone();
    let up = buys.line_up(rank, line, Instant::now());
    let read = async {
        loop {
            let replies = match receiver.recv_many().await {
                Ok(replies) => replies,
                Err(problem) => return problem,
            };
            let mut answers = Vec::with_capacity(replies.len());
            for reply in replies {
                match reply {
                    InternalReply::Submitted { call, result } => {
                        answers.push((call, Answer::Outcome(result)))
                    }
                    InternalReply::Answered { call } => answers.push((call, Answer::Given)),
                    InternalReply::CommitIndex { call, result } => commits.resolve(call, result),
                    InternalReply::Feed(_) | InternalReply::StartOver { .. } => {
                        tracing::warn!("a front end feeds a link on which nothing is followed");
                    }
                }
            }
            up.answered(answers, Instant::now());
        }
    };
    tokio::select! {
        problem = read => problem,
        () = flush.run() => RecvError::Closed,
    }
}

async fn feed(connected: Connected, inputs: &mpsc::Sender<Input>, ids: &OrderIds) -> RecvError {
    let Opened { sender, mut receiver, flush } = link::open::<InternalCall, InternalReply>(connected);
    let read = async {
        let mut next = Some(Input::Connected(sender));
        loop {
            if let Some(input) = next.take()
                && inputs.send(input).await.is_err()
            {
                return RecvError::Closed;
            }
            match receiver.recv().await {
                Ok(InternalReply::Feed(feed)) => {
                    feed.sales.iter().for_each(|(_, order)| ids.saw(order.id));
                    next = Some(Input::Feed(feed));
                }
                Ok(InternalReply::StartOver { shard }) => next = Some(Input::StartOver(shard)),
                Ok(
                    InternalReply::Submitted { .. }
                    | InternalReply::Answered { .. }
                    | InternalReply::CommitIndex { .. },
                ) => {
                    tracing::warn!("a front end answers what it was not asked");
                }
                Err(problem) => return problem,
            }
        }
    };
    tokio::select! {
        problem = read => problem,
        () = flush.run() => RecvError::Closed,
    }
}

/// The pauses between attempts, and one line in the log for each change.
struct Pauses {
    backoff: Backoff,
    up_since: Option<Instant>,
    complaint: Complaint,
}

impl Pauses {
    fn new() -> Self {
        Self {
            backoff: Backoff::new(RECONNECT.0, RECONNECT.1),
            up_since: None,
            complaint: Complaint::default(),
        }
    }

    fn up(&mut self, frontend: &FrontendNode, purpose: &str) {
        tracing::info!(frontend = %frontend.id, purpose, "the link is up");
        self.up_since = Some(Instant::now());
        self.complaint.settle();
    }

    fn broke(&mut self, frontend: &FrontendNode, purpose: &str, problem: &RecvError) {
        tracing::warn!(frontend = %frontend.id, purpose, problem = %with_causes(problem), "the link is down");
        if self.up_since.take().is_some_and(|since| since.elapsed() >= link::STABLE) {
            self.backoff.reset();
        }
    }

    fn failed(&mut self, frontend: &FrontendNode, purpose: &str, problem: &ConnectError) {
        if self.complaint.is_news(problem) {
            tracing::warn!(frontend = %frontend.id, purpose, problem = %with_causes(problem), "the front end is not reached; trying on");
        }
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.backoff.pause(link::spread())).await;
    }
}
