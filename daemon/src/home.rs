//! The daemon's directory on disk: where things are, who may see them, and how files are replaced without ever being half written.
//!
//! ```text
//! $METT_HOME/version       layout version of everything below
//!            lock          held by the daemon while it runs
//!            daemon.sock   where the command line reaches the daemon
//!            daemon.log    what the daemon did
//!            images/       see `image::store`
//!            containers/   one directory per container
//!            machine/      the running machine's sockets, log and system image
//! ```

use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// Version of the layout.
const LAYOUT_VERSION: &str = "1\n";

/// Why the home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Neither METT_HOME, XDG_DATA_HOME nor HOME is set.
    #[error("cannot tell where to keep state: set METT_HOME, XDG_DATA_HOME or HOME")]
    NoPlace,
    /// A file cannot be used.
    #[error("{path}: {cause}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The state is of another version of mett.
    #[error(
        "{path} was written by another version of mett (layout {found}, this one has {expected}): \
         use that version, or set METT_HOME to another directory", path = path.display()
    )]
    OtherVersion {
        /// The home.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What this program writes.
        expected: String,
    },
}

/// A home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    path: PathBuf,
}

impl Home {
    /// The home the environment names; not touched yet.
    ///
    /// # Errors
    /// [`HomeError::NoPlace`].
    pub fn from_environment() -> Result<Self, HomeError> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let path = set("METT_HOME")
            .map(PathBuf::from)
            .or_else(|| set("XDG_DATA_HOME").map(|path| PathBuf::from(path).join("mett")))
            .or_else(|| set("HOME").map(|path| PathBuf::from(path).join(".local/share/mett")))
            .ok_or(HomeError::NoPlace)?;
        Ok(Self::at(&path))
    }

    /// The home in a directory.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()) }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the directories and checks the layout's version.
    ///
    /// # Errors
    /// [`HomeError::Io`] and [`HomeError::OtherVersion`].
    pub fn prepare(&self) -> Result<(), HomeError> {
        for path in [self.path.clone(), self.join("containers"), self.join("machine")] {
            make_private_directory(&path).map_err(|cause| HomeError::Io { path, cause })?;
        }
        let path = self.join("version");
        match std::fs::read_to_string(&path) {
            Ok(found) if found == LAYOUT_VERSION => Ok(()),
            Ok(found) => Err(HomeError::OtherVersion {
                path: self.path.clone(),
                found: found.trim().chars().take(20).collect(),
                expected: LAYOUT_VERSION.trim().to_owned(),
            }),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                replace(&path, LAYOUT_VERSION.as_bytes())
                    .map_err(|cause| HomeError::Io { path, cause })
            }
            Err(cause) => Err(HomeError::Io { path, cause }),
        }
    }
}

/// Makes a directory, and its parents, that only its owner can enter.
pub(crate) fn make_private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

/// Replaces a file: whoever looks sees the old contents or the new ones, also after a crash.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.new", token()));
    let result = write_new(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
    if result.is_err() {
        // What could not be finished is not left behind; the first error is the one to tell.
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_data()
}

/// Replaces a file with a JSON document.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    replace(path, &serde_json::to_vec_pretty(value)?)
}

/// Reads a JSON document.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// A file without a name in a directory.
pub(crate) fn unnamed_file(directory: &Path) -> io::Result<File> {
    let path = directory.join(token());
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A name that nobody else has: random if the host has randomness, else from the clock and the process.
pub(crate) fn token() -> String {
    let fallback = || {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (time.as_nanos() as u64 ^ u64::from(std::process::id())).to_le_bytes()
    };
    crate::image::digest::hex(&random::<8>().unwrap_or_else(|_| fallback()))
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Nanoseconds since 1970; stands still after the year 2554.
#[must_use]
pub fn now_nanoseconds() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_home_of_another_version_is_refused() {
        let scratch = Scratch::new("home");
        let home = Home::at(scratch.path());
        home.prepare().unwrap();
        home.prepare().unwrap();
        replace(&home.join("version"), b"99\n").unwrap();
        assert!(matches!(home.prepare(), Err(HomeError::OtherVersion { .. })));
    }

    #[test]
    fn directories_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let scratch = Scratch::new("private");
        let home = Home::at(&scratch.path().join("deep/home"));
        home.prepare().unwrap();
        let mode = std::fs::metadata(home.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
