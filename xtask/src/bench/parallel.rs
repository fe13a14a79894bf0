//! Figures of what several parties do together: calls between services, starts on two CPUs.

use super::{
    figures::Sample,
    places::{Bound, Place, Taken},
    report::Figure,
};
use std::collections::BTreeMap;

/// Starts at once and rounds of them, of which the counters are told; as in the machine.
const COUNTED: [(u32, u32); 7] = [(1, 64), (2, 32), (4, 16), (8, 8), (16, 4), (32, 2), (64, 1)];

/// Counters as the machine prints them, with what they are called here.
const COUNTERS: [(&str, &str, Bound); 3] = [
    ("contended_locks", "contended locks", Bound::Most(0.0)),
    ("cross_interrupts", "interrupts between CPUs", Bound::None),
    ("shootdowns", "shootdowns", Bound::None),
];
/// The same of the kernel with its internal checks, which alone counts it.
const CHECKED: [(&str, &str, Bound); 1] = [("locks", "locks taken", Bound::None)];

fn place(suite: &'static str, name: String, unit: &'static str) -> Place {
    Place {
        suite,
        name,
        unit,
        linux: Vec::new(),
        ours: None,
        least: 1,
        taken: Taken::Whole,
        bound: Bound::None,
    }
}

/// A call from one service to another and its answer, on one CPU.
pub(crate) fn ipc() -> Vec<Place> {
    let ours = Some(("ipc.call".to_owned(), "op"));
    let name = "call of another service and its answer".to_owned();
    vec![Place { ours, least: 5, bound: Bound::Most(700.0), ..place("ipc", name, "instructions") }]
}

/// The kernel's counters for each of several starts at once, on two CPUs.
pub(crate) fn locks() -> Vec<Place> {
    counted("locks", &COUNTERS)
}

/// Locks that the kernel with its internal checks took for each of several starts at once, on two CPUs.
pub(crate) fn locks_taken() -> Vec<Place> {
    counted("locks.taken", &CHECKED)
}

fn counted(suite: &'static str, counters: &[(&str, &str, Bound)]) -> Vec<Place> {
    let mut places = Vec::new();
    for (counter, words, bound) in counters {
        for (parallel, rounds) in COUNTED {
            let name = format!("{words} for each of {parallel} at once");
            places.push(Place {
                ours: Some((format!("{counter}.par{parallel}"), "count")),
                taken: Taken::Share(parallel * rounds),
                bound: bound.clone(),
                ..place(suite, name, "times")
            });
        }
    }
    places
}

/// Many starts at once, on the host's clock.
pub(crate) fn burst(suite: &'static str) -> Vec<Place> {
    let cpus = suite.rsplit('.').next().unwrap_or(suite);
    let linux = ("process", "spawn.static.par64".to_owned(), "burst");
    let name = format!("64 at once, all of them, on {cpus} CPUs");
    let ours = Some(("compartment.par64".to_owned(), "burst"));
    vec![Place { linux: vec![linux], ours, least: 3, ..place(suite, name, "ns") }]
}

/// How the time on two CPUs compares with that on one, run by run; nothing if one of the two was not measured.
pub(crate) fn ratio(figures: &[Figure]) -> Option<Figure> {
    let of = |suite: &str| figures.iter().find(|figure| figure.suite == suite);
    let (one, two) = (of("cpus.1")?, of("cpus.2")?);
    let void = one.void.clone().or_else(|| two.void.clone());
    let mut systems = BTreeMap::new();
    for (system, one) in one.systems.iter().filter(|_| void.is_none()) {
        let two = two.systems.get(system)?;
        let ratios: Vec<f64> =
            one.medians.iter().zip(&two.medians).map(|(one, two)| two / one).collect();
        systems.insert(system.clone(), Sample::of(&ratios)?);
    }
    Some(Figure {
        suite: "cpus".into(),
        name: "64 at once: time on 2 CPUs divided by that on 1".into(),
        unit: "ratio".into(),
        systems,
        ratio: None,
        bound: None,
        void,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(suite: &str, medians: &[f64]) -> Figure {
        let sample =
            Sample::merged(&medians.iter().map(|m| Sample::single(*m)).collect::<Vec<_>>());
        Figure {
            suite: suite.into(),
            name: String::new(),
            unit: "ns".into(),
            systems: [("ours".to_owned(), sample.unwrap())].into(),
            ratio: None,
            bound: None,
            void: None,
        }
    }

    #[test]
    fn ratios_are_taken_run_by_run() {
        let one = figure("cpus.1", &[10.0, 20.0, 30.0]);
        let two = figure("cpus.2", &[6.0, 10.0, 18.0]);
        let ratio = ratio(&[one, two]).unwrap();
        let ours = &ratio.systems["ours"];
        assert_eq!((ours.n, ours.min, ours.p50, ours.max), (3, 0.5, 0.6, 0.6));
        assert_eq!(ours.spread().map(|spread| (spread * 100.0).round()), Some(17.0));
    }

    #[test]
    fn a_ratio_of_something_void_is_void() {
        let one = figure("cpus.1", &[10.0]);
        let two = Figure { void: Some("why".into()), ..figure("cpus.2", &[1.0]) };
        assert_eq!(ratio(&[one, two]).unwrap().void.as_deref(), Some("why"));
        assert!(ratio(&[figure("cpus.1", &[1.0])]).is_none());
    }
}
