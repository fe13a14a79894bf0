//! The suite `cli`: the real `mett` with a real machine, as a user types it.
//!
//! Owns: homes of its own, images built by hand, a pseudo-terminal. Must not know: how anything behind the command works. Every case
//! says in one line what is promised; the long ones (a soak of 2,000 starts) run with `--long` only.

mod bad;
mod debugger;
mod dumps;
mod exhaustion;
mod failures;
mod home;
mod images;
mod layout;
mod lifecycle;
mod options;
mod scale;
mod streams;
mod templates;
mod tenants;
mod terminal;
mod versions;

use super::Tally;
use crate::oci;
use anyhow::{Context, Result, ensure};
use home::{Bed, Home};
use std::{fs, path::Path, process::Command, time::Instant};

/// A group of cases, by name.
type Group = (&'static str, fn(&mut Cases<'_>) -> Result<()>);

const GROUPS: &[Group] = &[
    ("options", options::run),
    ("streams", streams::run),
    ("terminal", terminal::run),
    ("lifecycle", lifecycle::run),
    ("images", images::run),
    ("bad", bad::run),
    ("templates", templates::run),
    ("tenants", tenants::run),
    ("exhaustion", exhaustion::run),
    ("failures", failures::run),
    ("versions", versions::run),
    ("dumps", dumps::run),
    ("scale", scale::run),
];

/// The cases of a group: a home with a machine, and where results go.
pub(super) struct Cases<'a> {
    bed: &'a Bed,
    home: &'a Home<'a>,
    tally: &'a mut Tally,
    group: &'static str,
    is_long: bool,
}

impl Cases<'_> {
    /// Runs one case.
    fn case(&mut self, name: &str, act: impl FnOnce(&Home<'_>) -> Result<()>) {
        let name = format!("{}::{}", self.group, name.replace(' ', "_"));
        self.tally.case(&name, act(self.home));
    }
}

/// Runs the groups whose names contain a filter.
pub(super) fn run(root: &Path, filter: &str, is_long: bool, tally: &mut Tally) -> Result<()> {
    let folder = root.join("target/tests/cli");
    fs::create_dir_all(&folder)?;
    let status = Command::new("cargo")
        .args(["build", "--quiet", "-p", "cli"])
        .current_dir(root)
        .status()
        .context("cargo cannot be started")?;
    ensure!(status.success(), "mett does not build");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), std::path::PathBuf::from);
    let bed = Bed {
        program: target.join("debug/mett"),
        system: root.join("target/machine"),
        root: root.to_owned(),
        archive: oci::busybox(&folder)?,
        folder,
    };
    let home = Home::with_image(&bed, "main")?;
    for (group, cases) in GROUPS.iter().filter(|(group, _)| group.contains(filter)) {
        let begin = Instant::now();
        let mut all = Cases { bed: &bed, home: &home, tally, group, is_long };
        if let Err(error) = cases(&mut all) {
            tally.fail(format!("cli {group}: {error:#}"));
        }
        println!("    {group}: {} s", begin.elapsed().as_secs());
    }
    Ok(())
}
