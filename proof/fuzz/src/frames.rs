//! Frames on the links between processes: calls and replies of all kinds, heartbeats, and within them the
//! messages of the replication protocol.
//!
//! The first byte says what kind of link it is; the rest is what comes on it.

use std::fmt::Debug;

use bytes::BytesMut;
use common::link::{RecvError, detached, next_frame};
use proptest::collection::vec;
use proptest::prelude::*;
use protocol::call::{
    Beat, CallId, CatalogCall, CatalogReply, Feed, InternalCall, InternalReply, LogPage, OrderCall,
    OrderReply, PageQuery, Query, Served, ShardBeat, SnapshotFacts, Trace, WriteFailure,
};
use protocol::catalogue::TopicKey;
use protocol::entry::EncodedCommand;
use protocol::ids::{Chain, Digest, Epoch, Index, OrderId, RunId, ShardId, StoreId, Timestamp};
use protocol::message::{Append, Appended, Recover, Reply, Said, ToReplica, Touched};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Verdict, values};

const SHARD: ShardId = ShardId(0);
const CALL: CallId = CallId(7);
const RUN: RunId = RunId(9);

/// Reads what comes on a link, whole and in two pieces, and sends on what was read.
pub fn check(bytes: &[u8]) -> Verdict {
    let Some((kind, bytes)) = bytes.split_first() else { return Verdict::Refused };
    match kind {
        0 => link::<CatalogCall>(bytes),
        1 => link::<CatalogReply>(bytes),
        2 => link::<OrderCall>(bytes),
        3 => link::<OrderReply>(bytes),
        4 => link::<InternalCall>(bytes),
        5 => link::<InternalReply>(bytes),
        6 => link::<Beat>(bytes),
        _ => Verdict::Refused,
    }
}

fn link<M: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Verdict {
    let mut buffer = BytesMut::from(bytes);
    let mut messages: Vec<M> = Vec::new();
    let end = take_all(&mut buffer, &mut messages);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut pieces = BytesMut::from(first);
    let mut again = Vec::new();
    let mut end_again = take_all(&mut pieces, &mut again);
    if end_again.is_ok() {
        pieces.extend_from_slice(second);
        end_again = take_all(&mut pieces, &mut again);
    }
    assert_eq!((&again, end_again.is_ok()), (&messages, end.is_ok()), "in two pieces");

    let (sender, unsent) = detached::<M>();
    for message in &messages {
        sender.put(message).expect("what came in a frame fits into one");
    }
    assert_eq!(unsent.take().expect("what is sent can be read"), messages);
    Verdict::of(end.is_ok() && buffer.is_empty())
}

/// Takes messages until more would have to come.
fn take_all<M: DeserializeOwned>(buffer: &mut BytesMut, messages: &mut Vec<M>) -> Result<(), RecvError> {
    loop {
        let before = buffer.len();
        match next_frame(buffer) {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => {
                assert_eq!(buffer.len(), before, "what is not whole yet is left alone");
                return Ok(());
            }
            Err(problem @ (RecvError::Malformed(_) | RecvError::TooLong(_))) => return Err(problem),
            Err(problem @ (RecvError::Closed | RecvError::Io(_))) => {
                panic!("there is no connection: {problem}")
            }
        }
        assert!(buffer.len() < before, "a message takes bytes");
    }
}

/// One to three messages of one kind.
pub fn valid() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        framed(0, catalog_call()),
        framed(1, catalog_reply()),
        framed(2, order_call()),
        framed(
            3,
            values::outcome().prop_map(|outcome| OrderReply::Bought { call: CALL, result: Ok(outcome) })
        ),
        framed(4, internal_call()),
        framed(5, internal_reply()),
        framed(6, beat()),
    ]
    .boxed()
}

fn framed<M: Serialize + Debug>(
    kind: u8,
    message: impl Strategy<Value = M>,
) -> impl Strategy<Value = Vec<u8>> {
    vec(message, 1..4).prop_map(move |messages| {
        let mut bytes = vec![kind];
        for message in messages {
            let frame = postcard::to_stdvec(&message).expect("a message can be encoded");
            let length = u32::try_from(frame.len()).expect("it is short");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&frame);
        }
        bytes
    })
}

fn catalog_call() -> impl Strategy<Value = CatalogCall> {
    let append = values::entries().prop_map(|entries| {
        ToReplica::Append(Append {
            epoch: Epoch(3),
            before: Index(0),
            chain_before: Chain::default(),
            commit: Index(1),
            entries,
        })
    });
    let recover = (values::view(SHARD), values::node()).prop_map(|(view, source)| {
        ToReplica::Recover(Recover { view, source, commit: Index(4), afresh: true })
    });
    let message = prop_oneof![
        append,
        recover,
        values::view(SHARD).prop_map(ToReplica::Seal),
        any::<u64>().prop_map(|epoch| ToReplica::Recount { epoch: Epoch(epoch) }),
        Just(ToReplica::Report),
    ];
    let query = prop_oneof![
        values::book_id().prop_map(Query::Book),
        (values::text(), values::text()).prop_map(|(topic, words)| Query::Page(PageQuery {
            topic: Some(TopicKey::of(&topic)),
            words: Some(words),
            after: None,
            limit: 50,
        })),
        Just(Query::Topics),
        any::<u64>().prop_map(|index| Query::ChainAt(Index(index))),
    ];
    prop_oneof![
        message.prop_map(|message| CatalogCall::Replicate { shard: SHARD, message }),
        query.prop_map(|query| CatalogCall::Read {
            call: CALL,
            shard: SHARD,
            store: StoreId(u128::MAX),
            epoch: Epoch(2),
            query
        }),
        any::<u64>().prop_map(|after| CatalogCall::Pull { call: CALL, shard: SHARD, after: Index(after) }),
    ]
}

fn catalog_reply() -> impl Strategy<Value = CatalogReply> {
    let appended = vec(values::outcome(), 0..3).prop_map(|outcomes| {
        let reply = Reply::Appended(Appended {
            epoch: Epoch(3),
            last: Index(9),
            chain: Chain(5),
            digest: Digest(6),
            outcomes,
            touched: Touched::Everything,
        });
        CatalogReply::Replicate { shard: SHARD, said: Said { store: StoreId(1), reply } }
    });
    prop_oneof![
        appended,
        values::entries().prop_map(|entries| CatalogReply::Pulled {
            call: CALL,
            page: LogPage::Entries { entries, last: Index(99) }
        }),
        vec(any::<u8>(), 0..40)
            .prop_map(|bytes| CatalogReply::SnapshotPart { call: CALL, bytes: bytes.into() }),
        any::<(u64, u64, u128, u128)>().prop_map(|(bytes, last, chain, digest)| {
            let facts =
                SnapshotFacts { bytes, last: Index(last), chain: Chain(chain), digest: Digest(digest) };
            CatalogReply::SnapshotEnd { call: CALL, result: Ok(facts) }
        }),
    ]
}

fn order_call() -> impl Strategy<Value = OrderCall> {
    let trace = || Trace { request_id: "2bb44b97-4".to_owned(), traceparent: None };
    prop_oneof![
        (values::key(), values::lines()).prop_map(move |(key, lines)| OrderCall::Buy {
            call: CALL,
            run: RUN,
            trace: trace(),
            key,
            lines
        }),
        any::<u128>().prop_map(move |order| OrderCall::Order {
            call: CALL,
            trace: trace(),
            order: OrderId(order)
        }),
    ]
}

fn internal_call() -> impl Strategy<Value = InternalCall> {
    prop_oneof![
        values::command().prop_map(|command| InternalCall::Submit {
            call: CALL,
            serves: Served { run: RUN, call: CALL },
            trace: Trace::default(),
            shard: SHARD,
            command: EncodedCommand::of(&command),
        }),
        any::<u64>().prop_map(|after| InternalCall::Follow {
            shard: SHARD,
            after: Index(after),
            chain: Chain(1)
        }),
        Just(InternalCall::CommitIndex { call: CALL, shard: SHARD }),
    ]
}

fn internal_reply() -> impl Strategy<Value = InternalReply> {
    prop_oneof![
        values::outcome().prop_map(|outcome| InternalReply::Submitted { call: CALL, result: Ok(outcome) }),
        values::text()
            .prop_map(|why| InternalReply::Submitted { call: CALL, result: Err(WriteFailure::NotDone(why)) }),
        Just(InternalReply::Answered { call: CALL }),
        any::<u64>().prop_map(|upto| InternalReply::Feed(Feed {
            shard: SHARD,
            after: Index(0),
            upto: Index(upto),
            chain: None,
            sales: Vec::new(),
        })),
        Just(InternalReply::StartOver { shard: SHARD }),
    ]
}

fn beat() -> impl Strategy<Value = Beat> {
    (values::node(), any::<u32>(), any::<u64>()).prop_map(|(node, pid, last)| Beat {
        node,
        pid,
        version: "0.1.0".to_owned(),
        started: Timestamp(1_700_000_000_000),
        connections: 3,
        shards: vec![ShardBeat {
            shard: SHARD,
            store: Some(StoreId(8)),
            promise: Epoch(2),
            last: Index(last),
            chain: Chain(4),
            digest: Digest(5),
        }],
    })
}
