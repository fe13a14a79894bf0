//! `cargo xtask bench --verify`: starts counted in another way than by the programs that are measured.
//!
//! The figures are what programs read from the TSC. Here a plugin of QEMU counts every instruction that the machine executes and tells how many came
//! before each RDTSC; which of those lie before a launch and which are the first instructions of `nothing` is known from the executable files alone. The runs
//! are those of the suite `start` in a quick run, so both numbers are of the same starts. Owns: the plugin's use, pairs of marks, the
//! comparison. Must not know: how a figure is read from the TSC.

use super::{
    Place, Side,
    figures::Output,
    machine::{self, Machine, Mode},
    names::Names,
    ours, packages, peer,
    report::number,
    side::{LINUX_SUCCESS, OURS_SUCCESS, Planned},
    suites::{Suite, Trees},
};
use crate::build;
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

/// How long a machine may take: counting makes it several times slower.
const LIMIT: Duration = Duration::from_secs(1_800);
/// How far the two numbers may lie apart, as a share: the plugin counts an instruction that faulted and ran again twice, the TSC once.
const TOLERANCE: f64 = 0.002;

/// A figure: whose starts of a run it is.
struct Figure {
    name: &'static str,
    /// What the run prints its samples as.
    printed: &'static str,
    /// Starts that do not count before those that do.
    warm: usize,
    samples: usize,
    /// Whether the run's last starts are its own; else those that follow the figure before it.
    is_last: bool,
}

const LINUX: &[Figure] = &[
    Figure { name: "process", printed: "spawn.static", warm: 3, samples: 40, is_last: false },
    Figure { name: "crun", printed: "crun.seq", warm: 2, samples: 20, is_last: true },
];
const OURS: &[Figure] = &[
    Figure {
        name: "compartment",
        printed: "compartment.seq",
        warm: 3,
        samples: 20,
        is_last: false,
    },
    Figure {
        name: "process in a compartment",
        printed: "spawn.static",
        warm: 3,
        samples: 40,
        is_last: false,
    },
    Figure {
        name: "compartment of a new image",
        printed: "compartment.new",
        warm: 0,
        samples: 8,
        is_last: false,
    },
];

/// Where the programs that launch read the TSC last before it, and where `nothing` begins.
const LAUNCHES: [(&str, &str); 2] = [("bench", "bench::client::Client::say"), ("spawnb", "main")];
const FIRST: (&str, &str) = ("nothing", "_start");

/// What an RDTSC is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// The launch follows it.
    Launch,
    /// It is the first instruction of `nothing`.
    First,
}

/// Runs the suite `start` of the chosen sides with the plugin; an error if the numbers lie too far apart.
pub(super) fn run(place: &Place, side: Side, seed: u32) -> Result<()> {
    let (root, out) = (place.root.as_path(), place.out.as_path());
    let programs = peer::compile(&root.join("bench/linux/src"), &out.join("programs"))?;
    let plugin = plugin(root, out)?;
    let suite = Suite::named("start").next().context("no such suite")?;
    let flags = suite.flags(Mode::Icount, seed);
    let places = suite.places(true, Mode::Icount);
    let planned = Planned { suite, flags, places, repetitions: 1 };
    let counter = Counter { out, plugin: &plugin, planned: &planned };
    let native = [("bench", build::release(root).join("bench"))];
    let measured = ["spawnb", "nothing"].map(|name| (name, programs.join(name)));
    let names = Names::read(&[native.as_slice(), &measured].concat())?;
    let address = |(program, function): (&'static str, &str)| {
        let found = names.address(program, function);
        found.with_context(|| format!("{program} has no {function}")).map(|start| (program, start))
    };
    let (_, first) = address(FIRST)?;
    let launches = [address(LAUNCHES[0])?, address(LAUNCHES[1])?];
    // `spawnb` and `nothing` lie at the same addresses; only one of them begins with an RDTSC.
    let mark = |address: u64| match address == first {
        true => Some(Mark::First),
        false => launches.contains(&names.function(address)).then_some(Mark::Launch),
    };
    let linux = || -> Result<Counted> {
        let (debs, folder) = (out.join("linux/packages"), out.join("linux"));
        let peer =
            peer::build(&root.join("bench/linux"), &debs, &folder, &programs, &Trees::new())?;
        let (line, kernel) = (planned.line_of_linux(true), peer.kernel.as_path());
        counter.run("linux", kernel, peer.image(suite.boot)?, &line, LINUX_SUCCESS)
    };
    let ours = || -> Result<Counted> {
        let ours = ours::build(root, out, &programs, &Trees::new())?;
        let module = ours.module(suite.boot)?;
        let line = planned.line_of_ours(true, module);
        counter.run("ours", ours.kernel(suite)?, &module.file, &line, OURS_SUCCESS)
    };
    let (linux, ours) = thread::scope(|scope| {
        let linux = (side != Side::Ours).then(|| scope.spawn(linux));
        let ours = (side != Side::Linux).then(ours);
        (linux.map(thread::ScopedJoinHandle::join), ours)
    });
    let linux = linux.transpose();
    let linux = linux.map_err(|_| anyhow::anyhow!("the thread that ran Linux panicked"))?;
    println!("start of nothing, instructions     starts    by the TSC      counted   most apart");
    let mut apart = Vec::new();
    for (counted, figures) in [(linux, LINUX), (ours, OURS)] {
        let Some(counted) = counted.transpose()? else { continue };
        let pairs = pairs(&counted.marks, mark)?;
        for (figure, pairs) in figures.iter().zip(split(&pairs, figures)?) {
            apart.push(compare(figure, &counted.output, pairs)?);
        }
    }
    match apart.into_iter().reduce(f64::max) {
        Some(apart) if apart <= TOLERANCE => Ok(()),
        Some(_) => bail!("the numbers lie more than {} % apart", TOLERANCE * 100.0),
        None => bail!("nothing was counted"),
    }
}

/// Builds the plugin.
fn plugin(root: &Path, out: &Path) -> Result<PathBuf> {
    let file = out.join("count.so");
    packages::output(
        Command::new("gcc")
            .args("-O2 -shared -fPIC -fvisibility=hidden".split(' '))
            .arg(format!("-DVERSION={}", interface(&machine::version()?)?))
            .arg("-o")
            .arg(&file)
            .arg(root.join("bench/verify/count.c")),
    )?;
    Ok(file)
}

/// The version of the plugins' interface that a QEMU accepts.
fn interface(qemu: &str) -> Result<u32> {
    let version = qemu.split_whitespace().find_map(|word| word.split_once('.'));
    let major = version.and_then(|(major, _)| major.parse::<u32>().ok());
    let major = major.with_context(|| format!("{qemu:?} is no version of QEMU"))?;
    Ok(if major < 9 { 1 } else { 2 })
}

/// A run with the plugin.
struct Counted {
    output: Output,
    /// For each RDTSC outside the kernel how many instructions came before it, and its address.
    marks: Vec<(u64, u64)>,
}

struct Counter<'a> {
    out: &'a Path,
    plugin: &'a Path,
    planned: &'a Planned,
}

impl Counter<'_> {
    fn run(
        &self,
        side: &str,
        kernel: &Path,
        image: &Path,
        line: &str,
        success: i32,
    ) -> Result<Counted> {
        let file = self.out.join(format!("{side}-counts.txt"));
        // QEMU takes a comma for the end of a value, and two for one.
        let value = format!("{},to={}", escaped(self.plugin), escaped(&file));
        let more = ["-plugin".to_owned(), value];
        let machine =
            Machine { flags: &self.planned.flags, kernel, image, line, more: &more, success };
        eprintln!("  {side}: counting");
        let ended = machine.run(LIMIT, |_| ())?;
        if let Some(fault) = ended.fault {
            bail!("{side}: {fault}; it printed:\n{}", machine::tail(&ended.text));
        }
        let text = fs::read_to_string(&file)
            .with_context(|| format!("the plugin left no {}", file.display()))?;
        let marks = text.lines().map(|line| {
            let (count, address) = line.split_once(' ')?;
            Some((count.parse().ok()?, u64::from_str_radix(address, 16).ok()?))
        });
        let marks = marks.collect::<Option<_>>();
        let marks = marks.with_context(|| format!("{} is malformed", file.display()))?;
        fs::remove_file(&file)?;
        Ok(Counted { output: Output::parse(&ended.text), marks })
    }
}

fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// Instructions from the last mark of a launch to each first instruction of `nothing`, in order.
fn pairs(marks: &[(u64, u64)], mark: impl Fn(u64) -> Option<Mark>) -> Result<Vec<u64>> {
    let (mut launch, mut pairs) = (None, Vec::new());
    for (count, address) in marks {
        match mark(*address) {
            Some(Mark::Launch) => launch = Some(*count),
            Some(Mark::First) => {
                pairs.push(count - launch.context("nothing began before the first launch")?);
            }
            None => {}
        }
    }
    Ok(pairs)
}

/// The starts of each figure that count.
fn split<'a>(pairs: &'a [u64], figures: &[Figure]) -> Result<Vec<&'a [u64]>> {
    let mut at = 0;
    let mut each = Vec::new();
    for figure in figures {
        let own = figure.warm + figure.samples;
        if figure.is_last {
            at = pairs.len().saturating_sub(own);
        }
        let counted = pairs.get(at + figure.warm..at + own);
        each.push(counted.with_context(|| format!("{}: too few starts", figure.name))?);
        at += own;
    }
    Ok(each)
}

/// Prints both numbers of a figure; how far they lie apart at most, as a share.
fn compare(figure: &Figure, output: &Output, counted: &[u64]) -> Result<f64> {
    let told = output.figure(figure.printed, "start", figure.samples as u64);
    told.map_err(|void| anyhow::anyhow!("{}: {}", figure.name, void.reason()))?;
    let mut told = output.values(figure.printed, "start").unwrap_or_default().to_vec();
    let mut counted: Vec<f64> = counted.iter().map(|count| *count as f64).collect();
    let (many, few) = (told.len(), counted.len());
    ensure!(many == few, "{}: {many} samples were told and {few} counted", figure.name);
    told.sort_by(f64::total_cmp);
    counted.sort_by(f64::total_cmp);
    let apart = told.iter().zip(&counted).map(|(told, counted)| (counted - told).abs() / told);
    let apart = apart.fold(0.0, f64::max);
    println!(
        "  {:32} {many:6} {:>13} {:>12} {:10.3} %",
        figure.name,
        number(told[many / 2]),
        number(counted[few / 2]),
        apart * 100.0
    );
    Ok(apart)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIGURES: [Figure; 2] = [
        Figure { name: "a", printed: "a", warm: 1, samples: 2, is_last: false },
        Figure { name: "b", printed: "b", warm: 0, samples: 1, is_last: true },
    ];

    fn mark(address: u64) -> Option<Mark> {
        [None, Some(Mark::Launch), Some(Mark::First)].get(address as usize).copied().flatten()
    }

    #[test]
    fn the_last_launch_counts() {
        let marks = [(1, 1), (5, 1), (6, 0), (9, 2), (10, 1), (17, 2)];
        assert_eq!(pairs(&marks, mark).unwrap(), [4, 7]);
        assert!(pairs(&[(9, 2)], mark).is_err());
    }

    #[test]
    fn figures_have_the_starts_that_are_theirs() {
        assert_eq!(split(&[9, 1, 2, 8, 8, 3], &FIGURES).unwrap(), [&[1, 2][..], &[3]]);
        assert!(split(&[9, 1], &FIGURES).is_err());
    }

    #[test]
    fn numbers_that_differ_are_seen() {
        let text = "S begin x\nR a start n=2 min=100 p50=200 p99=200 max=200 mean=150\nV a start 100 200\nS end x\n";
        let output = Output::parse(text);
        assert_eq!(compare(&FIGURES[0], &output, &[200, 100]).unwrap(), 0.0);
        assert_eq!(compare(&FIGURES[0], &output, &[210, 100]).unwrap(), 0.05);
        assert!(compare(&FIGURES[0], &output, &[100]).is_err());
        assert!(compare(&FIGURES[1], &output, &[100]).is_err());
    }

    #[test]
    fn the_interface_is_that_of_the_emulator() {
        assert_eq!(interface("QEMU emulator version 7.2.22 (Debian 1:7.2)").unwrap(), 1);
        assert_eq!(interface("QEMU emulator version 10.0.3").unwrap(), 2);
        assert!(interface("other").is_err());
    }
}
