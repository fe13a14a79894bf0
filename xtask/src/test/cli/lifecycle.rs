//! Every verb on containers: what it does, what it prints, how it refuses.

use super::{
    Cases,
    home::{Home, IMAGE, until},
};
use anyhow::{Context as _, Result, ensure};
use std::fs;

pub(super) fn run(cases: &mut Cases<'_>) -> Result<()> {
    cases.case("a container is created, started, waited for and removed", |home| {
        home.run(&["create", "--name", "stages", IMAGE, "sh", "-c", "echo hi; exit 3"])
            .succeeds()?;
        home.run(&["ps", "-a"]).has("Created")?;
        home.run(&["start", "-a", "stages"]).is(3, "hi\n", "")?;
        home.run(&["wait", "stages"]).is(0, "3\n", "")?;
        home.run(&["start", "stages"]).is(0, "stages\n", "")?;
        home.run(&["wait", "stages"]).is(0, "3\n", "")?;
        home.run(&["logs", "stages"]).is(0, "hi\nhi\n", "")?;
        home.run(&["rm", "stages"]).is(0, "stages\n", "")?;
        home.run(&["rm", "stages"]).refuses(1, "no such container: stages")
    });
    cases.case("stop asks and then kills", stop);
    cases.case("kill sends any signal", |home| {
        let script = "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.1; done";
        home.run(&["run", "-d", "--name", "signalled", IMAGE, "sh", "-c", script]).succeeds()?;
        until("ready", || Ok(home.run(&["logs", "signalled"]).text().contains("ready")))?;
        home.run(&["kill", "-s", "USR1", "signalled"]).succeeds()?;
        until("told", || Ok(home.run(&["logs", "signalled"]).text().contains("usr1")))?;
        home.run(&["kill", "signalled"]).succeeds()?;
        home.run(&["wait", "signalled"]).is(0, "137\n", "")?;
        home.run(&["kill", "signalled"]).refuses(1, "is not running")?;
        home.run(&["rm", "signalled"]).succeeds()
    });
    cases.case("names are unique, checked and can be changed", |home| {
        home.sleeper("first")?;
        home.run(&["create", "--name", "first", IMAGE]).refuses(1, "already in use")?;
        home.run(&["create", "--name", "no/good", IMAGE])
            .refuses(125, "not a valid container name")?;
        home.run(&["rename", "first", "second"]).succeeds()?;
        home.run(&["exec", "first", "true"]).refuses(1, "no such container")?;
        home.run(&["exec", "second", "true"]).succeeds()?;
        home.run(&["rm", "second"]).refuses(1, "is running")?;
        home.run(&["rm", "-f", "second"]).succeeds()
    });
    cases.case("restart begins again", |home| {
        home.run(&["run", "-d", "--name", "again", IMAGE, "sh", "-c", "echo up; exec sleep 100"])
            .succeeds()?;
        home.run(&["restart", "-t", "0", "again"]).succeeds()?;
        until("twice", || Ok(home.run(&["logs", "again"]).text() == "up\nup\n"))?;
        home.run(&["rm", "-f", "again"]).succeeds()
    });
    cases.case("exec runs in the container", exec);
    cases.case("top, stats, update and inspect tell the truth", tell);
    cases.case("files are copied both ways", copy);
    cases.case("what a container holds can be listed and drawn", |home| {
        home.sleeper("holder")?;
        home.run(&["inspect", "--caps", "holder"]).has("layer.0")?;
        let json = home.run(&["inspect", "--caps", "--format", "json", "holder"]);
        json.succeeds()?;
        for line in json.text().lines() {
            let record: serde_json::Value = serde_json::from_str(line)?;
            ensure!(record.get("rights").is_some_and(serde_json::Value::is_array), "{line}");
        }
        home.run(&["inspect", "--caps", "--format", "svg", "holder"]).has("</svg>")?;
        home.run(&["system", "caps"]).has("compartments")?;
        home.run(&["system", "caps", "--format", "svg"]).has("</svg>")?;
        home.run(&["rm", "-f", "holder"]).succeeds()
    });
    cases.case("what a container missed of Linux can be listed", |home| {
        home.sleeper("misses")?;
        home.run(&["exec", "misses", "unshare", "-n", "true"]).ends(1)?;
        home.run(&["exec", "misses", "unshare", "-n", "true"]).ends(1)?;
        home.run(&["inspect", "--gaps", "misses"]).has("unshare: new namespaces")?;
        let json = home.run(&["inspect", "--gaps", "--format", "json", "misses"]).text();
        let line = json.lines().find(|line| line.contains("unshare")).context("no gap")?;
        let gap: serde_json::Value = serde_json::from_str(line)?;
        ensure!(gap["count"] == 2 && gap["gap"] == "unshare: new namespaces", "{gap}");
        home.run(&["rm", "-f", "misses"]).succeeds()?;
        home.run(&["inspect", "--gaps", "misses"]).refuses(1, "no such container")
    });
    cases.case("prune removes what does not run", |home| {
        home.run(&["create", "--name", "idle", IMAGE]).succeeds()?;
        home.sleeper("busy")?;
        home.run(&["prune"]).refuses(125, "--force")?;
        home.run(&["prune", "-f"]).succeeds()?;
        let left = home.run(&["ps", "-a"]).text();
        ensure!(left.contains("busy") && !left.contains("idle"), "{left}");
        home.run(&["rm", "-f", "busy"]).succeeds()
    });
    cases.case("help, versions and completions", |home| {
        home.run(&["--help"]).has("Examples:")?;
        home.run(&["run", "--help"]).has("Example")?;
        home.run(&["version"]).has("Client:   ")?;
        home.run(&["version", "--format", "json"]).has("\"Client\":\"")?;
        home.run(&["machine", "logs", "--tail", "0"]).is(0, "", "")?;
        for shell in ["bash", "zsh", "fish"] {
            home.run(&["completion", shell]).has("mett")?;
        }
        Ok(())
    });
    cases.case("a bundle for a bug report has no secrets", diag);
    Ok(())
}

fn stop(home: &Home<'_>) -> Result<()> {
    let polite = "trap 'exit 4' TERM; echo ready; while :; do sleep 0.1; done";
    home.run(&["run", "-d", "--name", "polite", IMAGE, "sh", "-c", polite]).succeeds()?;
    until("ready", || Ok(home.run(&["logs", "polite"]).text() == "ready\n"))?;
    home.run(&["stop", "polite"]).succeeds()?;
    home.run(&["wait", "polite"]).is(0, "4\n", "")?;
    home.run(&["run", "-d", "--name", "deaf", IMAGE, "sh", "-c", "trap '' TERM; sleep 1000"])
        .succeeds()?;
    home.run(&["stop", "-t", "1", "deaf"]).succeeds()?;
    home.run(&["wait", "deaf"]).is(0, "137\n", "")?;
    let own = "trap 'exit 5' QUIT; echo ready; while :; do sleep 0.1; done";
    home.run(&["run", "-d", "--name", "own", "--stop-signal", "QUIT", IMAGE, "sh", "-c", own])
        .succeeds()?;
    until("ready", || Ok(home.run(&["logs", "own"]).text() == "ready\n"))?;
    home.run(&["stop", "own"]).succeeds()?;
    home.run(&["wait", "own"]).is(0, "5\n", "")?;
    home.run(&["rm", "polite", "deaf", "own"]).succeeds()
}

fn exec(home: &Home<'_>) -> Result<()> {
    home.run(&["run", "-d", "--name", "host", "-e", "A=1", IMAGE, "sleep", "1000"]).succeeds()?;
    home.run(&["exec", "host", "sh", "-c", "echo $A; exit 9"]).is(9, "1\n", "")?;
    home.run(&[
        "exec",
        "-e",
        "A=2",
        "-w",
        "/tmp",
        "-u",
        "nobody",
        "host",
        "sh",
        "-c",
        "echo $A; pwd; id -u",
    ])
    .is(0, "2\n/tmp\n65534\n", "")?;
    home.feed(&["exec", "-i", "host", "cat"], b"through").is(0, "through", "")?;
    home.run(&["exec", "-d", "host", "touch", "/made"]).succeeds()?;
    until("made", || Ok(home.run(&["exec", "host", "test", "-e", "/made"]).status == 0))?;
    home.run(&["exec", "host", "nosuch"]).refuses(127, "not found")?;
    home.run(&["exec", "host", "/etc/passwd"]).refuses(126, "permission denied")?;
    home.run(&["exec", "-u", "ghost", "host", "id"]).refuses(125, "ghost")?;
    home.run(&["rm", "-f", "host"]).succeeds()?;
    home.run(&["exec", "host", "true"]).refuses(1, "no such container")
}

/// Tasks are counted as docker does: those of Linux, dead ones that nobody has waited for among them, and none of the system's own.
fn counted(home: &Home<'_>) -> Result<()> {
    let count = || -> Result<u64> {
        let stats = home.run(&["stats", "--no-stream", "--format", "json", "told"]);
        stats.succeeds()?;
        let value: serde_json::Value = serde_json::from_slice(&stats.stdout)?;
        value.get("PIDs").and_then(serde_json::Value::as_u64).context("no PIDs")
    };
    ensure!(count()? == 1, "{} tasks of one sleeper", count()?);
    // An alarm makes the system's own thread for timers; the child of the second is dead when its parent has become another program.
    for script in ["exec timeout 900 sleep 1000", "sleep 0 & exec sleep 1000"] {
        home.run(&["exec", "-d", "told", "sh", "-c", script]).succeeds()?;
    }
    until("1 and 2 of timeout and 2 tasks", || Ok(count()? == 5))
}

fn tell(home: &Home<'_>) -> Result<()> {
    home.sleeper("told")?;
    home.run(&["top", "told"]).has("sleep 1000")?;
    home.run(&["top", "told", "-ef"]).has("UID")?;
    let columns = home.run(&["top", "told", "-o", "pid,ppid,comm"]);
    columns.is(0, "PID   PPID   NAME\n1     0      sleep\n", "")?;
    home.run(&["top", "told", "aux"]).refuses(125, "is no option of top")?;
    home.run(&["update", "-m", "64m", "--pids-limit", "50", "told"]).succeeds()?;
    home.run(&["update", "--cpus", "99", "told"]).refuses(125, "the machine has")?;
    home.run(&["update", "told"]).refuses(125, "no limit is given")?;
    home.run(&["stats", "--no-stream"]).has("64.0MiB")?;
    let stats = home.run(&["stats", "--no-stream", "--format", "json", "told"]);
    stats.succeeds()?;
    let value: serde_json::Value = serde_json::from_slice(&stats.stdout)?;
    ensure!(value.get("Memory").and_then(serde_json::Value::as_u64) > Some(0), "{value}");
    counted(home)?;
    home.run(&["exec", "told", "cat", "/sys/fs/cgroup/memory.max"]).is(0, "67108864\n", "")?;
    let inspected = home.run(&["inspect", "told"]);
    inspected.succeeds()?;
    let value: serde_json::Value = serde_json::from_slice(&inspected.stdout)?;
    for (pointer, expected) in [
        ("/0/Name", serde_json::json!("/told")),
        ("/0/State/Running", true.into()),
        ("/0/State/Status", "running".into()),
        ("/0/Config/Cmd", serde_json::json!(["sleep", "1000"])),
        ("/0/HostConfig/Memory", (64_u64 << 20).into()),
        ("/0/HostConfig/PidsLimit", 50.into()),
    ] {
        ensure!(value.pointer(pointer) == Some(&expected), "{pointer} of {value}");
    }
    home.run(&["rm", "-f", "told"]).succeeds()
}

fn copy(home: &Home<'_>) -> Result<()> {
    let folder = home.path.join("copied");
    fs::create_dir_all(folder.join("from/deep"))?;
    let bytes: Vec<u8> =
        (0..700_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(folder.join("from/big"), &bytes)?;
    fs::write(folder.join("from/deep/small"), b"small")?;
    std::os::unix::fs::symlink("deep/small", folder.join("from/link"))?;
    let path = |name: &str| folder.join(name).display().to_string();
    home.sleeper("store")?;
    home.run(&["cp", &path("from"), "store:/data"]).succeeds()?;
    home.run(&["exec", "store", "cat", "/data/link"]).is(0, "small", "")?;
    home.run(&["cp", "store:/data", &path("to")]).succeeds()?;
    ensure!(fs::read(folder.join("to/big"))? == bytes, "the file came back changed");
    ensure!(fs::read_link(folder.join("to/link"))?.as_os_str() == "deep/small", "the link changed");
    home.run(&["cp", &path("from"), "store:/data"]).succeeds()?;
    home.run(&["exec", "store", "ls", "/data"]).is(0, "big\ndeep\nfrom\nlink\n", "")?;
    home.run(&["cp", &path("from/big"), "store:/tmp/other"]).succeeds()?;
    home.run(&["exec", "store", "stat", "-c", "%s %u", "/tmp/other"]).is(0, "700000 0\n", "")?;
    home.run(&["cp", "store:/data/deep/.", &path("contents")]).succeeds()?;
    ensure!(fs::read(folder.join("contents/small"))? == b"small", "the contents came back changed");
    let archive = home.run(&["cp", "store:/data", "-"]);
    archive.succeeds()?;
    home.run(&["exec", "store", "mkdir", "/again"]).succeeds()?;
    home.feed(&["cp", "-", "store:/again"], &archive.stdout).succeeds()?;
    home.run(&["exec", "store", "cmp", "/data/big", "/again/data/big"]).is(0, "", "")?;
    home.run(&["cp", "store:/no/such", &path("x")]).refuses(1, "no such file")?;
    home.run(&["cp", &path("none"), "store:/"]).refuses(1, "none")?;
    home.run(&["cp", &path("from/big"), "store:/no/such/place"]).refuses(1, "no such file")?;
    home.feed(&["cp", "-", "store:/again"], &[b'x'; 2048]).refuses(125, "cannot be unpacked")?;
    home.run(&["cp", "a", "b"]).refuses(125, "exactly one side")?;
    home.run(&["rm", "-f", "store"]).succeeds()?;
    Ok(fs::remove_dir_all(folder)?)
}

fn diag(home: &Home<'_>) -> Result<()> {
    home.run(&[
        "run",
        "-d",
        "--name",
        "private",
        "-e",
        "TOKEN=hush",
        "--label",
        "k=hush",
        IMAGE,
        "sleep",
        "999",
    ])
    .succeeds()?;
    let folder = home.path.join("bundle");
    home.run(&["diag", &folder.display().to_string()]).succeeds()?;
    home.run(&["diag", &folder.display().to_string()]).refuses(1, "exists")?;
    for name in ["summary.json", "machine.log", "daemon.log"] {
        let text = fs::read_to_string(folder.join(name))?;
        ensure!(!text.contains("hush"), "{name} has a secret");
    }
    ensure!(fs::read_to_string(folder.join("machine.log"))?.contains("root:"), "no machine log");
    fs::remove_dir_all(folder)?;
    home.run(&["rm", "-f", "private"]).succeeds()
}
