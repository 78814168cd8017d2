//! What ties a request to the lines that logs have of it: `X-Request-Id` and `traceparent`.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use protocol::call::Trace;
use uuid::Uuid;

/// The request's name: the caller's, or one made here.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The node that produced the content.
pub(crate) const X_SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");
/// W3C trace context.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The longest request id that is taken from a caller.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// The id of a request, as it travels with it to the handlers.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) HeaderValue);

/// Makes request ids: random for the process, counted within it.
#[derive(Debug)]
pub(crate) struct RequestIds {
    prefix: String,
    next: AtomicU64,
}

impl RequestIds {
    /// A source whose ids no other process has.
    pub(crate) fn new() -> Self {
        let (high, _, _, _) = Uuid::new_v4().as_fields();
        Self { prefix: format!("{high:08x}-"), next: AtomicU64::new(1) }
    }

    /// The next one.
    pub(crate) fn next(&self) -> HeaderValue {
        let mut text = Vec::with_capacity(self.prefix.len() + DIGITS_MAX);
        self.write_next(&mut text);
        HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static("none"))
    }

    fn write_next(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix.as_bytes());
        write_decimal(self.next.fetch_add(1, Ordering::Relaxed), out);
    }

    /// The caller's id if it is valid, else the next one.
    pub(crate) fn of(&self, asked: Option<&HeaderValue>) -> HeaderValue {
        match asked {
            Some(id) if is_request_id(id.as_bytes()) => id.clone(),
            _ => self.next(),
        }
    }

    /// Writes the caller's id if it is valid, else the next one.
    pub(crate) fn write_of(&self, asked: Option<&[u8]>, out: &mut Vec<u8>) {
        match asked {
            Some(id) if is_request_id(id) => out.extend_from_slice(id),
            _ => self.write_next(out),
        }
    }
}

/// The most digits of a number.
const DIGITS_MAX: usize = 20;

/// Writes a number. `write!` would cost as much as all the rest of a cached answer.
pub(crate) fn write_decimal(number: u64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; DIGITS_MAX];
    let count = number.checked_ilog10().map_or(1, |log| log as usize + 1);
    let mut rest = number;
    for digit in digits.iter_mut().take(count).rev() {
        // A digit is below ten, so nothing is cut off.
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
    out.extend_from_slice(digits.get(..count).unwrap_or_default());
}

fn is_request_id(id: &[u8]) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// The trace of a request whose id is already decided.
pub(crate) fn trace_of(RequestId(request_id): &RequestId, traceparent: Option<&HeaderValue>) -> Trace {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Trace { request_id: text(request_id), traceparent: traceparent.map(text) }
}

/// The `traceparent` of a request, if it is valid.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(TRACEPARENT).filter(|value| is_traceparent(value.as_bytes()))
}

/// Whether a value is `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, lower case, neither id all zeros. A
/// later version may have more behind it.
pub(crate) fn is_traceparent(value: &[u8]) -> bool {
    let Some((head, rest)) = value.split_at_checked(55) else { return false };
    let mut parts = head.split(|b| *b == b'-');
    let parts = [parts.next(), parts.next(), parts.next(), parts.next(), parts.next()];
    let [Some(version), Some(trace), Some(parent), Some(flags), None] = parts else { return false };
    let is_hex = |part: &[u8]| part.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    let is_set = |part: &[u8]| part.iter().any(|b| *b != b'0');
    let end_is_right = match version {
        b"00" => rest.is_empty(),
        b"ff" => false,
        _ => rest.is_empty() || rest.starts_with(b"-"),
    };
    (version.len(), trace.len(), parent.len(), flags.len()) == (2, 32, 16, 2)
        && [version, trace, parent, flags].into_iter().all(is_hex)
        && is_set(trace)
        && is_set(parent)
        && end_is_right
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_made_differ_and_are_valid() {
        let ids = RequestIds::new();
        let (first, second) = (ids.next(), ids.next());
        assert_ne!(first, second);
        assert!(first.to_str().unwrap().ends_with("-1"), "{first:?}");
        for id in [first, second] {
            assert!(is_request_id(id.as_bytes()), "{id:?}");
        }
        assert_ne!(RequestIds::new().next(), RequestIds::new().next(), "two processes");
    }

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX] {
            let mut written = Vec::new();
            write_decimal(number, &mut written);
            assert_eq!(written, number.to_string().as_bytes());
        }
    }

    #[test]
    fn a_valid_id_of_the_caller_is_kept() {
        let ids = RequestIds::new();
        let kept = |text: &str| {
            let value = HeaderValue::from_str(text).unwrap();
            ids.of(Some(&value)) == value
        };
        assert!(kept("a") && kept("req/1:2~") && kept(&"x".repeat(128)));
        assert!(!kept("") && !kept("a b") && !kept("é") && !kept(&"x".repeat(129)));
    }

    #[test]
    fn traceparents_have_one_form() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let later = format!("01{}-more", &good[2..]);
        for text in [good, later.as_str()] {
            assert!(is_traceparent(text.as_bytes()), "{text}");
        }
        let bad = [
            String::new(),
            good.to_uppercase(),
            format!("{good}-more"),
            format!("{good}0"),
            format!("ff{}", &good[2..]),
            good.replace("00f067aa0ba902b7", "0000000000000000"),
            good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            good.replace('-', "_"),
            good.replace("4bf9", "4bfg"),
        ];
        for text in bad {
            assert!(!is_traceparent(text.as_bytes()), "{text}");
        }
    }
}
