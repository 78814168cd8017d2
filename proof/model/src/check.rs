//! Looking at all states of a configuration, up to a depth, and telling what was found.

use std::fmt;
use std::time::{Duration, Instant};

use stateright::report::{ReportData, ReportDiscovery, Reporter};
use stateright::{Checker, Expectation, HasDiscoveries, Model as _};

use crate::action::Action;
use crate::configurations::Configuration;
use crate::model::Model;
use crate::state::State;

/// What came of a check.
#[derive(Clone, Debug)]
pub struct Found {
    /// Of which configuration.
    pub name: &'static str,
    /// How many steps deep all states were looked at.
    pub steps: usize,
    /// How many states were generated, repetitions included.
    pub states: usize,
    /// How many different ones.
    pub unique: usize,
    /// Whether these are all that there are, with nothing beyond the depth.
    pub complete: bool,
    /// How long it took.
    pub took: Duration,
    /// What should have been reached and was not.
    pub missed: Vec<&'static str>,
    /// The property that does not hold, and how to get there.
    pub broken: Option<CounterExample>,
}

/// A way to where a property does not hold.
#[derive(Clone, Debug)]
pub struct CounterExample {
    /// The property.
    pub property: &'static str,
    /// The steps, as they are told.
    pub trace: Vec<String>,
    /// How many there are.
    pub steps: usize,
}

impl Found {
    /// Whether all is as it should be.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.broken.is_none() && self.missed.is_empty()
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, steps, states, unique, took, .. } = self;
        let extent =
            if self.complete { "all there are".to_owned() } else { format!("all within {steps} steps") };
        write!(
            f,
            "{name:<12} {states:>9} states, {unique:>8} different ({extent}), {:.1} s",
            took.as_secs_f64()
        )?;
        for missed in &self.missed {
            write!(f, "\n  not reached: {missed}")?;
        }
        if let Some(CounterExample { property, trace, steps }) = &self.broken {
            write!(f, "\n  does not hold: {property}\n  after {steps} steps:")?;
            for line in trace {
                write!(f, "\n    {line}")?;
            }
        }
        Ok(())
    }
}

/// How far a check is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// How many different states were found.
    pub unique: usize,
    /// How many steps deep the search is.
    pub steps: usize,
}

/// Looks at all states of a configuration that are at most so many steps away from its beginning. The search
/// is breadth-first on one thread, so that no state within the depth is missed. If something is broken, the way
/// there is a shortest one.
pub fn check(configuration: &Configuration, steps: usize, progress: impl Fn(Progress) + Send) -> Found {
    let mut found = search(configuration, steps, progress);
    // The search ends some way behind what it has found, and what it tells is the last of it.
    while let Some(fewer) = found.broken.as_ref().and_then(|broken| broken.steps.checked_sub(1)) {
        let nearer = search(configuration, fewer, |_| {});
        if nearer.broken.is_none() {
            break;
        }
        found.broken = nearer.broken;
    }
    found
}

fn search(configuration: &Configuration, steps: usize, progress: impl Fn(Progress) + Send) -> Found {
    let begin = Instant::now();
    // The checker counts the beginning as 1, and does not look at states of the last depth.
    let builder = configuration.model.clone().checker().threads(1).target_max_depth(steps + 2);
    let checker = builder.finish_when(HasDiscoveries::AnyFailures).spawn_bfs();
    let checker = checker.join_and_report(&mut Telling(progress));
    let discoveries = checker.discoveries();
    let mut missed = Vec::new();
    let mut broken = None;
    for property in configuration.model.properties() {
        let path = discoveries.get(property.name);
        match (&property.expectation, path) {
            (Expectation::Sometimes, None) => missed.push(property.name),
            (Expectation::Always | Expectation::Eventually, Some(path)) if broken.is_none() => {
                let actions: Vec<Action> = path.clone().into_actions();
                let (trace, steps) = (tell(&configuration.model, &actions), actions.len());
                broken = Some(CounterExample { property: property.name, trace, steps });
            }
            _ => {}
        }
    }
    if broken.is_some() {
        // The search ended there.
        missed.clear();
    }
    Found {
        name: configuration.name,
        steps,
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        complete: broken.is_none() && checker.max_depth() < steps + 2,
        took: begin.elapsed(),
        missed,
        broken,
    }
}

/// Walks a path again and tells what happens on it.
#[must_use]
pub fn tell(model: &Model, actions: &[Action]) -> Vec<String> {
    let mut state = model.initial();
    let mut lines = Vec::new();
    for (number, action) in actions.iter().enumerate() {
        state.notes = Some(Vec::new());
        state = model.after(&state, action);
        lines.push(format!("{:>2}. {action}", number + 1));
        lines.extend(state.notes.take().into_iter().flatten().map(|note| format!("      {note}")));
    }
    lines.extend(tell_state(&state));
    lines
}

/// How a state stands, in a few lines.
fn tell_state(state: &State) -> Vec<String> {
    let mut lines = vec![format!("view store: {:?}", state.stored.as_deref())];
    lines.push(format!(
        "committed: {:?}",
        state.ghost.committed.iter().map(|(_, key)| key).collect::<Vec<_>>()
    ));
    for node in &state.nodes {
        let standing = node.disk.standing();
        let log = node.disk.tables.history(node.disk.tables.base());
        let log: Vec<_> = log.into_iter().flatten().map(|(_, key)| key).collect();
        lines.push(format!(
            "{}: promise {}, log of {} up to {} with writes {log:?}, commit {}, runs: {}",
            node.id,
            standing.promise,
            standing.store,
            standing.last,
            standing.commit,
            node.process.is_some()
        ));
    }
    lines
}

struct Telling<F>(F);

impl<F: Fn(Progress)> Reporter<Model> for Telling<F> {
    fn report_checking(&mut self, data: ReportData) {
        self.0(Progress { unique: data.unique_states, steps: data.max_depth.saturating_sub(1) });
    }

    fn report_discoveries(
        &mut self,
        _: &Model,
        _: std::collections::BTreeMap<&'static str, ReportDiscovery<Model>>,
    ) {
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(200)
    }
}
