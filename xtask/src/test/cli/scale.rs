//! Many at once, and many in a row.

use super::{
    Cases,
    home::{Home, IMAGE, until},
};
use anyhow::{Context, Result, ensure};
use std::thread;

/// Compartments at once.
const MANY: usize = 64;
/// Clients at once.
const CLIENTS: usize = 8;

pub(super) fn run(cases: &mut Cases<'_>) -> Result<()> {
    let starts = if cases.is_long { 2000 } else { 100 };
    // A machine of their own: what other cases leave running would be counted too.
    let home = Home::with_image(cases.bed, "scale")?;
    cases.case("64 compartments at once", |_| many(&home));
    cases.case("starts and stops in a row give everything back", |_| soak(&home, starts));
    Ok(())
}

fn many(home: &Home<'_>) -> Result<()> {
    let results = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn(move || -> Result<()> {
                    for number in (client..MANY).step_by(CLIENTS) {
                        let name = format!("many-{number}");
                        let script = format!("echo {number}; exec sleep 1000");
                        home.run(&["run", "-d", "--name", &name, IMAGE, "sh", "-c", &script])
                            .succeeds()?;
                    }
                    Ok(())
                })
            })
            .collect();
        clients.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    for result in results {
        result.ok().context("a thread panicked")??;
    }
    let (running, ..) = home.counts()?;
    ensure!(running == MANY as u64, "{running} containers run");
    for number in (0..MANY).step_by(9) {
        let name = format!("many-{number}");
        home.run(&["exec", &name, "echo", "here"]).is(0, "here\n", "")?;
        let said = format!("{number}\n");
        until("it spoke", || Ok(home.run(&["logs", &name]).text() == said))?;
    }
    let names: Vec<String> = (0..MANY).map(|number| format!("many-{number}")).collect();
    let words: Vec<&str> =
        ["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
    home.run(&words).succeeds()?;
    home.run(&["ps", "-aq"]).is(0, "", "")
}

/// Memory and objects of the machine are what they were, whatever number of containers it has seen.
fn soak(home: &Home<'_>, starts: usize) -> Result<()> {
    let round = |count: usize| -> Result<()> {
        for number in 0..count {
            let script = format!("echo {number}; (echo x | cat > /tmp/f); exit 3");
            home.shell(&[], &script).is(3, &format!("{number}\n"), "")?;
        }
        Ok(())
    };
    // The first ones fill what services keep.
    round(10)?;
    let mut before = (0, 0);
    until("the reaper is done", || {
        let (_, objects, free) = home.counts()?;
        let same = (objects, free) == before;
        before = (objects, free);
        Ok(same)
    })?;
    round(starts)?;
    let (objects, free) = before;
    let slack = 256 * 1024;
    let mut last = (0, 0);
    let settled = until("memory is back", || {
        let (_, now, left) = home.counts()?;
        last = (now, left);
        Ok(now <= objects && left + slack >= free)
    });
    settled
        .with_context(|| format!("{objects} objects and {free} bytes free before, {last:?} after"))
}
