//! One connection: bytes from one side to the other, both ways, as the rule of the moment has it.

use std::sync::Arc;

use bookends::random::Random;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::{RETRANSMIT, Rule, Way, reset};

/// What is read at once: a frame of a batch fits.
const CHUNK_BYTES: usize = 64 * 1024;
/// How many chunks may be on their way: with them a slow way still has room for bandwidth.
const CHUNKS_MAX: usize = 256;

/// Carries bytes until both directions have ended, or one has failed, or the rule breaks it.
pub(super) async fn run(
    caller: TcpStream,
    called: TcpStream,
    rule: watch::Receiver<Rule>,
    random: Arc<Mutex<Random>>,
) {
    for stream in [&caller, &called] {
        // Small frames are not to wait for each other: that would be a delay that nobody asked for.
        drop(stream.set_nodelay(true));
    }
    let (from_caller, to_caller) = caller.into_split();
    let (from_called, to_called) = called.into_split();
    let mut breaking = rule.clone();
    let forward = Direction { way: |rule| rule.forward, rule: rule.clone(), random: Arc::clone(&random) };
    let backward = Direction { way: |rule| rule.backward, rule, random };
    let mut ends = (to_caller, to_called);
    let is_broken = {
        let both = async {
            tokio::try_join!(
                forward.carry(from_caller, &mut ends.1),
                backward.carry(from_called, &mut ends.0)
            )
        };
        tokio::select! {
            carried = both => carried.is_err(),
            _ = breaking.wait_for(|rule| rule.broken) => true,
        }
    };
    if is_broken {
        reset(ends.0.as_ref());
        reset(ends.1.as_ref());
    }
}

/// One direction of a connection.
struct Direction {
    way: fn(&Rule) -> Way,
    rule: watch::Receiver<Rule>,
    random: Arc<Mutex<Random>>,
}

/// What travels.
enum Passage {
    Bytes(Bytes),
    /// One side has nothing more to say.
    End,
    /// One side is gone. A network that is cut does not carry that news either.
    Break,
}

/// The connection has failed, or its proxy has gone.
struct Gone;

impl Direction {
    async fn carry(self, mut from: OwnedReadHalf, to: &mut OwnedWriteHalf) -> Result<(), Gone> {
        let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
        let rule = self.rule.clone();
        let way = self.way;
        let read = async {
            let mut last = Instant::now();
            loop {
                let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
                let passage = match from.read_buf(&mut chunk).await {
                    Ok(0) => Passage::End,
                    Ok(_) => Passage::Bytes(chunk.freeze()),
                    Err(_) => Passage::Break,
                };
                // Nothing overtakes what was sent before it.
                last = last.max(Instant::now() + self.lateness());
                let is_last = !matches!(passage, Passage::Bytes(_));
                sender.send((last, passage)).await.map_err(|_| Gone)?;
                if is_last {
                    return Ok(());
                }
            }
        };
        tokio::try_join!(read, write(receiver, to, rule, way)).map(|_| ())
    }

    /// How late what is read now will be.
    fn lateness(&self) -> std::time::Duration {
        let Way { delay, jitter, loss, stalled: _ } = (self.way)(&self.rule.borrow());
        let mut random = self.random.lock();
        let is_lost = loss > 0 && random.below(1000) < usize::from(loss);
        delay + jitter.mul_f64(random.unit()) + if is_lost { RETRANSMIT } else { std::time::Duration::ZERO }
    }
}

/// Hands on each passage when it is due.
async fn write(
    mut passages: mpsc::Receiver<(Instant, Passage)>,
    to: &mut OwnedWriteHalf,
    mut rule: watch::Receiver<Rule>,
    way: fn(&Rule) -> Way,
) -> Result<(), Gone> {
    while let Some((due, passage)) = passages.recv().await {
        sleep_until(due).await;
        rule.wait_for(|rule| !way(rule).stalled).await.map_err(|_| Gone)?;
        match passage {
            Passage::Bytes(bytes) => to.write_all(&bytes).await.map_err(|_| Gone)?,
            Passage::End => return to.shutdown().await.map_err(|_| Gone),
            Passage::Break => return Err(Gone),
        }
    }
    Ok(())
}
