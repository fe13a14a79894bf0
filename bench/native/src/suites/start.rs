//! Starts of `nothing`: one after the other, then by a process in its own compartment, of images that were not started before, then several at once.

use super::{NOTHING, starts};
use crate::{Bench, client::Failure, digest, mark, sample, word};
use alloc::{format, string::ToString, vec::Vec};
use contract::{compartment::ExitStatus, images::Digest};

/// Compartments at once, and rounds of them; the Linux side has as many.
const PARALLEL: [(usize, usize); 6] = [(2, 16), (4, 16), (8, 6), (16, 6), (32, 3), (64, 3)];

/// As on the Linux side.
const SPAWNER: &[&str] =
    &["/bin/spawnb", "-s", "-n", "40", "-w", "3", "spawn.static", "/bin/nothing"];

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let rounds = if bench.quick { 20 } else { 40 };
    starts(bench, "compartment.seq", 1, rounds, 3)?;
    spawned(bench)?;
    new_images(bench)?;
    for (parallel, rounds) in PARALLEL {
        starts(bench, &format!("compartment.par{parallel}"), parallel, rounds, 1)?;
    }
    Ok(())
}

/// `posix_spawn` of `nothing` by the Linux side's starter, which prints its own figures.
fn spawned(bench: &mut Bench) -> Result<(), Failure> {
    let created = bench.client.create(SPAWNER, true)?;
    for ended in bench.client.wait(&[created])? {
        if ended.heard.status != Some(ExitStatus::Code(0)) {
            rt::log!("WARN spawn.static: {}", ended.account());
        }
    }
    Ok(())
}

/// Starts images for the first time, then each for the second, when the service prepares their templates.
fn new_images(bench: &mut Bench) -> Result<(), Failure> {
    let layers = new_layers(bench)?;
    for name in ["compartment.new", "compartment.again"] {
        let (mut start, mut total) = (Vec::new(), Vec::new());
        for layer in &layers {
            let created = bench.client.create_of(*layer, NOTHING, false)?;
            for ended in bench.client.wait(&[created])? {
                match ended.first_instruction() {
                    Some(first) => {
                        start.push(first - ended.asked);
                        total.push(ended.gone - ended.asked);
                    }
                    None => rt::log!("WARN {name}: {}", ended.account()),
                }
            }
        }
        sample::report_times(name, "start", &mut start);
        sample::report_times(name, "total", &mut total);
    }
    Ok(())
}

/// The layers of images that nothing has started yet, as the command line tells them.
fn new_layers(bench: &Bench) -> Result<Vec<Digest>, Failure> {
    let words = word(&bench.line, "new=").unwrap_or_default();
    let layers: Option<Vec<Digest>> = words.split(',').map(digest).collect();
    layers.ok_or_else(|| Failure("new= has no digests".to_string()))
}

/// The first start of an image, after that of others.
pub(super) fn profile_new(bench: &mut Bench) -> Result<(), Failure> {
    let layers = new_layers(bench)?;
    for (index, layer) in layers.iter().enumerate() {
        bench.client.is_profiled = index + 1 == layers.len();
        let created = bench.client.create_of(*layer, NOTHING, false)?;
        bench.client.wait(&[created])?;
    }
    mark::end();
    Ok(())
}

/// A few starts, of which the last lies between the marks.
pub(super) fn profile(bench: &mut Bench) -> Result<(), Failure> {
    starts(bench, "compartment.seq", 1, 4, 3)
}

/// The same for eight at once.
pub(super) fn profile_burst(bench: &mut Bench) -> Result<(), Failure> {
    starts(bench, "compartment.par8", 8, 4, 3)
}

/// One size of starts at once, as often as on the Linux side.
pub(super) fn burst(bench: &mut Bench) -> Result<(), Failure> {
    starts(bench, "compartment.par64", 64, 5, 1)
}
