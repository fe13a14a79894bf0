//! CPython's own test suite (Debian's `libpython3.11-testsuite`), on this computer's Linux and in a compartment a file.
//!
//! A file counts when it passes on Linux within the time limit. `tests/cpython/linux.json` keeps how each file ends there; what it lacks is run here, and
//! `--record` runs the chosen files here anew and writes them down. Some files run at the same time, each in a compartment of its own on one machine. A file's
//! result is kept in `target/cpython/results/FILE.json`, so that an interrupted run can go on. Files that do not pass in a compartment are named in
//! `tests/cpython/known-gaps.txt`, each with its cause; a gap that has closed must leave that list, so it only shrinks. `tests/cpython/quick.txt` names the
//! files that run among the other suites, and of some that are long the part of them.

use super::{Tally, container};
use crate::{debian, demo::Mett};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    str::FromStr,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
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
/// Seconds a file may take, on both systems.
const LIMIT: u64 = 240;
/// Files at the same time: one more than the emulated CPUs that most computers give, as tests sleep and wait a lot.
const AT_ONCE: usize = 3;
/// Memory of each, so that one that takes too much ends alone and all of them fit in a machine.
const MEMORY: &str = "560m";

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
    /// Run on Linux anew, and keep how that ends in the tree.
    pub(super) record: bool,
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
    let listed = fs::read_to_string(lists.join("quick.txt"))?;
    let (quick, parts) = (names(&listed), parts(&listed));
    let gaps: BTreeSet<String> =
        names(&fs::read_to_string(lists.join("known-gaps.txt"))?).into_iter().collect();
    let mut chosen = choose(&all(&files)?, &quick, which)?;
    let image = "test-cpython:latest";
    mett.output(&["image", "import", &format!("rootfs:{}", files.display()), image])?;
    let (kept, output) = (root.join("target/cpython/results"), root.join("target/cpython/output"));
    fs::create_dir_all(&kept)?;
    fs::create_dir_all(&output)?;
    if which.resume {
        chosen.retain(|name| !kept.join(format!("{name}.json")).exists());
    }
    let path = lists.join("linux.json");
    let mut recorded = record(&path)?;
    if which.record {
        recorded.retain(|name, _| !chosen.contains(name));
    }
    let known = recorded.clone();
    side_by_side(
        &chosen,
        |name| {
            let words = parts.get(name).cloned().unwrap_or_else(|| vec![name.to_owned()]);
            let file = TestFile { files: &files, name, words, recorded: known.get(name).copied() };
            file.run(mett, image, &output)
        },
        |name, result| {
            let result = result?;
            recorded.insert(name.to_owned(), result.linux);
            println!("     {name}: {result:?}");
            if result.linux == Some(0) {
                tally.case(&format!("cpython {name}"), judge(&result, gaps.contains(name)));
            }
            write_whole(&kept.join(format!("{name}.json")), &serde_json::to_vec_pretty(&result)?)
        },
    )?;
    if which.record {
        write_whole(&path, &serde_json::to_vec_pretty(&recorded)?)?;
    }
    println!("{}", summary(&read(&kept)?));
    Ok(())
}

/// Does the work of every name, some at a time and in their order; what becomes of each is told as it comes. The first error of that is the end.
fn side_by_side<T: Send>(
    names: &[String],
    work: impl Fn(&str) -> T + Sync,
    mut tell: impl FnMut(&str, T) -> Result<()>,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let (sender, done) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(names.len()) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if sender.send((name, work(name))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        done.into_iter().try_for_each(|(name, result)| tell(name, result))
    })
}

/// The first word of every line that is no comment.
fn names(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// What follows the names of a list's lines: what the test runner is given instead of the name.
fn parts(text: &str) -> BTreeMap<String, Vec<String>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            let name = words.next()?;
            let words: Vec<String> = words.collect();
            (!words.is_empty()).then_some((name, words))
        })
        .collect()
}

/// Writes a file whole or not at all: a run that is interrupted leaves no half of a result.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, bytes)
        .and_then(|()| fs::rename(&part, path))
        .with_context(|| format!("{} cannot be written", path.display()))
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

/// The chosen files: those of the quick list in its order.
fn choose(all: &BTreeSet<String>, quick: &[String], which: &Which<'_>) -> Result<Vec<String>> {
    // Of a package one file may be named: PACKAGE.FILE.
    let is_there = |name: &String| name.split('.').next().is_some_and(|file| all.contains(file));
    if let Some(missing) = quick.iter().find(|name| !is_there(name)) {
        bail!("the quick list names {missing}, which the suite does not have");
    }
    let candidates: Vec<&String> =
        if which.is_listed { quick.iter().collect() } else { all.iter().collect() };
    let chosen: Vec<String> = candidates
        .into_iter()
        .filter(|name| name.contains(which.filter))
        .skip(which.shard.index - 1)
        .step_by(which.shard.count)
        .cloned()
        .collect();
    ensure!(!chosen.is_empty(), "no file is chosen");
    Ok(chosen)
}

/// The results that are kept in a folder.
fn read(kept: &Path) -> Result<Results> {
    let mut results = Results::new();
    for entry in fs::read_dir(kept)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let result = serde_json::from_slice(&fs::read(&path)?)
            .with_context(|| format!("{} is no result", path.display()))?;
        results.insert(path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), result);
    }
    Ok(results)
}

/// How files end on Linux, as the tree has it.
fn record(path: &Path) -> Result<BTreeMap<String, Option<i32>>> {
    let Ok(bytes) = fs::read(path) else { return Ok(BTreeMap::new()) };
    serde_json::from_slice(&bytes).with_context(|| format!("{} is no record", path.display()))
}

/// A file of the suite, or a part of one.
struct TestFile<'a> {
    /// Root file system.
    files: &'a Path,
    /// Its name in lists and results.
    name: &'a str,
    /// What the test runner is given.
    words: Vec<String>,
    /// How it ends on Linux, if that is known.
    recorded: Option<Option<i32>>,
}

impl TestFile<'_> {
    /// Runs it in a compartment if it passes on Linux; what it prints is kept in a folder.
    fn run(&self, mett: &Mett, image: &str, kept: &Path) -> Result<FileResult> {
        let mut command = vec!["/usr/bin/python3", "-m", "test", "--tempdir", "/tmp"];
        command.extend(self.words.iter().map(String::as_str));
        let linux = match self.recorded {
            Some(status) => status,
            None => {
                let output = container::linux(self.files, &command, LIMIT)?;
                fs::write(kept.join(format!("{}.linux", self.name)), container::text(&output))?;
                output.status.code()
            }
        };
        let mut result = FileResult { linux, ours: None, seconds: 0 };
        if result.linux == Some(0) {
            let begin = Instant::now();
            let name = format!("cpython-{}", self.name);
            let place =
                container::Compartment { image, name: &name, memory: MEMORY, seconds: LIMIT };
            let ours = container::compartment(mett, &place, &command)?;
            result.ours = ours.status.code();
            result.seconds = begin.elapsed().as_secs();
            fs::write(kept.join(self.name), container::text(&ours))?;
        }
        Ok(result)
    }
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
            let which = Which { is_listed: false, filter: "", shard, resume: false, record: false };
            found.extend(choose(&all, &[], &which).unwrap());
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
        assert_eq!(names("# why\ntest_b  because\n\ntest_a\n"), ["test_b", "test_a"]);
    }

    #[test]
    fn a_line_may_name_a_part_of_a_file() {
        let found = parts("# why\ntest_b.some test_b -m TestOne\ntest_a\n");
        assert_eq!(found.len(), 1);
        assert_eq!(found.get("test_b.some").unwrap(), &["test_b", "-m", "TestOne"]);
    }

    #[test]
    fn an_interrupted_write_leaves_what_was_there() {
        let folder = std::env::temp_dir().join(format!("cpython-{}", std::process::id()));
        let path = folder.join("result.json");
        fs::create_dir_all(&folder).unwrap();
        write_whole(&path, b"{}").unwrap();
        // A folder is in the way of the new contents, as an interruption would be.
        fs::create_dir(path.with_extension("part")).unwrap();
        assert!(write_whole(&path, b"new").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"{}");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_quick_list_keeps_its_order() {
        let shard = "1/1".parse().unwrap();
        let which = Which { is_listed: true, filter: "", shard, resume: false, record: false };
        let quick = names("test_c\ntest_a\n");
        assert_eq!(choose(&set(&["test_a", "test_b", "test_c"]), &quick, &which).unwrap(), quick);
        assert!(choose(&set(&["test_a"]), &quick, &which).is_err());
    }

    #[test]
    fn work_side_by_side_is_done_once_and_stops_at_an_error() {
        let names: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        let mut told = BTreeSet::new();
        side_by_side(&names, str::len, |name, length| {
            ensure!(length == name.len() && told.insert(name.to_owned()), "twice");
            Ok(())
        })
        .unwrap();
        assert_eq!(told.len(), names.len());
        assert!(side_by_side(&names, str::len, |_, _| bail!("enough")).is_err());
    }
}
