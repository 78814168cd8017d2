//! Quiet times: what a store does when nothing goes wrong any more.
//!
//! By it liveness is checked: from a state that was reached, with the faults over, the store must come back by
//! itself to where all replicas are members, level, and take a write.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use crate::action::Action;
use crate::budget::Budget;
use crate::disk::Key;
use crate::model::Model;
use crate::state::{Caller, Stands, State};

/// More steps than it ever takes to come to rest between two deadlines.
const STEPS_MAX: usize = 2_000;
/// How often members are asked for a book before anything else has to happen. One that has promised a newer view
/// refuses as often as it is asked; asked without end, it would keep all else from happening.
const ASKS_MAX: usize = 8;
/// More deadlines than it ever takes to heal.
const ROUNDS_MAX: usize = 40;

impl Model {
    /// Lets things take their course, as far as they are allowed to, until nothing is left to do but to
    /// wait for a deadline.
    #[must_use]
    pub fn settle(&self, mut state: State, allowed: impl Fn(&Action) -> bool) -> State {
        let before = std::mem::take(&mut state.left);
        let mut actions = Vec::new();
        let mut asked = 0;
        for _ in 0..STEPS_MAX {
            actions.clear();
            state.list_actions(&mut actions);
            let calm = || actions.iter().filter(|action| is_calm(action) && allowed(action));
            let asks_left = asked < ASKS_MAX;
            let next = calm().find(|action| !is_ask(action)).or_else(|| calm().find(|_| asks_left));
            let Some(next) = next else { break };
            asked += usize::from(is_ask(next));
            state = self.after(&state, next);
        }
        state.left = before;
        state
    }

    /// Whether a state heals, if it is one of those that are asked.
    pub(crate) fn heals(&self, state: &State) -> bool {
        if self.heal_one_in == 0 || state.ghost.broken.is_some() || is_beyond_help(state) {
            return true;
        }
        // By what holds no time, so that each run asks the same states.
        let mut hasher = DefaultHasher::new();
        (&state.stored, &state.callers, &state.left, &state.ghost).hash(&mut hasher);
        state.nodes.iter().for_each(|node| (&node.disk, node.process.is_some()).hash(&mut hasher));
        state.links.iter().for_each(|link| link.hash(&mut hasher));
        if !hasher.finish().is_multiple_of(self.heal_one_in) {
            return true;
        }
        self.healed(state.clone())
    }

    /// Whether all is well some time after the faults have ended, or only a person can help.
    fn healed(&self, mut state: State) -> bool {
        state.left = Budget::default();
        for front in 1..state.fronts.len() {
            if state.fronts[front].run.is_some() {
                state.crash_front(front, false, false);
            }
        }
        for link in &mut state.links {
            let link = std::sync::Arc::make_mut(link);
            link.late_to_node.clear();
            link.late_to_front.clear();
        }
        let of_first = |action: &Action| *action != Action::StartFront(1);
        let last_word = Key::try_from(state.callers.len() - 1).unwrap_or_default();
        let mut asked = false;
        for _ in 0..ROUNDS_MAX {
            state = self.settle(state, of_first);
            let stands = state.callers[usize::from(last_word)].stands;
            if state.ghost.broken.is_some() {
                return false;
            }
            if is_beyond_help(&state) || (asked && stands == Stands::Answered && is_well(&state)) {
                return true;
            }
            if is_leading(&state) && stands == Stands::Idle || (!asked && stands == Stands::Answered) {
                // A writer that is no longer in office finds out when it is asked to do something.
                asked = true;
                state.submit(0, last_word);
            } else {
                state = self.wait(state);
            }
        }
        false
    }

    /// All deadlines pass.
    fn wait(&self, mut state: State) -> State {
        state.left = Budget { writer_ticks: u8::MAX, node_ticks: u8::MAX, ..Budget::default() };
        let nodes = (0..state.nodes.len()).map(Action::NodeTick);
        for tick in std::iter::once(Action::WriterTick(0)).chain(nodes) {
            let mut actions = Vec::new();
            state.list_actions(&mut actions);
            if actions.contains(&tick) {
                state = self.after(&state, &tick);
            }
        }
        state.left = Budget::default();
        state
    }
}

fn is_leading(state: &State) -> bool {
    state.fronts[0].run.as_ref().is_some_and(|run| run.writer.is_leading())
}

/// All replicas are members and level, and nobody waits.
fn is_well(state: &State) -> bool {
    let last = state.nodes[0].disk.tables.last();
    let is_level = |node: usize| state.is_member(node) && state.nodes[node].disk.tables.last() == last;
    let waits = |caller: &Caller| matches!(caller.stands, Stands::UnderWay { .. });
    is_leading(state) && (0..state.nodes.len()).all(is_level) && !state.callers.iter().any(waits)
}

fn is_ask(action: &Action) -> bool {
    matches!(action, Action::Ask { .. })
}

/// What happens by itself when nothing goes wrong.
fn is_calm(action: &Action) -> bool {
    match action {
        Action::ToNode(_)
        | Action::ToFront(_)
        | Action::Connect(_)
        | Action::Swapped(_)
        | Action::DropKeys(_)
        | Action::Invalidated(_)
        | Action::StartFront(_)
        | Action::Start(_)
        | Action::Serve(_)
        | Action::ServeFails(_)
        | Action::Fetched(_)
        | Action::Ask { .. }
        | Action::Read { .. }
        | Action::Release { .. } => true,
        Action::LateToNode(_)
        | Action::LateToFront(_)
        | Action::RepeatToNode(_)
        | Action::RepeatToFront(_)
        | Action::ToFailingDisk(_)
        | Action::Break(_)
        | Action::Refused(_)
        | Action::Silent(_)
        | Action::SwapUnknown { .. }
        | Action::WriterTick(_)
        | Action::NodeTick(_)
        | Action::Submit { .. }
        | Action::CrashFront { .. }
        | Action::Crash(_)
        | Action::Replace(_)
        | Action::FetchedAndCrash(_)
        | Action::Miss(_) => false,
    }
}

/// No file that the view names exists any more: only a person can say what is to be done then. It takes the
/// loss of a disk while the view that names it alone is on its way into the view store.
fn is_beyond_help(state: &State) -> bool {
    state.ghost.view.is_some() && !(0..state.nodes.len()).any(|node| state.is_member(node))
}
