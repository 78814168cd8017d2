//! Each target with inputs that it must accept, with those a little changed, and with bytes of no meaning.

use std::panic::{self, AssertUnwindSafe};

use fuzz::{TARGETS, Target, Verdict};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

/// How many inputs of each kind a target is given, unless `PROPTEST_CASES` says another number. All of them
/// together take some seconds.
const CASES: u32 = 150;

/// A change of an input, at a place that is chosen once its length is known.
#[derive(Clone, Debug)]
enum Change {
    Put(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    Cut(Index),
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        let telling = prop_oneof![
            any::<u8>(),
            prop::sample::select(b"\0\x01\x7f\x80\xff\"\\{}[]:,;=&?%+/ .-\r\n0919eE".to_vec()),
        ];
        prop_oneof![
            (any::<Index>(), telling.clone()).prop_map(|(at, byte)| Self::Put(at, byte)),
            (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Self::Flip(at, bit)),
            (any::<Index>(), vec(telling, 1..6)).prop_map(|(at, bytes)| Self::Insert(at, bytes)),
            (any::<Index>(), 1..20_usize).prop_map(|(at, length)| Self::Remove(at, length)),
            (any::<Index>(), 1..20_usize).prop_map(|(at, length)| Self::Repeat(at, length)),
            any::<Index>().prop_map(Self::Cut),
        ]
    }

    fn make(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Self::Put(at, byte) => bytes[at.index(length)] = *byte,
            Self::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Self::Insert(at, more) => drop(bytes.splice(at.index(length)..at.index(length), more.clone())),
            Self::Remove(at, count) => {
                let at = at.index(length);
                bytes.drain(at..length.min(at + count));
            }
            Self::Repeat(at, count) => {
                let at = at.index(length);
                bytes.extend_from_within(at..length.min(at + count));
            }
            Self::Cut(at) => bytes.truncate(at.index(length)),
        }
    }
}

fn changed(valid: BoxedStrategy<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (valid, vec(Change::any(), 1..5)).prop_map(|(mut bytes, changes)| {
        for change in changes {
            change.make(&mut bytes);
        }
        bytes
    })
}

/// Bytes of no meaning; often behind a byte that chooses what the others are.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    (0..8_u8, vec(any::<u8>(), 0..64)).prop_map(|(first, rest)| [&[first], rest.as_slice()].concat())
}

/// Runs a target on many inputs. The smallest that breaks it is shown, to be kept in `regressions/`.
fn hold(target: &Target, inputs: impl Strategy<Value = Vec<u8>>, holds: impl Fn(Verdict) -> bool) {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(CASES) });
    let ran =
        runner.run(&inputs, |bytes| match panic::catch_unwind(AssertUnwindSafe(|| (target.check)(&bytes))) {
            Ok(verdict) if holds(verdict) => Ok(()),
            Ok(verdict) => Err(TestCaseError::fail(format!("{verdict:?}"))),
            Err(_) => Err(TestCaseError::fail("it panics")),
        });
    match ran {
        Ok(()) => {}
        Err(TestError::Fail(reason, bytes)) => {
            panic!("{}: {reason}: b\"{}\"", target.name, bytes.escape_ascii())
        }
        Err(TestError::Abort(reason)) => panic!("{}: {reason}", target.name),
    }
}

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("it is in the list")
}

macro_rules! properties {
    ($($target:ident)*) => {$(
        mod $target {
            use super::*;

            #[test]
            fn accepts_what_is_valid() {
                let target = target(stringify!($target));
                hold(target, (target.valid)(), |verdict| verdict == Verdict::Accepted);
            }

            #[test]
            fn withstands_changes_of_what_is_valid() {
                let target = target(stringify!($target));
                hold(target, changed((target.valid)()), |_| true);
            }

            #[test]
            fn withstands_noise() {
                hold(target(stringify!($target)), noise(), |_| true);
            }
        }
    )*};
}
fuzz::with_targets!(properties);
