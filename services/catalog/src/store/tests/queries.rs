//! Reads and the versions that they carry.

use protocol::call::{Content, Query, TopicCount, Version};
use protocol::catalogue::TopicKey;
use protocol::command::Action;
use protocol::ids::{Epoch, Index};

use super::{Fixture, book_id, buy, new_book, put};

fn version(index: u64, epoch: u64) -> Version {
    Version { index: Index(index), epoch: Epoch(epoch) }
}

#[test]
fn a_book_has_its_own_version_and_an_absence_that_of_the_store() {
    let mut fixture = Fixture::stocked();
    // Entries 10 and on are of epoch 2.
    for _ in 0..10 {
        fixture.run(buy(&[(1, 1)]));
    }
    fixture.run(Action::RemoveBook { book: book_id(4) });
    let of = |query| fixture.read(&query).version;
    assert_eq!(of(Query::Book(book_id(2))), version(1, 1));
    assert_eq!(of(Query::Book(book_id(1))), version(6, 1));
    assert_eq!(of(Query::Book(book_id(4))), version(12, 2));
    assert_eq!(of(Query::Topics), version(12, 2));
    assert_eq!(of(Query::Sales { after: Index(0), limit: 1 }), version(12, 2));
    assert_eq!(of(Query::ChainAt(Index(1))), version(12, 2));
    fixture.run(Action::AddStock { book: book_id(1), amount: 9 });
    fixture.run(buy(&[(2, 1)]));
    assert_eq!(fixture.read(&Query::Book(book_id(1))).version, version(13, 2));
    assert_eq!(fixture.read(&Query::Book(book_id(2))).version, version(14, 2));
    fixture.undo_to(Index(9));
    assert_eq!(fixture.read(&Query::Book(book_id(9))).version, version(9, 1));
}

#[test]
fn an_empty_store_answers_everything() {
    let fixture = Fixture::new();
    assert_eq!(fixture.book(1), None);
    assert_eq!(fixture.page(None, None, None, 5), (vec![], false));
    assert_eq!(fixture.page(Some("x"), Some("y"), None, 5), (vec![], false));
    assert_eq!(fixture.read(&Query::Topics).content, Content::Topics(vec![]));
    assert_eq!(fixture.read(&Query::Topics).version, version(0, 0));
    assert_eq!(fixture.read(&Query::ChainAt(Index(0))).content, Content::ChainAt(Some(Default::default())));
    assert_eq!(fixture.read(&Query::ChainAt(Index(1))).content, Content::ChainAt(None));
}

#[test]
fn pages_follow_one_another_while_rows_change() {
    let mut fixture = Fixture::new();
    let books = (1..=10).map(|id| new_book(Some(id), "A title", "Topic")).collect();
    fixture.run(Action::Load { books });
    assert_eq!(fixture.page(None, None, None, 4), (vec![1, 2, 3, 4], true));
    fixture.run(Action::RemoveBook { book: book_id(2) });
    fixture.run(Action::RemoveBook { book: book_id(5) });
    fixture.run(put(11, "A title", "Topic"));
    fixture.run(buy(&[(6, 1)]));
    for (topic, words) in
        [(None, None), (Some("topic"), None), (None, Some("title")), (Some("topic"), Some("tit"))]
    {
        assert_eq!(fixture.page(topic, words, Some(4), 4), (vec![6, 7, 8, 9], true), "{topic:?} {words:?}");
        assert_eq!(fixture.page(topic, words, Some(9), 2), (vec![10, 11], false), "{topic:?} {words:?}");
        assert_eq!(fixture.page(topic, words, Some(11), 4), (vec![], false), "{topic:?} {words:?}");
        assert_eq!(fixture.page(topic, words, None, 0), (vec![], true), "{topic:?} {words:?}");
        assert_eq!(fixture.page(topic, words, None, u32::MAX).0.len(), 9, "{topic:?} {words:?}");
    }
}

#[test]
fn topics_are_counted_over_all_spellings() {
    let mut fixture = Fixture::stocked();
    let topics = |fixture: &Fixture| match fixture.read(&Query::Topics).content {
        Content::Topics(topics) => topics,
        other => panic!("{other:?}"),
    };
    let count =
        |key: &str, topic: &str, books| TopicCount { key: TopicKey::of(key), topic: topic.to_owned(), books };
    let expected = [
        count("distributed systems", "Distributed Systems", 2),
        count("graduate school", "graduate school", 1),
        count("spring", "Spring", 1),
    ];
    assert_eq!(topics(&fixture), expected);
    fixture.run(Action::RemoveBook { book: book_id(1) });
    assert_eq!(topics(&fixture)[0], count("distributed systems", "distributed-systems", 1));
    for spelling in ["distributed-systems", "DISTRIBUTED_SYSTEMS", " distributed  systems "] {
        assert_eq!(fixture.page(Some(spelling), None, None, 9), (vec![2], false), "{spelling}");
    }
    assert_eq!(fixture.page(Some("distributed"), None, None, 9), (vec![], false));
}

#[test]
fn sales_come_in_the_order_of_the_log() {
    let mut fixture = Fixture::stocked();
    let first = fixture.run(buy(&[(1, 1), (2, 1), (3, 1)]));
    fixture.run(buy(&[(1, 99)]));
    let second = fixture.run(buy(&[(1, 2)]));
    let orders = [first, second].map(|outcome| match outcome {
        protocol::command::Outcome::Sold(order) => order,
        other => panic!("{other:?}"),
    });
    let sales = |after, limit| match fixture.read(&Query::Sales { after: Index(after), limit }).content {
        Content::Sales { sales, upto, chain } => {
            let there = fixture.history.entries.iter().find(|entry| entry.index == upto);
            assert_eq!(chain, there.map(|entry| entry.chain));
            (sales, upto.0)
        }
        other => panic!("{other:?}"),
    };
    let [first, second] = orders.map(|order| order);
    assert_eq!(sales(0, 9), (vec![(Index(2), first.clone()), (Index(4), second.clone())], 4));
    assert_eq!(sales(0, 4), (vec![(Index(2), first.clone()), (Index(4), second.clone())], 4));
    assert_eq!(sales(0, 3), (vec![(Index(2), first)], 3));
    assert_eq!(sales(2, 1), (vec![], 3));
    assert_eq!(sales(3, 1), (vec![(Index(4), second)], 4));
    assert_eq!(sales(4, 1), (vec![], 4));
    // Asked for none it looks at one, so that whoever asks gets on.
    assert_eq!(sales(0, 0), (vec![], 1));
}

#[test]
fn many_reads_see_one_state() {
    let mut fixture = Fixture::stocked();
    fixture.run(buy(&[(1, 1)]));
    let queries = [Query::Book(book_id(1)), Query::Book(book_id(9)), Query::Topics];
    let answers = fixture.readers.read_many(&queries);
    for (query, answer) in queries.iter().zip(answers) {
        assert_eq!(answer.unwrap(), fixture.read(query));
    }
    assert!(fixture.readers.read_many(&[]).is_empty());
    let chain = fixture.history.entries[0].chain;
    assert_eq!(fixture.read(&Query::ChainAt(Index(1))).content, Content::ChainAt(Some(chain)));
}
