//! Each configuration at its own depth: nothing is broken, what should be reached is, and no state within the bounds
//! was left out.

#![expect(clippy::print_stdout, reason = "the bounds and the numbers of states belong to the answer")]

use model::check::check;
use model::configurations::all;

/// A search is little but small pieces of memory, on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn holds(name: &str) {
    let configuration = all().into_iter().find(|configuration| configuration.name == name);
    let configuration = configuration.expect("a configuration of this name");
    println!("{}: {}", configuration.name, configuration.about);
    println!("  at most: {}", configuration.model.budget.describe());
    let found = check(&configuration, configuration.steps, |_| {});
    println!("{found}");
    assert!(found.is_good(), "{found}");
    // Nothing but the depth ends a search in which nothing is broken: there is no limit of states or of time. So either
    // all there is was seen, or all within the depth, and which of the two is known.
    assert_eq!(
        found.complete, configuration.whole,
        "whether there is nothing beyond {} steps",
        configuration.steps
    );
}

/// One test for each, so that they run beside one another.
macro_rules! configurations {
    ($($test:ident $name:literal),* $(,)?) => {
        $(#[test] fn $test() { holds($name); })*

        #[test]
        fn no_configuration_is_left_out() {
            let tested = [$($name),*];
            let known: Vec<&str> = all().iter().map(|configuration| configuration.name).collect();
            assert_eq!(known, tested);
        }
    };
}

configurations!(
    writing "writing",
    reads "reads",
    eviction "eviction",
    suspicion "suspicion",
    comeback "comeback",
    takeover "takeover",
    restart "restart",
    disk "disk",
    snapshot "snapshot",
    view_store "view-store",
    three "three",
    replaced "replaced",
    levelling "levelling",
    late_answer "late-answer",
    another_term "another-term",
    left_out "left-out",
    displaced "displaced",
);
