//! A stand-in for a front end: an internal listener whose calls the test sees and answers itself. It
//! knows the links and nothing of the protocol behind them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::link::{self, Connected, Credentials, LinkSender, Opened};
use parking_lot::Mutex;
use protocol::call::{CallId, InternalCall, InternalReply, Served, WriteFailure};
use protocol::command::{Command, Outcome};
use protocol::entry::EncodedCommand;
use protocol::ids::{Chain, Index, ShardId};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a test waits for what must come.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A submit that came.
pub(crate) struct Submit {
    pub(crate) shard: ShardId,
    pub(crate) command: EncodedCommand,
    pub(crate) serves: Served,
    call: CallId,
    link: LinkSender<InternalReply>,
}

impl Submit {
    pub(crate) fn answer(&self, result: Result<Outcome, WriteFailure>) {
        self.link.send(&InternalReply::Submitted { call: self.call, result }).unwrap();
    }

    /// As a front end does whose own request it is.
    pub(crate) fn answered_there(&self) {
        self.link.send(&InternalReply::Answered { call: self.call }).unwrap();
    }

    pub(crate) fn decoded(&self) -> Command {
        self.command.decode().unwrap()
    }
}

/// A follow that came.
pub(crate) struct Follow {
    pub(crate) shard: ShardId,
    pub(crate) after: Index,
    pub(crate) chain: Chain,
    pub(crate) link: LinkSender<InternalReply>,
}

/// A question for a commit index that came.
pub(crate) struct Question {
    call: CallId,
    link: LinkSender<InternalReply>,
}

impl Question {
    pub(crate) fn answer(&self, result: Result<Index, String>) {
        self.link.send(&InternalReply::CommitIndex { call: self.call, result }).unwrap();
    }
}

pub(crate) struct StandIn {
    pub(crate) address: SocketAddr,
    pub(crate) submits: mpsc::Receiver<Submit>,
    pub(crate) follows: mpsc::Receiver<Follow>,
    pub(crate) questions: mpsc::Receiver<Question>,
    links: Arc<Mutex<JoinSet<()>>>,
    accepting: JoinSet<()>,
    open: watch::Receiver<usize>,
}

#[derive(Clone)]
struct Sorter {
    submits: mpsc::Sender<Submit>,
    follows: mpsc::Sender<Follow>,
    questions: mpsc::Sender<Question>,
}

impl StandIn {
    /// Listens, for whoever has the secret.
    pub(crate) fn new(listener: TcpListener, credentials: Arc<Credentials>) -> Self {
        let address = listener.local_addr().unwrap();
        let (submits, submits_in) = mpsc::channel(1024);
        let (follows, follows_in) = mpsc::channel(1024);
        let (questions, questions_in) = mpsc::channel(1024);
        let sorter = Sorter { submits, follows, questions };
        let links = Arc::new(Mutex::new(JoinSet::new()));
        let (opened, open) = watch::channel(0);
        let mut accepting = JoinSet::new();
        let accepted = links.clone();
        accepting.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(Some(connected)) = link::accept(stream, &credentials).await {
                    accepted.lock().spawn(sorter.clone().sort(connected));
                    opened.send_modify(|open| *open += 1);
                }
            }
        });
        Self {
            address,
            submits: submits_in,
            follows: follows_in,
            questions: questions_in,
            links,
            accepting,
            open,
        }
    }

    /// Waits until so many links have been opened in all.
    pub(crate) async fn opened(&mut self, links: usize) {
        timeout(DEADLINE, self.open.wait_for(|open| *open >= links)).await.expect("links come").unwrap();
    }

    /// Breaks all links.
    pub(crate) fn cut(&self) {
        self.links.lock().abort_all();
    }

    /// Breaks all links and listens no more.
    pub(crate) async fn leave(mut self) {
        self.accepting.shutdown().await;
        self.cut();
    }

    pub(crate) async fn submit(&mut self) -> Submit {
        next(&mut self.submits).await
    }

    pub(crate) async fn follow(&mut self) -> Follow {
        next(&mut self.follows).await
    }

    pub(crate) async fn question(&mut self) -> Question {
        next(&mut self.questions).await
    }
}

async fn next<T>(queue: &mut mpsc::Receiver<T>) -> T {
    timeout(DEADLINE, queue.recv()).await.expect("a call comes in time").expect("the stand-in lives")
}

impl Sorter {
    async fn sort(self, connected: Connected) {
        let Opened { sender, mut receiver, flush } = link::open::<InternalReply, InternalCall>(connected);
        let read = async {
            let mut calls = VecDeque::new();
            while let Ok(more) = receiver.recv_many().await {
                calls.extend(more);
                while let Some(call) = calls.pop_front() {
                    self.put(call, sender.clone()).await;
                }
            }
        };
        tokio::select! {
            () = read => {}
            () = flush.run() => {}
        }
    }

    async fn put(&self, call: InternalCall, link: LinkSender<InternalReply>) {
        // A test that has ended takes no more.
        let _gone = match call {
            InternalCall::Submit { call, serves, trace: _, shard, command } => {
                self.submits.send(Submit { shard, command, serves, call, link }).await.is_err()
            }
            InternalCall::Follow { shard, after, chain } => {
                self.follows.send(Follow { shard, after, chain, link }).await.is_err()
            }
            InternalCall::CommitIndex { call, shard: _ } => {
                self.questions.send(Question { call, link }).await.is_err()
            }
        };
    }
}
