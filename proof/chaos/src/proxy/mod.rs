//! A network that can be made to fail: a TCP proxy on the way from one process to another.
//!
//! Each directed pair of processes has a proxy of its own, which listens on a port of its own; the caller's
//! configuration names that as the other's address. No process knows of it, and none needs to be root.
//!
//! TCP hides what a network loses: lost packets come again later, and what is behind them waits. So loss is
//! modelled as chunks of bytes that are held back for a while, a cut as bytes that stop, in one direction or
//! in both, and go on when it is healed, or as connections that break and can't be made anew.

mod pump;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bookends::random::Random;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a lost chunk is held back: the shortest time after which Linux sends a packet again.
const RETRANSMIT: Duration = Duration::from_millis(200);

/// What happens to bytes on their way in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Nothing goes on until this is over.
    pub stalled: bool,
    /// Everything arrives so much later …
    pub delay: Duration,
    /// … and up to this much more, by chance; nothing overtakes.
    pub jitter: Duration,
    /// Of a thousand chunks, so many are lost at first.
    pub loss: u16,
}

/// What happens to the connections of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// From the caller on.
    pub forward: Way,
    /// Back to the caller.
    pub backward: Way,
    /// Connections break, and new ones break at once.
    pub broken: bool,
}

/// Where calls go to at a moment; a process that is started again listens elsewhere.
pub type Target = Arc<dyn Fn() -> Option<SocketAddr> + Send + Sync>;

/// The way from one process to another. Dropping it breaks all of its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    rule: watch::Sender<Rule>,
    _accepting: JoinSet<()>,
}

impl Proxy {
    /// Listens on a port of the system's choice.
    ///
    /// # Errors
    /// If there is none.
    pub async fn open(target: Target, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let rule = watch::Sender::new(Rule::default());
        let random = Arc::new(Mutex::new(Random::seeded(seed)));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, target, rule.subscribe(), random));
        Ok(Self { address, rule, _accepting: accepting })
    }

    /// Where the caller finds it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What holds from now on, for connections that exist as well.
    pub fn set(&self, rule: Rule) {
        self.rule.send_replace(rule);
    }
}

async fn accept(
    listener: TcpListener,
    target: Target,
    rule: watch::Receiver<Rule>,
    random: Arc<Mutex<Random>>,
) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((caller, _)) = listener.accept().await else {
            // Out of descriptors, most likely: those of connections that end come back.
            connections.join_next().await;
            continue;
        };
        let (target, rule, random) = (Arc::clone(&target), rule.clone(), Arc::clone(&random));
        connections.spawn(async move {
            if rule.borrow().broken {
                return reset(&caller);
            }
            let called = match target() {
                Some(address) => TcpStream::connect(address).await.ok(),
                None => None,
            };
            match called {
                Some(called) => pump::run(caller, called, rule, random).await,
                None => reset(&caller),
            }
        });
    }
}

/// Makes the end of a connection a reset, as that of a process that is gone.
fn reset(stream: &TcpStream) {
    // Without it the end is a polite one, which is as good to see.
    drop(stream.set_zero_linger());
}
