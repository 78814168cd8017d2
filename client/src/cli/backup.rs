//! `bookends backup`: the whole store into a folder, with a progress bar for each shard.

use std::time::Duration;

use bookends::Client;
use bookends::backup::{BackupError, Step, backup as copy};
use indicatif::ProgressBar;

use super::CliError;
use super::args::BackupArgs;
use super::progress::style;
use super::screen::Screen;

/// How often the bar moves while a copy is being made.
const REDRAW: Duration = Duration::from_millis(250);

pub(crate) async fn backup(client: &Client, screen: Screen, args: &BackupArgs) -> Result<(), CliError> {
    let bar = ProgressBar::new(0).with_style(style("{spinner} {msg} {wide_bar} {bytes} of {total_bytes}"));
    bar.enable_steady_tick(REDRAW);
    bar.set_message("a copy is made and checked");
    let tell = |step: Step<'_>| match step {
        Step::Begun(info) => {
            bar.set_length(info.bytes);
            bar.set_message(format!("shard {} of {}", info.shard, info.shards));
        }
        Step::Bytes(bytes) => bar.set_position(bytes),
        Step::Again(problem) => bar.set_message(format!("again: {problem}")),
    };
    let patience = Duration::from_secs(args.patience.get().into());
    let made = copy(client, &args.folder, patience, tell).await;
    bar.finish_and_clear();
    let manifest = made.map_err(|problem| match problem {
        BackupError::Exists { path } => CliError::Usage(format!("{} exists already", path.display())),
        BackupError::File { path, source } => CliError::file("can't write", &path, source),
        BackupError::Call { shard: _, source } => CliError::Call(*source),
        damaged @ BackupError::Damaged { .. } => CliError::Outcome(damaged.to_string()),
    })?;
    screen.show(&manifest, |manifest| {
        let mut text = String::new();
        for shard in &manifest.shards {
            let info = &shard.snapshot;
            text += &format!(
                "shard {}: up to entry {}, digest {}, {} bytes from {}\n",
                info.shard, info.last_index, info.digest, info.bytes, info.node
            );
        }
        text + &format!("backup in {}\n", args.folder.display())
    })
}
