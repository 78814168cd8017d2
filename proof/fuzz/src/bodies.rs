//! JSON bodies.

use std::collections::BTreeSet;

use frontend::api::json::Json;
use proptest::prelude::*;
use serde_json::{Map, Number, Value};

use crate::{Verdict, values};

/// Reads a body; one that is accepted is JSON to others as well, and is read again as it was.
pub fn check(bytes: &[u8]) -> Verdict {
    match Json::read(bytes) {
        Ok(json) => {
            assert!(serde_json::from_slice::<Value>(bytes).is_ok(), "what is accepted is JSON");
            let written = value_of(&json).to_string();
            let again = Json::read(written.as_bytes()).expect("what is written can be read");
            assert!(alike(&again, &json), "{written}");
            Verdict::Accepted
        }
        Err(broken) => {
            assert!(!broken.problem.is_empty());
            if let Some((line, _)) = broken.place {
                assert!(
                    (1..=1 + bytes.iter().filter(|byte| **byte == b'\n').count()).contains(&line),
                    "{broken:?}"
                );
            }
            Verdict::Refused
        }
    }
}

/// Whether two are the same, but for the last digit of a fraction: no call takes one.
fn alike(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Float(one), Json::Float(other)) => (one - other).abs() <= one.abs() * 1e-15,
        (Json::List(one), Json::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| alike(one, other))
        }
        (Json::Object(one), Json::Object(other)) => {
            let found = |name: &String, value| {
                other.iter().any(|(known, other)| known == name && alike(value, other))
            };
            one.len() == other.len() && one.iter().all(|(name, value)| found(name, value))
        }
        _ => one == other,
    }
}

fn value_of(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Unsigned(number) => Value::from(*number),
        Json::Signed(number) => {
            assert!(*number < 0, "an integer that is not negative has a kind of its own");
            Value::from(*number)
        }
        Json::Float(number) => {
            Value::Number(Number::from_f64(*number).expect("JSON has finite numbers only"))
        }
        Json::Text(text) => Value::from(text.as_str()),
        Json::List(values) => values.iter().map(value_of).collect(),
        Json::Object(pairs) => {
            let names: BTreeSet<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names.len(), pairs.len(), "no key is there twice");
            Value::Object(
                pairs.iter().map(|(name, value)| (name.clone(), value_of(value))).collect::<Map<_, _>>(),
            )
        }
    }
}

/// JSON of a few levels, calls among it.
pub fn valid() -> BoxedStrategy<Vec<u8>> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e300..1e300).prop_map(Value::from),
        values::text().prop_map(Value::from),
    ];
    let tree = leaf.prop_recursive(3, 16, 4, |inner| {
        let name = prop_oneof![Just("id".to_owned()), Just("items".to_owned()), values::text()];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(name, inner, 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    });
    tree.prop_map(|value| value.to_string().into_bytes()).boxed()
}
