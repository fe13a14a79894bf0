//! Unmodified programs of Debian: every script of `tests/programs` in a container of Linux and in a compartment, on the same files, and what they print compared.
//!
//! A script belongs to the image whose folder it lies in. It may write below `/tmp`, `/root` and `/run`, and prints nothing that depends on the host.

use super::{Tally, container};
use crate::{debian, demo::Mett};
use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

/// An image: its name, which is a folder of `tests/programs`, and its packages.
type Image = (&'static str, &'static [&'static str]);

const IMAGES: &[Image] = &[
    (
        "shell",
        &[
            "bash",
            "grep",
            "sed",
            "gawk",
            "mawk",
            "findutils",
            "diffutils",
            "tar",
            "gzip",
            "bzip2",
            "xz-utils",
            "file",
            "procps",
            "perl",
            "git",
            "sqlite3",
            "musl",
            "redis-server",
            "redis-tools",
        ],
    ),
    ("compiler", &["bash", "grep", "sed", "mawk", "make", "gcc", "libc6-dev", "musl-tools"]),
    (
        "python",
        &[
            "bash",
            "grep",
            "sed",
            "python3",
            "python3-pip",
            "python3-setuptools",
            "python3-wheel",
            "python3-venv",
        ],
    ),
];

/// The scripts that run among the other suites: a shell, two languages, a compiler, version control, two databases.
const QUICK: &[&str] = &["bash", "perl", "git", "sqlite", "redis", "make", "wheel"];

/// Which scripts are run.
#[derive(Debug)]
pub(super) struct Which<'a> {
    /// Only those of [`QUICK`].
    pub(super) is_quick: bool,
    /// Only those whose names contain this.
    pub(super) filter: &'a str,
}

impl Which<'_> {
    fn takes(&self, name: &str) -> bool {
        name.contains(self.filter) && (!self.is_quick || QUICK.contains(&name))
    }
}

/// Seconds a script may take in a compartment.
const LIMIT: u64 = 300;

/// Runs the chosen scripts.
pub(super) fn run(root: &Path, mett: &Mett, which: &Which<'_>, tally: &mut Tally) -> Result<()> {
    let mut ran = 0;
    for image in IMAGES {
        let scripts = scripts(&root.join("tests/programs").join(image.0), which)?;
        if scripts.is_empty() {
            continue;
        }
        ran += scripts.len();
        let folder = root.join("target/debian");
        let files = debian::root(&folder, image.0, image.1)?;
        fs::create_dir_all(files.join("cases"))?;
        for script in scripts.values() {
            fs::copy(script, files.join("cases").join(script.file_name().unwrap_or_default()))?;
        }
        let name = format!("test-{}:latest", image.0);
        mett.output(&["image", "import", &format!("rootfs:{}", files.display()), &name])?;
        for script in scripts.keys() {
            let begin = Instant::now();
            let result = compare(&files, mett, &name, script);
            let took = begin.elapsed().as_secs();
            tally.case(&format!("debian {}::{script}", image.0), result);
            println!("     took {took} s");
        }
    }
    ensure!(ran > 0, "no script is chosen: {which:?}");
    Ok(())
}

/// The chosen scripts of a folder by their names.
fn scripts(folder: &Path, which: &Which<'_>) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{} is missing", folder.display()))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if which.takes(&name) && path.extension().is_some_and(|extension| extension == "sh") {
            found.insert(name, path);
        }
    }
    Ok(found)
}

fn compare(files: &Path, mett: &Mett, image: &str, script: &str) -> Result<()> {
    let case = format!("/cases/{script}.sh");
    let command = ["/bin/sh", &case];
    let theirs = container::linux(files, &command, LIMIT)?;
    let expected = container::text(&theirs);
    ensure!(theirs.status.success(), "on this Linux: {}\n{expected}", theirs.status);
    let name = format!("debian-{script}");
    let place = container::Compartment { image, name: &name, memory: "1g", seconds: LIMIT };
    let ours = container::compartment(mett, &place, &command)?;
    let found = container::text(&ours);
    ensure!(!container::took_too_long(&ours), "not done after {LIMIT} s; so far:\n{found}");
    ensure!(
        ours.status.code() == theirs.status.code() && found == expected,
        "Linux:\n{expected}MettEagle ({}):\n{found}",
        ours.status
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quick_script_is_there_and_a_filter_narrows_them() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/programs");
        let names = |which: &Which<'_>| -> Vec<String> {
            let of = |image: &Image| scripts(&folder.join(image.0), which).unwrap().into_keys();
            IMAGES.iter().flat_map(of).collect()
        };
        let mut quick = names(&Which { is_quick: true, filter: "" });
        quick.sort_unstable();
        let mut listed = QUICK.to_vec();
        listed.sort_unstable();
        assert_eq!(quick, listed);
        assert_eq!(names(&Which { is_quick: true, filter: "sqli" }), ["sqlite"]);
        assert!(names(&Which { is_quick: false, filter: "" }).len() > QUICK.len());
    }
}
