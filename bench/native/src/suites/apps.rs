//! Python functions, each in a compartment of its own: from the call that creates it to its exit, and to everything given back.

use crate::{Bench, client::Failure, mark, sample, word};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use contract::compartment::ExitStatus;

/// The interpreter.
const PYTHON: &str = "/usr/bin/python3";
/// Runs that count, after one that does not; the Linux side has as many.
const ROUNDS: usize = 3;

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let list =
        word(&bench.line, "figures=").ok_or_else(|| Failure("figures= is missing".to_string()))?;
    let functions: Vec<String> = list.split(',').map(str::to_string).collect();
    for function in &functions {
        measure(bench, function)?;
    }
    Ok(())
}

fn measure(bench: &mut Bench, function: &str) -> Result<(), Failure> {
    let arguments = match function.split_once(':') {
        Some((name, size)) => Vec::from([PYTHON, "/fn/run.py", name, size]),
        None => Vec::from([PYTHON, "-c", function]),
    };
    let (mut exits, mut totals) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        bench.client.is_profiled = round == ROUNDS;
        let created = bench.client.create(&arguments, false)?;
        let all_ended = bench.client.wait(&[created])?;
        if bench.client.is_profiled {
            mark::end();
        }
        for ended in all_ended {
            let has_output = !ended.heard.output.is_empty() || arguments.contains(&"-c");
            if ended.heard.status != Some(ExitStatus::Code(0)) || !has_output {
                rt::log!("WARN app.{function}: {}", ended.account());
            } else if round > 0 {
                totals.push(ended.gone - ended.asked);
                exits.extend(ended.heard.exited_at.map(|at| at.saturating_sub(ended.asked)));
            }
        }
    }
    sample::report_times(&format!("app.{function}"), "exit", &mut exits);
    sample::report_times(&format!("app.{function}"), "total", &mut totals);
    Ok(())
}
