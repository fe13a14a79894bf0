//! Which suites and figures exist: where each system prints a figure, and the most ours may be.

use super::machine::{Flags, Mode};

/// What is booted for a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boot {
    /// Linux: the base image, which runs scenarios. Ours: the module with all measured programs.
    Scenarios,
    /// The least image that has a program: Linux's first process prints the time and ends, ours is started in a compartment.
    Probe,
    /// The base image and the Python functions' image.
    Functions,
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
    /// Whether a quick run has it.
    pub(crate) is_quick: bool,
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
        is_quick: true,
        places: start,
    },
    Suite {
        name: "micro",
        ours: "micro",
        boot: Boot::Scenarios,
        scenarios: ("micro", "micro"),
        machine: "q35",
        memory: 2048,
        is_quick: true,
        places: |_| micro(),
    },
    Suite {
        name: "idle",
        ours: "idle",
        boot: Boot::Scenarios,
        scenarios: ("idle", "idle"),
        machine: "q35",
        memory: 4096,
        is_quick: false,
        places: |_| idle(),
    },
    Suite {
        name: "memory",
        ours: "memory",
        boot: Boot::Scenarios,
        scenarios: ("memory", "memory"),
        machine: "q35",
        memory: 2048,
        is_quick: false,
        places: |_| memory(),
    },
    Suite {
        name: "boot.q35",
        ours: "boot",
        boot: Boot::Probe,
        scenarios: ("", ""),
        machine: "q35",
        memory: 512,
        is_quick: true,
        places: |_| boot("boot.q35"),
    },
    Suite {
        name: "boot.microvm",
        ours: "boot",
        boot: Boot::Probe,
        scenarios: ("", ""),
        machine: "microvm",
        memory: 512,
        is_quick: true,
        places: |_| boot("boot.microvm"),
    },
    Suite {
        name: "apps",
        ours: "apps",
        boot: Boot::Functions,
        scenarios: ("apps", "apps"),
        machine: "q35",
        memory: 4096,
        is_quick: false,
        places: apps,
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

    /// Flags of both sides.
    pub(crate) fn flags(&self, mode: Mode, seed: u32) -> Flags {
        Flags { machine: self.machine.into(), memory: self.memory, mode, seed }
    }

    /// Its figures.
    pub(crate) fn places(&self, quick: bool, mode: Mode) -> Vec<Place> {
        let mut places = (self.places)(quick);
        if mode == Mode::Wall {
            // Bounds are instructions, and so is nothing that a clock on a loaded computer tells.
            for place in &mut places {
                place.bound = None;
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

/// One figure's places.
pub(crate) struct Place {
    /// Suite.
    pub(crate) suite: &'static str,
    /// Name in the report.
    pub(crate) name: String,
    /// Unit.
    pub(crate) unit: &'static str,
    /// (system, printed name, metric) on the Linux side.
    pub(crate) linux: Vec<(&'static str, String, &'static str)>,
    /// (printed name, metric) on our side.
    pub(crate) ours: Option<(String, &'static str)>,
    /// Least number of samples.
    pub(crate) least: u64,
    /// Most our median may be.
    pub(crate) bound: Option<f64>,
}

/// Micro-operations of `lb`: printed name, metric, bound.
const MICRO: &[(&str, &str, Option<f64>)] = &[
    ("getpid", "op", Some(450.0)),
    ("clock_gettime_vdso", "op", None),
    ("stat", "op", Some(2_500.0)),
    ("stat_depth6", "op", None),
    ("stat_enoent", "op", None),
    ("fstat", "op", Some(1_200.0)),
    ("open_close", "op", Some(4_500.0)),
    ("create_unlink", "op", None),
    ("lseek", "op", None),
    ("read_1B", "op", None),
    ("read_4K", "op", Some(1_700.0)),
    ("read_64K", "op", None),
    ("write_1B", "op", None),
    ("write_4K", "op", Some(2_200.0)),
    ("write_devnull", "op", None),
    ("getdents_1000", "op", Some(250_000.0)),
    ("mmap_munmap", "op", None),
    ("mmap_touch_munmap", "op", Some(10_000.0)),
    ("fault_anon", "page", Some(1_800.0)),
    ("fault_anon_unmap", "page", None),
    ("fault_file_read", "page", None),
    ("fault_file_cow", "page", None),
    ("fault_cow", "page", Some(2_500.0)),
    ("fork_8M_call", "op", None),
    ("mprotect_pair", "op", None),
    ("fork_exit_wait", "op", Some(150_000.0)),
    ("vfork_exit_wait", "op", None),
    ("thread_create_join", "op", Some(25_000.0)),
    ("sigaction", "op", None),
    ("signal_self", "op", Some(3_500.0)),
    ("yield_switch", "op", None),
    ("pipe_rtt", "op", Some(10_000.0)),
    ("pipe_rtt_4K", "op", None),
    ("unix_rtt", "op", Some(12_000.0)),
    ("pipe_self_1B", "op", None),
    ("futex_wake_none", "op", None),
    ("futex_rtt", "op", Some(8_000.0)),
    ("epoll_rtt", "op", Some(10_000.0)),
    ("epoll_ready", "op", None),
    ("lo_udp_rtt_64B", "op", Some(18_000.0)),
    ("lo_tcp_rtt_64B", "op", Some(25_000.0)),
];

/// Numbers of parallel starts.
pub(crate) const PARALLEL: [u32; 6] = [2, 4, 8, 16, 32, 64];
/// Numbers of idle containers present.
pub(crate) const IDLE: [u32; 4] = [0, 50, 100, 500];

fn start(quick: bool) -> Vec<Place> {
    let mut places = Vec::new();
    for (metric, bound) in [("start", 1_000_000.0), ("total", 2_000_000.0)] {
        let mut linux = vec![
            ("process", "spawn.static".to_owned(), metric),
            ("crun", "crun.seq".to_owned(), metric),
        ];
        if !quick {
            linux.push(("runc", "runc.seq".to_owned(), metric));
        }
        places.push(Place {
            suite: "start",
            name: format!("{metric} of nothing"),
            unit: "instructions",
            linux,
            ours: Some(("compartment.seq".to_owned(), metric)),
            least: 5,
            bound: Some(bound),
        });
    }
    for parallel in PARALLEL {
        let mut linux = vec![("process", format!("spawn.static.par{parallel}"), "start")];
        if !quick {
            linux.push(("crun", format!("crun.par{parallel}"), "start"));
            linux.push(("runc", format!("runc.par{parallel}"), "start"));
        }
        places.push(Place {
            suite: "start",
            name: format!("start, {parallel} at once"),
            unit: "instructions",
            linux,
            ours: Some((format!("compartment.par{parallel}"), "start")),
            least: 2,
            bound: None,
        });
    }
    places
}

fn idle() -> Vec<Place> {
    IDLE.iter()
        .map(|idle| Place {
            suite: "idle",
            name: format!("start with {idle} idle"),
            unit: "instructions",
            linux: vec![
                ("process", format!("spawn.idle{idle}"), "start"),
                ("crun", format!("crun.idle{idle}"), "start"),
                ("runc", format!("runc.idle{idle}"), "start"),
            ],
            ours: Some((format!("compartment.idle{idle}"), "start")),
            least: 5,
            bound: None,
        })
        .collect()
}

fn micro() -> Vec<Place> {
    MICRO
        .iter()
        .map(|(name, metric, bound)| Place {
            suite: "micro",
            name: (*name).to_owned(),
            unit: if *metric == "page" { "instructions per page" } else { "instructions" },
            linux: vec![("process", format!("lb.{name}"), metric)],
            ours: Some((format!("lb.{name}"), metric)),
            least: 3,
            bound: *bound,
        })
        .collect()
}

fn memory() -> Vec<Place> {
    let place = |name: &str, linux, ours: &str, bound| Place {
        suite: "memory",
        name: name.to_owned(),
        unit: "bytes",
        linux,
        ours: Some((ours.to_owned(), "bytes")),
        least: 1,
        bound,
    };
    let linux = vec![
        ("process", "memory.process".to_owned(), "bytes"),
        ("crun", "memory.crun".to_owned(), "bytes"),
    ];
    vec![
        place("idle compartment, missing in the machine", linux, "memory.machine", Some(262_144.0)),
        place("idle compartment, its Domain's account", Vec::new(), "memory.domain", None),
    ]
}

fn boot(suite: &'static str) -> Vec<Place> {
    let machine = suite.split('.').nth(1).unwrap_or(suite);
    let most = if machine == "q35" { 100_000_000.0 } else { 40_000_000.0 };
    let place = |name: &str, linux: Option<&str>, ours: &str| Place {
        suite,
        name: format!("{machine}, reset to {name}"),
        unit: "instructions",
        linux: linux.map(|name| ("process", name.to_owned(), "ticks")).into_iter().collect(),
        ours: Some((ours.to_owned(), "ticks")),
        least: 1,
        bound: linux.map(|_| most),
    };
    vec![
        place("the kernel's first instruction", None, "boot.kernel"),
        place("root's first instruction", None, "boot.root"),
        place("the first instruction of a Linux program", Some("boot.linux"), "boot.linux"),
    ]
}

fn apps(quick: bool) -> Vec<Place> {
    let functions = if quick { super::apps::QUICK } else { super::apps::FUNCTIONS };
    let place = |function: &&str| Place {
        suite: "apps",
        name: (*function).to_owned(),
        unit: "instructions",
        linux: vec![
            ("process", format!("app.{function}.process"), "total"),
            ("crun", format!("app.{function}.crun"), "total"),
        ],
        ours: Some((format!("app.{function}"), "total")),
        least: 3,
        bound: (*function == "pass").then_some(30_000_000.0),
    };
    functions.iter().map(place).collect()
}
