//! Compartments at the limit of their memory: the kill happens inside and is reported as such, files and processes get Linux's errors, and neither the
//! personality nor a neighbour suffers.

use super::{
    Cases,
    home::{Bed, Home, IMAGE, Outcome, until},
};
use anyhow::{Context, Result, bail, ensure};
use std::{fs, process::Command};

/// Doubles a variable until there is no memory left.
const GROW: &str = "x=aaaaaaaa; while :; do x=$x$x; done";
/// What the sweep inside tries (`tests/faults/sweep.c`).
const OPERATIONS: [&str; 8] =
    ["fork", "exec", "pipes", "files", "folders", "sockets", "events", "maps"];
/// Exit status of a personality that failed: never right.
const CRASHED: i32 = 134;

pub(super) fn run(cases: &mut Cases<'_>) -> Result<()> {
    // A machine of their own: what other cases leave running would be counted too.
    let home = Home::with_image(cases.bed, "exhaustion")?;
    // The third start finds the image's template, which stays.
    for _ in 0..4 {
        home.shell(&[], "true").succeeds()?;
    }
    let before = home.counts()?;
    home.sleeper("neighbour")?;
    cases.case("a first process that grows without end is killed", |_| first(&home));
    cases.case("a child that grows without end is killed and its parent goes on", |_| {
        let script = format!("sh -c '{GROW}'; echo child $?; echo on > /tmp/x && cat /tmp/x");
        home.shell(&["-m", "32m"], &script).is(0, "child 137\non\n", "Killed\n")
    });
    cases.case("the largest process is killed, not the one that asks last", |_| {
        largest(&home, "0", "large 137, small 0\n")
    });
    cases.case("a process that offers itself is killed before a larger one", |_| {
        largest(&home, "1000", "large 0, small 137\n")
    });
    cases.case("a file system that is full says so and can be emptied", |_| {
        let script = "dd if=/dev/zero of=/tmp/a bs=64k 2>/tmp/e; echo $?; rm /tmp/a; tail -n 1 /tmp/e; dd if=/dev/zero of=/tmp/b bs=1M count=8 2>/dev/null; echo $?";
        let outcome = home.shell(&["-m", "32m"], script);
        outcome.ends(0)?;
        let said = outcome.text();
        ensure!(said.starts_with("1\n") && said.ends_with("0\n"), "{outcome:?}");
        ensure!(outcome.stderr.is_empty(), "{outcome:?}");
        Ok(())
    });
    for (name, script) in [
        ("pipelines", "i=0; while [ $i -lt 400 ]; do sleep 9 | sleep 9 & i=$((i+1)); done"),
        ("full pipes", "i=0; while [ $i -lt 200 ]; do yes | sleep 9 & i=$((i+1)); done"),
        ("processes", "f() { f | f & }; f; sleep 3"),
        ("files", "i=0; while [ $i -lt 100000 ]; do > /tmp/$i || exit 0; i=$((i+1)); done"),
        ("folders", "cd /tmp; while mkdir d; do cd d; done"),
        ("words", "i=0; while :; do export V$i=\"$(seq 500)\" || exit 0; i=$((i+1)); done"),
    ] {
        cases.case(&format!("{name} without end hurt only their compartment"), |_| {
            bounded(&home, name, script)
        });
    }
    let swept = sweeper(cases.bed)?;
    for operation in OPERATIONS {
        cases.case(
            &format!("{operation} with every amount of memory leave nothing behind"),
            |_| {
                let arguments =
                    ["run", "--rm", "-m", "16m", swept.as_str(), "/bin/sweep", operation];
                let outcome = home.run(&arguments);
                println!("    {}", outcome.text().trim());
                outcome.ends(0)
            },
        );
    }
    cases.case("what they held is given back", |_| {
        home.run(&["rm", "-f", "neighbour"]).succeeds()?;
        let mut now = before;
        until("the machine is as it was", || {
            now = home.counts()?;
            // The image of the sweep has got a template: one Space.
            Ok(now.1 <= before.1 + 1 && now.2 + (1 << 20) >= before.2)
        })
        .with_context(|| format!("containers, objects, free bytes: {before:?} became {now:?}"))
    });
    Ok(())
}

/// An image with the fault sweep that runs inside.
fn sweeper(bed: &Bed) -> Result<String> {
    let folder = bed.folder.join("sweep");
    fs::create_dir_all(folder.join("bin"))?;
    fs::create_dir_all(folder.join("tmp"))?;
    let compiled = Command::new("gcc")
        .args(["-O1", "-static", "-w", "-o"])
        .arg(folder.join("bin/sweep"))
        .arg(bed.root.join("tests/faults/sweep.c"))
        .status()
        .context("gcc cannot be started")?;
    ensure!(compiled.success(), "tests/faults/sweep.c does not compile");
    Ok(format!("rootfs:{}", folder.display()))
}

/// One process holds 20 MiB when another, whose `oom_score_adj` is given, wants 16 MiB, in 32 MiB.
fn largest(home: &Home<'_>, adjustment: &str, expected: &str) -> Result<()> {
    let script = format!(
        "mkfifo /tmp/f; (dd if=/dev/zero bs=20M count=1 2>/dev/null; echo $? > /tmp/large) > /tmp/f & exec 3< /tmp/f; head -c 1 <&3 > /dev/null; \
         (echo {adjustment} > /proc/self/oom_score_adj; dd if=/dev/zero of=/dev/null bs=16M count=1 2>/dev/null); small=$?; \
         cat <&3 > /dev/null; wait; echo large $(cat /tmp/large), small $small"
    );
    let outcome = home.shell(&["-m", "32m"], &script);
    outcome.ends(0)?;
    ensure!(outcome.text() == expected, "{outcome:?}");
    Ok(())
}

fn first(home: &Home<'_>) -> Result<()> {
    home.run(&["run", "--name", "grows", "-m", "32m", IMAGE, "sh", "-c", GROW]).ends(137)?;
    home.run(&["inspect", "grows"]).has("\"OOMKilled\": true")?;
    home.run(&["rm", "grows"]).succeeds()
}

/// A compartment that wants more than it has ends by itself or is killed within seconds, without a failure of its personality; its neighbour goes on meanwhile.
fn bounded(home: &Home<'_>, name: &str, script: &str) -> Result<()> {
    let detached = ["run", "-d", "--name", "hog", "-m", "24m", IMAGE, "sh", "-c", script];
    home.run(&detached).succeeds()?;
    for _ in 0..3 {
        home.run(&["exec", "neighbour", "echo", "well"]).is(0, "well\n", "")?;
        std::thread::sleep(std::time::Duration::from_millis(700));
    }
    home.run(&["kill", "hog"]);
    let ended: Outcome = home.run(&["wait", "hog"]);
    ended.succeeds()?;
    let status = ended.text().trim().parse().unwrap_or(CRASHED);
    home.run(&["rm", "-f", "hog"]).succeeds()?;
    if status == CRASHED {
        let logs = home.run(&["machine", "logs"]).text();
        let last: Vec<&str> = logs.lines().rev().take(20).collect();
        bail!("{name}: the personality failed; the machine's log, last line first: {last:#?}");
    }
    Ok(())
}
