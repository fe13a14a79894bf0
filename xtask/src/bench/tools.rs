//! The image of the programs people know: redis, git, make with gcc. Debian's packages and `bench/tools`, the same files for both systems.

use super::places::{Bound, Place, Taken};
use crate::debian;
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Packages, with what they depend on.
const PACKAGES: &[&str] = &["redis-server", "redis-tools", "git", "make", "gcc", "libc6-dev"];
/// What no program of these reads.
const UNUSED: &[&str] =
    &["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/share/gdb"];
/// Parts of names of great files that no program of these reads: a compiler of intermediate code, checkers of memory.
const UNUSED_FILES: [&str; 4] = ["lto1", "lto-dump", "libasan.so", "libtsan.so"];
/// Requests of a run of redis-benchmark, as `run.sh` has it.
const REQUESTS: u32 = 5_000;

/// Makes the image's files; their folder.
pub(super) fn tree(root: &Path, programs: &Path) -> Result<PathBuf> {
    let tree = debian::root(&root.join("target/debian"), "tools", PACKAGES)?;
    for folder in UNUSED {
        let _ = fs::remove_dir_all(tree.join(folder));
    }
    remove_unused(&tree.join("usr"))?;
    let files = tree.join("fn");
    let _ = fs::remove_dir_all(&files);
    fs::create_dir_all(files.join("project"))?;
    fs::copy(programs.join("spawnb"), files.join("spawnb"))?;
    let sources = root.join("bench/tools");
    fs::copy(sources.join("run.sh"), files.join("run.sh"))?;
    for entry in fs::read_dir(sources.join("project"))? {
        let entry = entry?;
        fs::copy(entry.path(), files.join("project").join(entry.file_name()))
            .with_context(|| format!("{} cannot be copied", entry.path().display()))?;
    }
    Ok(tree)
}

/// Removes files that are not used, in a folder and all below it.
fn remove_unused(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            remove_unused(&entry.path())?;
        } else if UNUSED_FILES.iter().any(|part| name.contains(part)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The figures.
pub(super) fn places() -> Vec<Place> {
    let figures = [
        ("redis_set", "redis-benchmark -t set -P 1, each request", Taken::Share(REQUESTS)),
        ("redis_get", "redis-benchmark -t get -P 1, each request", Taken::Share(REQUESTS)),
        ("git_gc", "git gc", Taken::Whole),
        ("make", "make with gcc", Taken::Whole),
    ];
    let place = |(tool, name, taken): (&str, &str, Taken)| Place {
        suite: "tools",
        name: name.to_owned(),
        unit: "instructions",
        linux: vec![
            ("process", format!("tool.{tool}.process"), "total"),
            ("crun", format!("tool.{tool}.crun"), "total"),
        ],
        ours: Some((format!("tool.{tool}"), "total")),
        least: 3,
        taken,
        bound: Bound::System("crun"),
    };
    figures.into_iter().map(place).collect()
}
