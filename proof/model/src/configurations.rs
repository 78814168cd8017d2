//! The configurations: several small worlds, each with what may go wrong in it and how deep it is looked at.

use crate::budget::Budget;
use crate::model::Model;
use crate::preludes::{
    in_office, with_a_displaced_reader, with_a_late_answer, with_a_new_disk, with_a_replaced_member,
    with_a_rival, with_a_write, with_an_answer_of_another_term, with_an_outsider, with_half_a_write,
    with_late_messages,
};
use crate::state::{Event, State};

/// A world with its bounds.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// How many steps deep all states are looked at, unless told otherwise.
    pub steps: usize,
    /// Whether these are all states that there are, with nothing beyond that depth.
    pub whole: bool,
    /// The model.
    pub model: Model,
}

/// A cold start: nothing has happened yet.
fn cold(_: &Model, state: State) -> State {
    state
}

const NOTHING: Budget = Budget {
    submits: 0,
    reads: 0,
    node_crashes: 0,
    disks_replaced: 0,
    disk_failures: 0,
    front_crashes: 0,
    store_losses: 0,
    swaps_unknown: 0,
    breaks: 0,
    lingers: false,
    repeats: 0,
    suspicions: 0,
    writer_ticks: 0,
    node_ticks: 0,
};

const QUIET: Model = Model {
    replicas: 2,
    fronts: 1,
    keys: 2,
    retention: 8,
    prelude: cold,
    budget: NOTHING,
    heal_one_in: 0,
    reaches: Vec::new(),
};

/// All of them.
#[must_use]
pub fn all() -> Vec<Configuration> {
    vec![
        writing(),
        reads(),
        eviction(),
        suspicion(),
        comeback(),
        takeover(),
        restart(),
        disk(),
        snapshot(),
        view_store(),
        three(),
        replaced(),
        levelling(),
        late_answer(),
        another_term(),
        left_out(),
        displaced(),
    ]
}

fn writing() -> Configuration {
    Configuration {
        name: "writing",
        about: "from empty disks: a survey, a write that is asked for twice, messages that come twice or late",
        steps: 100,
        whole: true,
        model: Model {
            keys: 1,
            budget: Budget { submits: 2, breaks: 1, lingers: true, repeats: 1, ..NOTHING },
            heal_one_in: 1009,
            reaches: vec![Event::Acknowledged, Event::LateMessage, Event::KeyRepeated],
            ..QUIET
        },
    }
}

fn reads() -> Configuration {
    Configuration {
        name: "reads",
        about: "reads, fills and invalidations while writes are acknowledged and a member is dropped",
        steps: 14,
        whole: false,
        model: Model {
            prelude: with_a_write,
            budget: Budget { submits: 1, reads: 3, suspicions: 1, ..NOTHING },
            reaches: vec![
                Event::Acknowledged,
                Event::Filled,
                Event::VoidFill,
                Event::FlightShared,
                Event::ReadHeldBack,
                Event::ReadRefused,
                Event::Evicted,
            ],
            ..QUIET
        },
    }
}

fn eviction() -> Configuration {
    Configuration {
        name: "eviction",
        about: "a member dies while a write is on its way, and comes back",
        steps: 100,
        whole: true,
        model: Model {
            prelude: in_office,
            budget: Budget { submits: 1, node_crashes: 1, writer_ticks: 1, ..NOTHING },
            heal_one_in: 1009,
            reaches: vec![Event::Acknowledged, Event::Evicted],
            ..QUIET
        },
    }
}

fn suspicion() -> Configuration {
    Configuration {
        name: "suspicion",
        about: "a living member is dropped while two writes are on their way, and its connection breaks",
        steps: 12,
        whole: false,
        model: Model {
            prelude: with_a_write,
            budget: Budget { submits: 2, suspicions: 1, breaks: 1, lingers: true, ..NOTHING },
            heal_one_in: 1009,
            reaches: vec![Event::Acknowledged, Event::Evicted, Event::StaleEpochRefused],
            ..QUIET
        },
    }
}

fn comeback() -> Configuration {
    Configuration {
        name: "comeback",
        about: "a replica comes back with an entry that nobody has: undo, pull, join",
        steps: 17,
        whole: false,
        model: Model {
            keys: 3,
            prelude: with_an_outsider,
            budget: Budget { submits: 1, node_crashes: 1, breaks: 1, lingers: true, ..NOTHING },
            heal_one_in: 1009,
            reaches: vec![Event::Undone, Event::Joined, Event::JoinedAfterUndo],
            ..QUIET
        },
    }
}

fn takeover() -> Configuration {
    Configuration {
        name: "takeover",
        about: "two front ends take each other's place over one view store",
        steps: 13,
        whole: false,
        model: Model {
            fronts: 2,
            prelude: with_a_rival,
            budget: Budget { submits: 2, writer_ticks: 2, ..NOTHING },
            heal_one_in: 1009,
            reaches: vec![
                Event::Acknowledged,
                Event::TookOver,
                Event::SteppedDown,
                Event::StaleEpochRefused,
                Event::Unknown,
            ],
            ..QUIET
        },
    }
}

fn restart() -> Configuration {
    Configuration {
        name: "restart",
        about: "the front end dies with a write on its way, and a member may be gone when it is back",
        steps: 15,
        whole: false,
        model: Model {
            prelude: with_half_a_write,
            budget: Budget {
                submits: 1,
                front_crashes: 1,
                node_crashes: 1,
                writer_ticks: 1,
                lingers: true,
                ..NOTHING
            },
            heal_one_in: 1009,
            reaches: vec![Event::TookOver, Event::Levelled, Event::KeyRepeated],
            ..QUIET
        },
    }
}

fn disk() -> Configuration {
    Configuration {
        name: "disk",
        about: "a member's disk is replaced, or can't carry out a step",
        steps: 16,
        whole: false,
        model: Model {
            prelude: with_a_write,
            budget: Budget { submits: 1, disks_replaced: 1, disk_failures: 1, writer_ticks: 1, ..NOTHING },
            heal_one_in: 1009,
            reaches: vec![Event::Evicted, Event::Acknowledged],
            ..QUIET
        },
    }
}

fn snapshot() -> Configuration {
    Configuration {
        name: "snapshot",
        about: "a replaced disk is filled from a member whose log no longer reaches back",
        steps: 19,
        whole: false,
        model: Model {
            retention: 0,
            prelude: with_a_new_disk,
            budget: Budget { submits: 1, node_crashes: 1, breaks: 1, ..NOTHING },
            heal_one_in: 1009,
            reaches: vec![Event::SnapshotInstalled, Event::Joined],
            ..QUIET
        },
    }
}

fn view_store() -> Configuration {
    Configuration {
        name: "view-store",
        about: "the view store is lost with the front end, and swaps end as unknown",
        steps: 14,
        whole: false,
        model: Model {
            prelude: with_a_write,
            budget: Budget {
                submits: 1,
                front_crashes: 1,
                store_losses: 1,
                swaps_unknown: 1,
                suspicions: 1,
                lingers: true,
                ..NOTHING
            },
            heal_one_in: 1009,
            reaches: vec![Event::Surveyed, Event::TookOver],
            ..QUIET
        },
    }
}

fn three() -> Configuration {
    Configuration {
        name: "three",
        about: "three replicas: a member dies during a write, the front end too",
        steps: 13,
        whole: false,
        model: Model {
            replicas: 3,
            prelude: with_half_a_write,
            budget: Budget { submits: 1, node_crashes: 1, writer_ticks: 2, ..NOTHING },
            heal_one_in: 1009,
            reaches: vec![Event::Evicted, Event::Levelled, Event::TookOver],
            ..QUIET
        },
    }
}

fn replaced() -> Configuration {
    Configuration {
        name: "replaced",
        about: "a new writer finds another file under a member's name, and the other member may be silent",
        steps: 15,
        whole: false,
        model: Model {
            prelude: with_a_replaced_member,
            budget: Budget { submits: 1, reads: 1, writer_ticks: 2, ..NOTHING },
            reaches: vec![Event::Evicted, Event::TookOver, Event::Filled],
            ..QUIET
        },
    }
}

fn levelling() -> Configuration {
    Configuration {
        name: "levelling",
        about: "reads while a new writer levels the logs, of members that are behind too",
        steps: 40,
        whole: true,
        model: Model {
            prelude: with_half_a_write,
            budget: Budget { submits: 1, reads: 1, repeats: 1, ..NOTHING },
            heal_one_in: 1009,
            reaches: vec![Event::Levelled, Event::VoidFill, Event::Filled, Event::KeyRepeated],
            ..QUIET
        },
    }
}

fn late_answer() -> Configuration {
    Configuration {
        name: "late-answer",
        about: "an answer of an earlier epoch comes when its replica has undone the entry and is to join",
        steps: 15,
        whole: false,
        model: Model {
            prelude: with_a_late_answer,
            budget: Budget { submits: 1, breaks: 1, ..NOTHING },
            heal_one_in: 1009,
            reaches: vec![Event::LateMessage, Event::Undone, Event::JoinedAfterUndo],
            ..QUIET
        },
    }
}

fn another_term() -> Configuration {
    Configuration {
        name: "another-term",
        about: "an answer to a front end's first term comes in its second, where another entry has that index",
        steps: 13,
        whole: false,
        model: Model {
            fronts: 2,
            keys: 3,
            prelude: with_an_answer_of_another_term,
            budget: Budget { submits: 1, ..NOTHING },
            heal_one_in: 1009,
            reaches: vec![Event::LateMessage, Event::Undone, Event::JoinedAfterUndo],
            ..QUIET
        },
    }
}

fn left_out() -> Configuration {
    Configuration {
        name: "left-out",
        about: "messages of earlier epochs reach a replica that was left out and joins again",
        steps: 40,
        whole: true,
        model: Model {
            keys: 3,
            prelude: with_late_messages,
            budget: Budget { submits: 1, repeats: 1, ..NOTHING },
            heal_one_in: 1009,
            reaches: vec![Event::LateMessage, Event::StaleEpochRefused, Event::Joined],
            ..QUIET
        },
    }
}

fn displaced() -> Configuration {
    Configuration {
        name: "displaced",
        about: "a front end that was displaced reads from replicas that have promised a newer view",
        steps: 11,
        whole: false,
        model: Model {
            fronts: 2,
            prelude: with_a_displaced_reader,
            budget: Budget { submits: 1, reads: 2, repeats: 1, ..NOTHING },
            heal_one_in: 1009,
            reaches: vec![Event::ReadRefused, Event::Joined, Event::SteppedDown],
            ..QUIET
        },
    }
}
