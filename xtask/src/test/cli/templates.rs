//! Templates: from the third start on a compartment begins with memory that a personality prepared from its layers, and shares nothing but that.

use super::{
    Cases,
    home::{Home, IMAGE, until},
};
use anyhow::{Result, ensure};
use std::collections::{BTreeMap, BTreeSet};

/// Starts of one image: some before its template, some with it.
const STARTS: usize = 8;

pub(super) fn run(cases: &mut Cases<'_>) -> Result<()> {
    // A machine of their own: it has to have no template at first, and what it uses is counted.
    let home = Home::with_image(cases.bed, "templates")?;
    cases.case("what prepares a template is over soon, though nobody asks", |_| unattended(&home));
    cases.case("compartments of one template see nothing of each other", |_| strangers(&home));
    cases.case("compartments of one template draw their own random numbers", |_| random(&home));
    cases.case("a compartment with a memory limit begins with a template", |_| {
        for _ in 0..STARTS {
            let script = "dd if=/dev/zero of=/tmp/a bs=64k 2>/dev/null; rm /tmp/a; echo still here";
            home.shell(&["-m", "16m"], script).is(0, "still here\n", "")?;
        }
        Ok(())
    });
    cases.case("a template is changed by nobody who begins with it", |_| {
        let damage =
            "rm -rf /etc /bin/* 2>/dev/null; mount -o remount,ro / 2>/dev/null; kill -9 1; exit 3";
        home.shell(&[], damage).ends(3)?;
        home.shell(&[], "ls / && test -x /bin/sh && echo whole").succeeds()
    });
    cases.case("a template holds no image", |_| removed(&home));
    Ok(())
}

/// The second start of an image begins a template: the Domain and the thread that prepare it go, and a Space stays.
fn unattended(home: &Home<'_>) -> Result<()> {
    home.sleeper("first")?;
    let before = held(home)?;
    home.run(&["rm", "-f", "first"]).succeeds()?;
    home.sleeper("second")?;
    let after =
        before.iter().map(|(kind, count)| (kind.clone(), count + u32::from(kind == "Space")));
    let after: BTreeMap<String, u32> = after.collect();
    until("only the template stays", || Ok(held(home)? == after))?;
    home.run(&["rm", "-f", "second"]).succeeds()
}

/// How many capabilities of each kind the service of compartments holds.
fn held(home: &Home<'_>) -> Result<BTreeMap<String, u32>> {
    let outcome = home.run(&["system", "caps"]);
    outcome.succeeds()?;
    let mut kinds = BTreeMap::new();
    for line in outcome.text().lines() {
        let mut words = line.split_whitespace();
        if let (Some("compartments"), Some(kind)) = (words.next(), words.nth(1)) {
            *kinds.entry(kind.to_owned()).or_default() += 1;
        }
    }
    Ok(kinds)
}

/// Each has its own host name, its own files and nobody else's.
fn strangers(home: &Home<'_>) -> Result<()> {
    for start in 0..STARTS {
        let name = format!("host{start}");
        let script = format!(
            "ls /mark* 2>/dev/null; echo x > /mark{start}; hostname; cat /etc/hostname; echo $OWN"
        );
        let own = format!("OWN={start}");
        home.shell(&["--hostname", &name, "-e", &own], &script).is(
            0,
            &format!("{name}\n{name}\n{start}\n"),
            "",
        )?;
    }
    Ok(())
}

/// Neither the kernel's generator nor what a program is handed at its start repeats.
fn random(home: &Home<'_>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for _ in 0..STARTS {
        let outcome =
            home.shell(&[], "cat /proc/sys/kernel/random/uuid; head -c 16 /dev/urandom | md5sum");
        outcome.succeeds()?;
        for line in outcome.text().lines() {
            ensure!(seen.insert(line.to_owned()), "{line} comes twice");
        }
    }
    ensure!(seen.len() == 2 * STARTS, "{seen:?}");
    Ok(())
}

/// An image that has a template can be removed, and what it held in the machine is free again.
fn removed(home: &Home<'_>) -> Result<()> {
    let free = || home.counts().map(|(_, _, free)| free);
    let before = free()?;
    home.run(&["image", "rm", IMAGE]).succeeds()?;
    // The image's blob is larger than a template.
    until("the image is out of the machine", || Ok(free()? >= before + (1 << 19)))
}
