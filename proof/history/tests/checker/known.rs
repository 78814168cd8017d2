//! Short histories, each with the verdict that a person gives it.

use history::{
    Answer, Call, CallNumber, ClientId, History, Logged, Moment, NewRow, Problem, Recorded, Seen, Start,
    Verdict, check,
};
use protocol::catalogue::OrderLine;
use protocol::ids::{BookId, Index};

fn id(book: u64) -> BookId {
    BookId::try_from(book).unwrap()
}

fn seen(quantity: u64, cost: u64, version: u64) -> Seen {
    Seen { cost_cents: Some(cost), quantity, version: Index(version) }
}

fn shown(quantity: u64, cost: u64, version: u64) -> Answer {
    Answer::Book(seen(quantity, cost, version))
}

fn buy(book: u64, quantity: u64) -> Call {
    Call::Buy(vec![OrderLine { book: id(book), quantity }])
}

fn look() -> Call {
    Call::Look(id(1))
}

fn sold() -> Answer {
    Answer::Sold(vec![100])
}

/// Book 1 with five copies at 100, in version 10; each call with its moments of sending and answer.
fn verdict(calls: &[(u64, u64, Call, Answer)]) -> Verdict {
    check(&history(calls))
}

fn history(calls: &[(u64, u64, Call, Answer)]) -> History {
    let start = Start::from([(id(1), seen(5, 100, 10)), (id(2), seen(5, 100, 11))]);
    let mut history = History::new(start);
    for (client, (sent, answered, call, answer)) in (0..).zip(calls.iter().cloned()) {
        let number = history.send(ClientId(client), Moment(sent), call);
        if answer != Answer::Unknown {
            history.answer(number, Moment(answered), answer);
        }
    }
    history
}

/// The same, where the log was asked about some calls, by their places.
fn by_log(calls: &[(u64, u64, Call, Answer)], log: &[(usize, Logged)]) -> Verdict {
    let mut history = history(calls);
    log.iter().for_each(|(call, logged)| history.look_up(CallNumber(*call), *logged));
    check(&history)
}

#[track_caller]
fn good(calls: &[(u64, u64, Call, Answer)]) {
    let verdict = verdict(calls);
    assert!(verdict.is_good(), "{verdict}");
}

/// `stuck` is the place in `calls` of one that is to blame.
#[track_caller]
fn bad(stuck: usize, calls: &[(u64, u64, Call, Answer)]) {
    match verdict(calls) {
        Verdict::Wrong(Problem::NoOrder { calls, story, .. }) => {
            assert!(calls.iter().any(|call| call.0 == stuck), "{story}");
        }
        other => panic!("it should be wrong: {other:?}"),
    }
}

#[test]
fn calls_one_after_the_other() {
    good(&[
        (1, 2, look(), shown(5, 100, 10)),
        (3, 4, buy(1, 2), sold()),
        (5, 6, look(), shown(3, 100, 12)),
        (7, 8, Call::AddStock(id(1), 4), shown(7, 100, 15)),
        (9, 10, Call::SetPrice(id(1), 90), shown(7, 90, 16)),
        (11, 12, buy(1, 7), Answer::Sold(vec![90])),
        (13, 14, buy(1, 1), Answer::OutOfStock(id(1), 0)),
        (15, 16, Call::Remove(id(1)), Answer::Done),
        (17, 18, look(), Answer::Absent(id(1))),
        (
            19,
            20,
            Call::Put(NewRow { book: id(1), cost_cents: 1, quantity: 1 }),
            Answer::Added(seen(1, 1, 30)),
        ),
    ]);
}

#[test]
fn a_look_during_a_sale_may_show_either() {
    for (quantity, version) in [(5, 10), (3, 12)] {
        good(&[(1, 9, buy(1, 2), sold()), (2, 3, look(), shown(quantity, 100, version))]);
    }
}

#[test]
fn a_stale_look() {
    bad(1, &[(1, 2, buy(1, 2), sold()), (3, 4, look(), shown(5, 100, 10))]);
}

#[test]
fn a_look_that_goes_back_during_a_sale() {
    // The first look has seen the sale, which is still under way; the second one has to see it too.
    bad(
        2,
        &[(1, 9, buy(1, 2), sold()), (2, 3, look(), shown(3, 100, 12)), (4, 5, look(), shown(5, 100, 10))],
    );
}

#[test]
fn a_look_into_the_future() {
    bad(0, &[(1, 2, look(), shown(3, 100, 12)), (3, 4, buy(1, 2), sold())]);
}

#[test]
fn a_lost_update() {
    // Both sales were acknowledged, one of them has left no trace.
    bad(2, &[(1, 4, buy(1, 2), sold()), (2, 5, buy(1, 2), sold()), (6, 7, look(), shown(3, 100, 13))]);
    // Both changes began from the same stock.
    bad(
        1,
        &[
            (1, 4, Call::AddStock(id(1), 3), shown(8, 100, 12)),
            (2, 5, Call::AddStock(id(1), 4), shown(9, 100, 13)),
        ],
    );
}

#[test]
fn the_last_copy_sold_twice() {
    bad(1, &[(1, 5, buy(1, 5), sold()), (2, 6, buy(1, 5), sold())]);
}

#[test]
fn a_refusal_without_a_reason() {
    bad(0, &[(1, 2, buy(1, 1), Answer::OutOfStock(id(1), 0))]);
    bad(0, &[(1, 2, look(), Answer::Absent(id(1)))]);
    bad(0, &[(1, 2, Call::AddStock(id(1), 5), Answer::StockLimit(id(1)))]);
    good(&[(1, 2, buy(1, 6), Answer::OutOfStock(id(1), 5))]);
}

#[test]
fn a_sale_at_a_price_of_yesterday() {
    let reprice = (1, 2, Call::SetPrice(id(1), 300), shown(5, 300, 12));
    bad(0, &[reprice.clone(), (3, 4, buy(1, 1), sold())]);
    good(&[reprice, (3, 4, buy(1, 1), Answer::Sold(vec![300]))]);
}

#[test]
fn one_version_with_two_contents() {
    bad(1, &[(1, 9, buy(1, 2), sold()), (2, 3, look(), shown(3, 100, 10))]);
}

#[test]
fn versions_out_of_order() {
    bad(
        1,
        &[
            (1, 2, Call::SetPrice(id(1), 300), shown(5, 300, 20)),
            (3, 4, Call::SetPrice(id(1), 400), shown(5, 400, 15)),
        ],
    );
}

#[test]
fn what_was_never_answered_may_have_happened_at_any_time_or_never() {
    let lost = (1, 0, buy(1, 2), Answer::Unknown);
    good(&[lost.clone(), (3, 4, look(), shown(5, 100, 10))]);
    good(&[lost.clone(), (3, 4, look(), shown(3, 100, 12))]);
    good(&[lost.clone(), (3, 4, look(), shown(5, 100, 10)), (5, 6, look(), shown(3, 100, 12))]);
    bad(2, &[lost.clone(), (3, 4, look(), shown(3, 100, 12)), (5, 6, look(), shown(5, 100, 10))]);
    bad(1, &[lost.clone(), (3, 4, look(), shown(1, 100, 12))]);
    // Not before it was sent.
    bad(1, &[(5, 0, buy(1, 2), Answer::Unknown), (3, 4, look(), shown(3, 100, 12))]);
    // Two that do the same are not the same: one was sent too late.
    good(&[lost, (9, 0, buy(1, 2), Answer::Unknown), (3, 4, look(), shown(3, 100, 12))]);
}

#[test]
fn the_log_tells_which_sale_came_first() {
    let at = |entry| Logged::At(Index(entry));
    let sales = [(1, 9, buy(1, 1), sold()), (2, 8, buy(1, 2), sold()), (3, 4, look(), shown(3, 100, 13))];
    assert!(by_log(&sales, &[(0, at(14)), (1, at(13))]).is_good());
    for log in [[(0, at(13)), (1, at(14))], [(0, at(14)), (1, at(12))], [(0, at(12)), (1, at(13))]] {
        let verdict = by_log(&sales, &log);
        assert!(matches!(verdict, Verdict::Contradicted(Problem::NoOrder { .. })), "{log:?}: {verdict}");
    }
    // One after the other, it was the other way round in the log.
    let sales = [(1, 2, buy(1, 1), sold()), (3, 4, buy(1, 2), sold())];
    assert!(by_log(&sales, &[(0, at(11)), (1, at(12))]).is_good());
    assert!(matches!(by_log(&sales, &[(0, at(12)), (1, at(11))]), Verdict::Contradicted(_)));
}

#[test]
fn the_log_tells_what_became_of_a_lost_call() {
    let at = |entry| Logged::At(Index(entry));
    let calls = [
        (1, 0, buy(1, 2), Answer::Unknown),
        (3, 4, look(), shown(5, 100, 10)),
        (5, 6, look(), shown(3, 100, 12)),
    ];
    assert!(by_log(&calls, &[(0, at(12))]).is_good());
    for log in [at(11), at(13), Logged::Never] {
        assert!(matches!(by_log(&calls, &[(0, log)]), Verdict::Contradicted(_)), "{log:?}");
    }
}

#[test]
fn callers_who_contradict_one_another_are_wrong_whatever_the_log_says() {
    let calls = [(1, 2, buy(1, 2), sold()), (3, 4, look(), shown(5, 100, 10))];
    for entry in [9, 11] {
        let verdict = by_log(&calls, &[(0, Logged::At(Index(entry)))]);
        assert!(matches!(verdict, Verdict::Wrong(_)), "{entry}: {verdict}");
    }
}

#[test]
fn what_was_certainly_not_done_has_left_no_trace() {
    let refused = (1, 2, buy(1, 2), Answer::NotDone);
    good(&[refused.clone(), (3, 4, look(), shown(5, 100, 10))]);
    bad(1, &[refused, (3, 4, look(), shown(3, 100, 12))]);
}

#[test]
fn a_sale_of_two_books_is_a_sale_of_each() {
    let both = Call::Buy([1, 2].map(|book| OrderLine { book: id(book), quantity: 2 }).to_vec());
    let look_2 = Call::Look(id(2));
    let sold = Answer::Sold(vec![100, 100]);
    good(&[(1, 2, both.clone(), sold.clone()), (3, 4, look_2.clone(), shown(3, 100, 12))]);
    bad(1, &[(1, 2, both.clone(), sold), (3, 4, look_2.clone(), shown(5, 100, 11))]);
    // Refused for want of the second book, it says nothing of the first.
    good(&[(1, 2, look_2, shown(5, 100, 11)), (3, 4, both, Answer::NotDone)]);
}

#[test]
fn a_page_is_a_look_at_each_of_its_books() {
    let page = |second| Answer::Books(vec![(id(1), seen(5, 100, 10)), (id(2), second)]);
    good(&[(1, 2, Call::Page, page(seen(5, 100, 11)))]);
    bad(0, &[(1, 2, Call::Page, page(seen(4, 100, 12)))]);
}

#[test]
fn answers_at_the_very_moment_of_another_sending_are_at_the_same_time() {
    good(&[(1, 2, buy(1, 2), sold()), (2, 3, look(), shown(5, 100, 10))]);
}

#[test]
fn an_answer_that_no_such_call_can_have() {
    for (call, answer) in [
        (look(), Answer::Done),
        (buy(1, 2), Answer::Sold(vec![1, 2])),
        (buy(1, 2), Answer::OutOfStock(id(1), 2)),
        (buy(1, 2), Answer::OutOfStock(id(2), 0)),
        (Call::AddStock(id(1), 1), Answer::OutOfStock(id(1), 0)),
        (Call::Remove(id(1)), Answer::Absent(id(2))),
    ] {
        let found = verdict(&[(1, 2, call, answer)]);
        assert!(matches!(found, Verdict::Wrong(Problem::Misfit { .. })), "{found:?}");
    }
}

#[test]
fn a_history_reads_what_it_writes() {
    let mut history = History::new(Start::from([(id(1), seen(5, 100, 10))]));
    let number = history.send(ClientId(3), Moment(5), buy(1, 2));
    history.answer(number, Moment(6), sold());
    history.push(Recorded {
        client: ClientId(4),
        call: look(),
        sent: Moment(7),
        answered: None,
        answer: Answer::Unknown,
        logged: None,
    });
    history.look_up(number, Logged::At(Index(12)));
    let mut bytes = Vec::new();
    history.write(&mut bytes).unwrap();
    assert_eq!(History::read(bytes.as_slice()).unwrap(), history);
    assert!(History::read(&b""[..]).is_err());
    let problem = History::read(&bytes[..bytes.len() - 5]).unwrap_err();
    assert_eq!(problem.to_string(), "line 3 of the history is not understood");
}
