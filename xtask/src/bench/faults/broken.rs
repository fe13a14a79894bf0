//! Faults in machines: a measured program that fails, a machine that is killed, one that does not end, a full disk, and this program ended midway.
//!
//! Everything is built and written in a folder of its own, so that what is broken never mixes with what is measured.

use super::super::{
    Place, Side,
    figures::{Output, Void},
    machine::{self, Mode},
    ours, packages, peer,
    side::{self, Planned, Sides},
    suites::{Suite, Trees},
};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A program in the place of `nothing` that says the time and fails.
const FAILING: &str = "#include \"nolibc.h\"\n\
    __attribute__((noreturn)) void _start(void)\n\
    { u64 t = tsc(); sc3(1, 1, (long)&t, 8); sc3(231, 1, 0, 0); for (;;) ; }\n";

/// How long a quick suite may take.
const LIMIT: Duration = Duration::from_secs(280);
/// How long a machine runs before it is killed.
const MIDWAY: Duration = Duration::from_millis(1_000);
/// How long what was ended may take to be gone.
const ENDING: Duration = Duration::from_secs(1);
/// How long a run may take to start its machine.
const STARTING: Duration = Duration::from_secs(120);

/// A machine's fault.
struct Fault {
    name: &'static str,
    suite: &'static str,
    limit: Duration,
    /// Made before the machine starts, of the folder with the logs.
    before: fn(&Path, side: &str) -> Result<()>,
    /// Whether its machine is killed.
    is_killed: bool,
    /// What the reason says.
    reason: &'static str,
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "the measured program fails",
        suite: "start",
        limit: LIMIT,
        before: |_, _| Ok(()),
        is_killed: false,
        reason: "a measured program failed",
    },
    Fault {
        name: "the machine is killed",
        suite: "start",
        limit: LIMIT,
        before: |_, _| Ok(()),
        is_killed: true,
        reason: "the machine was killed by signal 9",
    },
    Fault {
        name: "the machine does not end",
        suite: "start",
        limit: Duration::from_secs(1),
        before: |_, _| Ok(()),
        is_killed: false,
        reason: "the machine did not end within 1 s",
    },
    Fault {
        name: "the disk is full",
        suite: "boot.q35",
        limit: LIMIT,
        before: |out, side| {
            let log = out.join(format!("{side}-boot.q35.log"));
            let _ = fs::remove_file(&log);
            symlink("/dev/full", log).context("no link to /dev/full")
        },
        is_killed: false,
        reason: "No space left on device",
    },
];

/// Makes every fault on the chosen sides; an error if one gets through.
pub(super) fn run(place: &Place, side: Side) -> Result<()> {
    let root = place.root.as_path();
    let out = place.out.join("broken");
    let _ = fs::remove_dir_all(&out);
    let sources = root.join("bench/linux");
    let qemu = machine::version()?;
    let programs = failing(&sources.join("src"), &out)?;
    println!("refused: a program that does not say when it began: {}", mute(&programs)?);
    if side != Side::Linux {
        let ours = ours::build(root, &out, &programs, &Trees::new())?;
        let sides = Sides {
            linux: None,
            ours: Some(&ours),
            out: &out,
            qemu: &qemu,
            quick: true,
            reuse: false,
            limit: LIMIT,
        };
        all("ours", &sides)?;
        for (name, signal) in [("killed", Signal::KILL), ("interrupted", Signal::INT)] {
            ended(place, signal).with_context(|| format!("a run that is {name}"))?;
            println!("ended:   a run that is {name} leaves no machine");
        }
    }
    if side != Side::Ours {
        let packages = place.out.join("linux/packages");
        let linux = peer::build(&sources, &packages, &out.join("linux"), &programs, &Trees::new())?;
        let sides = Sides {
            linux: Some(&linux),
            ours: None,
            out: &out,
            qemu: &qemu,
            quick: true,
            reuse: false,
            limit: LIMIT,
        };
        all("linux", &sides)?;
    }
    fs::remove_dir_all(&out)?;
    Ok(())
}

/// Compiles the measured programs, of which `nothing` fails.
fn failing(sources: &Path, out: &Path) -> Result<PathBuf> {
    let broken = out.join("src");
    fs::create_dir_all(&broken)?;
    for entry in fs::read_dir(sources)? {
        let path = entry?.path();
        fs::copy(&path, broken.join(path.file_name().unwrap_or_default()))?;
    }
    fs::write(broken.join("nothing.c"), FAILING)?;
    peer::compile(&broken, &out.join("programs"))
}

/// Why a start is refused whose program ends well and does not say when it began; the starter runs on this computer.
fn mute(programs: &Path) -> Result<String> {
    let mut starter = Command::new(programs.join("spawnb"));
    starter.args(["-s", "-n", "2", "-w", "0", "mute", "/bin/true"]);
    match Output::parse(&packages::output(&mut starter)?).figure("mute", "total", 1) {
        Err(void @ Void::ProgramFailed(_)) => Ok(void.reason()),
        other => bail!("a program that does not say when it began gave {other:?}"),
    }
}

/// Makes every machine's fault on one side.
fn all(side: &str, sides: &Sides<'_>) -> Result<()> {
    for fault in FAULTS {
        let sides = Sides { limit: fault.limit, ..*sides };
        let reason = refusal(fault, side, &sides)?;
        ensure!(reason.contains(fault.reason), "{side}, {}: the reason is {reason:?}", fault.name);
        println!("refused: {side:5} {:28} {reason}", fault.name);
    }
    Ok(())
}

/// Why the suite's figures were refused.
fn refusal(fault: &Fault, side: &str, sides: &Sides<'_>) -> Result<String> {
    (fault.before)(sides.out, side)?;
    let suite = Suite::named(fault.suite).next().context("no such suite")?;
    let flags = suite.flags(Mode::Icount, 1);
    let places = suite.places(true, Mode::Icount);
    let planned = [Planned { suite, flags, places, repetitions: 1 }];
    let runs = thread::scope(|scope| -> Result<_> {
        let killer = fault.is_killed.then(|| scope.spawn(kill_midway));
        let runs = sides.run(&planned);
        match killer.map(thread::ScopedJoinHandle::join) {
            Some(Err(_)) => bail!("{}: the thread that kills panicked", fault.name),
            Some(Ok(killed)) => killed.map(|()| runs),
            None => Ok(runs),
        }
    })?;
    ensure!(machines_of(std::process::id())?.is_empty(), "{}: a machine is left", fault.name);
    let figures = side::figures(&planned[0], runs.first().context("no run")?);
    // A side that runs alone has figures that are the other's only.
    match figures.iter().find_map(|figure| figure.void.clone()) {
        Some(reason) => Ok(reason),
        None => bail!("{side}, {}: nothing was refused", fault.name),
    }
}

/// Kills the machine that this program starts.
fn kill_midway() -> Result<()> {
    let machine = wait_for_machine(std::process::id())?;
    thread::sleep(MIDWAY);
    kill_process(machine, Signal::KILL).context("the machine cannot be killed")
}

/// Ends a run from outside by a signal and waits until its machine is gone.
fn ended(place: &Place, signal: Signal) -> Result<()> {
    // What a shell starts in the background ignores Ctrl-C, and so would what it starts.
    let mut run = Command::new("env")
        .arg("--default-signal=INT")
        .arg(std::env::current_exe()?)
        .args(["bench", "--suite", "idle", "--side", "ours", "--out"])
        .arg(place.out.join("broken/ended"))
        .current_dir(&place.root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let machine = wait_for_machine(run.id());
    // A machine that has nothing to say does not notice that nobody listens.
    thread::sleep(MIDWAY);
    let process = Pid::from_child(&run);
    kill_process(process, if machine.is_ok() { signal } else { Signal::KILL })?;
    let status = run.wait()?;
    ensure!(!status.success(), "it was a success");
    let machine = machine?;
    let end = Instant::now() + ENDING;
    while is_running(machine) {
        ensure!(Instant::now() < end, "its machine is left");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Whether a process has memory still: one that has ended may stay in the table for long.
fn is_running(process: Pid) -> bool {
    let line = format!("/proc/{}/cmdline", process.as_raw_nonzero());
    fs::read(line).is_ok_and(|line| !line.is_empty())
}

fn wait_for_machine(parent: u32) -> Result<Pid> {
    let end = Instant::now() + STARTING;
    loop {
        if let Some(machine) = machines_of(parent)?.first() {
            return Ok(*machine);
        }
        ensure!(Instant::now() < end, "no machine was started");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The machines that a process has started.
fn machines_of(parent: u32) -> Result<Vec<Pid>> {
    let mut machines = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(process) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        // PID (NAME) STATE PARENT ...; a process may end while it is looked at.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let is_machine = stat.contains("(qemu-system-x86)");
        let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let is_child = after.split_whitespace().nth(1) == Some(parent.to_string().as_str());
        if is_machine && is_child {
            machines.extend(Pid::from_raw(process));
        }
    }
    Ok(machines)
}
