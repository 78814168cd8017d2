//! Why a call failed, sorted by what a caller can do about it.

use common::api::ProblemBody;
use serde_json::Value;

/// The field of a problem that says what became of a write, and what it says where nobody knows.
const OUTCOME: &str = "outcome";
const UNKNOWN: &str = "unknown";

/// A call that gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A front end answered with a problem. An answer that is no `problem+json` (a proxy's, say) is
    /// put into that form with the type `about:blank`.
    #[error("{} ({} {})", words(.0), .0.status, name(.0))]
    Problem(Box<ProblemBody>),
    /// No front end gave an answer in time. Whether a write was carried out is unknown; the same call
    /// with the same key finds out.
    #[error("no answer from {urls}")]
    Unreachable {
        /// The front ends that were tried.
        urls: String,
        /// What happened at the last of them.
        source: reqwest::Error,
    },
    /// A front end answered with something that the contract does not know.
    #[error("{url} gave an answer that can't be read: {problem}")]
    Malformed {
        /// What was asked.
        url: String,
        /// What is wrong with the answer.
        problem: String,
    },
}

impl ClientError {
    /// Whether the same call, with the same key, may succeed a little later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Problem(problem) => matches!(problem.status, 429 | 502 | 503 | 504),
            Self::Unreachable { .. } => true,
            Self::Malformed { .. } => false,
        }
    }

    /// Whether the attempt at a write that ended so may have been carried out, or may still be.
    pub(crate) fn leaves_doubt(&self) -> bool {
        match self {
            Self::Problem(problem) => match problem.more.get(OUTCOME).and_then(Value::as_str) {
                Some(outcome) => outcome == UNKNOWN,
                // A proxy's, that has lost the front end on the way.
                None => matches!(problem.status, 502 | 504),
            },
            Self::Unreachable { source, .. } => !source.is_connect(),
            Self::Malformed { .. } => true,
        }
    }

    /// The error of a write of which another attempt may have been carried out: that one front end has not done it does
    /// not mean that none has.
    pub(crate) fn in_doubt(mut self) -> Self {
        if let Self::Problem(problem) = &mut self
            && problem.more.get(OUTCOME).and_then(Value::as_str) != Some(UNKNOWN)
        {
            problem.detail = format!(
                "an attempt that was not answered may have been carried out; else: {}",
                words(problem)
            );
            problem.more.insert(OUTCOME.to_owned(), UNKNOWN.into());
        }
        self
    }

    /// The status and the name of the problem, such as `(404, "not-found")`, if a front end stated one.
    #[must_use]
    pub fn problem(&self) -> Option<(u16, &str)> {
        match self {
            Self::Problem(problem) => Some((problem.status, name(problem))),
            Self::Unreachable { .. } | Self::Malformed { .. } => None,
        }
    }

    /// Whether the thing asked for does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self.problem(), Some((404, "not-found")))
    }

    /// How many copies there are, if a sale was refused for want of stock.
    #[must_use]
    pub fn out_of_stock(&self) -> Option<u64> {
        match self {
            Self::Problem(problem) if problem.status == 409 => problem.more.get("available")?.as_u64(),
            Self::Problem(_) | Self::Unreachable { .. } | Self::Malformed { .. } => None,
        }
    }
}

/// A configuration that no client can be made of.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The address of a front end is wrong.
    #[error("`{url}` is no address of a front end: {problem}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No address was given.
    #[error("no address of a front end was given")]
    NoUrl,
    /// The token has characters that no header may hold.
    #[error("the admin token must be visible ASCII characters")]
    Token,
    /// The HTTP client can't be made.
    #[error("can't make an HTTP client")]
    Http(#[source] reqwest::Error),
}

/// The last part of a problem's type.
fn name(problem: &ProblemBody) -> &str {
    let name = problem.kind.rsplit('/').next().unwrap_or_default();
    if name.is_empty() || name == "about:blank" { &problem.title } else { name }
}

fn words(problem: &ProblemBody) -> &str {
    if problem.detail.is_empty() { &problem.title } else { &problem.detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: &str, status: u16, detail: &str, more: Value) -> ClientError {
        let Value::Object(more) = more else { panic!("an object") };
        let (kind, title, detail) = (kind.to_owned(), "A title".to_owned(), detail.to_owned());
        ClientError::Problem(Box::new(ProblemBody { kind, title, status, detail, more }))
    }

    #[test]
    fn a_problem_is_one_clear_line() {
        let cases = [
            ("/problems/not-found", 404, "book 99 not found", "book 99 not found (404 not-found)"),
            ("/problems/not-found", 404, "", "A title (404 not-found)"),
            ("about:blank", 502, "", "A title (502 A title)"),
        ];
        for (kind, status, detail, expected) in cases {
            assert_eq!(problem(kind, status, detail, serde_json::json!({})).to_string(), expected);
        }
    }

    #[test]
    fn only_what_may_pass_is_retried() {
        for (status, expected) in [(400, false), (404, false), (409, false), (422, false), (500, false)]
            .into_iter()
            .chain([(429, true), (502, true), (503, true), (504, true)])
        {
            let error = problem("/problems/x", status, "", serde_json::json!({}));
            assert_eq!(error.is_retryable(), expected, "{status}");
        }
        let malformed = ClientError::Malformed { url: "http://a/".into(), problem: "no JSON".into() };
        assert!(!malformed.is_retryable());
    }

    #[test]
    fn the_stock_that_is_left_is_told() {
        let refused = problem("/problems/out-of-stock", 409, "", serde_json::json!({"available": 3}));
        assert_eq!(refused.out_of_stock(), Some(3));
        let other = problem("/problems/bad-request", 400, "", serde_json::json!({"available": 3}));
        assert_eq!(other.out_of_stock(), None);
    }
}
