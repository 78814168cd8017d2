//! The public listener over real sockets. What needs a store behind it is tested with one.

pub(super) mod stage;

use protocol::heartbeat::{Change, State};

use self::stage::{Stage, within};
use super::*;

#[tokio::test]
async fn a_cached_book_is_answered_with_all_its_headers() {
    let stage = Stage::open("").await;
    stage.cache(7, true);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let asked = [("x-request-id", "mine"), ("traceparent", trace)];
    let answer = stage.ask("GET", "/lookup/7", &asked, b"").await;
    assert_eq!((answer.status, answer.json()["title"].as_str()), (200, Some("Book 7")));
    for (name, value) in [
        ("content-type", "application/json"),
        ("cache-status", "bookends; hit"),
        ("cache-control", "no-cache"),
        ("x-served-by", "catalog-1"),
        ("x-request-id", "mine"),
        ("traceparent", trace),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let etag = answer.header("etag").unwrap().to_owned();
    let same = stage.ask("GET", "/lookup/7", &[("if-none-match", &etag)], b"").await;
    assert_eq!((same.status, same.body.len(), same.header("etag")), (304, 0, Some(etag.as_str())));
    let head = stage.ask("HEAD", "/lookup/7", &[], b"").await;
    assert_eq!(head.header("content-length"), Some(answer.body.len().to_string().as_str()));
}

#[tokio::test]
async fn all_ways_give_the_same_answers() {
    let stage = Stage::open("").await;
    stage.cache(7, true);
    stage.cache(8, false);
    let unknown = [("if-none-match", "\"x\"")];
    for id in [7, 8] {
        let plain = stage.get(&format!("/lookup/{id}")).await;
        let short = stage.ask("GET", &format!("/lookup/{id}"), &unknown, b"").await;
        let long = stage.get(&format!("/lookup/{id}?")).await;
        let posted = stage.post("/lookup", &format!(r#"{{"id":{id}}}"#)).await;
        for other in [short, long, posted] {
            assert_eq!((plain.status, &plain.body), (other.status, &other.body));
            assert_eq!(plain.names(), other.names());
            for name in
                ["etag", "content-type", "content-length", "cache-status", "cache-control", "x-served-by"]
            {
                assert_eq!(plain.header(name), other.header(name), "{name}");
            }
            assert_ne!(plain.header("x-request-id"), other.header("x-request-id"));
        }
    }
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let buy = async |kind| {
        let asked = [("content-type", kind), ("x-request-id", "mine"), ("traceparent", trace)];
        stage.ask("POST", "/buy", &asked, br#"{"id":7}"#).await
    };
    let (plain, long) = (buy("application/json").await, buy("application/json; charset=utf-8").await);
    assert_eq!((plain.status, &plain.body), (long.status, &long.body));
    assert_eq!((plain.status, plain.json()["outcome"].as_str()), (503, Some("not-done")));
    assert_eq!(plain.names(), long.names());
    for name in plain.names().into_iter().filter(|name| *name != "date") {
        assert_eq!(plain.header(name), long.header(name), "{name}");
    }
    assert_eq!((plain.header("x-request-id"), plain.header("traceparent")), (Some("mine"), Some(trace)));
    assert_eq!(stage.get("/lookup/8").await.problem().0, "not-found");
    let stock = stage.get("/quantity/7").await;
    assert_eq!(stock.json(), serde_json::json!({"id": 7, "quantity": 3, "version": 9}));
}

/// Method, target, headers, body; status, problem and field.
type Edge = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static [u8]);

#[tokio::test]
async fn what_is_not_valid_is_refused_by_name_and_never_reaches_the_store() {
    const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
    let edges: &[(Edge, u16, &str, Option<&str>)] = &[
        (("GET", "/lookup/0", &[], b""), 400, "bad-request", Some("id")),
        (("GET", "/lookup/-1", &[], b""), 400, "bad-request", Some("id")),
        (("GET", "/lookup/9007199254740992", &[], b""), 400, "bad-request", Some("id")),
        (("GET", "/lookup/seven", &[], b""), 400, "bad-request", Some("id")),
        (("GET", "/lookup/%ff", &[], b""), 400, "bad-request", Some("id")),
        (("GET", "/lookup/1?x=1", &[], b""), 400, "bad-request", Some("x")),
        (("GET", "/list?page_size=0", &[], b""), 400, "bad-request", Some("page_size")),
        (("GET", "/list?page_size=1&page_size=1", &[], b""), 400, "bad-request", Some("page_size")),
        (("GET", "/list?page_token=x", &[], b""), 400, "bad-request", Some("page_token")),
        (("GET", "/search", &[], b""), 400, "bad-request", Some("topic")),
        (("GET", "/search/%2d", &[], b""), 400, "bad-request", Some("topic")),
        (("GET", "/orders/7", &[], b""), 400, "bad-request", Some("order_id")),
        (("GET", "/buy/1?quantity=0", &[], b""), 400, "bad-request", Some("quantity")),
        (("POST", "/buy", JSON, b""), 400, "bad-request", None),
        (("POST", "/buy", JSON, b"{"), 400, "bad-request", None),
        (("POST", "/buy", JSON, b"[]"), 400, "bad-request", None),
        (("POST", "/buy", JSON, b"{\"id\":\"\xff\"}"), 400, "bad-request", None),
        (("POST", "/buy", JSON, br#"{"id":1,"color":2}"#), 400, "bad-request", Some("color")),
        (("POST", "/buy?id=1", JSON, br#"{"id":1}"#), 400, "bad-request", Some("query")),
        (("POST", "/buy", &[], br#"{"id":1}"#), 415, "unsupported-media-type", None),
        (("GET", "/buy/1", &[("idempotency-key", "a b")], b""), 400, "bad-request", Some("Idempotency-Key")),
        (("GET", "/buy/1", &[("sec-fetch-site", "cross-site")], b""), 403, "forbidden", None),
        (("GET", "/update_cost/1/2", &[("sec-fetch-site", "cross-site")], b""), 403, "forbidden", None),
        (("GET", "/update_cost/1/2", &[], b""), 401, "unauthorized", None),
        (("GET", "/orders", &[], b""), 401, "unauthorized", None),
        (("GET", "/orders", &[("authorization", "Bearer wrong")], b""), 401, "unauthorized", None),
        (("DELETE", "/books/1", &[], b""), 401, "unauthorized", None),
        (("POST", "/books/bulk", &[("content-type", "text/csv")], b"x"), 401, "unauthorized", None),
        (("GET", "/", &[], b""), 404, "not-found", None),
        (("GET", "/lookup/1/2", &[], b""), 404, "not-found", None),
        (("GET", "//lookup/1", &[], b""), 404, "not-found", None),
        (("OPTIONS", "*", &[], b""), 404, "not-found", None),
        (("PUT", "/lookup/1", &[], b""), 405, "method-not-allowed", None),
        (("GET", "/lookup", &[], b""), 405, "method-not-allowed", None),
        (("DELETE", "/buy/1", &[], b""), 405, "method-not-allowed", None),
    ];
    let stage = Stage::open("").await;
    for ((method, target, headers, body), status, name, field) in edges {
        let answer = stage.ask(method, target, headers, body).await;
        let expected = (*status, (*name).to_owned(), field.map(str::to_owned));
        let (problem, found) = answer.problem();
        assert_eq!((answer.status, problem, found), expected, "{method} {target}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{method} {target}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{method} {target}");
        assert_eq!(answer.header("x-served-by"), Some("frontend-1"), "{method} {target}");
        assert!(answer.header("x-request-id").is_some(), "{method} {target}");
        assert_eq!(answer.header("allow").is_some(), *status == 405, "{method} {target}");
    }
}

#[tokio::test]
async fn a_path_names_its_methods_and_a_head_buys_nothing() {
    let stage = Stage::open("").await;
    for (target, allow) in [
        ("/lookup/1", "GET, HEAD"),
        ("/lookup", "POST"),
        ("/list", "GET, HEAD, POST"),
        ("/books/bulk", "POST"),
        ("/books/1", "DELETE"),
        ("/buy/1", "GET"),
    ] {
        assert_eq!(stage.ask("PUT", target, &[], b"").await.header("allow"), Some(allow), "{target}");
    }
    for target in ["/buy/1", "/update_cost/1/1", "/invalidate/1"] {
        let head = stage.ask("HEAD", target, &[], b"").await;
        assert_eq!((head.status, head.header("allow")), (405, Some("GET")), "{target}");
    }
}

#[tokio::test]
async fn without_a_store_behind_it_the_front_end_says_so() {
    let stage = Stage::open("").await;
    let read = stage.get("/lookup/7").await;
    assert_eq!(
        (read.status, read.problem().0.as_str(), read.header("retry-after")),
        (503, "unavailable", Some("1"))
    );
    let bought = stage.get("/buy/7").await;
    assert_eq!((bought.status, bought.json()["outcome"].as_str()), (503, Some("not-done")));
    assert_eq!(stage.get("/livez").await.status, 200);
    let ready = stage.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(!ready.json()["waiting_for"].as_array().unwrap().is_empty());
    assert!(stage.get("/status").await.json()["shards"].is_array());
    for (target, kind) in [
        ("/docs", "text/html; charset=utf-8"),
        ("/openapi.json", "application/json"),
        ("/status", "application/json"),
        ("/metrics", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ] {
        assert_eq!(stage.get(target).await.all("content-type"), [kind], "{target}");
    }
    let metrics = stage.get("/metrics").await;
    let text = String::from_utf8(metrics.body).unwrap();
    assert!(text.contains(r#"bookends_requests_total{route="lookup",status="503"} 1"#), "{text}");
}

#[tokio::test]
async fn who_has_the_token_may_drop_a_book_from_the_cache() {
    let stage = Stage::open("").await;
    stage.cache(7, true);
    let token = format!("Bearer {}", stage.token);
    let dropped = async |expected: bool| {
        let answer = stage.ask("GET", "/invalidate/7", &[("authorization", &token)], b"").await;
        assert_eq!(answer.json(), serde_json::json!({"id": 7, "dropped": expected}));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    };
    dropped(true).await;
    dropped(false).await;
}

#[tokio::test]
async fn a_caller_hears_that_its_body_is_too_large_however_much_it_sends() {
    let stage = Stage::open("body_bytes = 1024").await;
    let fits = format!(r#"{{"id":0}}{}"#, " ".repeat(1016));
    assert_eq!(stage.post("/buy", &fits).await.problem(), ("bad-request".to_owned(), Some("id".to_owned())));
    for what in [0, 7] {
        let large = stage.post("/buy", &format!(r#"{{"id":{what}}}{}"#, " ".repeat(1017))).await;
        assert_eq!((large.status, large.json()["limit_bytes"].as_u64()), (413, Some(1024)), "{what}");
    }
    let huge = vec![b' '; 10_000_000];
    for (target, kind, status) in
        [("/buy", "application/json", 413), ("/buy", "text/xml", 415), ("/nowhere", "a/b", 404)]
    {
        assert_eq!(
            stage.ask("POST", target, &[("content-type", kind)], &huge).await.status,
            status,
            "{target}"
        );
    }
}

#[tokio::test]
async fn requests_that_come_at_once_are_answered_in_their_order() {
    let stage = Stage::open("").await;
    stage.cache(7, true);
    stage.cache(8, false);
    let mut connection = stage.connect().await;
    let get = |target| format!("GET {target} HTTP/1.1\r\nhost: s\r\n\r\n");
    let buy = "POST /buy HTTP/1.1\r\nhost: s\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\n{\"id\":7}";
    let requests = ["/lookup/7", "/livez", "/lookup/8", "/lookup/7"].map(get).concat();
    connection.write([&requests, buy, buy, &get("/lookup/7"), buy].concat().as_bytes()).await;
    for status in [200, 200, 404, 200, 503, 503, 200, 503] {
        assert_eq!(connection.answer(false).await.status, status);
    }
}

#[tokio::test]
async fn an_answer_does_not_wait_for_the_end_of_the_next_request() {
    let stage = Stage::open("").await;
    stage.cache(7, true);
    let mut connection = stage.connect().await;
    for first in ["/livez", "/lookup/7"] {
        connection.write(format!("GET {first} HTTP/1.1\r\nhost: s\r\n\r\nGET /look").as_bytes()).await;
        assert_eq!(connection.answer(false).await.status, 200, "{first}");
        connection.write(b"up/7 HTTP/1.1\r\nhost: s\r\n\r\n").await;
        assert_eq!(connection.answer(false).await.json()["id"], 7);
    }
}

/// As many turns as any task could need to do all that it can.
async fn all_others_wait() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn answers_that_nobody_takes_wait_and_are_not_lost() {
    // Their answers are more than sockets hold.
    const REQUESTS: usize = 50_000;
    let stage = Stage::open("").await;
    stage.cache(7, true);
    let mut connection = stage.connect().await;
    let requests = "GET /lookup/7 HTTP/1.1\r\nhost: s\r\n\r\n".repeat(REQUESTS);
    let mut unwritten = requests.as_bytes();
    while let Ok(written) = connection.stream.try_write(unwritten)
        && written > 0
    {
        unwritten = &unwritten[written..];
        all_others_wait().await;
    }
    for number in 0..REQUESTS {
        assert_eq!(connection.answer(false).await.status, 200, "{number}");
        if let Ok(written) = connection.stream.try_write(unwritten) {
            unwritten = &unwritten[written..];
        }
    }
    assert!(unwritten.is_empty());
}

#[tokio::test]
async fn nothing_that_came_is_lost_between_hyper_and_the_short_way() {
    const LOOKUPS: usize = 400;
    let stage = Stage::open("").await;
    stage.cache(7, true);
    let mut connection = stage.connect().await;
    // More at once than hyper reads at once, and more requests than it answers in one go.
    let other = "GET /lookup/7 HTTP/1.1\r\nhost: s\r\nif-none-match: \"no\"\r\n\r\n".repeat(40);
    let plain = "GET /lookup/7 HTTP/1.1\r\nhost: s\r\n\r\n".repeat(LOOKUPS);
    for _ in 0..3 {
        connection.write([other.as_str(), plain.as_str()].concat().as_bytes()).await;
        for number in 0..40 + LOOKUPS {
            assert_eq!(connection.answer(false).await.status, 200, "{number}");
        }
    }
    connection.send("GET", "/livez", &[], b"").await;
    assert_eq!(connection.answer(false).await.status, 200, "and nothing more has come");
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_no_request() {
    let smuggled = "GET /lookup/7 HTTP/1.1\r\nhost: s\r\n\r\n";
    let stage = Stage::open("").await;
    stage.cache(7, true);
    for target in ["/nowhere", "/buy", "/lookup/7"] {
        for (there, length) in [(0, smuggled.len()), (smuggled.len(), smuggled.len()), (10, 100_000)] {
            let mut connection = stage.connect().await;
            let head = format!("POST {target} HTTP/1.1\r\nhost: s\r\ncontent-length: {length}\r\n\r\n");
            let (begin, rest) = smuggled.split_at(there);
            connection.write([head.as_str(), begin].concat().as_bytes()).await;
            assert!(connection.answer(false).await.status >= 400, "{target}");
            // It may have closed its side by now.
            drop(connection.stream.try_write(rest.as_bytes()));
            drop(connection.stream.try_write(b"GET /livez HTTP/1.1\r\nhost: s\r\n\r\n"));
            let more = connection.all_until_closed_or("\"live\":true").await;
            assert!(!more.contains("Book 7"), "{target} {there} {length}: {more}");
        }
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_a_freed_place_is_taken_again() {
    let stage = Stage::open("connections = 1").await;
    let mut first = stage.connect().await;
    first.send("GET", "/livez", &[], b"").await;
    assert_eq!(first.answer(false).await.status, 200);
    let mut second = stage.connect().await;
    let refused = second.answer(false).await;
    assert_eq!((refused.status, refused.problem().0.as_str()), (503, "unavailable"));
    for name in ["retry-after", "x-request-id", "x-served-by"] {
        assert!(refused.header(name).is_some(), "{name}");
    }
    second.closed().await;
    drop(first);
    let freed = async {
        while stage.get("/livez").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    within(freed).await;
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_again() {
    let stage = Stage::open("requests_per_second_per_client = 2").await;
    stage.cache(7, true);
    let mut limited = None;
    for _ in 0..1000 {
        let answer = stage.get("/lookup/7").await;
        if answer.status != 200 {
            limited = Some(answer);
            break;
        }
    }
    let limited = limited.expect("a thousand requests are more than two a second");
    assert_eq!((limited.status, limited.problem().0.as_str()), (429, "too-many-requests"));
    assert_eq!(limited.header("retry-after"), Some("1"));
    // A slow machine gives the client its next turn before the buy: it asks until it has none again.
    for attempt in 1.. {
        while stage.get("/lookup/7").await.status != 429 {}
        if stage.post("/buy", r#"{"id":7}"#).await.status == 429 {
            break;
        }
        assert!(attempt < 20, "buys are not counted");
    }
}

#[tokio::test]
async fn what_is_under_way_is_finished_and_what_is_idle_is_closed_when_the_front_end_stops() {
    let mut stage = Stage::open("").await;
    stage.cache(7, true);
    let mut idle = stage.connect().await;
    idle.send("GET", "/livez", &[], b"").await;
    assert_eq!(idle.answer(false).await.status, 200);
    let mut fresh = stage.connect().await;
    let mut busy = stage.connect().await;
    busy.write(
        b"POST /lookup HTTP/1.1\r\nhost: s\r\ncontent-type: application/json\r\ncontent-length: 8\r\n",
    )
    .await;
    busy.write(b"expect: 100-continue\r\n\r\n").await;
    assert_eq!(busy.answer(true).await.status, 100, "the request is under way");
    stage.trigger.fire();
    idle.closed().await;
    fresh.closed().await;
    busy.write(br#"{"id":7}"#).await;
    assert_eq!(busy.answer(false).await.status, 200);
    busy.closed().await;
    stage.ended().await;
}

#[tokio::test]
async fn a_listener_hears_the_status_and_what_happens_until_the_end() {
    let mut stage = Stage::open("").await;
    let mut listener = stage.connect().await;
    listener.send("GET", "/events", &[], b"").await;
    let head = listener.answer(true).await;
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    listener.read_until(b"event: status\ndata: {\"shards\":").await;
    let change = Change { node: "catalog-1".into(), from: State::Up, to: State::Down };
    stage.app.parts().happenings.node(&change);
    listener.read_until(b"event: node-down\ndata: {\"node\":\"catalog-1\"}\n\n").await;
    stage.trigger.fire();
    listener.closed().await;
    stage.ended().await;
}

#[test]
fn there_are_as_many_places_as_are_configured_if_so_many_files_may_be_open() {
    assert_eq!(places(20_000, None), 20_000);
    assert_eq!(places(20_000, Some(1 << 20)), 20_000);
    assert_eq!(places(20_000, Some(1024)), 768);
    assert_eq!(places(100, Some(1024)), 100);
    assert_eq!(places(100, Some(10)), 1);
}

#[test]
fn connections_of_a_core_share_a_lane_that_is_not_far_ahead() {
    for (connections, core, expected) in [
        // One client wakes no other core than that of the rest of the front end.
        (vec![0, 0, 0], Some(2), 0),
        (vec![1, 0, 0], Some(2), 2),
        (vec![1, 0, 0], Some(3), 0),
        (vec![1, 0, 0], None, 1),
        (vec![AHEAD_MAX, 1, 1], Some(0), 0),
        (vec![AHEAD_MAX + 1, 1, 1], Some(0), 1),
        (vec![AHEAD_MAX + 1, 2, 1], Some(0), 2),
        (vec![AHEAD_MAX + 1, 2, 1], Some(1), 1),
        (vec![7], Some(5), 0),
    ] {
        assert_eq!(lane_for(&connections, core), expected, "{connections:?}, {core:?}");
    }
}
