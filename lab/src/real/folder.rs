//! Temporary folders that do not pile up.
//!
//! A store preallocates a hundred megabytes, and a test that is killed removes nothing. So each folder is locked by the
//! process that uses it, and whoever makes a new one first removes those whose lock is free.

use std::env;
use std::fs::{self, File};
use std::path::Path;

use tempfile::TempDir;

use super::{Error, Result};

const PREFIX: &str = "sluice-lab-";
const LOCK: &str = "in-use.lock";

/// A folder that is removed when dropped; with `SLUICE_LAB_KEEP` in the environment it stays for good.
#[derive(Debug)]
pub(super) struct Folder {
    folder: TempDir,
    _lock: Option<File>,
}

impl Folder {
    pub(super) fn new() -> Result<Self> {
        let parent = env::temp_dir();
        sweep(&parent);
        let keep = env::var_os("SLUICE_LAB_KEEP").is_some();
        let folder = tempfile::Builder::new().prefix(PREFIX).disable_cleanup(keep).tempdir_in(&parent);
        let folder = folder.map_err(Error::path("make a folder in", &parent))?;
        let lock = if keep { None } else { Some(lock(folder.path())?) };
        Ok(Self { folder, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// The lock is taken before it has its name, so that no sweep can come in between.
fn lock(folder: &Path) -> Result<File> {
    let (unnamed, named) = (folder.join("new.lock"), folder.join(LOCK));
    let file = File::create_new(&unnamed).map_err(Error::path("create", &unnamed))?;
    file.lock().map_err(Error::path("lock", &unnamed))?;
    fs::rename(&unnamed, &named).map_err(Error::path("create", &named))?;
    Ok(file)
}

/// Removes what nobody uses any more. What cannot be removed is somebody else's.
fn sweep(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    for folder in ours.map(|entry| entry.path()) {
        if is_abandoned(&folder) {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

fn is_abandoned(folder: &Path) -> bool {
    File::open(folder.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_abandoned_folder_is_swept_away() {
        let parent = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = parent.path().join(name);
            fs::create_dir(&folder).unwrap();
            folder
        };
        let (used, abandoned) = (folder("sluice-lab-used"), folder("sluice-lab-abandoned"));
        let (kept, foreign) = (folder("sluice-lab-kept"), folder("foreign"));
        let _lock = lock(&used).unwrap();
        drop(lock(&abandoned).unwrap());
        drop(lock(&foreign).unwrap());

        sweep(parent.path());
        let exist = [used, abandoned, kept, foreign].map(|folder| folder.exists());
        assert_eq!(exist, [true, false, true, true]);
    }
}
