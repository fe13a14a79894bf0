//! The micro-operations of `lb`, each figure in a compartment of its own, so that one that fails spoils no other.

use crate::{Bench, client::Failure, word};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use contract::compartment::ExitStatus;

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let list =
        word(&bench.line, "figures=").ok_or_else(|| Failure("figures= is missing".to_string()))?;
    let figures: Vec<String> = list.split(',').map(str::to_string).collect();
    for figure in &figures {
        let exactly = format!("{figure}$");
        let created = bench.client.create(&["/bin/lb", &exactly], true)?;
        for ended in bench.client.wait(&[created])? {
            if ended.heard.status != Some(ExitStatus::Code(0)) {
                rt::log!("WARN lb.{figure}: {}", ended.account());
            }
        }
    }
    Ok(())
}
