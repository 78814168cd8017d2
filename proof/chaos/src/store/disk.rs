//! A small disk that can be full: a tmpfs over a node's data directory. Who may mount one is the system's to say.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::error::ChaosError;

/// Its size: what a node writes in an hour of chaos fits, and it is quickly filled.
const SIZE_MIB: u32 = 256;
/// What fills it is written in pieces of so many bytes, and then byte by byte.
const PIECE: usize = 256 * 1024;
/// The file that takes the room.
const BALLAST: &str = "ballast";

/// A mounted disk. Dropping it unmounts it.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts a disk over a folder.
    pub(crate) fn mount(path: &Path) -> io::Result<Self> {
        let options = CString::new(format!("size={SIZE_MIB}m")).ok();
        mount("bookends-chaos", path, "tmpfs", MountFlags::empty(), options.as_deref())?;
        Ok(Self { path: path.to_owned() })
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) -> Result<(), ChaosError> {
        let path = self.path.join(BALLAST);
        let ballast = File::options().create(true).append(true).open(&path);
        let mut ballast = ballast.map_err(ChaosError::file("can't make", &path))?;
        for piece in [PIECE, 4096, 1] {
            let bytes = vec![0; piece];
            loop {
                match ballast.write(&bytes) {
                    Ok(_) => {}
                    Err(problem) if problem.kind() == ErrorKind::StorageFull => break,
                    Err(problem) => return Err(ChaosError::file("can't write", &path)(problem)),
                }
            }
        }
        Ok(())
    }

    /// Gives it back.
    pub(crate) fn make_room(&self) -> Result<(), ChaosError> {
        let path = self.path.join(BALLAST);
        fs::remove_file(&path).map_err(ChaosError::file("can't remove", path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Detached, it goes when nobody uses it any more, whatever else has failed.
        unmount(&self.path, UnmountFlags::DETACH).ok();
    }
}
