//! Directories for tests, removed when the test ends.

use std::path::{Path, PathBuf};

/// A directory of one test.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A new, empty directory.
    ///
    /// # Panics
    /// When the host's temporary directory cannot be written.
    #[must_use]
    pub(crate) fn new(name: &str) -> Self {
        let unique = format!("mett-{name}-{}-{}", std::process::id(), crate::home::token());
        let path = std::env::temp_dir().join(unique);
        std::fs::create_dir(&path).expect("the temporary directory can be written");
        Self { path }
    }

    /// The directory.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A test that failed to make what it should has nothing to remove.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
