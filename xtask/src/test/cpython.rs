//! CPython's own test suite (Debian's `libpython3.11-testsuite`), one file at a time, on this computer's Linux and in a compartment.
//!
//! A file counts when it passes on Linux within the time limit. Results are kept in `target/cpython/results.json`, so that an interrupted run can go on. Files
//! that do not pass in a compartment are named in `tests/cpython/known-gaps.txt`, each with its cause; a gap that has closed must leave that list, so it only
//! shrinks. `tests/cpython/quick.txt` names the files that run among the other suites.

use super::{Tally, container};
use crate::{debian, demo::Mett};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    str::FromStr,
    time::Instant,
};

const PACKAGES: &[&str] = &[
    "bash",
    "python3",
    "libpython3.11-testsuite",
    "libpython3.11",
    "media-types",
    "netbase",
    "tzdata",
];
/// Where the tests are in the image.
const TESTS: &str = "usr/lib/python3.11/test";
/// Seconds a file may take on Linux. An emulated computer is given more: how fast it is says nothing about what works.
const LIMIT: u64 = 60;
const EMULATED_LIMIT: u64 = 240;

/// Every `count`th file from the `index`th, from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shard {
    index: usize,
    count: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .split_once('/')
            .and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match parsed {
            Some((index, count)) if index >= 1 && index <= count => Ok(Self { index, count }),
            _ => Err(format!("{text:?} is not I/N with 1 <= I <= N")),
        }
    }
}

/// Which files are run.
#[derive(Debug)]
pub(super) struct Which<'a> {
    /// Only those of the quick list.
    pub(super) is_listed: bool,
    /// Only those whose names contain this.
    pub(super) filter: &'a str,
    /// Only those of a shard.
    pub(super) shard: Shard,
    /// Only those without a result.
    pub(super) resume: bool,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileResult {
    /// Exit status on Linux; 124 or 137 for too long.
    linux: Option<i32>,
    /// Exit status in a compartment, if it was run there.
    ours: Option<i32>,
    /// Seconds in a compartment.
    seconds: u64,
}

/// Results by file.
type Results = BTreeMap<String, FileResult>;

/// Runs the chosen files.
pub(super) fn run(root: &Path, mett: &Mett, which: &Which<'_>, tally: &mut Tally) -> Result<()> {
    let files = debian::root(&root.join("target/debian"), "cpython", PACKAGES)?;
    let lists = root.join("tests/cpython");
    let quick = names(&fs::read_to_string(lists.join("quick.txt"))?);
    let gaps = names(&fs::read_to_string(lists.join("known-gaps.txt"))?);
    let chosen = choose(all(&files)?, &quick, which)?;
    let image = "test-cpython:latest";
    mett.output(&["image", "import", &format!("rootfs:{}", files.display()), image])?;
    let folder = root.join("target/cpython");
    fs::create_dir_all(folder.join("output"))?;
    let mut results = read(&folder.join("results.json"))?;
    for name in chosen {
        if which.resume && results.contains_key(&name) {
            continue;
        }
        let result = file(&files, mett, image, &name, &folder.join("output"))?;
        println!("     {name}: {result:?}");
        if result.linux == Some(0) {
            tally.case(&format!("cpython {name}"), judge(&result, gaps.contains(&name)));
        }
        results.insert(name, result);
        fs::write(folder.join("results.json"), serde_json::to_vec_pretty(&results)?)?;
    }
    println!("{}", summary(&results));
    Ok(())
}

/// The first word of every line that is no comment.
fn names(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// Every test file or package of the image.
fn all(files: &Path) -> Result<BTreeSet<String>> {
    let folder = files.join(TESTS);
    let entries =
        fs::read_dir(&folder).with_context(|| format!("{} is missing", folder.display()))?;
    let mut found = BTreeSet::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let name = name.strip_suffix(".py").unwrap_or(&name);
        if name.starts_with("test_") && !name.contains('.') {
            found.insert(name.to_owned());
        }
    }
    Ok(found)
}

fn choose(
    all: BTreeSet<String>,
    quick: &BTreeSet<String>,
    which: &Which<'_>,
) -> Result<Vec<String>> {
    if let Some(missing) = quick.iter().find(|name| !all.contains(*name)) {
        bail!("the quick list names {missing}, which the suite does not have");
    }
    let chosen: Vec<String> = all
        .into_iter()
        .filter(|name| !which.is_listed || quick.contains(name))
        .filter(|name| name.contains(which.filter))
        .skip(which.shard.index - 1)
        .step_by(which.shard.count)
        .collect();
    ensure!(!chosen.is_empty(), "no file is chosen");
    Ok(chosen)
}

fn read(path: &PathBuf) -> Result<Results> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is no results file", path.display())),
        Err(_) => Ok(Results::new()),
    }
}

fn file(files: &Path, mett: &Mett, image: &str, name: &str, kept: &Path) -> Result<FileResult> {
    let command = ["/usr/bin/python3", "-m", "test", "--tempdir", "/tmp", name];
    let theirs = container::linux(files, &command, LIMIT)?;
    let mut result = FileResult { linux: theirs.status.code(), ours: None, seconds: 0 };
    if result.linux == Some(0) {
        let begin = Instant::now();
        let container = format!("cpython-{name}");
        let ours = container::compartment(mett, image, &container, &command, EMULATED_LIMIT)?;
        result.ours = ours.status.code();
        result.seconds = begin.elapsed().as_secs();
        fs::write(kept.join(name), container::text(&ours))?;
    }
    Ok(result)
}

/// A file passes, or is a known gap; a gap that passes has closed.
fn judge(result: &FileResult, is_gap: bool) -> Result<()> {
    match (result.ours == Some(0), is_gap) {
        (true, false) | (false, true) => Ok(()),
        (true, true) => bail!("passes: take it off tests/cpython/known-gaps.txt"),
        (false, false) => bail!(
            "exit status {:?} after {} s; the output is in target/cpython/output",
            result.ours,
            result.seconds
        ),
    }
}

fn summary(results: &Results) -> String {
    let on_linux = results.values().filter(|result| result.linux == Some(0)).count();
    let passed = results.values().filter(|result| result.ours == Some(0)).count();
    format!("cpython: {passed} of the {on_linux} files that pass on this Linux pass")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn shards_have_every_file_once() {
        let all = set(&["test_a", "test_b", "test_c", "test_d", "test_e"]);
        let mut found = BTreeSet::new();
        for index in 1..=2 {
            let shard = format!("{index}/2").parse().unwrap();
            let which = Which { is_listed: false, filter: "", shard, resume: false };
            found.extend(choose(all.clone(), &BTreeSet::new(), &which).unwrap());
        }
        assert_eq!(found, all);
        assert!("0/2".parse::<Shard>().is_err() && "3/2".parse::<Shard>().is_err());
    }

    #[test]
    fn a_closed_gap_and_a_new_failure_are_failures() {
        let result = |ours| FileResult { linux: Some(0), ours: Some(ours), seconds: 1 };
        assert!(judge(&result(0), false).is_ok() && judge(&result(2), true).is_ok());
        assert!(judge(&result(0), true).is_err() && judge(&result(2), false).is_err());
    }

    #[test]
    fn lists_have_comments_and_causes() {
        assert_eq!(names("# why\ntest_a  because\n\ntest_b\n"), set(&["test_a", "test_b"]));
    }
}
