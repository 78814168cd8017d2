//! The sending side of heartbeats: a back-end node's connection to a front end, on which it says who it
//! is and how it stands.
//!
//! The receiving side, and what is made of silence, is the front end's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::call::Beat;
use protocol::ids::NodeId;
use tokio::time::MissedTickBehavior;

use crate::config::Address;
use crate::link::{self, Backoff, Complaint, Credentials, Opened};
use crate::shutdown::Shutdown;

/// The first and the longest pause between attempts to reach a front end.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// What a node needs to beat.
#[derive(Clone, Debug)]
pub struct Heart {
    /// The node's name.
    pub me: NodeId,
    /// Shown to the front end.
    pub credentials: Arc<Credentials>,
    /// From beat to beat.
    pub interval: Duration,
}

impl Heart {
    /// Beats towards a front end until shutdown, reconnecting as often as needed. `frontend` says where it
    /// is now, and `beat` how this node stands; neither may block for long.
    pub async fn beat<A, F>(&self, frontend: A, beat: F, mut shutdown: Shutdown)
    where
        A: Fn() -> Address,
        F: Fn() -> Beat,
    {
        tokio::select! {
            () = self.beat_for_ever(frontend, beat) => {}
            () = shutdown.wait() => {}
        }
    }

    async fn beat_for_ever<A: Fn() -> Address, F: Fn() -> Beat>(&self, frontend: A, beat: F) {
        let mut backoff = Backoff::new(RECONNECT.0, RECONNECT.1);
        let mut complaint = Complaint::default();
        loop {
            let frontend = frontend();
            let began = Instant::now();
            match link::connect(frontend.as_str(), &self.credentials, &self.me, link::HANDSHAKE_TIMEOUT).await
            {
                Ok(connected) => {
                    tracing::info!(%frontend, "heartbeats reach the front end");
                    complaint.settle();
                    self.beat_on(link::open(connected), &beat).await;
                    if began.elapsed() >= link::STABLE {
                        backoff.reset();
                    }
                    tracing::warn!(%frontend, "the heartbeat connection to the front end broke");
                }
                Err(problem) if complaint.is_news(&problem) => {
                    tracing::warn!(%frontend, %problem, "the front end is not reached; trying on");
                }
                Err(_) => {}
            }
            tokio::time::sleep(backoff.pause(link::spread())).await;
        }
    }

    async fn beat_on<F: Fn() -> Beat>(&self, link: Opened<Beat, ()>, beat: &F) {
        let Opened { sender, mut receiver, flush } = link;
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let beats = async {
            loop {
                ticks.tick().await;
                if sender.send(&beat()).is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = beats => {}
            () = flush.run() => {}
            // Nothing is ever said back: an end of this is the end of the connection.
            _ = receiver.recv() => {}
        }
    }
}
