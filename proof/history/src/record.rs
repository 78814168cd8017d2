//! The record of what callers asked and were told.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, Write};

use protocol::ids::{BookId, Index};
use serde::{Deserialize, Serialize};

use crate::call::{Answer, Call, Seen};

/// A moment, counted from wherever the recorder likes, in nanoseconds or in steps of a simulation. Of two
/// calls one came before the other only if its answer's moment is *smaller* than the other's sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

/// Who called. Only shown: the order of one client's calls is in their moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientId(pub u32);

/// The place of a call in its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallNumber(pub usize);

/// The books of a store before the first call; the others are not there.
pub type Start = BTreeMap<BookId, Seen>;

/// A call with what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Who called.
    pub client: ClientId,
    /// What was asked.
    pub call: Call,
    /// When it was sent.
    pub sent: Moment,
    /// When it was answered, if it was.
    pub answered: Option<Moment>,
    /// What was answered; [`Answer::Unknown`] until then.
    pub answer: Answer,
    /// Where the write stands in the store's log, if somebody has looked there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logged: Option<Logged>,
}

/// What the store's log says of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Logged {
    /// It was carried out by this entry, which is the version that it gave its books.
    At(Index),
    /// It was not carried out. Said only of a write that was never answered.
    Never,
}

/// All that callers saw of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    start: Start,
    calls: Vec<Recorded>,
}

/// Why a file is no history.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It can't be read.
    #[error("the history can't be read")]
    Io(#[from] io::Error),
    /// A line is something else.
    #[error("line {line} of the history is not understood")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// There is not even a first line.
    #[error("the history is empty")]
    Empty,
}

impl History {
    /// A history that begins with these books.
    #[must_use]
    pub fn new(start: Start) -> Self {
        Self { start, calls: Vec::new() }
    }

    /// A call is sent. Until it is answered its outcome is unknown.
    pub fn send(&mut self, client: ClientId, sent: Moment, call: Call) -> CallNumber {
        let number = CallNumber(self.calls.len());
        let (answered, answer, logged) = (None, Answer::Unknown, None);
        self.calls.push(Recorded { client, call, sent, answered, answer, logged });
        number
    }

    /// A call is answered.
    ///
    /// # Panics
    /// If this history has no such call, or it has an answer, or the answer is older than the call.
    pub fn answer(&mut self, number: CallNumber, answered: Moment, answer: Answer) {
        let call = &mut self.calls[number.0];
        assert!(call.answered.is_none(), "call {} has an answer", number.0);
        assert!(answered >= call.sent, "call {} is answered before it is sent", number.0);
        call.answered = Some(answered);
        call.answer = answer;
    }

    /// The store's log has been asked about a write.
    ///
    /// # Panics
    /// If this history has no such call.
    pub fn look_up(&mut self, number: CallNumber, logged: Logged) {
        self.calls[number.0].logged = Some(logged);
    }

    /// Adds a call that has been recorded elsewhere.
    pub fn push(&mut self, call: Recorded) {
        self.calls.push(call);
    }

    /// The books before the first call.
    #[must_use]
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// All calls.
    #[must_use]
    pub fn calls(&self) -> &[Recorded] {
        &self.calls
    }

    /// Writes it as JSON lines: the start, then a line for each call.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        let start: Vec<_> = self.start.iter().collect();
        serde_json::to_writer(&mut to, &start)?;
        writeln!(to)?;
        for call in &self.calls {
            serde_json::to_writer(&mut to, call)?;
            writeln!(to)?;
        }
        to.flush()
    }

    /// Reads what [`History::write`] wrote.
    ///
    /// # Errors
    /// If it can't be read, or is something else.
    pub fn read(from: impl BufRead) -> Result<Self, ReadError> {
        let mut lines = from.lines().zip(1..);
        let (first, line) = lines.next().ok_or(ReadError::Empty)?;
        let wrong = |line| move |source| ReadError::Line { line, source };
        let start: Vec<(BookId, Seen)> = serde_json::from_str(&first?).map_err(wrong(line))?;
        let mut history = Self::new(start.into_iter().collect());
        for (text, line) in lines {
            history.push(serde_json::from_str(&text?).map_err(wrong(line))?);
        }
        Ok(history)
    }
}

impl fmt::Display for CallNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, call, sent, answered, answer, logged } = self;
        write!(f, "client {}, {}", client.0, sent.0)?;
        match answered {
            Some(answered) => write!(f, " to {}: {call}: {answer}", answered.0)?,
            None => write!(f, ", never answered: {call}")?,
        }
        match logged {
            Some(Logged::At(entry)) => write!(f, "; in the log it is entry {entry}"),
            Some(Logged::Never) => write!(f, "; it is not in the log"),
            None => Ok(()),
        }
    }
}
