//! A short round: some dozen faults on real processes. The programs are those beside this test: `cargo build
//! --workspace --bins` makes them. What it leaves when something is wrong is in the folder that it names.

use std::path::Path;
use std::time::Duration;

use chaos::{Plan, Said, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept() {
    let programs = Path::new(env!("CARGO_BIN_EXE_bookends-chaos")).parent().map(Path::to_owned);
    let plan = Plan {
        time: Duration::from_secs(35),
        seed: 4,
        rate: 150,
        callers: 32,
        programs: programs.expect("a program is in a folder"),
        folder: env!("CARGO_TARGET_TMPDIR").into(),
        silent_damage: false,
        keep: false,
    };
    let told = |said: Said<'_>| {
        if let Said::Line(line) = said {
            println!("{line}");
        }
    };
    let report = run(&plan, &told).await.expect("the round can be held");
    println!("{report}");
    assert!(report.is_good(), "{report}");
    assert!(report.calls[1] > 1000 && !report.faults.is_empty(), "too little happened: {report}");
}
