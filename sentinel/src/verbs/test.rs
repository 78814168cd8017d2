//! `test`: becomes the client's test threads, against the store that runs.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::supervisor;
use crate::failure::Failure;
use crate::front_end;
use crate::store::Store;

/// Becomes `bookends test`, whose exit code is then that of this process.
///
/// # Errors
/// If nothing runs, or the client can't be started.
pub(crate) async fn run(store: &Store, threads: u16) -> Result<(), Failure> {
    if supervisor(store).await?.is_none() {
        return Err(Failure::not_running());
    }
    match become_client(store, threads)? {}
}

fn become_client(store: &Store, threads: u16) -> Result<Infallible, Failure> {
    let program = store.programs.join("bookends");
    let mut command = Command::new(&program);
    command.arg("test").args(["--threads", &threads.to_string()]);
    for front_end in front_end::all(store) {
        command.args(["--url", &front_end.url]);
    }
    // The file and not the token: arguments can be read by everybody. A token in the environment is
    // inherited, and there is no file then.
    let token = store.config.cluster.data_dir.join("admin.token");
    if token.is_file() {
        command.arg("--token-file").arg(token);
    }
    Err(Failure::io(format!("cannot start {}", program.display()))(command.exec()))
}
