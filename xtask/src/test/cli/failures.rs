//! What happens when something dies: the emulator, the daemon, the client, the disk.

use super::{
    Cases,
    home::{Bed, Home, IMAGE, Outcome, until},
    layout::{self, Compression},
};
use crate::oci::{self, Layer};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

pub(super) fn run(cases: &mut Cases<'_>) -> Result<()> {
    let bed = cases.bed;
    cases.case("two commands at once on a cold machine", |_| {
        let home = Home::with_image(bed, "cold")?;
        let outcomes = thread::scope(|scope| {
            let runs: Vec<_> =
                (0..2).map(|_| scope.spawn(|| home.shell(&[], "echo both"))).collect();
            runs.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        for outcome in outcomes {
            let outcome = outcome.ok().context("a thread panicked")?;
            outcome.is(0, "both\n", "")?;
        }
        home.emulator().map(|_| ())
    });
    cases.case("a killed emulator is noticed and another one started", |_| emulator(bed));
    cases.case("a killed daemon leaves no machine, and records that are true", |_| daemon(bed));
    cases.case("state survives the machine's stop", |_| survive(bed));
    cases.case("an interrupted start leaves nothing", |_| interrupted(bed));
    cases.case("a killed client leaves a container that can be found", |home| {
        let mut child = home
            .command(&["run", "--name", "orphan", IMAGE, "sh", "-c", "echo up; exec sleep 1000"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut up = [0; 3];
        if let Some(stdout) = &mut child.stdout {
            stdout.read_exact(&mut up)?;
        }
        child.kill()?;
        child.wait()?;
        home.run(&["ps"]).has("orphan")?;
        home.run(&["rm", "-f", "orphan"]).succeeds()
    });
    cases.case("an interrupted copy leaves nothing", interrupted_copy);
    cases.case(
        "a killed copy leaves nothing under its name, and the next one removes what it left",
        killed_copy,
    );
    cases.case("a full disk is named, and leaves nothing", |_| full_disk(bed));
    cases.case("a compartment that misbehaves hurts only itself", hostile);
    cases.case("a missing emulator is named", |_| {
        let home = Home::new(bed, "no-emulator")?;
        let source = format!("oci-archive:{}", bed.archive.display());
        let mut command = home.command(&["run", "--rm", &source, "true"]);
        let output = command.env("METT_QEMU", "/no/such/emulator").output()?;
        Outcome::new("run", output).refuses(125, "install QEMU")
    });
    Ok(())
}

fn emulator(bed: &Bed) -> Result<()> {
    let home = Home::with_image(bed, "emulator")?;
    home.sleeper("victim")?;
    let attached =
        home.command(&["attach", "--no-stdin", "victim"]).stderr(Stdio::piped()).spawn()?;
    let pid = home.emulator()?;
    Command::new("kill").args(["-9", &pid]).status()?;
    let outcome = Outcome::new("attach", attached.wait_with_output()?);
    outcome.ends(137)?;
    home.run(&["wait", "victim"]).is(0, "137\n", "")?;
    home.run(&["inspect", "victim"]).has("the machine has ended")?;
    home.shell(&[], "echo again").is(0, "again\n", "")?;
    ensure!(home.emulator()? != pid, "the dead emulator still counts");
    home.run(&["start", "victim"]).succeeds()?;
    home.run(&["ps"]).has("victim")
}

fn daemon(bed: &Bed) -> Result<()> {
    let home = Home::with_image(bed, "daemon")?;
    home.sleeper("victim")?;
    let emulator = home.emulator()?;
    let version = home.run(&["version"]);
    version.succeeds()?;
    let pid = fs::read_to_string(home.path.join("daemon.pid"))?;
    Command::new("kill").args(["-9", pid.trim()]).status()?;
    until("the machine has ended", || {
        Ok(!fs::exists(format!("/proc/{emulator}"))? || is_dead(&emulator))
    })?;
    home.run(&["ps", "-a"]).has("Exited (137)")?;
    home.run(&["inspect", "victim"]).has("the daemon was killed")?;
    home.run(&["logs", "victim"]).succeeds()?;
    home.run(&["start", "victim"]).succeeds()?;
    home.run(&["rm", "-f", "victim"]).succeeds()
}

/// Whether a process is only waited for.
fn is_dead(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

fn survive(bed: &Bed) -> Result<()> {
    let home = Home::with_image(bed, "survive")?;
    home.run(&["run", "--name", "kept", IMAGE, "sh", "-c", "echo said; touch /written; exit 3"])
        .ends(3)?;
    home.sleeper("running")?;
    let stopped = home.run(&["machine", "stop"]);
    stopped.succeeds()?;
    ensure!(
        stopped.stderr.contains("running") && stopped.stderr.contains("writable"),
        "{stopped:?}"
    );
    home.run(&["machine", "status"]).has("not running")?;
    home.run(&["ps", "-a"]).has("Exited (3)")?;
    home.run(&["logs", "kept"]).is(0, "said\n", "")?;
    home.run(&["wait", "kept"]).is(0, "3\n", "")?;
    home.run(&["image", "ls"]).has(IMAGE)?;
    home.run(&["start", "running"]).succeeds()?;
    home.run(&["exec", "running", "test", "-e", "/written"]).ends(1)?;
    home.run(&["machine", "start", "--memory", "64m"]).refuses(125, "at least")?;
    home.run(&["machine", "start", "--cpus", "1", "--memory", "512m"])
        .refuses(125, "stop it first")?;
    home.run(&["machine", "stop", "--force"]).succeeds()?;
    home.run(&["machine", "start", "--cpus", "999"]).refuses(125, "CPUs")?;
    home.run(&["machine", "start", "--cpus", "1", "--memory", "512m"]).succeeds()?;
    home.run(&["machine", "status"]).has("(1 CPUs)")?;
    home.run(&["machine", "logs"]).has("root:")
}

/// Ctrl-C at several moments of a start on a cold machine: nothing is left running, and the next start works.
fn interrupted(bed: &Bed) -> Result<()> {
    let home = Home::new(bed, "interrupted")?;
    let source = format!("oci-archive:{}", bed.archive.display());
    for milliseconds in [5, 30, 80, 150, 300, 600] {
        let child = home
            // Under an init, because process 1 does not die of signals it does not handle.
            .command(&["run", "--rm", "--init", &source, "sleep", "1000"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        thread::sleep(Duration::from_millis(milliseconds));
        Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
        let outcome = Outcome::new("run", child.wait_with_output()?);
        ensure!(outcome.status != 0, "an interrupted start succeeded");
        until("the container is gone", || Ok(home.run(&["ps", "-q"]).text().is_empty()))?;
    }
    until("nothing is left", || Ok(home.run(&["ps", "-aq"]).text().is_empty()))?;
    home.run(&["run", "--rm", &source, "echo", "fine"]).is(0, "fine\n", "")
}

fn interrupted_copy(home: &Home<'_>) -> Result<()> {
    home.sleeper("copied")?;
    let fill = ["exec", "copied", "dd", "if=/dev/zero", "of=/large", "bs=1M", "count=100"];
    home.run(&fill).succeeds()?;
    let folder = home.path.join("copies");
    fs::create_dir(&folder)?;
    let mut command = home.command(&["cp", "copied:/large", "here"]);
    let child =
        command.current_dir(&folder).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    until("it has begun", || Ok(fs::read_dir(&folder)?.count() > 0))?;
    Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
    Outcome::new("cp", child.wait_with_output()?).is(130, "", "")?;
    let left = fs::read_dir(&folder)?.count();
    ensure!(left == 0, "{left} files are left");
    home.run(&["exec", "copied", "ls", "/large"]).succeeds()?;
    home.run(&["rm", "-f", "copied"]).succeeds()
}

fn killed_copy(home: &Home<'_>) -> Result<()> {
    home.sleeper("copied")?;
    let fill = "dd if=/dev/zero of=/large bs=1M count=100; mkdir /small; echo small > /small/f";
    home.run(&["exec", "copied", "sh", "-c", fill]).succeeds()?;
    let folder = home.path.join("killed");
    fs::create_dir_all(folder.join("into"))?;
    let names = |folder: &Path| -> Result<Vec<String>> {
        let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into_string()));
        let names: Result<Vec<_>> = names.collect();
        Ok(names?.into_iter().flatten().filter(|name| name != "into").collect())
    };
    // To a new name, and into a folder.
    for (target, place) in [("here", folder.clone()), ("into", folder.join("into"))] {
        let mut command = home.command(&["cp", "copied:/large", target]);
        let mut child = command.current_dir(&folder).stdout(Stdio::null()).spawn()?;
        until("it has begun", || Ok(!names(&place)?.is_empty()))?;
        child.kill()?;
        child.wait()?;
        let left = names(&place)?;
        ensure!(left.len() == 1 && left[0].starts_with(".mett-cp-"), "{left:?}");
        let mut command = home.command(&["cp", "copied:/small/f", target]);
        let next = command.current_dir(&folder).output()?;
        Outcome::new("cp", next).is(0, "", "")?;
        let expected = if target == "here" { "here" } else { "f" };
        let left = names(&place)?;
        ensure!(left == [expected], "{left:?}");
    }
    home.run(&["rm", "-f", "copied"]).succeeds()
}

/// A home on a small file system in a mount namespace of its own: an import that does not fit, and then a disk that is full to its last
/// byte, on which a new daemon still lists and removes, and says what keeps it from more.
fn full_disk(bed: &Bed) -> Result<()> {
    let home = Home::new(bed, "full")?;
    let root = Command::new("id").arg("-u").output()?.stdout == b"0\n";
    let source = format!("oci-archive:{}", bed.archive.display());
    let script = "mount -t tmpfs -o size=4m tmpfs \"$METT_HOME\" && chmod 700 \"$METT_HOME\"
        end() { kill $(cat \"$METT_HOME\"/daemon.pid); while [ -S \"$METT_HOME\"/daemon.sock ]; do sleep 0.05; done; }
        \"$0\" image import \"$1\" fits && end
        dd if=/dev/zero of=\"$METT_HOME\"/fill bs=1M 2>&- ; dd if=/dev/zero bs=4k 2>&- >> \"$METT_HOME\"/fill
        \"$0\" image import \"$1\" again; \"$0\" create --name made fits; \"$0\" ps -aq
        \"$0\" image rm fits && \"$0\" image ls --format json && exec \"$0\" image import \"$2\"";
    let mut command = Command::new("unshare");
    if !root {
        command.arg("--map-root-user");
    }
    let large = layout::write_folder(bed, "large", &large()?)?;
    let output = command
        .args(["--mount", "sh", "-c", script])
        .arg(&bed.program)
        .args([&source, &large])
        .env("METT_HOME", &home.path)
        .stdin(Stdio::null())
        .output()
        .context("unshare cannot be started")?;
    let outcome = Outcome::new("on a full disk", output);
    outcome.is(125, "fits:latest\nfits\n", "full")?;
    let reasons: Vec<&str> = outcome.stderr.lines().collect();
    ensure!(reasons.len() == 3 && reasons.iter().all(|line| line.contains("full")), "{reasons:?}");
    Ok(())
}

/// An image that has 8 MiB.
fn large() -> Result<Vec<(String, Vec<u8>)>> {
    let mut layer = Layer::default();
    layer.file("large", 0o644, &vec![7; 8 << 20])?;
    let layer = layout::store(layer.finish()?, Compression::Gzip)?;
    oci::files(&[layer], &json!({ "Env": ["PATH=/bin"] }))
}

fn hostile(home: &Home<'_>) -> Result<()> {
    home.sleeper("neighbour")?;
    let cases: [(&str, &[&str], &str); 5] = [
        ("fork", &["--pids-limit", "100"], ":() { : | : & }; : ; sleep 1; exit 0"),
        ("spin", &["--cpus", "0.5"], "while :; do :; done & while :; do :; done & sleep 1; exit 0"),
        ("memory", &["-m", "24m"], "dd if=/dev/zero of=/fill bs=1M count=100 2>/dev/null; exit 0"),
        (
            "pipes",
            &["-m", "64m"],
            "i=0; while [ $i -lt 300 ]; do sleep 3 | sleep 3 & i=$((i+1)); done; exit 0",
        ),
        ("flood", &[], "yes | head -c 3000000; exit 0"),
    ];
    for (name, options, script) in cases {
        let outcome = home.shell(options, script);
        ensure!(outcome.status >= 0, "{name}: {outcome:?}");
        home.run(&["exec", "neighbour", "echo", "well"]).is(0, "well\n", "")?;
    }
    let ignoring = "trap '' INT TERM HUP QUIT; while :; do :; done";
    home.run(&["run", "-d", "--name", "ignoring", IMAGE, "sh", "-c", ignoring]).succeeds()?;
    home.run(&["kill", "ignoring"]).succeeds()?;
    home.run(&["wait", "ignoring"]).is(0, "137\n", "")?;
    home.run(&["rm", "-f", "ignoring", "neighbour"]).succeeds()
}
