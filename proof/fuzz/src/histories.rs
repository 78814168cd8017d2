//! Files of histories, as the proofs record and check them.

use history::{History, Limits, check_within};
use proptest::prelude::*;

use crate::Verdict;

/// Reads a history; one that is accepted is read again from what it is written as.
pub fn check(bytes: &[u8]) -> Verdict {
    let Ok(history) = History::read(bytes) else { return Verdict::Refused };
    // Whatever is decided, it is decided.
    let limits = Limits { steps_max: 1000 };
    assert_eq!(check_within(&history, limits), check_within(&history, limits));
    let mut written = Vec::new();
    history.write(&mut written).expect("memory can be written");
    assert_eq!(History::read(written.as_slice()).expect("what is written can be read"), history);
    Verdict::Accepted
}

/// Histories with calls of several kinds.
pub fn valid() -> BoxedStrategy<Vec<u8>> {
    let call = prop_oneof![
        Just(r#"{"look":1}"#.to_owned()),
        Just(r#""page""#.to_owned()),
        any::<i64>().prop_map(|amount| format!(r#"{{"add-stock":[1,{amount}]}}"#)),
        (1..1000_u64).prop_map(|count| format!(r#"{{"buy":[{{"book":1,"quantity":{count}}}]}}"#)),
        Just(r#"{"put":{"book":2,"cost_cents":5,"quantity":6}}"#.to_owned()),
    ];
    let answer = prop_oneof![
        Just(r#""unknown""#.to_owned()),
        Just(r#""not-done""#.to_owned()),
        any::<u64>().prop_map(|quantity| format!(r#"{{"book":{{"quantity":{quantity},"version":3}}}}"#)),
        Just(r#"{"sold":[5]}"#.to_owned()),
    ];
    let line =
        (call, answer, 0..9_u32, 0..1000_u64, 0..1000_u64).prop_map(|(call, answer, client, sent, took)| {
            let answered =
                if answer == r#""unknown""# { "null".to_owned() } else { (sent + took).to_string() };
            format!(
                r#"{{"client":{client},"call":{call},"sent":{sent},"answered":{answered},"answer":{answer}}}"#
            )
        });
    proptest::collection::vec(line, 0..5)
        .prop_map(|lines| {
            let start = r#"[[1,{"cost_cents":5,"quantity":9,"version":1}]]"#;
            format!("{start}\n{}", lines.iter().map(|line| format!("{line}\n")).collect::<String>())
                .into_bytes()
        })
        .boxed()
}
