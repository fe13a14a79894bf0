//! Which figures exist: where each system prints one, how it is taken, and the most ours may be.

use super::figures::Sample;

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
    /// How the printed numbers become the figure.
    pub(crate) taken: Taken,
    /// Most our median may be.
    pub(crate) bound: Bound,
}

impl Place {
    /// What the machine measures for it, where it is told: several figures may be of one measurement.
    pub(crate) fn measured(&self) -> &str {
        self.name.split(' ').next().unwrap_or(&self.name)
    }
}

/// How printed numbers become a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// As they are.
    Whole,
    /// Divided among so many that were measured together.
    Share(u32),
    /// Only the 99th percentile.
    Slowest,
}

impl Taken {
    /// The figure's numbers.
    pub(crate) fn of(self, sample: Sample) -> Sample {
        match self {
            Self::Whole => sample,
            Self::Share(count) => sample.map(|value| value / f64::from(count)),
            Self::Slowest => sample.map(|_| sample.p99),
        }
    }
}

/// What the project has promised about a figure: the most our median may be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Bound {
    /// Nothing.
    None,
    /// A number.
    Most(f64),
    /// A multiple of our own median of another figure of the suite.
    Times(f64, &'static str),
    /// A Linux system's median.
    System(&'static str),
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
    ("map_file_read", "page", None),
    ("map_file_cow", "page", None),
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

/// The figure that a start's slowest samples are bounded by.
const START: &str = "start of nothing";
/// The figure that starts beside idle containers are bounded by.
const NONE_IDLE: &str = "start with 0 idle";

pub(super) fn start(quick: bool) -> Vec<Place> {
    let mut places = Vec::new();
    let single: [(&str, &str, Taken, Bound); 3] = [
        (START, "start", Taken::Whole, Bound::Most(150_000.0)),
        ("start of nothing, p99", "start", Taken::Slowest, Bound::Times(1.5, START)),
        ("total of nothing", "total", Taken::Whole, Bound::Most(200_000.0)),
    ];
    let one_by_one = |metric: &'static str| {
        let mut linux = vec![
            ("process", "spawn.static".to_owned(), metric),
            ("crun", "crun.seq".to_owned(), metric),
        ];
        if !quick {
            linux.push(("runc", "runc.seq".to_owned(), metric));
        }
        linux
    };
    for (name, metric, taken, bound) in single {
        let ours = ("compartment.seq".to_owned(), metric);
        places.push(Place { taken, bound, ..start_place(name, one_by_one(metric), ours, 5) });
    }
    // Without a template, and where one is made; Linux has no such difference.
    for (which, printed) in [("first", "compartment.new"), ("second", "compartment.again")] {
        for metric in ["start", "total"] {
            let name = format!("{metric} of nothing, an image's {which} start");
            let ours = (printed.to_owned(), metric);
            places.push(start_place(&name, one_by_one(metric), ours, 5));
        }
    }
    let spawn = || "spawn.static".to_owned();
    let linux = vec![("process", spawn(), "start")];
    let name = "start of nothing, posix_spawn in a compartment";
    let bound = Bound::Most(150_000.0);
    places.push(Place { bound, ..start_place(name, linux, (spawn(), "start"), 5) });
    for parallel in PARALLEL {
        let name = format!("start, {parallel} at once");
        places.push(at_once(quick, &name, parallel, "start"));
    }
    // One burst of runC is all that a full run has time for; it is 64 starts.
    places.push(Place {
        least: 1,
        taken: Taken::Share(64),
        bound: Bound::Most(170_000.0),
        ..at_once(quick, "total of each of 64 at once", 64, "burst")
    });
    places
}

/// A figure of several starts at once.
fn at_once(quick: bool, name: &str, parallel: u32, metric: &'static str) -> Place {
    let mut linux = vec![("process", format!("spawn.static.par{parallel}"), metric)];
    if !quick {
        linux.push(("crun", format!("crun.par{parallel}"), metric));
        linux.push(("runc", format!("runc.par{parallel}"), metric));
    }
    start_place(name, linux, (format!("compartment.par{parallel}"), metric), 2)
}

/// A figure of the suite `start` without a bound.
fn start_place(
    name: &str,
    linux: Vec<(&'static str, String, &'static str)>,
    ours: (String, &'static str),
    least: u64,
) -> Place {
    Place {
        suite: "start",
        name: name.to_owned(),
        unit: "instructions",
        linux,
        ours: Some(ours),
        least,
        taken: Taken::Whole,
        bound: Bound::None,
    }
}

pub(super) fn idle() -> Vec<Place> {
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
            taken: Taken::Whole,
            bound: if *idle == 0 { Bound::None } else { Bound::Times(1.02, NONE_IDLE) },
        })
        .collect()
}

pub(super) fn micro() -> Vec<Place> {
    MICRO
        .iter()
        .map(|(name, metric, bound)| Place {
            suite: "micro",
            name: (*name).to_owned(),
            unit: if *metric == "page" { "instructions per page" } else { "instructions" },
            linux: vec![("process", format!("lb.{name}"), metric)],
            ours: Some((format!("lb.{name}"), metric)),
            least: 3,
            taken: Taken::Whole,
            bound: bound.map_or(Bound::None, Bound::Most),
        })
        .collect()
}

pub(super) fn memory() -> Vec<Place> {
    let place = |name: &str, linux, ours: &str, bound| Place {
        suite: "memory",
        name: name.to_owned(),
        unit: "bytes",
        linux,
        ours: Some((ours.to_owned(), "bytes")),
        least: 1,
        taken: Taken::Whole,
        bound,
    };
    let linux = vec![
        ("process", "memory.process".to_owned(), "bytes"),
        ("crun", "memory.crun".to_owned(), "bytes"),
    ];
    vec![
        place(
            "idle compartment, missing in the machine",
            linux,
            "memory.machine",
            Bound::Most(262_144.0),
        ),
        place("idle compartment, its Domain's account", Vec::new(), "memory.domain", Bound::None),
    ]
}

pub(super) fn boot(suite: &'static str) -> Vec<Place> {
    let machine = suite.split('.').nth(1).unwrap_or(suite);
    let most = if machine == "q35" { 100_000_000.0 } else { 40_000_000.0 };
    let place = |name: &str, linux: Option<&str>, ours: &str| Place {
        suite,
        name: format!("{machine}, reset to {name}"),
        unit: "instructions",
        linux: linux.map(|name| ("process", name.to_owned(), "ticks")).into_iter().collect(),
        ours: Some((ours.to_owned(), "ticks")),
        least: 1,
        taken: Taken::Whole,
        bound: linux.map_or(Bound::None, |_| Bound::Most(most)),
    };
    vec![
        place("the kernel's first instruction", None, "boot.kernel"),
        place("root's first instruction", None, "boot.root"),
        place("the first instruction of a Linux program", Some("boot.linux"), "boot.linux"),
    ]
}

pub(super) fn apps(quick: bool) -> Vec<Place> {
    let functions = if quick { super::apps::QUICK } else { super::apps::FUNCTIONS };
    let place = |function: &str, name: String, metric: &'static str| Place {
        suite: "apps",
        name,
        unit: "instructions",
        linux: vec![
            ("process", format!("app.{function}.process"), "total"),
            ("crun", format!("app.{function}.crun"), "total"),
        ],
        ours: Some((format!("app.{function}"), metric)),
        least: 3,
        taken: Taken::Whole,
        bound: match function {
            "pass" => Bound::Most(30_000_000.0),
            _ => Bound::System("crun"),
        },
    };
    let both = |function: &&str| {
        let until_exit = format!("{function} until exit");
        [place(function, (*function).to_owned(), "total"), place(function, until_exit, "exit")]
    };
    functions.iter().flat_map(both).collect()
}
