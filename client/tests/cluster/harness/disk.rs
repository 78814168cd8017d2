//! A small disk: a tmpfs that is mounted over a folder, and filled until nothing fits any more.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The size of a small disk: some thousand writes fit.
const SIZE: &str = "size=24m";
/// What fills it is written in pieces of so many bytes; the last one does not fit.
const PIECE: usize = 16 * 1024;
/// The file that takes the room.
const BALLAST: &str = "ballast";

/// A mounted disk. Dropping it unmounts it, also while it is in use.
pub(crate) struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts a small disk over a folder, which is made if there is none.
    pub(crate) fn mount(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        let options = std::ffi::CString::new(SIZE).unwrap();
        mount("bookends-test", &path, "tmpfs", MountFlags::empty(), Some(options.as_c_str())).unwrap_or_else(
            |problem| {
                panic!(
                    "a tmpfs of 24 MiB can't be mounted over {}: {problem}; run this as root",
                    path.display()
                )
            },
        );
        Self { path }
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.path.join(BALLAST)).unwrap();
        for piece in [PIECE, 1] {
            loop {
                match ballast.write(&vec![0; piece]) {
                    Ok(_) => {}
                    Err(problem) if problem.kind() == ErrorKind::StorageFull => break,
                    Err(problem) => panic!("{}: {problem}", self.path.display()),
                }
            }
        }
    }

    /// Gives it back.
    pub(crate) fn make_room(&self) {
        fs::remove_file(self.path.join(BALLAST)).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(problem) = unmount(&self.path, UnmountFlags::DETACH) {
            eprintln!("{} stays mounted: {problem}", self.path.display());
        }
    }
}
