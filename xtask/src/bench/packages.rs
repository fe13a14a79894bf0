//! The Debian packages of the Linux side: resolved, downloaded as an ordinary user, recorded with version and SHA-256.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// One downloaded package.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Package {
    /// Debian's name.
    pub(crate) name: String,
    /// Version.
    pub(crate) version: String,
    /// SHA-256 of the `.deb`.
    pub(crate) sha256: String,
    /// The file (not part of the report).
    #[serde(skip)]
    pub(crate) file: PathBuf,
}

/// The lines of `bench/linux/packages.txt`: role and names.
pub(crate) fn list(text: &str, role: &str) -> Result<Vec<String>> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(role)?.strip_prefix(':'))
        .with_context(|| format!("packages.txt has no line {role:?}"))?;
    Ok(line.split_whitespace().map(str::to_owned).collect())
}

/// The kernel package that the meta package depends on today.
pub(crate) fn resolve_kernel(meta: &str) -> Result<String> {
    let out = output(Command::new("apt-cache").args(["depends", "--important", meta]))?;
    out.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
        .with_context(|| format!("apt-cache knows no kernel behind {meta} (try: apt-get update)"))
}

/// Downloads what is missing into `folder` and describes all.
pub(crate) fn fetch(names: &[String], folder: &Path) -> Result<Vec<Package>> {
    fs::create_dir_all(folder)?;
    let mut packages = Vec::new();
    for name in names {
        let file = match find(folder, name)? {
            Some(file) => file,
            None => {
                download(name, folder)?;
                find(folder, name)?.with_context(|| format!("package {name} left no file"))?
            }
        };
        packages.push(describe(name, file)?);
    }
    Ok(packages)
}

/// Downloads a package beside the others, so that one which was cut is never taken for whole.
fn download(name: &str, folder: &Path) -> Result<()> {
    let part = folder.join("part");
    let _ = fs::remove_dir_all(&part);
    fs::create_dir_all(&part)?;
    output(Command::new("apt-get").args(["-q", "download", name]).current_dir(&part))
        .with_context(|| format!("package {name} cannot be downloaded (try: apt-get update)"))?;
    for entry in fs::read_dir(&part)? {
        let entry = entry?;
        fs::rename(entry.path(), folder.join(entry.file_name()))?;
    }
    Ok(fs::remove_dir(&part)?)
}

fn find(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    let prefix = format!("{name}_");
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file = entry.file_name();
        let file = file.to_string_lossy();
        if file.starts_with(&prefix) && file.ends_with(".deb") {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn describe(name: &str, file: PathBuf) -> Result<Package> {
    let version = output(Command::new("dpkg-deb").arg("-f").arg(&file).arg("Version"))?;
    let digest = Sha256::digest(fs::read(&file)?);
    let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Package { name: name.to_owned(), version: version.trim().to_owned(), sha256, file })
}

/// Unpacks a package's files below a folder.
pub(crate) fn unpack(package: &Package, folder: &Path) -> Result<()> {
    output(Command::new("dpkg-deb").arg("-x").arg(&package.file).arg(folder))?;
    Ok(())
}

/// Runs a command and gives its standard output; a failure carries its standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("{command:?} cannot be started"))?;
    ensure!(
        out.status.success(),
        "{command:?} failed ({}): {}",
        out.status,
        String::from_utf8_lossy(&out.stderr).trim()
    );
    match String::from_utf8(out.stdout) {
        Ok(text) => Ok(text),
        Err(_) => bail!("{command:?} printed something that is not text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_from_the_list() {
        let text = "# comment\nkernel: meta\nbase: a b  c\n";
        assert_eq!(list(text, "base").unwrap(), ["a", "b", "c"]);
        assert!(list(text, "python").is_err());
    }
}
