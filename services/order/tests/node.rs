//! A whole order node between a caller and stand-ins for front ends, over real sockets and files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stand_in;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::config::Config;
use common::link::{self, ConnectError, Credentials, LinkReceiver, LinkSender, Opened};
use common::runfile;
use common::shutdown::{self, Trigger};
use order::{Node, NodeError};
use protocol::call::{CallId, Feed, InternalReply, OrderCall, OrderReply, Served, Trace, WriteFailure};
use protocol::catalogue::{Order, OrderLine, SoldItem};
use protocol::command::{Action, CommandKey, Outcome, Refusal, Scope};
use protocol::ids::{BookId, Chain, Index, NodeId, OrderId, RunId, ShardId, Timestamp};
use stand_in::{DEADLINE, StandIn, Submit};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

const SHARD: ShardId = ShardId(0);
const RUN: RunId = RunId(7);
/// A node ends by itself, well before it would give up what it waits for.
const STOPPED: Duration = Duration::from_secs(4);

/// Listeners that are bound, and the configuration that names them.
struct Place {
    dir: TempDir,
    credentials: Arc<Credentials>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let credentials = Arc::new(Credentials::of(&config_in(dir.path(), &[], 1000, 1)).unwrap());
        Self { dir, credentials }
    }

    async fn stand_in(&self) -> StandIn {
        StandIn::new(TcpListener::bind("127.0.0.1:0").await.unwrap(), self.credentials.clone())
    }

    fn config(&self, frontends: &[&StandIn], write_ms: u64) -> Config {
        config_in(self.dir.path(), frontends, write_ms, 1)
    }

    fn database(&self) -> std::path::PathBuf {
        self.dir.path().join("data/order-1/orders.db")
    }
}

/// A configuration with these front ends; an empty list means one that is not there.
fn config_in(folder: &Path, frontends: &[&StandIn], write_ms: u64, shards: u32) -> Config {
    let mut text = format!(
        "[cluster]\ndata_dir = \"data\"\n[shards]\ncount = {shards}\ncopies = 1\n\
         [timeouts]\nread_ms = 2000\nwrite_ms = {write_ms}\n\
         [[catalog]]\nid = \"catalog-1\"\nlisten = \"127.0.0.1:0\"\n\
         [[order]]\nid = \"order-1\"\nlisten = \"127.0.0.1:0\"\n"
    );
    let absent = ["127.0.0.1:0".to_owned()];
    let addresses: Vec<String> = frontends.iter().map(|frontend| frontend.address.to_string()).collect();
    for (number, address) in if addresses.is_empty() { &absent[..] } else { &addresses }.iter().enumerate() {
        text.push_str(&format!(
            "[[frontend]]\nid = \"frontend-{number}\"\npublic = \"127.0.0.1:0\"\ninternal = \"{address}\"\n\
             heartbeat = \"127.0.0.1:0\"\n"
        ));
    }
    let path = folder.join("config.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(&path).unwrap()
}

/// A node that runs, and a caller's link to it.
struct Running {
    trigger: Trigger,
    node: JoinSet<Result<(), NodeError>>,
    calls: LinkSender<OrderCall>,
    replies: LinkReceiver<OrderReply>,
    _flushing: JoinSet<()>,
}

async fn start(config: Config, credentials: &Credentials) -> Running {
    let id = NodeId::from("order-1");
    let configured = config.order(&id).unwrap().listen.clone();
    let opened = Node::open(config.clone(), id.clone()).await.unwrap();
    let (trigger, shutdown) = shutdown::channel();
    let mut node = JoinSet::new();
    node.spawn(opened.run(shutdown));
    let connecting = async {
        loop {
            let address = runfile::resolve(&config, &id, "listen", &configured);
            match link::connect(address.as_str(), credentials, &NodeId::from("caller"), DEADLINE).await {
                Ok(connected) => return connected,
                Err(ConnectError::Refused { .. } | ConnectError::Io { .. }) => tokio::task::yield_now().await,
                Err(other) => panic!("{other}"),
            }
        }
    };
    let connected = timeout(DEADLINE, connecting).await.expect("the node listens");
    let Opened { sender, receiver, flush } = link::open(connected);
    let mut flushing = JoinSet::new();
    flushing.spawn(flush.run());
    Running { trigger, node, calls: sender, replies: receiver, _flushing: flushing }
}

impl Running {
    fn buy(&self, call: u64, lines: &[(u64, u64)]) {
        let lines = lines.iter().map(|(book, quantity)| line(*book, *quantity)).collect();
        self.calls
            .send(&OrderCall::Buy {
                call: CallId(call),
                run: RUN,
                trace: Trace::default(),
                key: key(),
                lines,
            })
            .unwrap();
    }

    fn look(&self, call: u64, order: u128) {
        let order = OrderId(order);
        self.calls.send(&OrderCall::Order { call: CallId(call), trace: Trace::default(), order }).unwrap();
    }

    async fn reply(&mut self) -> OrderReply {
        timeout(DEADLINE, self.replies.recv()).await.expect("an answer in time").unwrap()
    }

    async fn bought(&mut self) -> (u64, Result<Outcome, WriteFailure>) {
        match self.reply().await {
            OrderReply::Bought { call, result } => (call.0, result),
            other => panic!("{other:?}"),
        }
    }

    async fn looked_up(&mut self, order: u128) -> Result<Option<Order>, String> {
        self.look(77, order);
        match self.reply().await {
            OrderReply::Order { call: CallId(77), result } => result,
            other => panic!("{other:?}"),
        }
    }

    async fn listed(&mut self, before: Option<u128>, limit: u32) -> (Vec<u128>, bool) {
        let (call, before) = (CallId(78), before.map(OrderId));
        self.calls.send(&OrderCall::Orders { call, trace: Trace::default(), before, limit }).unwrap();
        match self.reply().await {
            OrderReply::Orders { call: CallId(78), result: Ok((orders, more)) } => {
                (orders.into_iter().map(|order| order.id.0).collect(), more)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn stop(mut self) {
        self.trigger.fire();
        let ended = timeout(STOPPED, self.node.join_next()).await.expect("the node stops in time");
        ended.unwrap().unwrap().unwrap();
    }
}

fn key() -> CommandKey {
    CommandKey::new(Scope::Public, b"one")
}

fn line(book: u64, quantity: u64) -> OrderLine {
    OrderLine { book: BookId::try_from(book).unwrap(), quantity }
}

fn sold(id: u128) -> Order {
    let item = SoldItem { book: line(1, 1).book, title: "t".into(), quantity: 1, unit_cost_cents: 5 };
    Order { id: OrderId(id), items: vec![item], at: Timestamp(1) }
}

fn ordered(submit: &Submit) -> OrderId {
    match submit.decoded().action {
        Action::Buy { order, .. } => order,
        other => panic!("{other:?}"),
    }
}

fn feed(after: u64, upto: u64, chain: u128, ids: &[u128]) -> InternalReply {
    let sales = ids.iter().map(|id| (Index(upto), sold(*id))).collect();
    let chain = Some(Chain(chain));
    InternalReply::Feed(Feed { shard: SHARD, after: Index(after), upto: Index(upto), chain, sales })
}

#[tokio::test]
async fn a_buy_goes_to_a_front_end_and_its_outcome_comes_back() {
    let place = Place::new();
    let mut front_end = place.stand_in().await;
    let mut node = start(place.config(&[&front_end], 1000), &place.credentials).await;
    node.buy(5, &[(1, 2), (3, 1)]);
    node.buy(6, &[(1, 1)]);
    let (first, second) = (front_end.submit().await, front_end.submit().await);
    assert_eq!((first.shard, first.decoded().key), (SHARD, key()));
    let Action::Buy { lines, order } = first.decoded().action else { panic!() };
    assert_eq!(lines, [line(1, 2), line(3, 1)]);
    assert_eq!((order.0 >> 76) & 0xf, 7, "a UUID of version 7");
    assert!(ordered(&second) > order, "ids rise");
    second.answer(Ok(Outcome::Refused(Refusal::NoSuchBook { book: line(1, 1).book })));
    assert_eq!(node.bought().await.0, 6, "answers come as they come");
    first.answer(Ok(Outcome::Sold(sold(order.0))));
    assert_eq!(node.bought().await, (5, Ok(Outcome::Sold(sold(order.0)))));
    node.stop().await;
}

#[tokio::test]
async fn what_a_front_end_has_answered_itself_is_not_answered_again() {
    let place = Place::new();
    let mut front_end = place.stand_in().await;
    let mut node = start(place.config(&[&front_end], 1000), &place.credentials).await;
    node.buy(1, &[(1, 1)]);
    node.buy(2, &[(1, 1)]);
    let (first, second) = (front_end.submit().await, front_end.submit().await);
    assert_eq!([first.serves, second.serves], [1, 2].map(|call| Served { run: RUN, call: CallId(call) }));
    first.answered_there();
    second.answer(Ok(Outcome::Sold(sold(2))));
    assert_eq!(node.bought().await.0, 2);
    // It waits for neither any more.
    node.trigger.fire();
    assert!(
        timeout(STOPPED, node.replies.recv()).await.unwrap().is_err(),
        "the link closes without an answer"
    );
    node.stop().await;
}

#[tokio::test]
async fn an_order_that_cannot_be_goes_nowhere() {
    let place = Place::new();
    let mut front_end = place.stand_in().await;
    let mut node = start(place.config(&[&front_end], 1000), &place.credentials).await;
    node.buy(1, &[(1, 0)]);
    let problem = "the quantity of book 1 must be from 1 to 1000000, found 0".to_owned();
    assert_eq!(node.bought().await, (1, Err(WriteFailure::BadRequest(problem))));
    node.buy(2, &[(1, 1)]);
    let submit = front_end.submit().await;
    assert_eq!(submit.decoded().action, Action::Buy { order: ordered(&submit), lines: vec![line(1, 1)] });
}

#[tokio::test]
async fn a_buy_whose_link_broke_goes_out_again_as_it_was() {
    let place = Place::new();
    let mut front_end = place.stand_in().await;
    let mut node = start(place.config(&[&front_end], 3000), &place.credentials).await;
    node.buy(1, &[(1, 1)]);
    node.buy(2, &[(2, 1)]);
    let before = [front_end.submit().await.command, front_end.submit().await.command];
    front_end.cut();
    let after = [front_end.submit().await, front_end.submit().await];
    assert_eq!(before, [after[0].command.clone(), after[1].command.clone()]);
    after[0].answer(Ok(Outcome::Sold(sold(9))));
    assert_eq!(node.bought().await, (1, Ok(Outcome::Sold(sold(9)))));
    // The first attempt may have been carried out, whatever is said of the second.
    after[1].answer(Err(WriteFailure::NotDone("waiting".into())));
    assert_eq!(node.bought().await, (2, Err(WriteFailure::Unknown("waiting".into()))));
}

#[tokio::test]
async fn another_front_end_takes_over_what_was_under_way() {
    let place = Place::new();
    let (mut first, mut second) = (place.stand_in().await, place.stand_in().await);
    let mut node = start(place.config(&[&first, &second], 3000), &place.credentials).await;
    first.opened(2).await;
    second.opened(1).await;
    node.buy(1, &[(1, 1)]);
    let command = tokio::select! {
        submit = first.submit() => submit.command,
        submit = second.submit() => submit.command,
    };
    first.leave().await;
    // Where it went there at once, that is the answer; else it comes now.
    node.buy(2, &[(1, 1)]);
    let mut came = second.submit().await;
    if came.command != command {
        came = second.submit().await;
    }
    assert_eq!(came.command, command);
    came.answer(Ok(Outcome::Sold(sold(9))));
    assert_eq!(node.bought().await, (1, Ok(Outcome::Sold(sold(9)))));
}

#[tokio::test]
async fn without_a_front_end_a_buy_is_not_done() {
    let place = Place::new();
    let mut node = start(place.config(&[], 100), &place.credentials).await;
    node.buy(1, &[(1, 1)]);
    assert_eq!(node.bought().await, (1, Err(WriteFailure::NotDone("no front end could be reached".into()))));
    assert_eq!(node.looked_up(1).await, Err("no front end can be reached".into()));
    assert_eq!(node.listed(None, 10).await, (vec![], false), "a list shows what there is");
    node.stop().await;
}

#[tokio::test]
async fn of_a_silent_front_end_nothing_is_known() {
    let place = Place::new();
    let mut front_end = place.stand_in().await;
    let mut node = start(place.config(&[&front_end], 100), &place.credentials).await;
    front_end.opened(2).await;
    node.buy(1, &[(1, 1)]);
    let submit = front_end.submit().await;
    let (call, result) = node.bought().await;
    assert!(matches!((call, result), (1, Err(WriteFailure::Unknown(_)))));
    // An answer that comes too late is nobody's.
    submit.answer(Ok(Outcome::Sold(sold(1))));
    node.buy(2, &[(1, 1)]);
    front_end.submit().await.answer(Ok(Outcome::Sold(sold(2))));
    assert_eq!(node.bought().await.0, 2);
}

#[tokio::test]
async fn a_front_end_that_stands_still_is_left_for_another() {
    let place = Place::new();
    let (mut still, mut other) = (place.stand_in().await, place.stand_in().await);
    let mut node = start(place.config(&[&still, &other], 200), &place.credentials).await;
    still.opened(2).await;
    other.opened(1).await;
    node.buy(1, &[(1, 1)]);
    still.submit().await;
    assert!(matches!(node.bought().await, (1, Err(WriteFailure::Unknown(_)))));
    node.buy(2, &[(1, 1)]);
    tokio::select! {
        submit = other.submit() => submit.answer(Ok(Outcome::Sold(sold(2)))),
        // It may have come back by then.
        submit = still.submit() => submit.answer(Ok(Outcome::Sold(sold(2)))),
    }
    assert_eq!(node.bought().await, (2, Ok(Outcome::Sold(sold(2)))));
    still.opened(3).await;
}

#[tokio::test]
async fn the_log_is_followed_from_where_the_book_ends() {
    let place = Place::new();
    let mut front_end = place.stand_in().await;
    let config = place.config(&[&front_end], 1000);
    let mut node = start(config.clone(), &place.credentials).await;
    let follow = front_end.follow().await;
    assert_eq!((follow.shard, follow.after, follow.chain), (SHARD, Index(0), Chain(0)));
    follow.link.send(&feed(0, 4, 44, &[1, 2])).unwrap();
    follow.link.send(&feed(4, 6, 66, &[3])).unwrap();
    let listed = async {
        node.calls.send(&list(2)).unwrap();
        front_end.question().await.answer(Ok(Index(6)));
        node.reply().await
    };
    let OrderReply::Orders { result: Ok((orders, more)), .. } = listed.await else { panic!() };
    assert_eq!((orders, more), (vec![sold(3), sold(2)], true));
    front_end.cut();
    let again = front_end.follow().await;
    assert_eq!((again.after, again.chain), (Index(6), Chain(66)));
    node.stop().await;
    let node = start(config, &place.credentials).await;
    let restarted = front_end.follow().await;
    assert_eq!((restarted.after, restarted.chain), (Index(6), Chain(66)));
    restarted.link.send(&InternalReply::StartOver { shard: SHARD }).unwrap();
    let anew = front_end.follow().await;
    assert_eq!((anew.after, anew.chain), (Index(0), Chain(0)));
    node.stop().await;
}

fn list(limit: u32) -> OrderCall {
    OrderCall::Orders { call: CallId(78), trace: Trace::default(), before: None, limit }
}

#[tokio::test]
async fn an_unknown_order_is_looked_for_in_the_log_first() {
    let place = Place::new();
    let mut front_end = place.stand_in().await;
    let mut node = start(place.config(&[&front_end], 1000), &place.credentials).await;
    let follow = front_end.follow().await;
    front_end.opened(2).await;
    for (goal, id, found) in [(3, 11, true), (3, 12, false), (5, 13, true)] {
        node.look(1, id);
        front_end.question().await.answer(Ok(Index(goal)));
        if found {
            let after = if goal == 3 { 0 } else { 3 };
            follow.link.send(&feed(after, goal, u128::from(goal), &[id])).unwrap();
        }
        let OrderReply::Order { result, .. } = node.reply().await else { panic!() };
        assert_eq!(result, Ok(found.then(|| sold(id))), "order {id}");
    }
    node.look(1, 14);
    front_end.question().await.answer(Err("no writer".into()));
    assert!(
        matches!(node.reply().await, OrderReply::Order { result: Err(problem), .. } if problem == "no writer")
    );
}

#[tokio::test]
async fn a_book_that_does_not_catch_up_says_so() {
    let place = Place::new();
    let mut front_end = place.stand_in().await;
    let mut node = start(place.config(&[&front_end], 1000), &place.credentials).await;
    front_end.opened(2).await;
    node.look(1, 14);
    front_end.question().await.answer(Ok(Index(9)));
    let OrderReply::Order { result, .. } = node.reply().await else { panic!() };
    assert_eq!(result, Err("the book of orders has not caught up with the shards in 2s".into()));
}

#[tokio::test]
async fn a_book_that_was_deleted_or_spoilt_is_built_anew() {
    for spoil in [
        |path: &Path| std::fs::remove_file(path).unwrap(),
        |path: &Path| {
            std::fs::write(path, "no database").unwrap();
        },
    ] {
        let place = Place::new();
        let mut front_end = place.stand_in().await;
        let config = place.config(&[&front_end], 1000);
        let node = start(config.clone(), &place.credentials).await;
        front_end.follow().await.link.send(&feed(0, 4, 44, &[1, 2])).unwrap();
        node.stop().await;
        spoil(&place.database());
        let mut node = start(config, &place.credentials).await;
        let follow = front_end.follow().await;
        assert_eq!((follow.after, follow.chain), (Index(0), Chain(0)));
        follow.link.send(&feed(0, 4, 44, &[1, 2])).unwrap();
        node.look(1, 1);
        let reply = tokio::select! {
            reply = node.reply() => reply,
            question = front_end.question() => {
                question.answer(Ok(Index(4)));
                node.reply().await
            }
        };
        assert_eq!(reply, OrderReply::Order { call: CallId(1), result: Ok(Some(sold(1))) });
    }
}

#[tokio::test]
async fn callers_of_another_cluster_are_refused() {
    let place = Place::new();
    let config = place.config(&[], 1000);
    let node = start(config.clone(), &place.credentials).await;
    let id = NodeId::from("order-1");
    let address = runfile::resolve(&config, &id, "listen", &config.order(&id).unwrap().listen);
    let call = async |credentials| {
        link::connect(address.as_str(), &credentials, &NodeId::from("stranger"), DEADLINE).await
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let other_secret = Credentials::of(&config_in(elsewhere.path(), &[], 1000, 1)).unwrap();
    let refused = call(other_secret).await;
    assert!(matches!(refused, Err(ConnectError::Rejected { status: 401, .. })), "{refused:?}");
    let other_count = Credentials::of(&config_in(place.dir.path(), &[], 1000, 2)).unwrap();
    let refused = call(other_count).await.unwrap_err().to_string();
    assert!(refused.contains("another `shards.count` than 2"), "{refused}");
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_stops_answers_what_it_has_begun() {
    let place = Place::new();
    let mut front_end = place.stand_in().await;
    let mut node = start(place.config(&[&front_end], 3000), &place.credentials).await;
    node.buy(1, &[(1, 1)]);
    let submit = front_end.submit().await;
    node.trigger.fire();
    let refused = async {
        loop {
            node.buy(2, &[(1, 1)]);
            tokio::select! {
                (_, result) = node.bought() => return result,
                before_it_heard = front_end.submit() => {
                    before_it_heard.answer(Ok(Outcome::Sold(sold(8))));
                    assert_eq!(node.bought().await.0, 2);
                }
            }
        }
    };
    let refused = timeout(DEADLINE, refused).await.expect("new buys are refused");
    assert_eq!(refused, Err(WriteFailure::NotDone("this order node is stopping".into())));
    submit.answer(Ok(Outcome::Sold(sold(9))));
    assert_eq!(node.bought().await, (1, Ok(Outcome::Sold(sold(9)))));
    assert!(timeout(STOPPED, node.replies.recv()).await.unwrap().is_err(), "then the link closes");
    node.stop().await;
}

#[tokio::test]
async fn two_processes_do_not_share_a_folder() {
    let place = Place::new();
    let config = place.config(&[], 1000);
    let node = start(config.clone(), &place.credentials).await;
    let second = Node::open(config, NodeId::from("order-1")).await;
    assert!(matches!(second, Err(NodeError::InUse { .. })));
    node.stop().await;
}
