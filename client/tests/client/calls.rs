//! Typed calls, retries with one key, fail-over.

use std::collections::HashSet;
use std::io::Cursor;
use std::time::{Duration, Instant};

use bookends::import::{ImportError, Options, import};
use bookends::{BulkFormat, Client, ClientError, Search, Token};
use protocol::ids::BookId;

use crate::stand_in::{Fault, Seen, StandIn, TOKEN, nobody};

fn id(number: u64) -> BookId {
    number.try_into().unwrap()
}

fn client(urls: &[String]) -> Client {
    let builder = Client::builder().token(Some(Token::new(TOKEN)));
    urls.iter().fold(builder, |builder, url| builder.url(url.clone())).build().unwrap()
}

#[tokio::test]
async fn each_call_is_understood() {
    let store = StandIn::start().await;
    let client = client(&[store.url()]);
    assert_eq!(client.lookup(id(3)).await.unwrap().title, "Volume3 of all");
    assert_eq!(client.quantity(id(3)).await.unwrap().quantity, 40);
    let page = client.list(Some(5), None).await.unwrap();
    assert_eq!(page.books.len(), 5);
    let rest = client.list(Some(5), page.next_page_token.as_deref()).await.unwrap();
    assert_eq!((rest.books.len(), rest.next_page_token), (2, None));
    let search = Search { topic: Some("Graduate_School".into()), words: Some("volume6".into()) };
    assert_eq!(client.search(&search, None, None).await.unwrap().books[0].id, id(6));
    assert_eq!(client.topics().await.unwrap().len(), 2);
    let order = client.buy(id(2), 3).await.unwrap();
    assert_eq!((order.total_cents, store.stock(2)), (600, 37));
    assert_eq!(client.order(&order.order_id).await.unwrap(), order);
    assert_eq!(client.orders(None, None).await.unwrap().orders, [order]);
    assert_eq!(client.set_cost(id(2), 250).await.unwrap().cost_cents, 250);
    assert_eq!(client.add_stock(id(2), -7).await.unwrap().quantity, 30);
    let text = r#"{"title":"New","topic":"x","cost_cents":1,"quantity":1}"#;
    let stored = client.put_book(&serde_json::from_str(text).unwrap()).await.unwrap();
    assert_eq!((stored.created, stored.book.id), (true, id(8)));
    client.delete_book(id(8)).await.unwrap();
    assert!(client.delete_book(id(8)).await.unwrap_err().is_not_found());
    assert!(client.invalidate(id(1)).await.unwrap().dropped);
    assert!(client.status().await.unwrap().shards.is_empty());
    client.ready().await.unwrap();
}

#[tokio::test]
async fn a_list_past_the_cache_says_so() {
    let store = StandIn::start().await;
    let client = client(&[store.url()]);
    let listed = client.list(Some(5), None).await.unwrap();
    assert_eq!(client.list_past_cache(Some(5), None).await.unwrap(), listed);
    assert_eq!(store.seen().iter().map(|seen| seen.past_cache).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn an_order_of_several_books_is_one_call() {
    let store = StandIn::start().await;
    let lines =
        [(1, 2), (2, 1)].map(|(book, quantity)| protocol::catalogue::OrderLine { book: id(book), quantity });
    let order = client(&[store.url()]).buy_many(&lines).await.unwrap();
    assert_eq!((order.items.len(), order.total_cents, store.orders()), (2, 400, 1));
}

#[tokio::test]
async fn a_write_that_was_refused_is_sent_again_with_its_key() {
    let store = StandIn::start().await;
    store.then(Fault::Refuse(503, None)).then(Fault::Refuse(503, None));
    client(&[store.url()]).buy(id(1), 1).await.unwrap();
    let keys: HashSet<_> = store.seen().into_iter().map(|seen| seen.key.unwrap()).collect();
    assert_eq!((store.seen().len(), keys.len(), store.orders()), (3, 1, 1));
    let key = keys.into_iter().next().unwrap();
    assert!(key.len() == 36 && key.as_bytes()[14] == b'7', "a UUID of version 7: {key}");
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_carried_out_once() {
    let store = StandIn::start().await;
    store.then(Fault::LoseAnswer);
    let client = client(&[store.url()]);
    let order = client.buy(id(1), 1).await.unwrap();
    assert_eq!((order.order_id.as_str(), store.orders(), store.stock(1)), ("order-0", 1, 39));
    assert_eq!((store.seen().len(), client.retries()), (2, 1));
    client.buy(id(1), 1).await.unwrap();
    assert_eq!(store.orders(), 2, "another call has another key");
}

#[tokio::test]
async fn the_next_front_end_takes_over_and_is_remembered() {
    let (first, second) = (StandIn::start().await, StandIn::start().await);
    first.always(Fault::Refuse(503, Some(4)));
    let client = client(&[nobody().await, first.url(), second.url()]);
    let start = Instant::now();
    client.lookup(id(1)).await.unwrap();
    // No wait between different front ends, and the one that answered is asked first from then on.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    client.lookup(id(2)).await.unwrap();
    assert!(client.lookup(id(99)).await.unwrap_err().is_not_found());
    assert_eq!((first.seen().len(), second.seen().len(), client.retries()), (1, 3, 2));
}

#[tokio::test]
async fn what_will_not_change_is_not_tried_again() {
    let store = StandIn::start().await;
    let client = client(&[store.url(), store.url()]);
    for status in [400, 403, 404, 409, 422, 500] {
        let before = store.seen().len();
        store.then(Fault::Refuse(status, None));
        let error = client.buy(id(1), 1).await.unwrap_err();
        assert_eq!(error.problem(), Some((status, "told-to")));
        assert_eq!(store.seen().len(), before + 1, "{status}");
    }
    store.then(Fault::Say("{}"));
    assert!(matches!(client.lookup(id(1)).await, Err(ClientError::Malformed { .. })));
}

#[tokio::test]
async fn too_many_requests_wait_as_long_as_they_are_told_within_reason() {
    let store = StandIn::start().await;
    let client = client(&[store.url()]);
    store.then(Fault::Refuse(429, Some(1)));
    let start = Instant::now();
    client.lookup(id(1)).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    store.then(Fault::Refuse(429, Some(3600)));
    let before = store.seen().len();
    assert_eq!(client.lookup(id(1)).await.unwrap_err().problem(), Some((429, "told-to")));
    assert_eq!(store.seen().len(), before + 1);
}

#[tokio::test]
async fn a_store_that_is_away_is_waited_for_until_the_deadline() {
    let (a, b) = (nobody().await, nobody().await);
    let away = Client::builder().url(&a).url(&b).deadline(Duration::from_secs(2)).build().unwrap();
    let start = Instant::now();
    let error = away.lookup(id(1)).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(20));
    assert!(error.is_retryable() && away.retries() > 2, "{error}");
    assert_eq!(error.to_string(), format!("no answer from {a}, {b}"));

    let store = StandIn::start().await;
    store.always(Fault::Refuse(503, None));
    let refused = Client::builder().url(store.url()).deadline(Duration::from_secs(1)).build().unwrap();
    assert_eq!(refused.lookup(id(1)).await.unwrap_err().problem(), Some((503, "told-to")));
    assert!(store.seen().len() > 2);
    let before = store.seen().len();
    assert!(refused.ready().await.is_err());
    assert_eq!(store.seen().len(), before + 1, "who asks whether it is ready wants to know now");
}

#[tokio::test]
async fn an_attempt_that_the_deadline_cuts_off_leaves_the_refusal_before_it() {
    let store = StandIn::start().await;
    store.then(Fault::Refuse(503, None)).always(Fault::Stall(Duration::from_secs(60)));
    let client = Client::builder().url(store.url()).deadline(Duration::from_secs(1)).build().unwrap();
    assert_eq!(client.lookup(id(1)).await.unwrap_err().problem(), Some((503, "told-to")));
    assert_eq!(store.seen().len(), 2);
}

#[tokio::test]
async fn a_write_is_in_doubt_if_any_of_its_attempts_is() {
    let (refusal, stall) = (|| Fault::Refuse(503, None), Fault::Stall(Duration::from_secs(60)));
    let outcome = async |faults: [Fault; 2], left: Fault| {
        let store = StandIn::start().await;
        let [first, second] = faults;
        store.then(first).then(second).always(left);
        let deadline = Duration::from_secs(2);
        let client = Client::builder().url(store.url()).deadline(deadline).build().unwrap();
        match client.buy(id(1), 1).await.unwrap_err() {
            ClientError::Problem(problem) => (problem.more["outcome"].clone(), problem.detail),
            other => panic!("{other}"),
        }
    };
    let doubt = "an attempt that was not answered may have been carried out; else: told to refuse";
    let cut_off = outcome([refusal(), refusal()], stall).await;
    assert_eq!(cut_off, ("unknown".into(), doubt.to_owned()));
    let lost = outcome([Fault::LoseAnswer, refusal()], refusal()).await;
    assert_eq!(lost, ("unknown".into(), doubt.to_owned()));
    let refused = outcome([refusal(), refusal()], refusal()).await;
    assert_eq!(refused, ("not-done".into(), "told to refuse".to_owned()));
}

#[tokio::test]
async fn only_admin_calls_carry_the_token() {
    let store = StandIn::start().await;
    let with = client(&[store.url()]);
    with.lookup(id(1)).await.unwrap();
    with.buy(id(1), 1).await.unwrap();
    with.set_cost(id(1), 5).await.unwrap();
    let seen: Vec<_> = store.seen().into_iter().map(|seen| (seen.path, seen.has_token)).collect();
    let expected = [("/lookup/1", false), ("/buy", false), ("/update_cost", true)];
    assert_eq!(seen, expected.map(|(path, has_token)| (path.to_owned(), has_token)));
    let without = Client::builder().url(store.url()).build().unwrap();
    assert_eq!(without.set_cost(id(1), 5).await.unwrap_err().problem(), Some((401, "unauthorized")));
}

#[tokio::test]
async fn a_part_of_a_file_is_sent_under_the_same_key_until_it_is_answered() {
    let store = StandIn::start().await;
    let client = client(&[store.url()]);
    let mut text = String::new();
    for number in 1..=12_000 {
        let id = if number == 11_000 { "\"no\"".to_owned() } else { number.to_string() };
        text += &format!("{{\"id\":{id},\"title\":\"t\",\"topic\":\"x\",\"cost_cents\":1,\"quantity\":1}}\n");
    }
    store.then(Fault::Refuse(503, None));
    let patience = Duration::from_secs(5);
    let options = Options { format: BulkFormat::Ndjson, anew: false, patience };
    let mut steps = Vec::new();
    let report = import(&client, Cursor::new(text.clone()), options, |step| steps.push(step)).await.unwrap();
    assert_eq!((report.loaded, report.rejections(), report.rejected[0].line), (11_999, 1, 11_000));
    let size = text.len() as u64;
    assert_eq!(steps.iter().map(|step| step.books).collect::<Vec<_>>(), [10_000, 11_999]);
    assert_eq!(steps.last().unwrap().bytes, size);
    let keys = |seen: Vec<Seen>| seen.into_iter().map(|seen| seen.key).collect::<Vec<_>>();
    let seen = store.seen();
    assert!(seen[0].body == seen[1].body && seen[1].body != seen[2].body);
    let first = keys(seen);
    assert_eq!((first.len(), first[0] == first[1], first[1] == first[2]), (3, true, false));
    // Another run has the same keys, one that is made anew has others.
    import(&client, Cursor::new(text.clone()), options, |_| ()).await.unwrap();
    import(&client, Cursor::new(text), Options { anew: true, ..options }, |_| ()).await.unwrap();
    let all = keys(store.seen());
    assert_eq!(all.len(), 7);
    assert_eq!(all[3..5], first[1..3]);
    assert!(!all[5..].iter().any(|key| first.contains(key)), "{all:?}");
}

#[tokio::test]
async fn an_import_that_gives_up_says_how_far_it_came() {
    let store = StandIn::start().await;
    let client = client(&[store.url()]);
    let book = "{\"title\":\"t\",\"topic\":\"x\",\"cost_cents\":1,\"quantity\":1}\n";
    let text = book.repeat(10_001);
    let options = Options { format: BulkFormat::Ndjson, anew: false, patience: Duration::from_secs(60) };
    // A wait that is longer than any client's ends the import at once.
    let stopping = |_| {
        store.always(Fault::Refuse(503, Some(60)));
    };
    let stopped = import(&client, Cursor::new(text), options, stopping).await;
    let Err(ImportError::Call { line, loaded, source }) = stopped else { panic!("{stopped:?}") };
    assert_eq!((line, loaded, source.problem().unwrap().0), (10_001, 10_000, 503));
}
