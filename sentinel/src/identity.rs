//! Whether a process is the one that a pid file means.
//!
//! Process ids are used again: a pid file that outlived its process may name somebody else's. So the
//! command line must name the node and the configuration before the process is touched.

use std::fs;
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

/// Whether these are the arguments of a supervisor.
pub(crate) fn is_supervisor(arguments: &[Vec<u8>]) -> bool {
    arguments.get(1).is_some_and(|verb| verb == b"watch")
}

fn split(raw: &[u8]) -> Option<Vec<Vec<u8>>> {
    let raw = raw.strip_suffix(b"\0")?;
    Some(raw.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
}

fn has_option(arguments: &[Vec<u8>], option: &str, value: &[u8]) -> bool {
    arguments.windows(2).any(|pair| matches!(pair, [a, b] if a == option.as_bytes() && b == value))
}

#[cfg(test)]
mod tests {
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
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::from_child(&child);
        child.wait().unwrap();
        assert_eq!(arguments(pid), None);
    }
}
