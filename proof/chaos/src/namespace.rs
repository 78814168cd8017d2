//! The right to mount, for who is not root: a namespace of users and mounts, in which this program is root of what it
//! mounts itself and of nothing else.
//!
//! A process with threads can't enter one. So the program is run again, by `unshare`, in place of itself.

use std::env;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::store::disk::Disk;

/// Set for who has been run again, so that nobody is run again and again.
const MARK: &str = "BOOKENDS_CHAOS_NAMESPACE";

/// Runs this program again where it may mount, if it may not here and the system lets it. Returns if there is nothing
/// to gain; what can't be mounted then is told by the round.
pub fn enter_if_it_helps() {
    if env::var_os(MARK).is_some() || may_mount() {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let is_given = unshare("true".as_ref()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if is_given.is_ok_and(|status| status.success()) {
        // It comes back only if it fails, and then there is nothing to gain.
        drop(unshare(program.as_os_str()).args(env::args_os().skip(1)).env(MARK, "1").exec());
    }
}

fn may_mount() -> bool {
    tempfile::tempdir().is_ok_and(|folder| Disk::mount(folder.path()).is_ok())
}

fn unshare(program: &OsStr) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]).arg("--").arg(program);
    command
}
