//! An address that stays, in front of a front end that has another one each time it is started.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::cluster::Door;

/// Passes connections on to wherever the door leads. Dropping it closes them all.
pub(crate) struct Relay {
    address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn start(door: Door) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let (url, _) = door.read().clone().unwrap();
                connections.spawn(async move {
                    // What can't be passed on is closed, as a front end that is down closes it.
                    if let Ok(mut far) = TcpStream::connect(url.trim_start_matches("http://")).await {
                        drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
                    }
                });
            }
        });
        Self { address, _accepting: accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
