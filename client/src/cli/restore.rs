//! `bookends restore`: calls `catalog restore`, the program that knows the files of a shard.

use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::process::Command;

use super::CliError;
use super::args::Globals;
use super::progress::style;

/// How often the bar moves: nothing else tells that work goes on.
const REDRAW: Duration = Duration::from_millis(250);

pub(crate) async fn restore(globals: &Globals, backup: &Path) -> Result<(), CliError> {
    let program = std::env::current_exe().map_err(CliError::Output)?.with_file_name("catalog");
    let failed = |problem| CliError::file("can't run", &program, problem);
    let mut command = Command::new(&program);
    command.arg("restore").arg(backup);
    if let Some(config) = &globals.config {
        command.arg("--config").arg(config);
    }
    let bar = ProgressBar::new_spinner().with_style(style("{spinner} checking and copying, {elapsed}"));
    bar.enable_steady_tick(REDRAW);
    let status = command.kill_on_drop(true).status().await;
    bar.finish_and_clear();
    let status = status.map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Err(CliError::Called(code))
}
