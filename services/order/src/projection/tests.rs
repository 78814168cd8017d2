//! The projection on a real book and a real link, fed by hand.

use bytes::BytesMut;
use common::link::{self, Connected, LinkReceiver};
use protocol::catalogue::{Order, SoldItem};
use protocol::ids::{BookId, NodeId, OrderId, Timestamp};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;

const SHARD: ShardId = ShardId(0);
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

/// What asks and what is asked, over a connection within this process.
struct Wire {
    asking: LinkSender<InternalCall>,
    asked: LinkReceiver<InternalCall>,
    flushing: JoinSet<()>,
}

impl Wire {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let connected = |stream| Connected { peer: NodeId::from("test"), stream, read: BytesMut::new() };
        let near = link::open::<InternalCall, ()>(connected(near.unwrap()));
        let far = link::open::<(), InternalCall>(connected(far.unwrap().0));
        let mut flushing = JoinSet::new();
        flushing.spawn(near.flush.run());
        flushing.spawn(far.flush.run());
        Self { asking: near.sender, asked: far.receiver, flushing }
    }

    /// From where the next call follows.
    async fn followed(&mut self) -> (ShardId, u64, u128) {
        match timeout(DEADLINE, self.asked.recv()).await.unwrap().unwrap() {
            InternalCall::Follow { shard, after, chain } => (shard, after.0, chain.0),
            other => panic!("{other:?}"),
        }
    }
}

struct Bench {
    dir: TempDir,
    projection: Projection,
    readers: Readers,
    progress: watch::Receiver<Places>,
}

impl Bench {
    fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap())
    }

    fn over(dir: TempDir) -> Self {
        let opened = Book::open(dir.path(), 1).unwrap();
        let readers = opened.readers.clone();
        let (projection, progress) = Projection::new(opened, 1).unwrap();
        Self { dir, projection, readers, progress }
    }

    fn restarted(self) -> Self {
        let Self { dir, projection, readers, progress } = self;
        drop((projection, readers, progress));
        Self::over(dir)
    }

    fn take(&mut self, inputs: Vec<Input>) {
        self.projection.take(inputs).unwrap();
    }

    fn ids(&self) -> Vec<u128> {
        self.readers.page(None, 100).unwrap().0.into_iter().map(|order| order.id.0).collect()
    }

    fn reached(&self) -> u64 {
        self.progress.borrow()[&SHARD].reached.0
    }

    fn known(&self) -> (u64, u128) {
        let Cursor { index, chain } = self.progress.borrow()[&SHARD].known;
        (index.0, chain.0)
    }
}

fn order(id: u128) -> Order {
    let book = BookId::try_from(1).unwrap();
    let item = SoldItem { book, title: "t".into(), quantity: 1, unit_cost_cents: 5 };
    Order { id: OrderId(id), items: vec![item], at: Timestamp(1) }
}

fn feed(after: u64, upto: u64, chain: Option<u128>, ids: &[u128]) -> Input {
    let sales = ids.iter().map(|id| (Index(upto), order(*id))).collect();
    Input::Feed(Feed { shard: SHARD, after: Index(after), upto: Index(upto), chain: chain.map(Chain), sales })
}

#[tokio::test]
async fn feeds_that_follow_one_another_are_taken_in_one_round() {
    let (mut bench, mut wire) = (Bench::new(), Wire::new().await);
    bench.take(vec![Input::Connected(wire.asking.clone())]);
    assert_eq!(wire.followed().await, (SHARD, 0, 0));
    bench.take(vec![feed(0, 2, Some(22), &[1]), feed(2, 3, Some(33), &[2]), feed(3, 7, Some(77), &[])]);
    assert_eq!(bench.ids(), [2, 1]);
    assert_eq!((bench.reached(), bench.known()), (7, (7, 77)));
    let mut bench = bench.restarted();
    assert_eq!(bench.ids(), [2, 1]);
    bench.take(vec![Input::Connected(wire.asking.clone())]);
    assert_eq!(wire.followed().await, (SHARD, 7, 77));
}

#[tokio::test]
async fn a_feed_with_a_gap_is_asked_for_again_once() {
    let (mut bench, mut wire) = (Bench::new(), Wire::new().await);
    bench.take(vec![Input::Connected(wire.asking.clone())]);
    assert_eq!(wire.followed().await, (SHARD, 0, 0));
    bench.take(vec![feed(0, 1, Some(11), &[1])]);
    bench.take(vec![feed(2, 3, Some(33), &[3]), feed(3, 4, Some(44), &[4])]);
    assert_eq!((bench.ids(), bench.reached()), (vec![1], 1));
    bench.take(vec![feed(4, 5, Some(55), &[5]), feed(1, 5, Some(55), &[2, 3, 4, 5]), feed(9, 9, None, &[])]);
    assert_eq!(bench.ids(), [5, 4, 3, 2, 1]);
    assert_eq!(wire.followed().await, (SHARD, 1, 11));
    assert_eq!(wire.followed().await, (SHARD, 5, 55), "one call for each gap, and not one for each feed");
}

#[tokio::test]
async fn where_the_chain_is_not_known_following_begins_before() {
    let (mut bench, mut wire) = (Bench::new(), Wire::new().await);
    bench.take(vec![Input::Connected(wire.asking.clone())]);
    assert_eq!(wire.followed().await, (SHARD, 0, 0));
    bench.take(vec![feed(0, 2, Some(22), &[1]), feed(2, 5, None, &[2])]);
    assert_eq!((bench.reached(), bench.known()), (5, (2, 22)));
    bench.take(vec![feed(5, 6, None, &[3])]);
    assert_eq!(beats(&bench.progress.borrow())[0].last, Index(6));
    assert_eq!(beats(&bench.progress.borrow())[0].chain, Chain::default(), "none is better than a wrong one");
    let mut next = Wire::new().await;
    bench.take(vec![Input::Connected(next.asking.clone())]);
    assert_eq!(next.followed().await, (SHARD, 2, 22));
    assert_eq!(bench.reached(), 6, "what is in the book stays there");
    bench.take(vec![feed(2, 8, Some(88), &[2, 3, 4])]);
    assert_eq!((bench.ids(), bench.reached(), bench.known()), (vec![4, 3, 2, 1], 8, (8, 88)));
}

#[tokio::test]
async fn another_history_takes_all_of_the_old_one_with_it() {
    let (mut bench, mut wire) = (Bench::new(), Wire::new().await);
    bench.take(vec![Input::Connected(wire.asking.clone())]);
    assert_eq!(wire.followed().await, (SHARD, 0, 0));
    bench.take(vec![feed(0, 2, Some(22), &[1])]);
    assert_eq!(bench.ids(), [1]);
    bench.take(vec![feed(2, 3, Some(33), &[4]), Input::StartOver(SHARD)]);
    assert_eq!((bench.ids(), bench.reached(), bench.known()), (vec![], 0, (0, 0)));
    assert_eq!(bench.progress.borrow()[&SHARD].restarts, 1);
    assert_eq!(wire.followed().await, (SHARD, 0, 0));
    bench.take(vec![feed(0, 1, Some(99), &[9])]);
    assert_eq!((bench.ids(), bench.known()), (vec![9], (1, 99)));
}

#[tokio::test]
async fn a_front_end_without_a_beginning_is_left() {
    let (mut bench, mut wire) = (Bench::new(), Wire::new().await);
    bench.take(vec![Input::Connected(wire.asking.clone())]);
    assert_eq!(wire.followed().await, (SHARD, 0, 0));
    bench.take(vec![Input::StartOver(SHARD)]);
    assert!(wire.asking.is_closed());
    assert!(timeout(DEADLINE, wire.flushing.join_next()).await.is_ok());
}

#[tokio::test]
async fn a_damaged_book_is_fetched_anew() {
    let (mut bench, mut wire) = (Bench::new(), Wire::new().await);
    bench.take(vec![Input::Connected(wire.asking.clone())]);
    assert_eq!(wire.followed().await, (SHARD, 0, 0));
    bench.take(vec![feed(0, 2, Some(22), &[2])]);
    let damage = || BookError::Damaged { path: bench.dir.path().into(), problem: "as the test says".into() };
    let reports = vec![Input::Damaged(damage()), feed(2, 3, Some(33), &[3]), Input::Damaged(damage())];
    bench.take(reports);
    assert_eq!((bench.ids(), bench.reached()), (vec![], 0));
    assert_eq!(wire.followed().await, (SHARD, 0, 0));
    bench.take(vec![feed(0, 3, Some(33), &[2, 3])]);
    assert_eq!((bench.ids(), bench.known()), (vec![3, 2], (3, 33)));
}

#[tokio::test]
async fn a_book_that_cannot_be_written_is_tried_again_over_another_link() {
    let (mut bench, mut wire) = (Bench::new(), Wire::new().await);
    bench.take(vec![Input::Connected(wire.asking.clone())]);
    assert_eq!(wire.followed().await, (SHARD, 0, 0));
    let path = bench.dir.path().join(crate::book::FILE);
    let other = rusqlite::Connection::open(path).unwrap();
    // Readers are few and the disk is not full in tests: a table that refuses stands for all failures.
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON orders BEGIN SELECT RAISE(ABORT, 'no'); END";
    other.execute_batch(refuse).unwrap();
    bench.take(vec![feed(0, 2, Some(22), &[1])]);
    assert!(wire.asking.is_closed());
    assert_eq!((bench.ids(), bench.reached()), (vec![], 0), "nothing is made known that is not stored");
    other.execute_batch("DROP TRIGGER refuse").unwrap();
    let mut next = Wire::new().await;
    bench.take(vec![Input::Connected(next.asking.clone())]);
    assert_eq!(next.followed().await, (SHARD, 0, 0));
    bench.take(vec![feed(0, 2, Some(22), &[1])]);
    assert_eq!((bench.ids(), bench.reached()), (vec![1], 2));
}

#[tokio::test]
async fn that_a_book_starts_over_is_known_before_its_rows_go() {
    let (mut bench, mut wire) = (Bench::new(), Wire::new().await);
    bench.take(vec![Input::Connected(wire.asking.clone())]);
    assert_eq!(wire.followed().await, (SHARD, 0, 0));
    bench.take(vec![feed(0, 2, Some(22), &[1])]);
    let path = bench.dir.path().join(crate::book::FILE);
    let other = rusqlite::Connection::open(path).unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE DELETE ON orders BEGIN SELECT RAISE(ABORT, 'no'); END";
    other.execute_batch(refuse).unwrap();
    let restarts = |bench: &Bench| bench.progress.borrow()[&SHARD].restarts;
    bench.take(vec![Input::StartOver(SHARD)]);
    assert_eq!(
        (bench.ids(), bench.reached(), restarts(&bench)),
        (vec![1], 2, 1),
        "nothing went, but it was said"
    );
    other.execute_batch("DROP TRIGGER refuse").unwrap();
    bench.take(vec![Input::StartOver(SHARD)]);
    assert_eq!((bench.ids(), bench.reached(), restarts(&bench)), (vec![], 0, 2));
}
