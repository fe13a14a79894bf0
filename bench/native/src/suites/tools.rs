//! Programs people know, in one compartment, measured there by the Linux side's starter, which prints its own figures.

use crate::{Bench, client::Failure};
use contract::compartment::ExitStatus;

const SCRIPT: &[&str] = &["/bin/sh", "/fn/run.sh"];

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let created = bench.client.create(SCRIPT, true)?;
    for ended in bench.client.wait(&[created])? {
        if ended.heard.status != Some(ExitStatus::Code(0)) {
            return Err(Failure(ended.account()));
        }
    }
    Ok(())
}
