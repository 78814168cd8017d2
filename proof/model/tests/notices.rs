//! A proof that can't fail proves nothing: each property is seen to notice what it is there for.

use std::process::Command;
use std::sync::Arc;

use model::action::Action;
use model::check::check;
use model::configurations::{Configuration, all};
use model::disk::Register;
use model::ghost::Rule;
use model::model::Model;
use model::state::{Event, Shown, State};
use protocol::call::Version;
use protocol::ids::Index;
use stateright::Model as _;

fn configuration(name: &str) -> Configuration {
    all().into_iter().find(|configuration| configuration.name == name).expect("a configuration of this name")
}

/// A store in office with one write acknowledged.
fn with_a_write(_: &Model, _: State) -> State {
    configuration("suspicion").model.initial()
}

/// The properties that don't hold in a state.
fn broken(state: &State) -> Vec<&'static str> {
    let model = configuration("suspicion").model;
    let properties = model.properties();
    let always = properties.iter().filter(|p| p.expectation == stateright::Expectation::Always);
    always.filter(|property| !(property.condition)(&model, state)).map(|property| property.name).collect()
}

fn good() -> State {
    configuration("suspicion").model.initial()
}

#[test]
fn a_good_state_breaks_nothing() {
    let state = good();
    assert_eq!(broken(&state), Vec::<&str>::new());
    assert_eq!((state.ghost.committed.len(), state.ghost.told), (1, Index(1)));
}

#[test]
fn i1_a_member_that_lost_what_was_acknowledged() {
    let mut state = good();
    state.node_mut(1).disk.tables = Arc::default();
    let broken = broken(&state);
    assert!(broken.contains(&"I1 committed writes are on all members"), "{broken:?}");
}

#[test]
fn i2_members_with_other_histories() {
    let (mut state, mut other) = (good(), configuration("comeback").model.initial());
    // The outsider's second entry is one that the member does not have: longer is no other history.
    state.node_mut(1).disk.tables = Arc::clone(&other.nodes[1].disk.tables);
    assert!(!broken(&state).contains(&"I2 members' logs are prefixes"));
    // The other member's second entry is another one.
    let model = configuration("suspicion").model;
    other = model.after(&good(), &Action::Submit { front: 0, key: 0 });
    other = model.settle(other, |_| true);
    state.node_mut(0).disk.tables = Arc::clone(&other.nodes[0].disk.tables);
    let broken = broken(&state);
    assert!(broken.contains(&"I2 members' logs are prefixes"), "{broken:?}");
}

#[test]
fn c1_a_cached_answer_from_before_a_write() {
    let mut state = good();
    let run = state.front_mut(0).run.as_mut().expect("it is in office");
    run.cached = Some(Shown { version: Version::default(), register: None });
    assert_eq!(broken(&state), ["C1-C3 no cached answer is stale"]);
    let run = state.front_mut(0).run.as_mut().expect("it is in office");
    let version = Version { index: Index(1), ..Version::default() };
    run.cached = Some(Shown { version, register: Some(Register { key: 0, version }) });
    assert_eq!(broken(&state), Vec::<&str>::new());
}

#[test]
fn every_rule_that_is_broken_on_the_way_is_seen() {
    for rule in [
        Rule::OneHistory,
        Rule::OneWriter,
        Rule::Promise,
        Rule::Undo,
        Rule::Outcome,
        Rule::Read,
        Rule::Assertion,
        Rule::Halt,
    ] {
        let mut state = good();
        state.broke(rule, "by the test");
        assert_eq!(broken(&state).len(), 1, "{rule:?}");
    }
}

/// Liveness: a replica whose file was emptied under its living process never gets level again.
#[test]
fn a_store_that_never_heals_is_seen() {
    let mut state = good();
    state.node_mut(1).disk.tables = Arc::default();
    let mut model = configuration("suspicion").model;
    model.heal_one_in = 1;
    let heals = model.properties().into_iter().find(|property| property.name.starts_with("it heals"));
    let heals = heals.expect("there is such a property").condition;
    assert!(heals(&model, &good()));
    assert!(!heals(&model, &state));
}

#[test]
fn the_search_tells_the_shortest_way_to_what_is_broken() {
    fn damaged(model: &Model, state: State) -> State {
        let mut state = with_a_write(model, state);
        // A file that is put back to an older state while its process lives.
        state.node_mut(1).disk.tables = Arc::default();
        state.node_mut(1).disk.store = state.nodes[0].disk.store;
        state
    }
    let mut configuration = configuration("suspicion");
    configuration.model.prelude = damaged;
    configuration.model.heal_one_in = 0;
    let found = check(&configuration, 8, |_| {});
    let broken = found.broken.as_ref().expect("it is broken");
    assert_eq!(broken.steps, 0, "it is from the beginning, and that is the shortest way: {found}");
    assert!(!broken.trace.is_empty(), "{found}");
    assert!(found.to_string().contains(broken.property));
}

#[test]
fn what_can_not_be_reached_is_told() {
    let mut configuration = configuration("reads");
    configuration.model.reaches = vec![Event::Filled, Event::Surveyed];
    let found = check(&configuration, 6, |_| {});
    assert_eq!(found.missed, ["a survey finds the view"], "{found}");
}

#[test]
fn wrong_use_ends_with_2_and_a_good_check_with_0() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_bookends-model")).args(arguments).output();
        let output = output.expect("the program starts");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), text)
    };
    let (code, text) = run(&["--configuration", "nothing"]);
    assert!(code == Some(2) && text.contains("there is no configuration `nothing`"), "{text}");
    assert_eq!(run(&["--depth", "0"]).0, Some(2));
    let (code, text) = run(&["--configuration", "takeover", "--depth", "3"]);
    assert!(code == Some(0) && text.contains("all within 3 steps"), "{text}");
    let (code, text) = run(&["--list"]);
    assert!(code == Some(0) && all().iter().all(|known| text.contains(known.name)), "{text}");
}

/// docs/PROTOCOL.md says what is covered: its table has each configuration with its depth.
#[test]
fn the_documentation_has_the_bounds() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/PROTOCOL.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    for Configuration { name, steps, .. } in all() {
        let begin = format!("| {name} | ");
        let row = page.lines().find(|line| line.starts_with(&begin));
        let row = row.unwrap_or_else(|| panic!("no row for {name} in docs/PROTOCOL.md"));
        assert!(row.ends_with(&format!("| {steps} |")), "{name} goes {steps} steps deep: {row}");
    }
}
