//! `clean`: `down`, and then the data is removed, after a question.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;

use super::down;
use crate::console;
use crate::failure::Failure;
use crate::machine::MachineError;
use crate::machine::hosts::Hosts;
use crate::store::Store;

/// Stops everything and removes the data directory.
///
/// # Errors
/// If nobody can be asked, the answer is no, or the directory is not a store's.
pub(crate) async fn run(store: &Store, yes: bool) -> Result<(), Failure> {
    let dir = &store.config.cluster.data_dir;
    if !yes && !io::stdin().is_terminal() {
        return Err(Failure::WrongUse(
            "there is no terminal to ask on: say --yes to remove the data".to_owned(),
        ));
    }
    let elsewhere: BTreeSet<&str> = store.nodes.iter().filter_map(|node| node.host.as_deref()).collect();
    if dir.exists() {
        check_is_ours(dir, &store.config.path)?;
    } else if elsewhere.is_empty() {
        console::say(&format!("there is no data in {}", dir.display()));
        return Ok(());
    }
    if !yes && !agreed(dir, &elsewhere)? {
        return Err(Failure::Failed("nothing was stopped or removed".to_owned()));
    }
    down::stop_all(store).await?;
    // Those that may be out of reach first: then what is here still says whose they are.
    for there in Hosts::unattended(store).all() {
        if there.remove().await.map_err(MachineError::from)? {
            console::say(&format!("removed the store's files on {}", there.host()));
        }
    }
    if !dir.exists() {
        return Ok(());
    }
    remove(dir).map_err(Failure::io(format!("cannot remove {}", dir.display())))?;
    console::say(&format!("removed {}", dir.display()));
    Ok(())
}

fn agreed(dir: &Path, elsewhere: &BTreeSet<&str>) -> Result<bool, Failure> {
    let also: String = elsewhere.iter().map(|host| format!(", and its files on {host}")).collect();
    console::tell(&format!("Stop the store and remove everything in {}{also}? [y/N]", dir.display()));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(Failure::io("cannot read the answer"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A slip in the configuration must not cost somebody's home directory.
fn check_is_ours(dir: &Path, config: &Path) -> Result<(), Failure> {
    let refused = |why: &str| Failure::Failed(format!("{} {why}: not removed", dir.display()));
    if !(dir.join("run").is_dir() || dir.join("cluster.secret").is_file()) {
        return Err(refused("does not look like the data of a store"));
    }
    let real =
        |path: &Path| fs::canonicalize(path).map_err(Failure::io(format!("cannot find {}", path.display())));
    if real(config)?.starts_with(real(dir)?) {
        return Err(refused("holds the configuration as well"));
    }
    Ok(())
}

fn remove(dir: &Path) -> io::Result<()> {
    fs::remove_dir_all(fs::canonicalize(dir)?)?;
    // What is left of a link would be in the way of the next start.
    if fs::symlink_metadata(dir).is_ok_and(|metadata| metadata.is_symlink()) {
        fs::remove_file(dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_of_ours_alone_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let (config, data) = (base.path().join("config.toml"), base.path().join("data"));
        fs::write(&config, "").unwrap();
        fs::create_dir(&data).unwrap();
        assert!(check_is_ours(&data, &config).is_err());
        fs::create_dir(data.join("run")).unwrap();
        assert!(check_is_ours(&data, &config).is_ok());
        fs::create_dir(base.path().join("run")).unwrap();
        assert!(check_is_ours(base.path(), &config).is_err());
    }

    #[test]
    fn a_link_to_the_data_goes_with_it() {
        let base = tempfile::tempdir().unwrap();
        let (real, link) = (base.path().join("real"), base.path().join("link"));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        remove(&link).unwrap();
        assert!(!real.exists() && fs::symlink_metadata(&link).is_err());
    }
}
