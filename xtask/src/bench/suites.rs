//! Which figures exist: suite, name, where each system prints it, and the most ours may be.

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

/// Every figure of a suite; `quick` leaves out what takes long.
pub(crate) fn places(suite: &str, quick: bool) -> Vec<Place> {
    match suite {
        "start" => start(quick),
        "idle" => idle(),
        "micro" => micro(),
        _ => Vec::new(),
    }
}

/// The Linux scenarios that print a suite's figures.
pub(crate) fn scenarios(suite: &str, quick: bool) -> &'static str {
    match (suite, quick) {
        ("start", true) => "spawn,crun",
        ("start", false) => "spawn,crun,runc,crunpar,runcpar",
        ("idle", _) => "idle",
        ("micro", _) => "micro",
        _ => "",
    }
}

/// RAM of both machines for a suite, in MiB.
pub(crate) fn memory(suite: &str) -> u32 {
    if suite == "idle" { 4096 } else { 2048 }
}

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
