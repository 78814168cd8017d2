//! Where explorations begin: what has happened before the first step.
//!
//! What takes several faults one after another can't be reached from an empty store within a few steps. So it is
//! begun near the last of them, by one way there.

use crate::action::{Action, Way};
use crate::budget::Budget;
use crate::model::Model;
use crate::state::State;

/// Front end 0 is in office, for the first time.
#[must_use]
pub(crate) fn in_office(model: &Model, mut state: State) -> State {
    state = model.after(&state, &Action::StartFront(0));
    model.settle(state, |action| *action != Action::StartFront(1))
}

/// The same, with one write acknowledged.
#[must_use]
pub(crate) fn with_a_write(model: &Model, state: State) -> State {
    let mut state = in_office(model, state);
    state.submit(0, 0);
    model.settle(state, |action| *action != Action::StartFront(1))
}

/// The last node has an entry that nobody else has, and the others go on in a later term without it; it is
/// down.
#[must_use]
pub(crate) fn with_an_outsider(model: &Model, state: State) -> State {
    let mut state = with_a_write(model, state);
    let last = state.nodes.len() - 1;
    state.submit(0, 1);
    state = model.after(&state, &Action::ToNode(Way { front: 0, node: last }));
    state.crash_front(0, false, false);
    state.crash_node(last);
    state = model.after(&state, &Action::StartFront(0));
    let without_it = |action: &Action| *action != Action::StartFront(1) && *action != Action::Start(last);
    for _ in 0..2 {
        state = model.settle(state, without_it);
        state.tick_writer(0);
    }
    model.settle(state, without_it)
}

/// The last node alone has an entry of a write whose end is unknown. The front end died, and has come back:
/// its swap is on its way.
#[must_use]
pub(crate) fn with_half_a_write(model: &Model, state: State) -> State {
    let mut state = with_a_write(model, state);
    let last = state.nodes.len() - 1;
    state.submit(0, 1);
    state = model.after(&state, &Action::ToNode(Way { front: 0, node: last }));
    state.crash_front(0, false, false);
    model.settle(state, |action| *action != Action::Swapped(0))
}

/// Front end 1 has read the view store, and its swap is on its way, while front end 0 is in office.
#[must_use]
pub(crate) fn with_a_rival(model: &Model, state: State) -> State {
    let mut state = with_a_write(model, state);
    state = model.after(&state, &Action::StartFront(1));
    model.settle(state, |action| *action != Action::Swapped(1))
}

/// The last node's disk was replaced, and it was dropped; it has not been heard of since.
#[must_use]
pub(crate) fn with_a_new_disk(model: &Model, state: State) -> State {
    let mut state = with_a_write(model, state);
    let last = state.nodes.len() - 1;
    state.replace_disk(last);
    let refused = Action::Refused(Way { front: 0, node: last });
    state = model.after(&state, &refused);
    model.settle(state, |action| *action != Action::Start(last))
}

/// What is on its way over a connection that breaks comes late from here on, or is lost.
fn lingering(state: &mut State, lingers: bool) {
    state.left = Budget { lingers, ..Budget::default() };
}

/// Does one step after another.
fn walk(model: &Model, state: State, steps: &[Action]) -> State {
    steps.iter().fold(state, |state, step| {
        let mut actions = Vec::new();
        state.list_actions(&mut actions);
        assert!(actions.contains(step), "`{step}` can't happen here; there are {actions:?}");
        model.after(&state, step)
    })
}

/// A connection is made, and the front end hears how the node stands.
fn meet(model: &Model, state: State, way: Way) -> State {
    walk(model, state, &[Action::Connect(way), Action::ToNode(way), Action::ToFront(way)])
}

/// A write is acknowledged, the front end has died before any replica heard that it is committed, and the last
/// node's disk was replaced. The front end has come back: its swap is on its way.
#[must_use]
pub(crate) fn with_a_replaced_member(model: &Model, state: State) -> State {
    let mut state = committed_unheard(model, state);
    let last = state.nodes.len() - 1;
    state.crash_front(0, false, false);
    state.replace_disk(last);
    model.settle(state, |action| ![Action::Swapped(0), Action::Start(last)].contains(action))
}

/// One write is acknowledged, and what tells the replicas so is on its way.
fn committed_unheard(model: &Model, state: State) -> State {
    let mut state = in_office(model, state);
    state.submit(0, 0);
    while state.ghost.committed.is_empty() {
        let mut actions = Vec::new();
        state.list_actions(&mut actions);
        state = walk(model, state, &actions[..1]);
    }
    state
}

/// Front end 0 has dropped the last node without hearing its answer to the batch on its way, which comes late. The
/// batch is on its way again, and so is word to the last node that it was left out.
#[must_use]
pub(crate) fn with_a_late_answer(model: &Model, state: State) -> State {
    let mut state = with_a_write(model, state);
    let last = state.nodes.len() - 1;
    let [first, last] = [0, last].map(|node| Way { front: 0, node });
    state.submit(0, 1);
    state = walk(model, state, &[Action::ToNode(last)]);
    lingering(&mut state, true);
    state.break_link(last);
    lingering(&mut state, false);
    state.break_link(first);
    suspect(&mut state, last);
    state = meet(model, state, first);
    // What it was sent on that is lost with another connection.
    state.break_link(first);
    state = meet(model, state, first);
    state = walk(model, state, &[Action::Swapped(0), Action::ToNode(first), Action::ToFront(first)]);
    meet(model, state, last)
}

/// Front end 0 has lost its office and taken it again, and the entry that the last node alone got in its first term
/// is gone. The answer to that one comes late; word that it was left out is on its way to the last node.
#[must_use]
pub(crate) fn with_an_answer_of_another_term(model: &Model, state: State) -> State {
    let mut state = with_a_write(model, state);
    let node = state.nodes.len() - 1;
    let [first, last, of_rival] = [(0, 0), (0, node), (1, node)].map(|(front, node)| Way { front, node });
    state.submit(0, 1);
    state = walk(model, state, &[Action::ToNode(last)]);
    lingering(&mut state, true);
    state.break_link(last);
    lingering(&mut state, false);
    state.break_link(first);
    let without_it = |action: &Action| ![last, of_rival].map(Action::Connect).contains(action);
    let of_rival = |action: &Action| *action != Action::Connect(first) && without_it(action);
    state = model.after(&state, &Action::StartFront(1));
    for _ in 0..2 {
        state = model.settle(state, of_rival);
        state.tick_writer(1);
    }
    state = model.settle(state, without_it);
    state.tick_writer(0);
    meet(model, model.settle(state, without_it), last)
}

/// The last node was left out by a later term, and of the first term's messages to it two have not come yet: an
/// append without entries, and one with an entry that nobody has. Word that it was left out was sent twice, the
/// first time over a connection that broke.
#[must_use]
pub(crate) fn with_late_messages(model: &Model, state: State) -> State {
    let mut state = committed_unheard(model, state);
    let last = Way { front: 0, node: state.nodes.len() - 1 };
    state.submit(0, 1);
    lingering(&mut state, true);
    state.break_link(last);
    lingering(&mut state, false);
    state.crash_front(0, false, false);
    let without_it = |action: &Action| *action != Action::Connect(last);
    for _ in 0..2 {
        state = model.settle(state, without_it);
        state.tick_writer(0);
    }
    state = meet(model, model.settle(state, without_it), last);
    lingering(&mut state, true);
    state.break_link(last);
    lingering(&mut state, false);
    meet(model, state, last)
}

/// Front end 1 has taken the place of front end 0, which does not know it, and has dropped the last node. That one
/// has promised the view that leaves it out, and lacks what was acknowledged since.
#[must_use]
pub(crate) fn with_a_displaced_reader(model: &Model, state: State) -> State {
    let mut state = with_a_rival(model, state);
    let last = Way { front: 1, node: state.nodes.len() - 1 };
    state = model.settle(state, |_| true);
    state.break_link(last);
    suspect(&mut state, last);
    let without_it = |action: &Action| *action != Action::Connect(last);
    state = model.settle(state, without_it);
    state.submit(1, 1);
    state = meet(model, model.settle(state, without_it), last);
    walk(model, state, &[Action::ToNode(last)])
}

/// A front end takes a member for silent.
fn suspect(state: &mut State, way: Way) {
    let node = state.nodes[way.node].id.clone();
    state.with_writer(way.front, |writer, now| writer.handle_silent(now, &node));
}
