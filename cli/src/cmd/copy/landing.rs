//! Where what comes from a container lands: in a folder beside its place first, and only whole files get their names.
//!
//! Owns: that folder, `.mett-cp-NUMBER`. It is locked while its copy lives; what a killed copy has left is not, and goes with the next copy to the same place.
//! Must not know: archives, containers.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// What the folder's name begins with; the number of its process follows.
const PREFIX: &str = ".mett-cp-";

/// The folder, which goes with this.
#[derive(Debug)]
pub(super) struct Landing {
    folder: PathBuf,
    /// Locked; the lock ends with the process, however that ends.
    _lock: File,
}

impl Landing {
    /// Makes the folder among what is beside a place, without what killed copies have left there.
    pub(super) fn beside(place: &Path) -> io::Result<Self> {
        sweep(place);
        let folder = place.join(format!("{PREFIX}{}", std::process::id()));
        loop {
            fs::create_dir(&folder)?;
            // Another copy that sweeps may take it for left behind until it is locked.
            if let Ok(lock) = File::open(&folder) {
                lock.lock()?;
                if folder.exists() {
                    return Ok(Self { folder, _lock: lock });
                }
            }
        }
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives the whole folder its final name.
    pub(super) fn become_folder(&self, place: &Path) -> io::Result<()> {
        fs::rename(&self.folder, place)
    }

    /// Gives the only entry its final name.
    pub(super) fn adopt(&self, place: &Path) -> io::Result<()> {
        let Some(entry) = fs::read_dir(&self.folder)?.next() else { return Ok(()) };
        let path = entry?.path();
        if place.exists() && path.is_dir() {
            return Err(io::Error::other("a directory cannot replace a file"));
        }
        fs::rename(path, place)
    }

    /// Gives every entry its name in a folder; folders that are there already get what is in those that come.
    pub(super) fn merge_into(&self, place: &Path) -> io::Result<()> {
        merge(&self.folder, place, &place.canonicalize()?)
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        // It may have become the target; what cannot be removed is the next copy's.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn merge(from: &Path, to: &Path, root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if !entry.file_type()?.is_dir() {
            fs::rename(entry.path(), target)?;
        } else if target.is_dir() {
            if !target.canonicalize()?.starts_with(root) {
                eprintln!("mett: {} is left out: it leads outside", target.display());
                continue;
            }
            merge(&entry.path(), &target, root)?;
        } else if fs::symlink_metadata(&target).is_ok() {
            return Err(io::Error::other("a directory cannot replace a file"));
        } else {
            fs::rename(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Removes what copies have left that were killed; what cannot be looked at stays.
fn sweep(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let number = entry.file_name();
        let number = number.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if number.is_none_or(|number| number.parse::<u32>().is_err()) {
            continue;
        }
        // What cannot be opened or removed is somebody else's.
        if let Ok(folder) = File::open(entry.path())
            && folder.try_lock().is_ok()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("mett-landing-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn what_a_killed_copy_left_goes_and_what_lives_stays() {
        let place = scratch("sweep");
        fs::create_dir_all(place.join(".mett-cp-1/part")).unwrap();
        fs::create_dir_all(place.join(".mett-cp-2")).unwrap();
        fs::create_dir_all(place.join(".mett-cp-mine")).unwrap();
        let living = File::open(place.join(".mett-cp-2")).unwrap();
        living.lock().unwrap();
        drop(Landing::beside(&place).unwrap());
        let mut left: Vec<_> =
            fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".mett-cp-2", ".mett-cp-mine"]);
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn folders_are_merged_and_links_are_not_followed_outside() {
        let (place, outside) = (scratch("merge"), scratch("outside"));
        fs::create_dir_all(place.join("d/kept")).unwrap();
        fs::write(place.join("d/f"), "old").unwrap();
        std::os::unix::fs::symlink(&outside, place.join("out")).unwrap();
        let landing = Landing::beside(&place).unwrap();
        for folder in ["d/new", "out"] {
            fs::create_dir_all(landing.folder().join(folder)).unwrap();
        }
        fs::write(landing.folder().join("d/f"), "new").unwrap();
        fs::write(landing.folder().join("out/f"), "escaped").unwrap();
        landing.merge_into(&place).unwrap();
        drop(landing);
        assert_eq!(fs::read(place.join("d/f")).unwrap(), b"new");
        assert!(place.join("d/kept").is_dir() && place.join("d/new").is_dir());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert_eq!(fs::read_dir(&place).unwrap().count(), 2);
        fs::remove_dir_all(place).unwrap();
        fs::remove_dir_all(outside).unwrap();
    }

    #[test]
    fn a_folder_replaces_no_file() {
        let place = scratch("replace");
        fs::write(place.join("f"), "file").unwrap();
        let landing = Landing::beside(&place).unwrap();
        fs::create_dir(landing.folder().join("f")).unwrap();
        assert!(landing.merge_into(&place).is_err() && landing.adopt(&place.join("f")).is_err());
        drop(landing);
        fs::remove_dir_all(place).unwrap();
    }
}
