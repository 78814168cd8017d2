//! Running a script on another machine by `ssh`, the program.
//!
//! The script goes to the other side's shell by its standard input, with its arguments and what it is to
//! write: nothing of it is on a command line, neither here nor there. Nobody is ever asked for anything: what
//! would need a password or an answer fails, in one line.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::config;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// What every script says first; what comes before it is somebody else's.
const BEGIN: &str = "bookends-begins";

/// By this code ssh says that it failed itself; scripts use others.
const EXIT_SSH: i32 = 255;
/// By this code a script says that trying again is of no use.
const EXIT_UNFIT: i32 = 4;

/// How often an idle connection is tried (three failures end it): soon enough for a person who waits, and
/// longer than a busy network is silent.
const ALIVE_SECONDS: u32 = 5;

/// How much is kept of what ssh complains about; the last line says why it ended.
const COMPLAINT_BYTES: u64 = 16 << 10;

/// Why a script did not do its work.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum SshError {
    /// There is no ssh here.
    #[error("ssh is missing here: apt-get install openssh-client")]
    Missing,
    /// The machine was not reached, or not in time, or did not let us in.
    #[error("cannot reach {host} by ssh: {why}")]
    Unreachable {
        /// Which machine.
        host: String,
        /// What ssh says.
        why: String,
    },
    /// It could not do what it was asked for.
    #[error("on {host}: {why}")]
    Failed {
        /// Which machine.
        host: String,
        /// What it says.
        why: String,
    },
    /// It can't do what it was asked for, however often that is tried.
    #[error("on {host}: {why}")]
    Unfit {
        /// Which machine.
        host: String,
        /// What it says.
        why: String,
    },
}

/// How a session takes part in a connection that several share.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Share<'a> {
    /// It opens the one that is found at this socket.
    Lead(&'a Path),
    /// It uses the one at this socket, or else one of its own.
    Join(&'a Path),
    /// It has one of its own.
    Nothing,
}

/// What a script is given to read.
#[derive(Debug)]
pub(crate) enum Input<'a> {
    /// Nothing.
    Nothing,
    /// Bytes that are at hand.
    Bytes(&'a [u8]),
    /// A file of this machine.
    File(&'a Path),
}

/// Another machine, as ssh has it.
#[derive(Clone, Debug)]
pub(crate) struct Ssh {
    host: String,
    settings: config::Ssh,
}

impl Ssh {
    /// Reaches this host in the way that the configuration says.
    pub(crate) fn new(host: String, settings: config::Ssh) -> Self {
        Self { host, settings }
    }

    /// Its name, as the configuration has it.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Runs a script to its end; gives what it printed.
    ///
    /// # Errors
    /// If the machine can't be reached, the script fails, or `limit` passes.
    pub(crate) async fn run(
        &self,
        share: Share<'_>,
        script: &str,
        input: Input<'_>,
        limit: Duration,
    ) -> Result<String, SshError> {
        let work = async {
            let mut session = self.open(share, script).await?;
            // A script that fails early reads no further; why is told by its end.
            drop(session.feed(input).await);
            let mut text = String::new();
            while let Some(line) = session.line().await? {
                text.push_str(&line);
                text.push('\n');
            }
            session.end().await.map(|()| text)
        };
        let late = || self.unreachable(format!("no answer within {} s", limit.as_secs()));
        timeout(limit, work).await.map_err(|_| late())?
    }

    /// Starts a script. Its input stays open.
    ///
    /// # Errors
    /// If there is no ssh.
    pub(crate) async fn open(&self, share: Share<'_>, script: &str) -> Result<Session, SshError> {
        let mut child = self.command(share, script.len()).spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SshError::Missing,
            _ => self.unreachable(format!("cannot start ssh: {error}")),
        })?;
        let (Some(input), Some(output), Some(complaints)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(self.unreachable("ssh has no pipes".to_owned()));
        };
        let lines = BufReader::new(output).lines();
        let mut session =
            Session { ssh: self.clone(), child, input: Some(input), lines, complaints, has_begun: false };
        // If ssh is gone already, its end says why.
        drop(session.feed_more(script.as_bytes()).await);
        Ok(session)
    }

    fn command(&self, share: Share<'_>, script_bytes: usize) -> Command {
        let config::Ssh { port, identity, config, connect, .. } = &self.settings;
        let mut command = Command::new("ssh");
        command.arg("-T");
        let connect_seconds = connect.as_millis().div_ceil(1000);
        for option in [
            "BatchMode=yes".to_owned(),
            format!("ConnectTimeout={connect_seconds}"),
            format!("ServerAliveInterval={ALIVE_SECONDS}"),
            "ClearAllForwardings=yes".to_owned(),
            "ForwardAgent=no".to_owned(),
            "ForwardX11=no".to_owned(),
            "LogLevel=ERROR".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        let (leads, socket) = match share {
            Share::Lead(socket) => ("yes", Some(socket)),
            Share::Join(socket) => ("no", Some(socket)),
            Share::Nothing => ("no", None),
        };
        command.args(["-o", &format!("ControlMaster={leads}"), "-o", "ControlPersist=no"]);
        command.arg("-S").arg(socket.unwrap_or(Path::new("none")));
        if let Some(config) = config {
            command.arg("-F").arg(config);
        }
        if let Some(identity) = identity {
            command.arg("-i").arg(identity).args(["-o", "IdentitiesOnly=yes"]);
        }
        if let Some(port) = port {
            command.args(["-p", &port.to_string()]);
        }
        // `dd` takes exactly the script from the input: a shell that read it itself could take more.
        let remote = format!("exec sh -c 'eval \"$(dd bs=1 count={script_bytes} 2>/dev/null)\"'");
        command.args(["--", &self.host, &remote]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: an interrupt from the terminal is not for it.
        command.process_group(0).kill_on_drop(true);
        command
    }

    fn unreachable(&self, why: String) -> SshError {
        SshError::Unreachable { host: self.host.clone(), why }
    }
}

/// A script that runs. Dropping it ends the ssh that it runs through.
#[derive(Debug)]
pub(crate) struct Session {
    ssh: Ssh,
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    complaints: ChildStderr,
    has_begun: bool,
}

impl Session {
    async fn feed_more(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.input {
            Some(input) => input.write_all(bytes).await,
            None => Ok(()),
        }
    }

    /// Gives it all of its input, and closes that.
    async fn feed(&mut self, input: Input<'_>) -> io::Result<()> {
        match input {
            Input::Nothing => {}
            Input::Bytes(bytes) => self.feed_more(bytes).await?,
            Input::File(path) => {
                let mut file = File::open(path).await?;
                if let Some(input) = &mut self.input {
                    tokio::io::copy(&mut file, input).await?;
                }
            }
        }
        self.input = None;
        Ok(())
    }

    /// It gets no more to read.
    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// The next line that it prints; none when it has ended. May be dropped and asked again.
    ///
    /// # Errors
    /// If what it prints is no text.
    pub(crate) async fn line(&mut self) -> Result<Option<String>, SshError> {
        loop {
            match self.lines.next_line().await {
                Ok(Some(line)) if self.has_begun => return Ok(Some(line)),
                Ok(Some(line)) => self.has_begun = line == BEGIN,
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.ssh.unreachable(format!("its answer can't be read: {error}"))),
            }
        }
    }

    /// How it ended, once it has no more lines.
    ///
    /// # Errors
    /// If it did not do its work.
    pub(crate) async fn end(mut self) -> Result<(), SshError> {
        self.input = None;
        let mut text = Vec::new();
        // What can't be read can't be told; the code says the rest.
        drop((&mut self.complaints).take(COMPLAINT_BYTES).read_to_end(&mut text).await);
        let status = self.child.wait().await;
        let text = String::from_utf8_lossy(&text);
        let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned);
        let host = self.ssh.host.clone();
        match status.ok().and_then(|status| status.code()) {
            Some(0) if self.has_begun => Ok(()),
            Some(EXIT_SSH) | None => {
                Err(self.ssh.unreachable(explain(last.as_deref().unwrap_or("the connection ended"))))
            }
            Some(EXIT_UNFIT) => Err(SshError::Unfit { host, why: last.unwrap_or_default() }),
            Some(code) => {
                let why = last.unwrap_or_else(|| format!("its shell ended with code {code}"));
                Err(SshError::Failed { host, why })
            }
        }
    }
}

/// What ssh says, with what can be done about it where that is known.
fn explain(complaint: &str) -> String {
    let plain = complaint.strip_prefix("ssh: ").unwrap_or(complaint);
    let hint = if plain.contains("Host key verification failed") {
        "; its host key is not known or another one: log in once by hand"
    } else if plain.contains("Permission denied") {
        "; see `ssh.identity` and authorized_keys there"
    } else {
        ""
    };
    format!("{plain}{hint}")
}

/// A text as one word of a shell.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A folder for sockets of shared connections that nobody else can enter, if one can be had whose name is
/// short enough for a socket.
pub(crate) fn socket_dir() -> Option<tempfile::TempDir> {
    /// A socket's name has at most 107 bytes, of which ssh needs some 20 while it makes one.
    const NAME_BYTES_MAX: usize = 64;
    let bases = [std::env::temp_dir(), PathBuf::from("/tmp")];
    let base = bases.into_iter().find(|base| base.as_os_str().len() <= NAME_BYTES_MAX)?;
    tempfile::Builder::new().prefix("bookends-").tempdir_in(base).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_is_one_word_of_a_shell() {
        for text in ["", "plain", "two words", "it's", "$HOME `id` \\ \" ''", "a\nb"] {
            let script = format!("printf %s {}", quote(text));
            let ran = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(ran.stdout).unwrap(), text);
        }
    }

    #[test]
    fn what_ssh_says_is_told_with_what_helps() {
        for (complaint, start, part) in [
            ("ssh: connect to host x port 22: Connection refused", "connect to host x", "refused"),
            ("Host key verification failed.", "Host key", "log in once by hand"),
            ("me@x: Permission denied (publickey).", "me@x", "authorized_keys"),
        ] {
            let told = explain(complaint);
            assert!(told.starts_with(start) && told.contains(part), "{told}");
        }
    }
}
