//! Whether a process is the one that a pid file, or a process itself, means.
//!
//! Process ids are used again: a pid file that outlived its process may name somebody else's. So the
//! command line must name the node and the configuration before the process is touched.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::Pid;

/// The arguments of a living process, its program first; none for one that is gone or a zombie.
pub(crate) fn arguments(pid: Pid) -> Option<Vec<Vec<u8>>> {
    let raw = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
    split(&raw)
}

/// Whether these are the arguments of a node: started for this configuration, under this name.
pub(crate) fn is_node(arguments: &[Vec<u8>], config: &Path, name: &str) -> bool {
    has_option(arguments, "--config", config.as_os_str().as_encoded_bytes())
        && has_option(arguments, "--id", name.as_bytes())
}

/// Whether a process is a node of this configuration, also one that a person has started. What goes by its
/// environment names no configuration, and is believed.
pub(crate) fn is_node_of(pid: Pid, config: &Path, name: &str) -> bool {
    let Some(arguments) = arguments(pid) else { return false };
    if !has_option(&arguments, "--id", name.as_bytes()) {
        return false;
    }
    let Some(named) = option(&arguments, "--config") else { return true };
    let folder = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero())).unwrap_or_default();
    let named = folder.join(OsStr::from_bytes(named));
    fs::canonicalize(named).is_ok_and(|named| fs::canonicalize(config).is_ok_and(|config| named == config))
}

/// Whether these are the arguments of a supervisor.
pub(crate) fn is_supervisor(arguments: &[Vec<u8>]) -> bool {
    arguments.get(1).is_some_and(|verb| verb == b"watch")
}

fn split(raw: &[u8]) -> Option<Vec<Vec<u8>>> {
    let raw = raw.strip_suffix(b"\0")?;
    Some(raw.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
}

fn has_option(arguments: &[Vec<u8>], name: &str, value: &[u8]) -> bool {
    option(arguments, name) == Some(value)
}

fn option<'a>(arguments: &'a [Vec<u8>], name: &str) -> Option<&'a [u8]> {
    let place = arguments.iter().position(|argument| argument == name.as_bytes())?;
    arguments.get(place + 1).map(Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_node_is_known_by_name_and_configuration() {
        let config = Path::new("/s/config.toml");
        let cases: [(&[u8], bool); 9] = [
            (b"catalog\0--config\0/s/config.toml\0--id\0catalog-1\0", true),
            (b"/bin/sh\0/x/catalog\0--id\0catalog-1\0--config\0/s/config.toml\0", true),
            (b"catalog\0--config\0/s/config.toml\0--id\0catalog-10\0", false),
            (b"catalog\0--config\0/other/config.toml\0--id\0catalog-1\0", false),
            (b"catalog\0--config\0/s/config.toml\0", false),
            (b"vi\0/s/config.toml\0catalog-1\0", false),
            (b"catalog --config /s/config.toml --id catalog-1\0", false),
            (b"\0", false),
            (b"", false),
        ];
        for (raw, expected) in cases {
            let found = split(raw).is_some_and(|arguments| is_node(&arguments, config, "catalog-1"));
            assert_eq!(found, expected, "{}", String::from_utf8_lossy(raw));
        }
    }

    #[test]
    fn a_node_that_a_person_has_started_is_known_by_the_file_that_it_reads() {
        let dir = tempfile::tempdir().unwrap();
        let (config, other) = (dir.path().join("config.toml"), dir.path().join("other.toml"));
        fs::write(&config, "").unwrap();
        fs::write(&other, "").unwrap();
        for (arguments, expected) in [
            (&["--config", "config.toml", "--id", "a"][..], true),
            (&["--id", "a", "--config", "../{}/config.toml"], true),
            (&["--id", "a"], true),
            (&["--config", "other.toml", "--id", "a"], false),
            (&["--config", "missing.toml", "--id", "a"], false),
            (&["--config", "config.toml", "--id", "b"], false),
            (&[], false),
        ] {
            let folder = dir.path().file_name().unwrap().to_str().unwrap();
            let arguments = arguments.iter().map(|argument| argument.replace("{}", folder));
            // A shell keeps what follows its script as arguments of its own. It says when it is there.
            let mut shell = Command::new("sh");
            shell.args(["-c", "echo; read line", "sh"]).args(arguments).current_dir(dir.path());
            let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            let found = is_node_of(Pid::from_child(&child), &config, "a");
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(found, expected, "{shell:?}");
        }
        assert!(!is_node_of(rustix::process::getpid(), &config, "a"));
    }

    #[test]
    fn only_the_verb_makes_a_supervisor() {
        for (raw, expected) in [
            (&b"/x/sentinel\0watch\0--config\0c\0"[..], true),
            (b"watch\0-n\0ls\0", false),
            (b"watch\0", false),
        ] {
            assert_eq!(is_supervisor(&split(raw).unwrap()), expected);
        }
    }

    #[test]
    fn a_living_process_has_arguments_and_a_dead_one_has_none() {
        assert!(arguments(rustix::process::getpid()).is_some_and(|arguments| !arguments.is_empty()));
        let mut child = Command::new("true").spawn().unwrap();
        let pid = Pid::from_child(&child);
        child.wait().unwrap();
        assert_eq!(arguments(pid), None);
    }
}
