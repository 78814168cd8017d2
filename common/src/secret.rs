//! What only some may know: the cluster secret, which internal callers show, and the admin token.
//!
//! Each comes from its environment variable, else from its file in the data directory, which the first
//! process to need it makes. Several processes may start at once on an empty directory: each writes a file
//! of its own and tries to give it the name, one of them succeeds, and all read what then has the name.
//!
//! A secret is never printed: not by `Debug`, not in an error, not in the list of processes.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;
use uuid::Uuid;

/// The shortest secret that is taken: shorter ones can be guessed.
const LENGTH_MIN: usize = 16;
/// The longest secret that is taken: it has to fit into a header of a request with room to spare.
const LENGTH_MAX: usize = 512;

/// The environment variable of the admin token, which goes before its file.
pub const ADMIN_TOKEN_VARIABLE: &str = "BOOKENDS_ADMIN_TOKEN";

/// What only some may know.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Whether the bytes are this secret, found out in a time that does not tell how much of them fits.
    #[must_use]
    pub fn matches(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }

    /// The secret itself, to be shown to whoever asks for it and to nobody else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Checks that a text can serve: long enough, and fit for a header.
    fn new(text: &str) -> Option<Self> {
        let fits =
            (LENGTH_MIN..=LENGTH_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }

    /// Two random UUIDs: 244 bits of the operating system's randomness.
    fn random() -> Self {
        Self(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Why a secret can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The environment variable holds what can't be a secret.
    #[error("{0} must hold {LENGTH_MIN} to {LENGTH_MAX} visible ASCII characters; unset it to use the file")]
    Variable(&'static str),
    /// The file holds what can't be a secret.
    #[error(
        "{} must hold {LENGTH_MIN} to {LENGTH_MAX} visible ASCII characters; without it, it is made anew",
        .0.display()
    )]
    Content(PathBuf),
    /// Others than its owner may read or write the file.
    #[error("{0} is open to others than its owner (mode {mode:04o}); `chmod 600 {0}` closes it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The operating system refused something.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

/// What internal callers show one another: `BOOKENDS_CLUSTER_SECRET`, else `cluster.secret`.
///
/// # Errors
/// If the one that is there can't serve, or none can be made.
pub fn cluster_secret(data_dir: &Path) -> Result<Secret, SecretError> {
    find("BOOKENDS_CLUSTER_SECRET", |name| env::var_os(name), data_dir, "cluster.secret")
}

/// What an administrator shows: `BOOKENDS_ADMIN_TOKEN`, else `admin.token`.
///
/// # Errors
/// If the one that is there can't serve, or none can be made.
pub fn admin_token(data_dir: &Path) -> Result<Secret, SecretError> {
    find(ADMIN_TOKEN_VARIABLE, |name| env::var_os(name), data_dir, "admin.token")
}

fn find(
    variable: &'static str,
    environment: impl Fn(&str) -> Option<OsString>,
    data_dir: &Path,
    file: &str,
) -> Result<Secret, SecretError> {
    if let Some(value) = environment(variable) {
        return value.to_str().and_then(Secret::new).ok_or(SecretError::Variable(variable));
    }
    let path = data_dir.join(file);
    if let Some(secret) = read(&path)? {
        return Ok(secret);
    }
    make(data_dir, &path)?;
    read(&path)?.ok_or_else(|| io_error("read", &path)(io::ErrorKind::NotFound.into()))
}

/// The secret in a file, or nothing if there is no such file.
fn read(path: &Path) -> Result<Option<Secret>, SecretError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(io_error("read", path))?,
    };
    // Asked of the open file, so that it is the file that is then read.
    let mode = file.metadata().map_err(io_error("read", path))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Open { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    // Enough to see that it is too long, whatever somebody has put there.
    file.take(LENGTH_MAX as u64 + 3).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    let text = std::str::from_utf8(&bytes).ok().map(|text| text.trim_end_matches(['\r', '\n']));
    text.and_then(Secret::new).map(Some).ok_or_else(|| SecretError::Content(path.to_owned()))
}

/// Gives a new secret the name, unless another has it by then.
fn make(data_dir: &Path, path: &Path) -> Result<(), SecretError> {
    fs::create_dir_all(data_dir).map_err(io_error("make the directory", data_dir))?;
    let mut file = tempfile::Builder::new()
        .prefix(".secret-")
        .suffix(".tmp")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(data_dir)
        .map_err(io_error("write to", data_dir))?;
    writeln!(file, "{}", Secret::random().expose()).map_err(io_error("write", path))?;
    file.as_file().sync_all().map_err(io_error("write", path))?;
    match file.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(io_error("write", path)(error.error)),
    }
    // Else a crash of the machine could take the name back after others have learnt the secret.
    File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(io_error("write to", data_dir))
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SecretError {
    let path = path.to_owned();
    move |source| SecretError::Io { doing, path, source }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::ffi::OsStringExt;
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    const VARIABLE: &str = "BOOKENDS_TEST";

    fn from_file(dir: &Path) -> Result<Secret, SecretError> {
        find(VARIABLE, |_| None, dir, "it.secret")
    }

    fn from_variable(value: &[u8]) -> Result<Secret, SecretError> {
        find(VARIABLE, |_| Some(OsString::from_vec(value.to_vec())), Path::new("/nowhere"), "it.secret")
    }

    fn put(dir: &Path, mode: u32, content: &[u8]) -> PathBuf {
        let path = dir.join("it.secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_secret_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("deep/data");
        let made = from_file(&data).unwrap();
        assert_eq!(made.expose().len(), 64);
        assert!(from_file(&data).unwrap().matches(made.expose().as_bytes()));
        assert_eq!(fs::metadata(data.join("it.secret")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "no file of the making is left");
        assert!(!cluster_or_admin_shared(&data));
    }

    fn cluster_or_admin_shared(data: &Path) -> bool {
        let [cluster, admin] =
            ["cluster.secret", "admin.token"].map(|file| find(VARIABLE, |_| None, data, file).unwrap());
        cluster.matches(admin.expose().as_bytes())
    }

    #[test]
    fn all_who_start_at_once_agree() {
        for _ in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let data = dir.path().join("data");
            let start = Barrier::new(8);
            let seen: BTreeSet<String> = thread::scope(|scope| {
                let one = || {
                    start.wait();
                    from_file(&data).unwrap().expose().to_owned()
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(seen.len(), 1);
            assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "no file of the making is left");
        }
    }

    #[test]
    fn a_file_may_end_in_a_newline_or_not() {
        let dir = tempfile::tempdir().unwrap();
        for content in ["0123456789abcdef", "0123456789abcdef\n", "0123456789abcdef\r\n"] {
            put(dir.path(), 0o600, content.as_bytes());
            assert_eq!(from_file(dir.path()).unwrap().expose(), "0123456789abcdef");
        }
        put(dir.path(), 0o400, format!("{}\n", "x".repeat(LENGTH_MAX)).as_bytes());
        assert_eq!(from_file(dir.path()).unwrap().expose().len(), LENGTH_MAX);
    }

    #[test]
    fn a_file_that_others_may_open_is_refused_with_the_cure() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o620, 0o666] {
            let path = put(dir.path(), mode, b"0123456789abcdef");
            let error = from_file(dir.path()).unwrap_err();
            assert!(matches!(error, SecretError::Open { mode: found, .. } if found == mode), "{error}");
            assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
    }

    #[test]
    fn content_that_cannot_serve_is_refused_and_not_shown() {
        let long = "x".repeat(LENGTH_MAX + 1);
        let dir = tempfile::tempdir().unwrap();
        for bad in [
            &b""[..],
            b"0123456789abcde",
            b"0123456789 abcdef",
            b"0123456789\tabcdef",
            "0123456789äabcdef".as_bytes(),
            b"0123456789\xffabcdef",
            long.as_bytes(),
        ] {
            let error = from_variable(bad).unwrap_err();
            assert!(matches!(error, SecretError::Variable(VARIABLE)), "{error}");
            assert!(!error.to_string().contains("0123456789"), "{error}");
            let path = put(dir.path(), 0o600, bad);
            let error = from_file(dir.path()).unwrap_err();
            assert!(matches!(&error, SecretError::Content(found) if *found == path), "{error}");
            assert!(!error.to_string().contains("0123456789"), "{error}");
        }
    }

    #[test]
    fn the_variable_comes_first_and_needs_no_directory() {
        assert_eq!(from_variable(b"0123456789abcdef").unwrap().expose(), "0123456789abcdef");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let blocked = dir.path().join("file");
        fs::write(&blocked, "").unwrap();
        let error = from_file(&blocked.join("data")).unwrap_err();
        assert!(error.to_string().contains(blocked.to_str().unwrap()), "{error}");
    }

    #[test]
    fn a_secret_matches_itself_alone_and_is_not_printed() {
        let secret = Secret::new("0123456789abcdef").unwrap();
        assert!(secret.matches(b"0123456789abcdef"));
        for other in [&b""[..], b"0123456789abcde", b"0123456789abcdef0", b"0123456789abcdeg"] {
            assert!(!secret.matches(other));
        }
        assert_eq!(format!("{secret:?}"), "…");
    }
}
