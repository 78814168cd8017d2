//! What a process says of itself: structured lines on its standard error.
//!
//! Lines for people by default, a JSON object a line for machines; each names the node, so that the logs
//! of several can be read as one. Times are RFC 3339 in UTC. `BOOKENDS_LOG` and `BOOKENDS_LOG_FORMAT` win
//! over the configuration, for a closer look at one process without a change of the shared file.
//!
//! Whoever fails before the configuration is known prints to standard error itself.

mod lines;

use std::env;
use std::fmt;
use std::io::{self, IsTerminal};

use tracing::dispatcher::{self, Dispatch};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::{LookupSpan, Registry};

use crate::config::{LogFormat, Logging};

pub use lines::Lines;

/// Wins over `logging.level`.
const LEVEL_VARIABLE: &str = "BOOKENDS_LOG";
/// Wins over `logging.format`.
const FORMAT_VARIABLE: &str = "BOOKENDS_LOG_FORMAT";

/// Why a process can't log as it was told to.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// What to log can't be read.
    #[error("{key} must be {problem}, found `{text}`")]
    Level {
        /// Where it stands: a variable or a key of the configuration.
        key: &'static str,
        /// What stands there.
        text: String,
        /// What would be right.
        problem: NotAFilter,
    },
    /// The format is none that there is.
    #[error("{FORMAT_VARIABLE} must be text or json, found `{0}`")]
    Format(String),
    /// The thread that writes the log can't be started.
    #[error("the log's thread can't be started")]
    Thread(#[source] io::Error),
    /// The process logs already.
    #[error("logging was set up before")]
    Twice,
}

/// Text that does not say what to log.
#[derive(Debug, thiserror::Error)]
#[error("off, error, warn, info, debug or trace, or a list such as `info,catalog=debug`")]
pub struct NotAFilter;

/// Starts logging for this process; once, before anything is logged. What it gives must be held until
/// the process ends: dropped, it writes the last lines.
///
/// # Errors
/// If a level or a format can't be read, or if it was started before.
pub fn init(logging: &Logging, node: &str) -> Result<Lines, TelemetryError> {
    let set = |name: &str| env::var_os(name).map(|text| text.to_string_lossy().into_owned());
    let (format, filter) = choose(logging, |name| set(name).filter(|text| !text.is_empty()))?;
    let (lines, gatherer) = Lines::new(io::stderr()).map_err(TelemetryError::Thread)?;
    let dispatch = dispatch(format, filter, node, io::stderr().is_terminal(), gatherer);
    dispatcher::set_global_default(dispatch).map_err(|_| TelemetryError::Twice)?;
    Ok(lines)
}

/// Reads what to log: levels, and targets with levels.
///
/// A lone word that is no level would name a target and so switch off all the rest; it is far more
/// likely a level misspelt, and is refused.
pub(crate) fn filter(text: &str) -> Result<Targets, NotAFilter> {
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    let is_sound =
        |part: &str| part == part.trim() && !part.contains('[') && (part.contains('=') || is_level(part));
    if !text.split(',').all(is_sound) {
        return Err(NotAFilter);
    }
    text.parse().map_err(|_| NotAFilter)
}

fn choose(
    logging: &Logging,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(LogFormat, Targets), TelemetryError> {
    let format = match variable(FORMAT_VARIABLE).as_deref() {
        None => logging.format,
        Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(text) => return Err(TelemetryError::Format(text.to_owned())),
    };
    let (key, text) = match variable(LEVEL_VARIABLE) {
        None => ("logging.level", logging.level.clone()),
        Some(text) => (LEVEL_VARIABLE, text),
    };
    match filter(&text) {
        Ok(filter) => Ok((format, filter)),
        Err(problem) => Err(TelemetryError::Level { key, text, problem }),
    }
}

fn dispatch<W>(format: LogFormat, filter: Targets, node: &str, colour: bool, writer: W) -> Dispatch
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let node = node.to_owned();
    let chosen = Registry::default().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Text => chosen.with(lines.with_ansi(colour).with_timer(TimeAndNode { node })).into(),
        LogFormat::Json => {
            let inner = Format::default().json().with_current_span(false);
            let fields = lines.with_ansi(false).fmt_fields(JsonFields::new());
            chosen.with(fields.event_format(JsonWithNode { node, inner })).into()
        }
    }
}

/// Puts the node behind the time, so that merged logs sort by time.
struct TimeAndNode {
    node: String,
}

impl FormatTime for TimeAndNode {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        SystemTime.format_time(writer)?;
        write!(writer, " {}", self.node)
    }
}

/// Puts the node into the object of each line, beside `fields`: an event may have a field `node` too.
struct JsonWithNode {
    node: String,
    inner: Format<Json>,
}

impl<S, N> FormatEvent<S, N> for JsonWithNode
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut object = String::new();
        self.inner.format_event(context, Writer::new(&mut object), event)?;
        let rest = object.strip_prefix('{').ok_or(fmt::Error)?;
        write!(writer, "{{\"node\":{},{rest}", serde_json::Value::from(self.node.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    /// A place for lines that the test can read.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logging(format: LogFormat, level: &str) -> Logging {
        Logging { format, level: level.to_owned() }
    }

    fn say(format: LogFormat, level: &str) -> String {
        let page = Page::default();
        let writer = page.clone();
        let dispatch = dispatch(format, filter(level).unwrap(), "catalog-1", false, move || writer.clone());
        dispatcher::with_default(&dispatch, || {
            let span = tracing::info_span!("request", id = 7);
            let _inside = span.enter();
            tracing::info!(node = "order-2", late_ms = 12, "beat is \"late\"");
            tracing::debug!("detail");
        });
        let bytes = page.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_for_people_has_time_node_level_and_fields() {
        let text = say(LogFormat::Text, "info");
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(humantime::parse_rfc3339(words[0]).is_ok(), "{text}");
        assert_eq!(words[1..3], ["catalog-1", "INFO"], "{text}");
        assert!(text.contains("beat is \"late\" node=\"order-2\" late_ms=12"), "{text}");
        assert!(text.is_ascii() && !text.contains('\u{1b}'), "no colour: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }

    #[test]
    fn a_line_for_machines_is_one_object_with_the_node() {
        let text = say(LogFormat::Json, "debug");
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["node"], "catalog-1");
        assert_eq!(lines[0]["level"], "INFO");
        assert_eq!(lines[0]["fields"]["node"], "order-2");
        assert_eq!(lines[0]["fields"]["late_ms"], 12);
        assert_eq!(lines[0]["fields"]["message"], "beat is \"late\"");
        assert_eq!(lines[0]["spans"][0]["id"], 7);
        assert!(humantime::parse_rfc3339(lines[0]["timestamp"].as_str().unwrap()).is_ok());
    }

    #[test]
    fn variables_win_over_the_configuration() {
        let config = logging(LogFormat::Text, "info");
        let (format, filter) = choose(&config, |_| None).unwrap();
        assert_eq!((format, filter), (LogFormat::Text, "info".parse().unwrap()));
        let both = |name: &str| Some(if name == LEVEL_VARIABLE { "debug" } else { "json" }.to_owned());
        let (format, filter) = choose(&config, both).unwrap();
        assert_eq!((format, filter), (LogFormat::Json, "debug".parse().unwrap()));
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_its_name() {
        let config = logging(LogFormat::Text, "info");
        for name in [LEVEL_VARIABLE, FORMAT_VARIABLE] {
            let error = choose(&config, |asked| (asked == name).then(|| "verbose".to_owned())).unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
            assert!(error.to_string().ends_with("found `verbose`"), "{error}");
        }
    }

    #[test]
    fn a_filter_is_levels_and_targets_with_levels() {
        for good in ["info", "off", "TRACE", "info,catalog=debug", "warn,common::link=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "verbose",
            "inf",
            "info,",
            "info, catalog=debug",
            "catalog=loud",
            "info,catalog",
            "off,[request]=info",
        ] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_process_logs_but_once() {
        let config = logging(LogFormat::Text, "off");
        let _lines = init(&config, "a").unwrap();
        assert!(matches!(init(&config, "a"), Err(TelemetryError::Twice)));
    }
}
