//! The system image: the kernel and the boot module that the machine boots.
//!
//! A program that is shipped carries both (see the crate's build script). While developing, they are found where the build leaves them.

use crate::home;
use std::{
    io,
    path::{Path, PathBuf},
};

/// The kernel's file name.
const KERNEL: &str = "kernel.elf";
/// The boot module's file name.
const BOOT_MODULE: &str = "boot.img";
/// File name of the table of functions.
const SYMBOLS: &str = "symbols.txt";
/// Environment variable that names a directory with both.
const VARIABLE: &str = "METT_SYSTEM_IMAGE_DIR";

// Defines `EMBEDDED: Option<[&[u8]; 3]>`: kernel, boot module and table of functions.
include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// Why there is no system image.
#[derive(Debug, thiserror::Error)]
pub enum SystemImageError {
    /// None is embedded and none was found.
    #[error(
        "this mett carries no system image and none was found: build one with `cargo xtask build`, \
         or set METT_SYSTEM_IMAGE_DIR to a directory with kernel.elf and boot.img"
    )]
    Missing,
    /// The embedded one could not be written to disk.
    #[error("the system image cannot be written to {path}: {cause}", path = path.display())]
    Unwritable {
        /// Where.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// Where the system image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemImage {
    /// The kernel.
    pub kernel: PathBuf,
    /// The boot module.
    pub boot_module: PathBuf,
    /// Names of the functions in both, for dumps; the machine runs without it.
    pub symbols: PathBuf,
}

impl SystemImage {
    /// Finds the image, or unpacks the embedded one into the machine's directory.
    ///
    /// # Errors
    /// Every variant of [`SystemImageError`].
    pub fn find(machine: &Path) -> Result<Self, SystemImageError> {
        if let Some(directory) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            return Self::in_directory(Path::new(&directory)).ok_or(SystemImageError::Missing);
        }
        if let Some([kernel, boot_module, symbols]) = EMBEDDED {
            let image = Self::paths(machine);
            unpack(&image.kernel, kernel)?;
            unpack(&image.boot_module, boot_module)?;
            unpack(&image.symbols, symbols)?;
            return Ok(image);
        }
        let program = std::env::current_exe().map_err(|_| SystemImageError::Missing)?;
        let mut above = program.ancestors().skip(1);
        above
            .find_map(|directory| {
                Self::in_directory(&directory.join("machine"))
                    .or_else(|| Self::in_directory(&directory.join("target/machine")))
            })
            .ok_or(SystemImageError::Missing)
    }

    fn paths(directory: &Path) -> Self {
        Self {
            kernel: directory.join(KERNEL),
            boot_module: directory.join(BOOT_MODULE),
            symbols: directory.join(SYMBOLS),
        }
    }

    fn in_directory(directory: &Path) -> Option<Self> {
        let image = Self::paths(&std::path::absolute(directory).ok()?);
        (image.kernel.is_file() && image.boot_module.is_file()).then_some(image)
    }
}

/// Writes a file unless it is there already.
fn unpack(path: &Path, bytes: &[u8]) -> Result<(), SystemImageError> {
    if std::fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    home::replace(path, bytes)
        .map_err(|cause| SystemImageError::Unwritable { path: path.to_owned(), cause })
}
