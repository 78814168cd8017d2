//! Pages of a log, pulled from a stand-in for the peer: over a real link, with a log that needs no disk.

use std::sync::mpsc::{Receiver, sync_channel};

use bytes::Bytes;
use protocol::entry::{EncodedCommand, Entry};
use protocol::ids::{Chain, StoreId};
use tokio::net::TcpListener;

use super::*;
use crate::store::MemoryStore;

const DEADLINE: Duration = Duration::from_secs(30);
const PAGE: u64 = 100;
/// The end of the peer's log: behind the third page it is nearly reached.
const LAST: u64 = 3 * PAGE + NEARLY_LEVEL;
const PEER: &str = "catalog-2";

/// The peer, and a replica's errands to it.
struct Stage {
    _dir: tempfile::TempDir,
    errands: mpsc::Sender<Errand>,
    inputs: Receiver<Input>,
    /// After which index the peer was asked for a page.
    asked: mpsc::Receiver<u64>,
    _tasks: JoinSet<()>,
}

impl Stage {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let secret = Arc::new(common::secret::cluster_secret(dir.path()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = format!(
            "[shards]\ncount = 1\ncopies = 2\n\
             [[catalog]]\nid = \"catalog-1\"\nlisten = \"127.0.0.1:0\"\n\
             [[catalog]]\nid = \"{PEER}\"\nlisten = \"{address}\"\n\
             [[order]]\nid = \"order-1\"\nlisten = \"127.0.0.1:0\"\n\
             [[frontend]]\nid = \"frontend-1\"\npublic = \"127.0.0.1:0\"\ninternal = \"127.0.0.1:0\"\n\
             heartbeat = \"127.0.0.1:0\"\n"
        );
        let path = dir.path().join("config.toml");
        std::fs::write(&path, config).unwrap();
        let config = Arc::new(Config::load(&path).unwrap());
        let (asking, asked) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_peer(listener, secret.clone(), asking));
        let store = MemoryStore::new(ShardId(0), 1, 1, StoreId(1)).unwrap();
        let (sender, inputs) = sync_channel(8);
        let (errands, requests) = Errands::new(ShardId(0), store.readers, sender);
        let (trigger, shutdown) = common::shutdown::channel();
        tasks.spawn(async move {
            let _alive = trigger;
            errands.run(config, secret, NodeId::from("catalog-1"), shutdown).await;
        });
        Self { _dir: dir, errands: requests, inputs, asked, _tasks: tasks }
    }

    /// Pulls a page, and says where it ends.
    async fn pull(&self, resync: u64, after: u64) -> u64 {
        let source = NodeId::from(PEER);
        let page = PageWanted { resync, after: Index(after) };
        self.errands.send(Errand::Pull { source, page }).await.unwrap();
        let input = tokio::task::block_in_place(|| self.inputs.recv_timeout(DEADLINE)).unwrap();
        match input {
            Input::Pulled { page: LogPage::Entries { entries, last }, .. } => {
                assert_eq!((entries[0].index, last), (Index(after + 1), Index(LAST)));
                entries.last().unwrap().index.0
            }
            other => panic!("{other:?}"),
        }
    }

    /// After which index the peer was asked next.
    async fn asked(&mut self) -> u64 {
        timeout(DEADLINE, self.asked.recv()).await.unwrap().unwrap()
    }

    fn is_asked_no_more(&mut self) -> bool {
        self.asked.is_empty()
    }
}

async fn serve_peer(listener: TcpListener, secret: Arc<Secret>, asking: mpsc::Sender<u64>) {
    let (stream, _) = listener.accept().await.unwrap();
    let connected = link::accept(stream, &secret).await.unwrap().unwrap();
    let Opened { sender, mut receiver, flush } = link::open(connected);
    let mut flushing = JoinSet::new();
    flushing.spawn(flush.run());
    while let Ok(CatalogCall::Pull { call, after, .. }) = receiver.recv().await {
        asking.send(after.0).await.unwrap();
        let entry = |index| Entry {
            index: Index(index),
            epoch: Epoch(1),
            command: EncodedCommand(Bytes::new()),
            chain: Chain(index.into()),
        };
        let entries = (after.0 + 1..=(after.0 + PAGE).min(LAST)).map(entry).collect();
        let page = LogPage::Entries { entries, last: Index(LAST) };
        sender.send(&CatalogReply::Pulled { call, page }).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_page_is_asked_for_while_one_is_entered_until_it_is_nearly_level() {
    let mut stage = Stage::new().await;
    assert_eq!(stage.pull(1, 0).await, PAGE);
    assert_eq!((stage.asked().await, stage.asked().await), (0, PAGE));
    assert_eq!(stage.pull(1, PAGE).await, 2 * PAGE);
    assert_eq!(stage.asked().await, 2 * PAGE);
    assert_eq!(stage.pull(1, 2 * PAGE).await, 3 * PAGE);
    // What is asked comes over one link: had it asked for more, that would come before this.
    assert_eq!(stage.pull(1, LAST - 1).await, LAST);
    assert_eq!(stage.asked().await, LAST - 1);
    assert!(stage.is_asked_no_more());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_asked_for_anew_if_another_is_wanted_or_another_resync_wants_it() {
    let mut stage = Stage::new().await;
    assert_eq!(stage.pull(1, 0).await, PAGE);
    assert_eq!((stage.asked().await, stage.asked().await), (0, PAGE));
    assert_eq!(stage.pull(2, PAGE).await, 2 * PAGE);
    assert_eq!((stage.asked().await, stage.asked().await), (PAGE, 2 * PAGE));
    assert_eq!(stage.pull(2, 50).await, 50 + PAGE);
    assert_eq!((stage.asked().await, stage.asked().await), (50, 50 + PAGE));
}
