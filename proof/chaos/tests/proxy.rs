//! The proxy: what passes, when, and what the ends hear of a fault.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use chaos::proxy::{Proxy, Rule, Way};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

/// How long nothing must come for it to count as nothing: far longer than bytes take on this machine.
const SILENCE: Duration = Duration::from_millis(150);
/// How long something may take that must come.
const LIMIT: Duration = Duration::from_secs(10);

const STALLED: Way = Way { stalled: true, delay: Duration::ZERO, jitter: Duration::ZERO, loss: 0 };

/// Two ends of a connection through a proxy.
struct Pair {
    proxy: Proxy,
    caller: TcpStream,
    called: TcpStream,
    listener: TcpListener,
}

async fn pair() -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = Proxy::open(Arc::new(move || Some(address)), 1).await.unwrap();
    let caller = TcpStream::connect(proxy.address()).await.unwrap();
    let (called, _) = listener.accept().await.unwrap();
    Pair { proxy, caller, called, listener }
}

async fn comes(to: &mut TcpStream) -> u8 {
    timeout(LIMIT, to.read_u8()).await.unwrap().unwrap()
}

async fn is_silent(to: &mut TcpStream) -> bool {
    timeout(SILENCE, to.read_u8()).await.is_err()
}

#[tokio::test]
async fn bytes_and_ends_pass_both_ways() {
    let Pair { proxy: _proxy, mut caller, mut called, .. } = pair().await;
    caller.write_u8(1).await.unwrap();
    assert_eq!(comes(&mut called).await, 1);
    called.write_u8(2).await.unwrap();
    assert_eq!(comes(&mut caller).await, 2);
    caller.shutdown().await.unwrap();
    assert_eq!(timeout(LIMIT, called.read(&mut [0])).await.unwrap().unwrap(), 0);
    called.write_u8(3).await.unwrap();
    assert_eq!(comes(&mut caller).await, 3, "one end has more to say");
}

#[tokio::test]
async fn a_one_way_cut_holds_one_way_until_it_is_healed() {
    let Pair { proxy, mut caller, mut called, .. } = pair().await;
    proxy.set(Rule { forward: STALLED, ..Rule::default() });
    caller.write_u8(1).await.unwrap();
    called.write_u8(2).await.unwrap();
    assert_eq!(comes(&mut caller).await, 2);
    assert!(is_silent(&mut called).await);
    proxy.set(Rule::default());
    assert_eq!(comes(&mut called).await, 1, "what was sent is not lost");
}

#[tokio::test]
async fn an_end_does_not_pass_a_cut() {
    let Pair { proxy, caller, mut called, .. } = pair().await;
    proxy.set(Rule { forward: STALLED, backward: STALLED, broken: false });
    drop(caller);
    assert!(timeout(SILENCE, called.read(&mut [0])).await.is_err());
    proxy.set(Rule::default());
    assert_eq!(timeout(LIMIT, called.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
}

#[tokio::test]
async fn delays_keep_the_order() {
    let Pair { proxy, mut caller, mut called, .. } = pair().await;
    let delay = Duration::from_millis(120);
    let way = Way { delay, jitter: delay, ..Way::default() };
    proxy.set(Rule { forward: way, ..Rule::default() });
    let begin = Instant::now();
    for number in 0..5 {
        caller.write_u8(number).await.unwrap();
    }
    for number in 0..5 {
        assert_eq!(comes(&mut called).await, number);
        assert!(begin.elapsed() >= delay, "{:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn loss_is_late_and_not_lost() {
    let Pair { proxy, mut caller, mut called, .. } = pair().await;
    let way = Way { loss: 1000, ..Way::default() };
    proxy.set(Rule { forward: way, ..Rule::default() });
    let begin = Instant::now();
    caller.write_u8(1).await.unwrap();
    assert_eq!(comes(&mut called).await, 1);
    assert!(begin.elapsed() >= Duration::from_millis(200), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_break_ends_connections_and_lets_none_be_made() {
    let Pair { proxy, mut caller, mut called, listener } = pair().await;
    proxy.set(Rule { broken: true, ..Rule::default() });
    assert!(timeout(LIMIT, caller.read_u8()).await.unwrap().is_err());
    assert!(timeout(LIMIT, called.read_u8()).await.unwrap().is_err());
    let mut again = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(timeout(LIMIT, again.read_u8()).await.unwrap().is_err());
    proxy.set(Rule::default());
    let mut whole = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut called, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    whole.write_u8(9).await.unwrap();
    assert_eq!(comes(&mut called).await, 9);
}

#[tokio::test]
async fn who_is_called_and_not_there_is_a_broken_connection() {
    let proxy = Proxy::open(Arc::new(|| None), 1).await.unwrap();
    let mut caller = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(timeout(LIMIT, caller.read_u8()).await.unwrap().is_err());
}
