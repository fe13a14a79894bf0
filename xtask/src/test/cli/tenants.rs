//! Tenants: a budget that several containers share, and what keeps them within it.

use super::{
    Cases,
    home::{Home, IMAGE},
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;

/// Writes into memory until nothing more is to be had, and then stays.
const FILL: &str = "dd if=/dev/zero of=/tmp/fill bs=64k 2>/dev/null; echo full; exec sleep 1000";
/// Memory of a tenant in bytes.
const MEMORY: u64 = 96 << 20;

pub(super) fn run(cases: &mut Cases<'_>) -> Result<()> {
    cases.case("a tenant is made, listed, described, changed and removed", life);
    cases.case("what makes no sense is refused", refused);
    cases.case("the containers of a tenant together stay within its memory", memory);
    cases.case("the containers of a tenant together stay within its bandwidth", bandwidth);
    cases.case("a tenant with containers is removed only by force", removal);
    cases.case("what cannot be written down does not change", unwritten);
    cases.case("tenants survive the machine's stop", |home| {
        home.run(&["tenant", "create", "--memory", "64m", "kept"]).succeeds()?;
        home.run(&["machine", "stop", "--force"]).succeeds()?;
        home.shell(&["--tenant", "kept"], "echo in").is(0, "in\n", "")?;
        ensure!(number(home, "kept", "MemoryLimit")? == 64 << 20, "the limit was forgotten");
        home.run(&["tenant", "rm", "kept"]).is(0, "kept\n", "")
    });
    Ok(())
}

/// With a directory in the place of the tenants' file, nothing can be written.
fn unwritten(home: &Home<'_>) -> Result<()> {
    home.run(&["tenant", "create", "--memory", "64m", "firm"]).succeeds()?;
    let (file, aside) = (home.path.join("tenants.json"), home.path.join("aside"));
    fs::rename(&file, &aside)?;
    fs::create_dir_all(file.join("in the way"))?;
    home.run(&["tenant", "create", "--memory", "32m", "lost"]).refuses(125, "cannot be written")?;
    home.run(&["tenant", "update", "--memory", "32m", "firm"]).refuses(125, "cannot be written")?;
    home.run(&["tenant", "rm", "firm"]).refuses(125, "cannot be written")?;
    home.run(&["tenant", "inspect", "lost"]).refuses(1, "lost")?;
    ensure!(number(home, "firm", "MemoryLimit")? == 64 << 20, "half a change");
    fs::remove_dir_all(&file)?;
    fs::rename(&aside, &file)?;
    // The machine has not kept the number of the one that was lost for it.
    home.run(&["tenant", "create", "--memory", "48m", "next"]).succeeds()?;
    home.shell(&["--tenant", "next"], "true").succeeds()?;
    ensure!(number(home, "next", "MemoryLimit")? == 48 << 20, "another tenant's limit");
    home.run(&["tenant", "rm", "firm", "next"]).is(0, "firm\nnext\n", "")
}

/// A tenant, as `mett tenant inspect` describes it.
fn described(home: &Home<'_>, name: &str) -> Result<Value> {
    let outcome = home.run(&["tenant", "inspect", name]);
    outcome.succeeds()?;
    let value: Value = serde_json::from_slice(&outcome.stdout)?;
    value.get(0).cloned().context("no tenant is described")
}

fn number(home: &Home<'_>, name: &str, key: &str) -> Result<u64> {
    let value = described(home, name)?;
    value.get(key).and_then(Value::as_u64).with_context(|| format!("no {key} in {value}"))
}

fn life(home: &Home<'_>) -> Result<()> {
    home.run(&["tenant", "create", "--memory", "64m", "--cpus", "0.5", "shop"])
        .is(0, "shop\n", "")?;
    home.run(&["tenant", "ls"]).has("64.0MiB")?;
    home.run(&["run", "-d", "--tenant", "shop", "--name", "seller", IMAGE, "sleep", "1000"])
        .succeeds()?;
    ensure!(number(home, "shop", "Memory")? > 0, "a tenant with a container uses nothing");
    ensure!(described(home, "shop")?["Containers"][0] == "seller", "its container is not named");
    home.run(&["inspect", "seller"]).has("\"Tenant\": \"shop\"")?;
    home.run(&["stats", "--no-stream", "--format", "json"]).has("\"Tenant\":\"shop\"")?;
    home.run(&["tenant", "update", "--memory", "80m", "shop"]).is(0, "shop\n", "")?;
    ensure!(number(home, "shop", "MemoryLimit")? == 80 << 20, "the limit is the old one");
    ensure!(number(home, "shop", "CPUMillis")? == 500, "another limit has changed");
    home.run(&["rm", "-f", "seller"]).succeeds()?;
    home.run(&["tenant", "rm", "shop"]).is(0, "shop\n", "")?;
    home.run(&["tenant", "ls", "--format", "json"]).is(0, "", "")
}

fn refused(home: &Home<'_>) -> Result<()> {
    home.run(&["tenant", "create", "twice"]).succeeds()?;
    home.run(&["tenant", "create", "twice"]).refuses(1, "exists")?;
    home.run(&["tenant", "create", "../x"]).refuses(125, "not a valid")?;
    home.run(&["tenant", "create", "--memory", "4k", "tiny"]).refuses(125, "at least")?;
    home.run(&["tenant", "update", "--memory", "4k", "twice"]).refuses(125, "at least")?;
    home.run(&["tenant", "inspect", "tiny"]).refuses(1, "no such tenant")?;
    home.run(&["tenant", "update", "twice"]).refuses(125, "no limit")?;
    home.run(&["tenant", "update", "--cpus", "1", "nobody"]).refuses(1, "no such tenant")?;
    home.run(&["tenant", "rm", "nobody"]).refuses(1, "no such tenant")?;
    home.shell(&["--tenant", "nobody"], "true").refuses(125, "no such tenant")?;
    home.run(&["tenant", "rm", "twice"]).succeeds()
}

fn memory(home: &Home<'_>) -> Result<()> {
    home.sleeper("outsider")?;
    let limit = MEMORY.to_string();
    home.run(&["tenant", "create", "--memory", &limit, "full"]).succeeds()?;
    for name in ["full-1", "full-2"] {
        home.run(&["run", "-d", "--tenant", "full", "--name", name, IMAGE, "sh", "-c", FILL])
            .succeeds()?;
    }
    // Each of them alone would take all that there is: the tenant fills up, and no more.
    super::home::until("the tenant is full", || {
        let used = number(home, "full", "Memory")?;
        ensure!(used <= MEMORY, "{used} bytes are in use");
        Ok(number(home, "full", "MemoryPeak")? > MEMORY / 10 * 9)
    })?;
    let peak = number(home, "full", "MemoryPeak")?;
    ensure!(peak <= MEMORY, "{peak} bytes were in use");
    home.run(&["exec", "outsider", "echo", "well"]).is(0, "well\n", "")?;
    home.run(&["tenant", "rm", "--force", "full"]).succeeds()?;
    home.run(&["rm", "-f", "outsider"]).succeeds()
}

/// Two containers that would take a CPU each get no more than a tenth of one together.
fn bandwidth(home: &Home<'_>) -> Result<()> {
    home.run(&["tenant", "create", "--cpus", "0.1", "slow"]).succeeds()?;
    for name in ["slow-1", "slow-2"] {
        let spin = ["sh", "-c", "while :; do :; done"];
        let arguments = ["run", "-d", "--tenant", "slow", "--name", name, IMAGE];
        home.run(&[arguments.as_slice(), &spin].concat()).succeeds()?;
    }
    let uptime = || -> Result<u64> {
        let outcome = home.run(&["machine", "status", "--format", "json"]);
        let status: Value = serde_json::from_slice(&outcome.stdout)?;
        status.get("uptimeNanoseconds").and_then(Value::as_u64).context("no uptime")
    };
    let (begun, before) = (uptime()?, number(home, "slow", "CPUNanoseconds")?);
    std::thread::sleep(std::time::Duration::from_secs(4));
    let used = number(home, "slow", "CPUNanoseconds")? - before;
    let passed = uptime()? - begun;
    // A period's quota may fall on either side of the readings.
    let most = passed / 10 + 50_000_000;
    ensure!(used > 0 && used <= most, "{used} ns of {passed} ns were used");
    home.run(&["tenant", "rm", "--force", "slow"]).succeeds()
}

fn removal(home: &Home<'_>) -> Result<()> {
    home.run(&["tenant", "create", "crowd"]).succeeds()?;
    home.run(&["run", "-d", "--tenant", "crowd", "--name", "inside", IMAGE, "sleep", "1000"])
        .succeeds()?;
    home.run(&["create", "--tenant", "crowd", "--name", "waiting", IMAGE, "true"]).succeeds()?;
    home.run(&["tenant", "rm", "crowd"]).refuses(1, "has 2 containers")?;
    home.run(&["ps", "-a"]).has("waiting")?;
    home.run(&["tenant", "rm", "--force", "crowd"]).succeeds()?;
    let left = home.run(&["ps", "-a"]).text();
    ensure!(!left.contains("inside") && !left.contains("waiting"), "{left}");
    home.run(&["tenant", "inspect", "crowd"]).refuses(1, "no such tenant")
}
