//! `test`: becomes the client's test threads, against the store that runs.

use std::convert::Infallible;
use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

use common::secret::ADMIN_TOKEN_VARIABLE;

use super::supervisor;
use crate::failure::Failure;
use crate::front_end::{self, Asker};
use crate::store::Store;

/// Becomes `bookends test`, whose exit code is then that of this process.
///
/// # Errors
/// If nothing runs, no front end answers, or the client can't be started.
pub(crate) async fn run(store: &Store, threads: u16) -> Result<(), Failure> {
    if supervisor(store).await?.is_none() {
        return Err(Failure::not_running());
    }
    let asker = Asker::new()?;
    let mut urls = Vec::new();
    for front_end in front_end::all(store) {
        // What is sold must not be another store's.
        if asker.status(&front_end).await.is_some() {
            urls.push(front_end.url);
        }
    }
    if urls.is_empty() {
        return Err(Failure::Failed("no front end answers".to_owned()));
    }
    match become_client(store, threads, &urls)? {}
}

fn become_client(store: &Store, threads: u16, urls: &[String]) -> Result<Infallible, Failure> {
    let program = store.programs.join("bookends");
    let mut command = Command::new(&program);
    command.arg("test").args(["--threads", &threads.to_string()]);
    for url in urls {
        command.args(["--url", url]);
    }
    // The file and not the token: arguments can be read by everybody. A token in the environment is inherited,
    // and goes before a file that an earlier start has left.
    let token = store.config.cluster.data_dir.join("admin.token");
    if env::var_os(ADMIN_TOKEN_VARIABLE).is_none() && token.is_file() {
        command.arg("--token-file").arg(token);
    }
    Err(Failure::io(format!("cannot start {}", program.display()))(command.exec()))
}
