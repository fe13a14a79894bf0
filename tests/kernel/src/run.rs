//! Running the cases: each on a thread of its own, under a watchdog, in order.

use crate::{cases, check::Outcome, world::World};
use alloc::{boxed::Box, string::String, sync::Arc};
use rt::{Notification, sync::SpinLock};

/// Seconds a case may take; virtual CPUs share few real ones.
const LIMIT: u64 = 240;
/// The bit a case's end sets.
const ENDED: u64 = 1;

/// One case.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// Its name, `group.what`.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) run: fn(&'static World) -> Outcome,
}

/// Runs what the command line asks for and ends the machine.
pub(crate) fn all() {
    let world: &'static World = match World::new() {
        Ok(world) => Box::leak(Box::new(world)),
        Err(error) => {
            rt::log!("suite: cannot begin: {error:?}");
            return;
        }
    };
    rt::log!("suite: {} CPUs, seed {:#x}", world.cpus, world.seed);
    let (mut passed, mut failed) = (0_u32, 0_u32);
    for case in cases::all().filter(|case| case.name.contains(world.filter.as_str())) {
        let outcome = watched(world, *case);
        let hung = outcome.is_none();
        match outcome.unwrap_or_else(|| Err("it did not end".into())) {
            Ok(()) => {
                passed += 1;
                rt::log!("test {} ... ok", case.name);
            }
            Err(why) => {
                failed += 1;
                rt::log!("test {} ... FAILED ({why})", case.name);
            }
        }
        if hung {
            rt::log!("suite: the rest is not run");
            break;
        }
    }
    rt::log!("{passed} passed, {failed} failed");
    let status = u8::from(failed > 0 || passed == 0);
    let _ = world.hardware.power(0, status);
}

/// Runs a case on its own thread; nothing if it does not end.
fn watched(world: &'static World, case: Case) -> Option<Outcome> {
    let result: Arc<SpinLock<Option<Outcome>>> = Arc::new(SpinLock::new(None));
    let ended = match Notification::create(rt::Domain::OWN) {
        Ok(ended) => ended,
        Err(error) => return Some(Err(alloc::format!("no Notification: {error:?}"))),
    };
    let place = Arc::clone(&result);
    let spawned = rt::thread::spawn(true, move || {
        let outcome = (case.run)(world);
        *place.lock() = Some(outcome);
        let _ = ended.signal(ENDED);
    });
    if let Err(error) = spawned {
        return Some(Err(alloc::format!("no thread: {error:?}")));
    }
    let waited = ended.wait(ENDED, rt::clock::deadline_in(LIMIT * 1_000_000_000));
    let _ = ended.destroy();
    let outcome: Option<Result<(), String>> = result.lock().take();
    waited.ok().and(outcome)
}
