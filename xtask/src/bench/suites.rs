//! Which suites exist: what is booted for each, under which flags, in which runs.

use super::{
    machine::{Flags, Mode},
    parallel,
    places::{self, Bound, Place},
    tools,
};

use std::{collections::BTreeMap, path::PathBuf};

/// What is booted for a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Boot {
    /// Linux: the base image, which runs scenarios. Ours: the module with all measured programs.
    Scenarios,
    /// The least image that has a program: Linux's first process prints the time and ends, ours is started in a compartment.
    Probe,
    /// The base image and the Python functions' image.
    Functions,
    /// The base image and the image of the programs people know.
    Tools,
}

impl Boot {
    /// The name of its files.
    pub(crate) const fn file(self) -> &'static str {
        match self {
            Self::Scenarios => "all",
            Self::Probe => "smallest",
            Self::Functions => "functions",
            Self::Tools => "tools",
        }
    }
}

/// The files of images beside those of the measured programs.
pub(crate) type Trees = BTreeMap<Boot, PathBuf>;

/// Which runs have a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    /// Quick ones too.
    Always,
    /// Full ones.
    Full,
}

/// A suite: one run of one machine on each side.
#[derive(Debug)]
pub(crate) struct Suite {
    /// Its name; what several runs belong to together comes before a dot.
    pub(crate) name: &'static str,
    /// Its name in our machine.
    pub(crate) ours: &'static str,
    /// What is booted.
    pub(crate) boot: Boot,
    /// Scenarios of the Linux side, in a quick run and in a full one.
    scenarios: (&'static str, &'static str),
    /// QEMU's machine type.
    machine: &'static str,
    /// RAM in MiB.
    memory: u32,
    /// Which runs have it that name no suite.
    runs: Runs,
    /// CPUs of machines that run on the host's time whatever the mode, because one that counts instructions has only one.
    cpus: Option<u32>,
    /// Whether our kernel is the one with its internal checks, which counts more; times would mean nothing.
    pub(crate) is_checked: bool,
    /// Its figures.
    places: fn(quick: bool) -> Vec<Place>,
}

/// All suites, in the order they run.
pub(crate) const SUITES: &[Suite] = &[
    Suite {
        name: "start",
        ours: "start",
        boot: Boot::Scenarios,
        scenarios: ("spawn,crun", "spawn,crun,runc,crunpar,runcpar"),
        machine: "q35",
        memory: 2048,
        runs: Runs::Always,
        cpus: None,
        is_checked: false,
        places: places::start,
    },
    Suite {
        name: "micro",
        ours: "micro",
        boot: Boot::Scenarios,
        scenarios: ("micro", "micro"),
        machine: "q35",
        memory: 2048,
        runs: Runs::Always,
        cpus: None,
        is_checked: false,
        places: |_| places::micro(),
    },
    Suite {
        name: "ipc",
        ours: "ipc",
        boot: Boot::Scenarios,
        scenarios: ("", ""),
        machine: "q35",
        memory: 2048,
        runs: Runs::Always,
        cpus: None,
        is_checked: false,
        places: |_| parallel::ipc(),
    },
    Suite {
        name: "idle",
        ours: "idle",
        boot: Boot::Scenarios,
        scenarios: ("idle", "idle"),
        machine: "q35",
        memory: 4096,
        runs: Runs::Full,
        cpus: None,
        is_checked: false,
        places: |_| places::idle(),
    },
    Suite {
        name: "memory",
        ours: "memory",
        boot: Boot::Scenarios,
        scenarios: ("memory", "memory"),
        machine: "q35",
        memory: 2048,
        runs: Runs::Full,
        cpus: None,
        is_checked: false,
        places: |_| places::memory(),
    },
    Suite {
        name: "boot.q35",
        ours: "boot",
        boot: Boot::Probe,
        scenarios: ("", ""),
        machine: "q35",
        memory: 512,
        runs: Runs::Always,
        cpus: None,
        is_checked: false,
        places: |_| places::boot("boot.q35"),
    },
    Suite {
        name: "boot.microvm",
        ours: "boot",
        boot: Boot::Probe,
        scenarios: ("", ""),
        machine: "microvm",
        memory: 512,
        runs: Runs::Always,
        cpus: None,
        is_checked: false,
        places: |_| places::boot("boot.microvm"),
    },
    Suite {
        name: "apps",
        ours: "apps",
        boot: Boot::Functions,
        scenarios: ("apps", "apps"),
        machine: "q35",
        memory: 4096,
        runs: Runs::Full,
        cpus: None,
        is_checked: false,
        places: places::apps,
    },
    Suite {
        name: "tools",
        ours: "tools",
        boot: Boot::Tools,
        scenarios: ("tools", "tools"),
        machine: "q35",
        memory: 4096,
        runs: Runs::Full,
        cpus: None,
        is_checked: false,
        places: |_| tools::places(),
    },
    Suite {
        name: "locks",
        ours: "locks",
        boot: Boot::Scenarios,
        scenarios: ("", ""),
        machine: "q35",
        memory: 2048,
        runs: Runs::Full,
        cpus: Some(2),
        is_checked: false,
        places: |_| parallel::locks(),
    },
    Suite {
        name: "locks.taken",
        ours: "locks",
        boot: Boot::Scenarios,
        scenarios: ("", ""),
        machine: "q35",
        memory: 2048,
        runs: Runs::Full,
        cpus: Some(2),
        is_checked: true,
        places: |_| parallel::locks_taken(),
    },
    Suite {
        name: "cpus.1",
        ours: "burst",
        boot: Boot::Scenarios,
        scenarios: ("burst", "burst"),
        machine: "q35",
        memory: 2048,
        runs: Runs::Full,
        cpus: Some(1),
        is_checked: false,
        places: |_| parallel::burst("cpus.1"),
    },
    Suite {
        name: "cpus.2",
        ours: "burst",
        boot: Boot::Scenarios,
        scenarios: ("burst", "burst"),
        machine: "q35",
        memory: 2048,
        runs: Runs::Full,
        cpus: Some(2),
        is_checked: false,
        places: |_| parallel::burst("cpus.2"),
    },
];

impl Suite {
    /// The suites of a name: itself, or those before whose dot it stands.
    pub(crate) fn named(name: &str) -> impl Iterator<Item = &'static Self> + '_ {
        SUITES
            .iter()
            .filter(move |suite| suite.name == name || suite.name.split('.').next() == Some(name))
    }

    /// Scenarios of the Linux side.
    pub(crate) const fn scenarios(&self, quick: bool) -> &'static str {
        if quick { self.scenarios.0 } else { self.scenarios.1 }
    }

    /// Whether its machines are told which figures to take.
    pub(crate) fn takes_figures(&self) -> bool {
        matches!(self.name, "micro" | "apps")
    }

    /// Whether a run that names no suite has it.
    pub(crate) fn is_chosen(&self, quick: bool, mode: Mode) -> bool {
        let is_of_mode = mode == Mode::Icount || self.is_timed();
        is_of_mode && (self.runs == Runs::Always || !quick)
    }

    /// Whether its times say something on the host's clock too.
    fn is_timed(&self) -> bool {
        matches!(self.name, "start" | "micro" | "ipc") || self.cpus.is_some()
    }

    /// Whether Linux has its figures too.
    pub(crate) const fn is_of_linux(&self) -> bool {
        matches!(self.boot, Boot::Probe) || !self.scenarios.1.is_empty()
    }

    /// Flags of both sides.
    pub(crate) fn flags(&self, mode: Mode, seed: u32) -> Flags {
        let mode = if self.cpus.is_some() { Mode::Wall } else { mode };
        let cpus = self.cpus.unwrap_or(if mode == Mode::Wall { 2 } else { 1 });
        Flags { machine: self.machine.into(), memory: self.memory, mode, cpus, seed }
    }

    /// How often it runs, so that its figures have a spread: once where they are exact, and where they are counts over many starts.
    pub(crate) fn repetitions(&self, mode: Mode, asked: u32) -> u32 {
        let is_counted = self.ours == "locks" || (mode == Mode::Icount && self.cpus.is_none());
        if is_counted { 1 } else { asked }
    }

    /// Its figures.
    pub(crate) fn places(&self, quick: bool, mode: Mode) -> Vec<Place> {
        let mut places = (self.places)(quick);
        if mode == Mode::Wall {
            // Bounds are instructions, and so is nothing that a clock on a loaded computer tells.
            for place in &mut places {
                place.bound = Bound::None;
                place.unit = match place.unit {
                    "instructions" => "ns",
                    "instructions per page" => "ns per page",
                    unit => unit,
                };
            }
        }
        places
    }
}
