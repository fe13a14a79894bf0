//! Root file systems made of unmodified Debian packages, for the tests.
//!
//! Owns: a private apt (lists, cache and state below `target/`, sources derived from this computer's own), so that nothing system-wide changes and an ordinary
//! user can do it; the unpacked trees; the source packages whose own tests are run. Maintainer scripts are not run: the few files that they would write and programs need are listed in [`FILES`], [`WRITTEN`] and
//! [`LINKS`]. Must not know: how images are imported.

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What every root file system holds.
const BASE: &[&str] = &["base-files", "base-passwd", "libc-bin", "dash", "coreutils"];

/// Directories of the root that are links into `/usr`.
const MERGED: &[&str] = &["bin", "sbin", "lib", "lib64"];

/// Files that maintainer scripts copy.
const FILES: &[(&str, &str)] = &[
    ("usr/share/base-passwd/passwd.master", "etc/passwd"),
    ("usr/share/base-passwd/group.master", "etc/group"),
    ("usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf"),
];

/// Files that an installer writes: the names of the computer itself, which a daemon puts over its containers' own.
const WRITTEN: &[(&str, &str)] = &[(
    "etc/hosts",
    "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 box\n",
)];

/// Links that maintainer scripts make, when their target is there.
const LINKS: &[(&str, &str)] = &[
    ("usr/bin/awk", "gawk"),
    ("usr/bin/awk", "mawk"),
    ("usr/bin/cc", "gcc"),
    ("usr/bin/which", "which.debianutils"),
    ("usr/bin/pager", "more"),
];

/// Makes the root file system of packages and what they depend on in `FOLDER/NAME`, unless it is there; its folder.
pub(crate) fn root(folder: &Path, name: &str, packages: &[&str]) -> Result<PathBuf> {
    let mut all = BASE.to_vec();
    all.extend(packages);
    let (root, stamp) = (folder.join(name), folder.join(format!("{name}.stamp")));
    // What is made depends on the packages and on this file.
    let recipe = format!("{all:?} {}", hex(&Sha256::digest(include_bytes!("debian.rs"))));
    if root.is_dir() && fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) {
        return Ok(root);
    }
    let archives = Apt::open(folder)?.archives(&all)?;
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("{} is in the way", root.display()))?;
    }
    unpack(&archives, &root)?;
    finish(&root)?;
    fs::write(&stamp, recipe)?;
    Ok(root)
}

/// Downloads a source package into `FOLDER/NAME-source`, unless it is there; the archives of what its authors published and of what Debian added.
pub(crate) fn source(folder: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
    let place = folder.join(format!("{name}-source"));
    let found = || -> Result<(PathBuf, PathBuf)> {
        let file = |part: &str| -> Result<PathBuf> {
            for entry in fs::read_dir(&place)? {
                let path = entry?.path();
                if path.file_name().is_some_and(|name| name.to_string_lossy().contains(part)) {
                    return Ok(path);
                }
            }
            bail!("{} has no {part} archive", place.display())
        };
        Ok((file(".orig.tar.")?, file(".debian.tar.")?))
    };
    if let Ok(archives) = found() {
        return Ok(archives);
    }
    fs::create_dir_all(&place)?;
    let apt = Apt::open(folder)?;
    let fetch =
        || run(apt.command(&["source", "--download-only", name]).current_dir(&place)).map(|_| ());
    if fetch().is_err() {
        run(&mut apt.command(&["update"]))?;
        fetch()?;
    }
    found()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An apt that touches nothing outside its folder.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn open(folder: &Path) -> Result<Self> {
        let folder = folder.join("apt");
        for name in ["lists/partial", "archives/partial", "sources.d"] {
            fs::create_dir_all(folder.join(name))?;
        }
        fs::write(folder.join("status"), "")?;
        let sources = sources(Path::new("/etc/apt"))?;
        ensure!(!sources.is_empty(), "this computer's apt has no source of Debian");
        for (name, text) in sources {
            fs::write(folder.join("sources.d").join(name), text)?;
        }
        fs::write(folder.join("apt.conf"), configuration(&folder))?;
        Ok(Self { folder })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("apt-get");
        command.arg(format!("-c={}", self.folder.join("apt.conf").display()));
        command.args(["-q", "-y"]).args(arguments).stdin(Stdio::null());
        command
    }

    /// The downloaded and checked archives of packages and what they depend on.
    fn archives(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        // Lists grow old: what they name may be gone from the mirror, so a failure is tried again with new ones.
        if self.download(packages).is_err() {
            run(&mut self.command(&["update"]))?;
            self.download(packages)?;
        }
        let mut arguments = vec!["--print-uris", "install"];
        arguments.extend(packages);
        // Of what is in the cache nothing is left to print, so the whole list comes from an empty one.
        let empty = self.folder.join("none");
        fs::create_dir_all(empty.join("partial"))?;
        let option = format!("Dir::Cache::archives={}", empty.display());
        let printed = run(self.command(&["-o", &option]).args(arguments))?;
        let names = printed.lines().filter_map(archive_name);
        let found: Vec<PathBuf> =
            names.map(|name| self.folder.join("archives").join(name)).collect();
        ensure!(!found.is_empty(), "apt names no archive for {packages:?}");
        for archive in &found {
            ensure!(archive.is_file(), "{} was not downloaded", archive.display());
        }
        Ok(found)
    }

    fn download(&self, packages: &[&str]) -> Result<()> {
        run(self.command(&["--download-only", "install"]).args(packages)).map(|_| ())
    }
}

/// The archive's file name of a line `'URI' NAME SIZE HASH`.
fn archive_name(line: &str) -> Option<&str> {
    line.strip_prefix('\'')?.split_once("' ")?.1.split(' ').next()
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Update::Pre-Invoke;
#clear DPkg::Post-Invoke;
Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/archives";
Dir::Log "{folder}";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{folder}/sources.d";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "{folder}/none";
APT::Sandbox::User "";
APT::Install-Recommends "false";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
Acquire::Languages "none";
Acquire::Retries "3";
"#
    )
}

/// This computer's sources of Debian itself, by file name.
fn sources(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut files = vec![folder.join("sources.list")];
    if let Ok(parts) = fs::read_dir(folder.join("sources.list.d")) {
        for entry in parts {
            files.push(entry?.path());
        }
    }
    let mut found = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let kept = match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => lines_of_debian(&text),
            Some("sources") => stanzas_of_debian(&text),
            _ => continue,
        };
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !kept.is_empty() {
            found.push((name, kept));
        }
    }
    Ok(found)
}

fn is_debian(uri: &str) -> bool {
    uri.trim_end_matches('/').rsplit('/').next().is_some_and(|end| end.starts_with("debian"))
}

fn lines_of_debian(text: &str) -> String {
    let is_kept = |line: &&str| {
        line.trim_start().starts_with("deb ") && line.split_whitespace().any(is_debian)
    };
    let with_source = |line: &str| format!("{line}\n{}\n", line.replacen("deb ", "deb-src ", 1));
    text.lines().filter(is_kept).map(with_source).collect()
}

fn stanzas_of_debian(text: &str) -> String {
    let is_kept = |stanza: &&str| {
        stanza.lines().any(|line| {
            line.strip_prefix("URIs:").is_some_and(|uris| uris.split_whitespace().any(is_debian))
        })
    };
    let with_source = |stanza: &str| {
        let both = |line: &str| match line.starts_with("Types:") {
            true => "Types: deb deb-src\n".to_owned(),
            false => format!("{line}\n"),
        };
        stanza.lines().map(both).chain(["\n".to_owned()]).collect::<String>()
    };
    text.split("\n\n").filter(is_kept).map(with_source).collect()
}

fn unpack(archives: &[PathBuf], root: &Path) -> Result<()> {
    for name in MERGED {
        fs::create_dir_all(root.join("usr").join(name))?;
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    for archive in archives {
        let mut contents = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(archive)
            .stdout(Stdio::piped())
            .spawn()
            .context("dpkg-deb cannot be started")?;
        let stream = contents.stdout.take().context("dpkg-deb has no output")?;
        let status = Command::new("tar")
            .args(["--extract", "--keep-directory-symlink", "--no-same-owner", "--directory"])
            .arg(root)
            .stdin(stream)
            .status()
            .context("tar cannot be started")?;
        let status = status.success() && contents.wait()?.success();
        ensure!(status, "{} cannot be unpacked", archive.display());
    }
    Ok(())
}

/// What maintainer scripts would have done.
fn finish(root: &Path) -> Result<()> {
    for (from, to) in FILES {
        if root.join(from).is_file() && !root.join(to).exists() {
            fs::copy(root.join(from), root.join(to))
                .with_context(|| format!("{to} cannot be written"))?;
        }
    }
    for (name, text) in WRITTEN {
        fs::write(root.join(name), text).with_context(|| format!("{name} cannot be written"))?;
    }
    for (link, target) in LINKS {
        let link = root.join(link);
        let is_there = link.parent().is_some_and(|folder| folder.join(target).exists());
        if is_there && fs::symlink_metadata(&link).is_err() {
            symlink(target, &link)?;
        }
    }
    for name in ["dev", "proc", "sys", "tmp", "run"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    Ok(())
}

/// Runs a command and gives its standard output; a failure carries its standard error.
fn run(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("{command:?} cannot be started"))?;
    if !out.status.success() {
        bail!("{command:?}: {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sources_of_debian_are_taken() {
        let lines = "# deb x\ndeb http://host/debian stable main\ndeb http://other/tools stable main\ndeb-src http://host/debian stable main\n";
        assert_eq!(
            lines_of_debian(lines),
            "deb http://host/debian stable main\ndeb-src http://host/debian stable main\n"
        );
        let stanzas = "Types: deb\nURIs: http://host/debian-security/\nSuites: s\n\nTypes: deb\nURIs: http://host/node_20.x\n";
        assert_eq!(
            stanzas_of_debian(stanzas),
            "Types: deb deb-src\nURIs: http://host/debian-security/\nSuites: s\n\n"
        );
    }

    #[test]
    fn the_archive_of_a_printed_line() {
        let line = "'http://host/pool/b/bash/bash_5.2_amd64.deb' bash_5.2_amd64.deb 12 SHA256:00";
        assert_eq!(archive_name(line), Some("bash_5.2_amd64.deb"));
        assert_eq!(archive_name("Reading package lists..."), None);
    }
}
