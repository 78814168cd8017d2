//! Where results go: JSON for scripts or text for people, on the standard output.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use super::CliError;
use super::tables::Table;

/// The standard output, and how it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    json: bool,
    terminal: bool,
    colour: bool,
}

impl Screen {
    /// The standard output as it is; colour only on a terminal, and not against `NO_COLOR`.
    pub(crate) fn new(json: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, terminal, colour: terminal && !refused }
    }

    /// Whether JSON is wanted.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Whether text may be in colour.
    pub(crate) const fn has_colour(&self) -> bool {
        self.colour
    }

    /// Writes text as it is.
    #[expect(clippy::unused_self, reason = "who writes must hold the screen")]
    pub(crate) fn text(&self, text: &str) -> Result<(), CliError> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::Output)
    }

    /// Writes a value as JSON, on a line of its own.
    pub(crate) fn value(&self, value: &impl Serialize) -> Result<(), CliError> {
        let mut text = serde_json::to_string(value).map_err(|e| CliError::Output(e.into()))?;
        text.push('\n');
        self.text(&text)
    }

    /// Writes a table.
    pub(crate) fn table<const N: usize>(&self, table: &Table<N>) -> Result<(), CliError> {
        self.text(&table.render(self.colour))
    }

    /// Writes a value as JSON or as what people read.
    pub(crate) fn show<T: Serialize>(
        &self,
        value: &T,
        people: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        if self.json { self.value(value) } else { self.text(&people(value)) }
    }

    /// Begins anew at the top, if this is a terminal.
    pub(crate) fn clear(&self) -> Result<(), CliError> {
        if self.terminal && !self.json { self.text("\x1b[2J\x1b[H") } else { Ok(()) }
    }
}
