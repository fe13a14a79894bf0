//! Faults in what machines print: each is planted and must void the figure.

use super::super::{
    figures::Output,
    machine::{Flags, Mode},
    places::{Bound, Place, Taken},
    side::{self, Run, Runs},
};
use anyhow::{Result, bail};

/// What a good run prints.
const GOOD: &str = "S begin micro\n\
    R lb.stat op n=11 min=10 p50=12 p99=14 max=14 mean=12\n\
    V lb.stat op 10 10 11 11 12 12 12 13 13 14 14\n\
    S end micro\n";

/// A planted fault: its name, and the runs of Linux and of ours.
struct Fault {
    name: &'static str,
    linux: Run,
    ours: Run,
}

fn flags() -> Flags {
    Flags { machine: "q35".into(), memory: 2048, mode: Mode::Icount, cpus: 1, seed: 1 }
}

fn printed(text: &str) -> Run {
    Run { output: Output::parse(text), flags: flags() }
}

fn faults() -> Vec<Fault> {
    let bad: [(&'static str, String); 12] = [
        ("the program failed", format!("{GOOD}WARN lb.stat: 2 runs had a non-zero status\n")),
        ("the figure is missing", GOOD.replace("R lb.stat", "R lb.other")),
        ("too few samples", GOOD.replace("n=11", "n=2")),
        ("the median is above the maximum", GOOD.replace("p50=12", "p50=99")),
        ("the samples are others", GOOD.replace("op 10 10 11", "op 10 10")),
        (
            "it is printed twice",
            format!("{GOOD}R lb.stat op n=11 min=1 p50=2 p99=3 max=3 mean=2\n"),
        ),
        ("a number is no number", GOOD.replace("min=10", "min=x")),
        ("the median is zero", GOOD.replace("min=10 p50=12", "min=0 p50=0")),
        ("a number is infinite", GOOD.replace("max=14", "max=inf")),
        ("the output is cut", GOOD.chars().take(30).collect()),
        ("the output is empty", String::new()),
        ("the scenario did not end", GOOD.replace("S end micro\n", "")),
    ];
    let mut faults = Vec::new();
    for (name, text) in bad {
        faults.push(Fault { name, linux: printed(&text), ours: printed(GOOD) });
        faults.push(Fault { name, linux: printed(GOOD), ours: printed(&text) });
    }
    let broken = || {
        let mut broken = printed(GOOD);
        broken.output.fault = Some("the machine was killed by signal 9".into());
        broken
    };
    let name = "the machine was killed";
    faults.push(Fault { name, linux: broken(), ours: printed(GOOD) });
    faults.push(Fault { name, linux: printed(GOOD), ours: broken() });
    let other = Flags { seed: 2, ..flags() };
    let ours = Run { flags: other, ..printed(GOOD) };
    faults.push(Fault { name: "the flags differ", linux: printed(GOOD), ours });
    faults
}

/// Plants every fault; an error if one gets through, or if a good figure is refused.
pub(super) fn run() -> Result<()> {
    let place = Place {
        suite: "micro",
        name: "stat".into(),
        unit: "instructions",
        linux: vec![("process", "lb.stat".into(), "op")],
        ours: Some(("lb.stat".into(), "op")),
        least: 5,
        taken: Taken::Whole,
        bound: Bound::None,
    };
    let runs = |linux, ours| Runs { linux: vec![linux], ours: vec![ours] };
    let good = side::figure(&place, &runs(printed(GOOD), printed(GOOD)), |_| None);
    if let Some(reason) = good.void {
        bail!("a good figure was refused: {reason}");
    }
    let mut passed = Vec::new();
    for fault in faults() {
        let figure = side::figure(&place, &runs(fault.linux, fault.ours), |_| None);
        match figure.void {
            Some(reason) if figure.ratio.is_none() => {
                println!("refused: {:34} {reason}", fault.name);
            }
            _ => passed.push(fault.name),
        }
    }
    if passed.is_empty() { Ok(()) } else { bail!("not refused: {}", passed.join(", ")) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn planted_faults_are_refused() {
        super::run().unwrap();
    }
}
