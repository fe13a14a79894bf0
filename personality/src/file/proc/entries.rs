//! The fixed entries of /proc and /sys (proc(5), sysfs(5)): which directories, texts and links there are.

/// An entry of a fixed directory.
#[derive(Debug)]
pub(super) enum Entry {
    Directory(&'static str, &'static [Entry]),
    Text(&'static str),
    Link(&'static str, &'static str),
}

impl Entry {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Directory(name, _) | Self::Text(name) | Self::Link(name, _) => name,
        }
    }
}

pub(super) static ROOT: &[Entry] = &[
    Entry::Text("cgroups"),
    Entry::Text("cmdline"),
    Entry::Text("cpuinfo"),
    Entry::Text("devices"),
    Entry::Text("filesystems"),
    Entry::Text("loadavg"),
    Entry::Text("meminfo"),
    Entry::Link("mounts", "self/mounts"),
    Entry::Link("net", "self/net"),
    Entry::Link("self", ""),
    Entry::Text("stat"),
    Entry::Text("swaps"),
    Entry::Directory(
        "sys",
        &[
            Entry::Directory(
                "fs",
                &[
                    Entry::Text("file-max"),
                    Entry::Directory(
                        "inotify",
                        &[
                            Entry::Text("max_queued_events"),
                            Entry::Text("max_user_instances"),
                            Entry::Text("max_user_watches"),
                        ],
                    ),
                    Entry::Text("nr_open"),
                    Entry::Text("pipe-max-size"),
                ],
            ),
            Entry::Directory(
                "kernel",
                &[
                    Entry::Text("cap_last_cap"),
                    Entry::Text("hostname"),
                    Entry::Text("ngroups_max"),
                    Entry::Text("osrelease"),
                    Entry::Text("ostype"),
                    Entry::Text("pid_max"),
                    Entry::Directory(
                        "random",
                        &[
                            Entry::Text("boot_id"),
                            Entry::Text("entropy_avail"),
                            Entry::Text("uuid"),
                        ],
                    ),
                    Entry::Text("threads-max"),
                    Entry::Text("version"),
                ],
            ),
            Entry::Directory("net", SYS_NET),
            Entry::Directory(
                "vm",
                &[
                    Entry::Text("max_map_count"),
                    Entry::Text("mmap_min_addr"),
                    Entry::Text("overcommit_memory"),
                    Entry::Text("swappiness"),
                ],
            ),
        ],
    ),
    Entry::Link("thread-self", "thread"),
    Entry::Text("uptime"),
    Entry::Text("version"),
    Entry::Text("vmstat"),
];

/// /proc/PID/net.
pub(super) static NET: &[Entry] = &[
    Entry::Text("arp"),
    Entry::Text("dev"),
    Entry::Text("dev_mcast"),
    Entry::Text("if_inet6"),
    Entry::Text("igmp"),
    Entry::Text("ipv6_route"),
    Entry::Text("netlink"),
    Entry::Text("packet"),
    Entry::Text("raw"),
    Entry::Text("raw6"),
    Entry::Text("route"),
    Entry::Text("snmp"),
    Entry::Text("sockstat"),
    Entry::Text("sockstat6"),
    Entry::Text("tcp"),
    Entry::Text("tcp6"),
    Entry::Text("udp"),
    Entry::Text("udp6"),
    Entry::Text("udplite"),
    Entry::Text("unix"),
];

/// /proc/sys/net.
static SYS_NET: &[Entry] = &[
    Entry::Directory(
        "core",
        &[
            Entry::Text("netdev_max_backlog"),
            Entry::Text("optmem_max"),
            Entry::Text("rmem_default"),
            Entry::Text("rmem_max"),
            Entry::Text("somaxconn"),
            Entry::Text("wmem_default"),
            Entry::Text("wmem_max"),
        ],
    ),
    Entry::Directory(
        "ipv4",
        &[
            Entry::Text("ip_default_ttl"),
            Entry::Text("ip_forward"),
            Entry::Text("ip_local_port_range"),
            Entry::Text("ip_unprivileged_port_start"),
            Entry::Text("tcp_congestion_control"),
            Entry::Text("tcp_fin_timeout"),
            Entry::Text("tcp_keepalive_intvl"),
            Entry::Text("tcp_keepalive_probes"),
            Entry::Text("tcp_keepalive_time"),
            Entry::Text("tcp_max_syn_backlog"),
            Entry::Text("tcp_rmem"),
            Entry::Text("tcp_syncookies"),
            Entry::Text("tcp_tw_reuse"),
            Entry::Text("tcp_wmem"),
        ],
    ),
    Entry::Directory(
        "ipv6",
        &[
            Entry::Text("bindv6only"),
            Entry::Directory(
                "conf",
                &[
                    Entry::Directory("all", &[Entry::Text("disable_ipv6")]),
                    Entry::Directory("default", &[Entry::Text("disable_ipv6")]),
                    Entry::Directory("lo", &[Entry::Text("disable_ipv6")]),
                ],
            ),
        ],
    ),
    Entry::Directory("unix", &[Entry::Text("max_dgram_qlen")]),
];

pub(super) static SYS: &[Entry] = &[
    Entry::Directory(
        "devices",
        &[Entry::Directory(
            "system",
            &[Entry::Directory(
                "cpu",
                &[Entry::Text("online"), Entry::Text("possible"), Entry::Text("present")],
            )],
        )],
    ),
    Entry::Directory(
        "fs",
        &[Entry::Directory(
            "cgroup",
            &[
                Entry::Text("cgroup.controllers"),
                Entry::Text("cpu.max"),
                Entry::Text("cpu.stat"),
                Entry::Text("cpu.weight"),
                Entry::Text("memory.current"),
                Entry::Text("memory.max"),
                Entry::Text("memory.peak"),
                Entry::Text("pids.current"),
                Entry::Text("pids.max"),
            ],
        )],
    ),
    Entry::Directory(
        "kernel",
        &[Entry::Directory(
            "mm",
            &[Entry::Directory("transparent_hugepage", &[Entry::Text("enabled")])],
        )],
    ),
];

/// Files of /proc/PID; a name before `/` is a link.
pub(super) const PROCESS_FILES: &[&str] = &[
    "cgroup",
    "cmdline",
    "comm",
    "cwd",
    "environ",
    "exe",
    "fd",
    "fdinfo",
    "limits",
    "maps",
    "mountinfo",
    "mounts",
    "net",
    "oom_score",
    "oom_score_adj",
    "root",
    "smaps",
    "stat",
    "statm",
    "status",
    "task",
    "wchan",
];
