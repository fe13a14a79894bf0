//! /proc and /sys as far as programs read them (proc(5)): what is true of the compartment, its limits instead of the machine's.

use super::node::{Kind, Meta, Node};
use crate::{
    linux::{Errno, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE, S_IFDIR, S_IFLNK, S_IFREG},
    system::{System, time},
    task::{Life, Process, Processes, Task},
};
use alloc::{format, rc::Rc, string::String, vec::Vec};
use core::fmt::Write;

/// Number of the file system.
pub const DEVICE: u64 = 0x31;

/// A place in the tree.
#[derive(Clone, Debug)]
pub struct ProcNode {
    place: Place,
    processes: Rc<Processes>,
}

#[derive(Clone, Debug)]
enum Place {
    /// A directory of fixed entries.
    Fixed(&'static [Entry], &'static str),
    /// /proc/PID.
    Process(i32),
    /// /proc/PID/fd (true), or fdinfo.
    Descriptors(i32, bool),
    /// /proc/PID/task.
    Tasks(i32),
    /// A file or link of a process.
    Of(i32, &'static str),
    /// A descriptor's link.
    Descriptor(i32, i32),
    /// A file by its text's name.
    Text(&'static str),
    /// A link by its target.
    Link(&'static str),
}

/// An entry of a fixed directory.
#[derive(Debug)]
enum Entry {
    Directory(&'static str, &'static [Entry]),
    Text(&'static str),
    Link(&'static str, &'static str),
}

impl Entry {
    const fn name(&self) -> &'static str {
        match self {
            Self::Directory(name, _) | Self::Text(name) | Self::Link(name, _) => name,
        }
    }
}

static ROOT: &[Entry] = &[
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
static NET: &[Entry] = &[
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

static SYS: &[Entry] = &[
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
const PROCESS_FILES: &[&str] = &[
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

/// The root of /proc.
#[must_use]
pub fn proc_root(processes: &Rc<Processes>) -> Rc<Node> {
    node(Place::Fixed(ROOT, ""), processes)
}

/// The root of /sys.
#[must_use]
pub fn sys_root(processes: &Rc<Processes>) -> Rc<Node> {
    node(Place::Fixed(SYS, ""), processes)
}

fn node(place: Place, processes: &Rc<Processes>) -> Rc<Node> {
    let (mode, id) = match &place {
        Place::Fixed(entries, name) => {
            (S_IFDIR | 0o555, entries.as_ptr().addr() as u64 ^ name.as_ptr().addr() as u64)
        }
        Place::Process(pid) => (S_IFDIR | 0o555, 0x1_0000 + (*pid as u64) * 64),
        Place::Descriptors(pid, is_fd) => {
            (S_IFDIR | 0o500, 0x1_0000 + (*pid as u64) * 64 + 1 + u64::from(*is_fd))
        }
        Place::Tasks(pid) => (S_IFDIR | 0o555, 0x1_0000 + (*pid as u64) * 64 + 3),
        Place::Of(pid, name) if is_link(name) => {
            (S_IFLNK | 0o777, 0x1_0000 + (*pid as u64) * 64 + 8 + name.len() as u64)
        }
        Place::Of(pid, name) => {
            (S_IFREG | 0o444, 0x1_0000 + (*pid as u64) * 64 + 16 + name.len() as u64)
        }
        Place::Descriptor(pid, fd) => {
            (S_IFLNK | 0o700, 0x100_0000 + (*pid as u64) * 4096 + *fd as u64)
        }
        Place::Text(name) => (S_IFREG | 0o444, name.as_ptr().addr() as u64),
        Place::Link(name) => (S_IFLNK | 0o777, 0x200_0000 + name.as_ptr().addr() as u64),
    };
    let now = time::realtime();
    let owner = match &place {
        Place::Process(pid) | Place::Of(pid, _) | Place::Descriptors(pid, _) => {
            processes.get(*pid).map_or((0, 0), |process| {
                (process.credentials.borrow().users[1], process.credentials.borrow().groups[1])
            })
        }
        _ => (0, 0),
    };
    let nlink = if mode & S_IFDIR == S_IFDIR { 2 } else { 1 };
    let meta = Meta {
        mode,
        uid: owner.0,
        gid: owner.1,
        nlink,
        rdev: 0,
        accessed: now,
        modified: now,
        changed: now,
    };
    Node::with_meta(
        Kind::Proc(ProcNode { place, processes: processes.clone() }),
        meta,
        id & 0xffff_ffff,
        DEVICE,
    )
}

fn is_link(name: &str) -> bool {
    matches!(name, "cwd" | "exe" | "root")
}

/// The process of the calling thread.
fn own_pid(processes: &Processes) -> i32 {
    let slot = rt::thread::own_slot();
    processes
        .all()
        .iter()
        .find(|process| process.tasks.borrow().iter().any(|task| task.thread.slot() == slot))
        .map_or(1, |process| process.pid)
}

impl ProcNode {
    fn live(&self, pid: i32) -> Result<Rc<Process>, Errno> {
        self.processes.get(pid).ok_or(Errno::ENOENT)
    }

    /// Looks a name up.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`.
    pub fn lookup(&self, _own: &Rc<Node>, name: &[u8]) -> Result<Rc<Node>, Errno> {
        let text = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let place = match &self.place {
            Place::Fixed(entries, _) => {
                if core::ptr::eq(*entries, ROOT)
                    && let Ok(pid) = text.parse::<i32>()
                {
                    let known = self
                        .processes
                        .get(pid)
                        .or_else(|| self.processes.task(pid).map(|task| task.process.clone()));
                    known.map(|_| Place::Process(pid)).ok_or(Errno::ENOENT)?
                } else {
                    match entries.iter().find(|entry| entry.name() == text).ok_or(Errno::ENOENT)? {
                        Entry::Directory(name, entries) => Place::Fixed(entries, name),
                        Entry::Text(name) => Place::Text(name),
                        Entry::Link(name, "") => Place::Link(name),
                        Entry::Link(_, target) => Place::Link(target),
                    }
                }
            }
            Place::Process(pid) => {
                self.live(*pid)?;
                match text {
                    "fd" => Place::Descriptors(*pid, true),
                    "fdinfo" => Place::Descriptors(*pid, false),
                    "task" => Place::Tasks(*pid),
                    "net" => Place::Fixed(NET, "net"),
                    _ => Place::Of(
                        *pid,
                        PROCESS_FILES.iter().find(|known| **known == text).ok_or(Errno::ENOENT)?,
                    ),
                }
            }
            Place::Descriptors(pid, is_fd) => {
                let fd: i32 = text.parse().map_err(|_| Errno::ENOENT)?;
                self.file(*pid, fd)?;
                if *is_fd { Place::Descriptor(*pid, fd) } else { Place::Of(*pid, "fdinfo") }
            }
            Place::Tasks(pid) => {
                let tid: i32 = text.parse().map_err(|_| Errno::ENOENT)?;
                let process = self.live(*pid)?;
                let known = process.tasks.borrow().iter().any(|task| task.tid == tid);
                if known { Place::Process(*pid) } else { return Err(Errno::ENOENT) }
            }
            _ => return Err(Errno::ENOTDIR),
        };
        Ok(node(place, &self.processes))
    }

    fn file(&self, pid: i32, fd: i32) -> Result<Rc<super::OpenFile>, Errno> {
        let process = self.live(pid)?;
        let tasks = process.tasks.borrow();
        let files = tasks.first().ok_or(Errno::ENOENT)?.files();
        let file = files.borrow().get(fd).cloned().map_err(|_| Errno::ENOENT)?;
        Ok(file)
    }

    /// Calls a function with the names after a name, in order.
    ///
    /// # Errors
    /// `ENOTDIR`, `ENOENT`.
    pub fn list(
        &self,
        own: &Rc<Node>,
        after: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], &Rc<Node>) -> bool,
    ) -> Result<(), Errno> {
        let mut names: Vec<String> = match &self.place {
            Place::Fixed(entries, _) => {
                let mut names: Vec<String> =
                    entries.iter().map(|entry| entry.name().into()).collect();
                if core::ptr::eq(*entries, ROOT) {
                    names.extend(self.processes.numbers().iter().map(|pid| format!("{pid}")));
                }
                names
            }
            Place::Process(pid) => {
                self.live(*pid)?;
                PROCESS_FILES.iter().map(|name| (*name).into()).collect()
            }
            Place::Descriptors(pid, _) => {
                let process = self.live(*pid)?;
                let tasks = process.tasks.borrow();
                let files = tasks.first().ok_or(Errno::ENOENT)?.files();
                let files = files.borrow();
                files.descriptors().map(|(fd, _)| format!("{fd}")).collect()
            }
            Place::Tasks(pid) => {
                self.live(*pid)?.tasks.borrow().iter().map(|task| format!("{}", task.tid)).collect()
            }
            _ => return Err(Errno::ENOTDIR),
        };
        names.sort_unstable();
        for name in names {
            if after.is_some_and(|after| name.as_bytes() <= after) {
                continue;
            }
            if let Ok(found) = self.lookup(own, name.as_bytes())
                && !each(name.as_bytes(), &found)
            {
                break;
            }
        }
        Ok(())
    }

    /// The directory above.
    #[must_use]
    pub fn parent(&self, _own: &Rc<Node>) -> Option<Rc<Node>> {
        let above = match &self.place {
            Place::Descriptors(pid, _) | Place::Tasks(pid) => Place::Process(*pid),
            Place::Process(_) => Place::Fixed(ROOT, ""),
            _ => return None,
        };
        Some(node(above, &self.processes))
    }

    /// Its name in its parent.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        match &self.place {
            Place::Fixed(_, name) => name.as_bytes().to_vec(),
            Place::Process(pid) => format!("{pid}").into_bytes(),
            Place::Descriptors(_, true) => b"fd".to_vec(),
            Place::Descriptors(_, false) => b"fdinfo".to_vec(),
            Place::Tasks(_) => b"task".to_vec(),
            _ => Vec::new(),
        }
    }

    /// The node that a magic link leads to.
    #[must_use]
    pub fn link_node(&self) -> Option<Rc<Node>> {
        match &self.place {
            Place::Descriptor(pid, fd) => self.file(*pid, *fd).ok()?.node.clone(),
            Place::Of(pid, "exe") => self.live(*pid).ok()?.program.borrow().node.clone(),
            Place::Of(pid, name @ ("cwd" | "root")) => {
                let process = self.live(*pid).ok()?;
                let place = process.tasks.borrow().first()?.place();
                let found = if *name == "cwd" {
                    place.working.borrow().clone()
                } else {
                    place.root.borrow().clone()
                };
                Some(found)
            }
            _ => None,
        }
    }

    /// The process whose directory this is.
    #[must_use]
    pub const fn process(&self) -> Option<i32> {
        match self.place {
            Place::Process(pid) => Some(pid),
            _ => None,
        }
    }

    /// What readlink(2) says.
    #[must_use]
    pub fn link_text(&self) -> Option<Vec<u8>> {
        match &self.place {
            Place::Link("self") => Some(format!("{}", own_pid(&self.processes)).into_bytes()),
            Place::Link("thread") => {
                let pid = own_pid(&self.processes);
                Some(format!("{pid}/task/{pid}").into_bytes())
            }
            Place::Link(target) => Some(target.as_bytes().to_vec()),
            Place::Descriptor(pid, fd) => {
                let file = self.file(*pid, *fd).ok()?;
                Some(match (&file.object, &file.node) {
                    (super::Object::Terminal(terminal), _) => match terminal.index {
                        Some(index) => format!("/dev/pts/{index}").into_bytes(),
                        None => b"/dev/console".to_vec(),
                    },
                    (_, Some(node)) if node.device == super::node::PIPES => {
                        format!("pipe:[{}]", node.id).into_bytes()
                    }
                    (_, None) if file.path.ends_with(b":") => {
                        [file.path.clone(), format!("[{}]", file.id).into_bytes()].concat()
                    }
                    (_, Some(node)) if node.is_directory() => {
                        self.path_of(*pid, node).unwrap_or_else(|| file.path.clone())
                    }
                    _ => self.absolute(*pid, &file.path),
                })
            }
            Place::Of(pid, "exe") => {
                Some(self.absolute(*pid, &self.live(*pid).ok()?.program.borrow().path))
            }
            Place::Of(pid, "cwd") => self.path_of(*pid, &self.link_node()?),
            Place::Of(_, "root") => Some(b"/".to_vec()),
            _ => None,
        }
    }

    fn path_of(&self, pid: i32, node: &Rc<Node>) -> Option<Vec<u8>> {
        let process = self.live(pid).ok()?;
        let place = process.tasks.borrow().first()?.place();
        let root = place.root.borrow().clone();
        super::path::path_of(node, &root)
    }

    fn absolute(&self, pid: i32, path: &[u8]) -> Vec<u8> {
        if path.first() == Some(&b'/') {
            return path.to_vec();
        }
        let working = self
            .live(pid)
            .ok()
            .and_then(|process| {
                process.tasks.borrow().first().map(|task| task.place().working.borrow().clone())
            })
            .and_then(|node| self.path_of(pid, &node))
            .unwrap_or_default();
        [working.as_slice(), b"/", path].concat()
    }

    /// The text of a file, as it is now.
    ///
    /// # Errors
    /// `ENOENT` for a process that is gone.
    pub fn text(&self, system: &System, task: &Rc<Task>) -> Result<Vec<u8>, Errno> {
        match &self.place {
            Place::Text(name) => Ok(machine_text(name, system).into_bytes()),
            Place::Of(pid, name) => {
                let process = self.live(*pid).or_else(|_| {
                    self.processes.task(*pid).map(|task| task.process.clone()).ok_or(Errno::ESRCH)
                })?;
                process_text(name, &process, system, task)
            }
            _ => Err(Errno::EINVAL),
        }
    }
}

/// CPUs that the compartment may use.
#[must_use]
pub fn cpu_count(budget: &contract::compartments::Budget) -> u64 {
    budget.cpu_set.map_or(1, |set| u64::from(set.count_ones())).clamp(1, 63)
}

fn memory(system: &System) -> (u64, u64, u64) {
    use kernel_abi::resource::{Resource, UNLIMITED};
    let frames = rt::Domain::OWN.stat(Resource::Frames).unwrap_or(rt::object::Use {
        used: 0,
        limit: UNLIMITED,
        peak: 0,
    });
    let total = if frames.limit == UNLIMITED {
        system.budget.memory.unwrap_or(1 << 30)
    } else {
        frames.limit * 4096
    };
    (total, frames.used * 4096, frames.peak * 4096)
}

fn machine_text(name: &str, system: &System) -> String {
    let mut out = String::new();
    let (total, used, peak) = memory(system);
    let free = total.saturating_sub(used);
    let cpus = cpu_count(&system.budget);
    let uptime = rt::clock::since_boot();
    let _ = match name {
        "cmdline" => writeln!(out, "mett"),
        "cpuinfo" => (0..cpus).try_for_each(|cpu| {
            writeln!(
                out,
                "processor\t: {cpu}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 0\nmodel name\t: MettEagle virtual CPU\ncpu MHz\t\t: {}.000\ncpu cores\t: {cpus}\nflags\t\t: fpu tsc cx8 sep cmov mmx fxsr sse sse2 syscall nx lm\nbogomips\t: 2000.00\n",
                rt::clock::ticks_per_second() / 1_000_000
            )
        }),
        "filesystems" => writeln!(out, "nodev\tproc\nnodev\tsysfs\nnodev\ttmpfs\nnodev\tdevpts\nnodev\toverlay"),
        "loadavg" => {
            let running = system.processes.all().iter().filter(|process| process.life.get() == Life::Running).count();
            writeln!(out, "0.00 0.00 0.00 {running}/{} {}", system.processes.task_count(), system.processes.last())
        }
        "meminfo" => writeln!(
            out,
            "MemTotal:       {:8} kB\nMemFree:        {:8} kB\nMemAvailable:   {:8} kB\nBuffers:               0 kB\nCached:                0 kB\nSwapCached:            0 kB\nActive:         {:8} kB\nInactive:              0 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB\nShmem:                 0 kB\nSlab:                  0 kB\nSReclaimable:          0 kB",
            total >> 10,
            free >> 10,
            free >> 10,
            used >> 10
        ),
        "stat" => writeln!(
            out,
            "cpu  0 0 0 {idle} 0 0 0 0 0 0\ncpu0 0 0 0 {idle} 0 0 0 0 0 0\nintr 0\nctxt 0\nbtime {}\nprocesses {}\nprocs_running 1\nprocs_blocked 0",
            time::epoch() / 1_000_000_000,
            system.processes.last(),
            idle = uptime / 10_000_000
        ),
        "swaps" => writeln!(out, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority"),
        "uptime" => writeln!(out, "{}.{:02} 0.00", uptime / 1_000_000_000, uptime / 10_000_000 % 100),
        "version" => writeln!(out, "Linux version {} (mett) #1 SMP MettEagle", crate::syscall::RELEASE),
        "vmstat" => writeln!(out, "nr_free_pages {}\npgpgin 0\npgpgout 0\npswpin 0\npswpout 0\npgfault 0", free >> 12),
        "devices" => writeln!(out, "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n136 pts\n\nBlock devices:"),
        "cgroups" => writeln!(out, "#subsys_name\thierarchy\tnum_cgroups\tenabled"),
        "hostname" => writeln!(out, "{}", String::from_utf8_lossy(&system.hostname.borrow())),
        "ostype" => writeln!(out, "Linux"),
        "osrelease" => writeln!(out, "{}", crate::syscall::RELEASE),
        "pid_max" => writeln!(out, "4194304"),
        "threads-max" => writeln!(out, "63000"),
        "cap_last_cap" => writeln!(out, "40"),
        "ngroups_max" => writeln!(out, "65536"),
        "boot_id" | "uuid" => {
            let (low, high) = super::device::random();
            writeln!(out, "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}", low as u32, low >> 32 & 0xffff, low >> 48 & 0xfff, high & 0xfff, high >> 16)
        }
        "entropy_avail" => writeln!(out, "256"),
        "file-max" => writeln!(out, "9223372036854775807"),
        "max_queued_events" => writeln!(out, "{}", super::watch::MAX_EVENTS),
        "max_user_instances" => writeln!(out, "128"),
        "max_user_watches" => writeln!(out, "{}", super::watch::MAX_WATCHES),
        "nr_open" => writeln!(out, "1048576"),
        "pipe-max-size" => writeln!(out, "1048576"),
        "max_map_count" => writeln!(out, "65530"),
        "mmap_min_addr" => writeln!(out, "65536"),
        "overcommit_memory" => writeln!(out, "0"),
        "swappiness" => writeln!(out, "60"),
        "online" | "possible" | "present" => {
            if cpus == 1 {
                writeln!(out, "0")
            } else {
                writeln!(out, "0-{}", cpus - 1)
            }
        }
        "cgroup.controllers" => writeln!(out, "cpu memory pids"),
        "cpu.max" => match system.budget.cpu_millis {
            Some(millis) => writeln!(out, "{} 100000", millis * 100),
            None => writeln!(out, "max 100000"),
        },
        "cpu.weight" => writeln!(out, "{}", system.budget.cpu_weight.unwrap_or(100)),
        "cpu.stat" => {
            let used = rt::Domain::OWN.stat(kernel_abi::resource::Resource::CpuTime).map_or(0, |time| rt::clock::nanoseconds(time.used) / 1000);
            writeln!(out, "usage_usec {used}\nuser_usec {used}\nsystem_usec 0")
        }
        "memory.current" => writeln!(out, "{used}"),
        "memory.peak" => writeln!(out, "{peak}"),
        "memory.max" => match system.budget.memory {
            Some(limit) => writeln!(out, "{limit}"),
            None => writeln!(out, "max"),
        },
        "pids.current" => writeln!(out, "{}", system.processes.task_count()),
        "pids.max" => match system.budget.threads {
            Some(limit) => writeln!(out, "{limit}"),
            None => writeln!(out, "max"),
        },
        "enabled" => writeln!(out, "always madvise [never]"),
        name => out.write_str(&crate::net::report::text(&system.network, name)),
    };
    out
}

fn process_text(
    name: &str,
    process: &Rc<Process>,
    system: &System,
    task: &Rc<Task>,
) -> Result<Vec<u8>, Errno> {
    let mut out = String::new();
    match name {
        "cmdline" => {
            let program = process.program.borrow();
            let mut bytes = Vec::new();
            for argument in &program.arguments {
                bytes.extend_from_slice(argument);
                bytes.push(0);
            }
            return Ok(if matches!(process.life.get(), Life::Zombie(_)) { Vec::new() } else { bytes });
        }
        "environ" => return environment(process, task),
        "comm" => {
            let mut bytes = comm(process);
            bytes.push(b'\n');
            return Ok(bytes);
        }
        "stat" => write_stat(&mut out, process),
        "statm" => {
            let pages = process.memory.borrow().total() >> 12;
            let _ = writeln!(out, "{pages} {pages} 0 0 0 {pages} 0");
        }
        "status" => write_status(&mut out, process),
        "maps" | "smaps" => write_maps(&mut out, process, name == "smaps"),
        "limits" => write_limits(&mut out, process),
        "cgroup" => out.push_str("0::/\n"),
        "mounts" => out.push_str(
            "overlay / overlay rw 0 0\nproc /proc proc rw,nosuid,nodev,noexec 0 0\ntmpfs /dev tmpfs rw,nosuid 0 0\ndevpts /dev/pts devpts rw,nosuid,noexec 0 0\ntmpfs /dev/shm tmpfs rw,nosuid,nodev,noexec 0 0\nsysfs /sys sysfs ro,nosuid,nodev,noexec 0 0\n",
        ),
        "mountinfo" => out.push_str(
            "1 0 0:48 / / rw - overlay overlay rw\n2 1 0:49 / /proc rw,nosuid,nodev,noexec - proc proc rw\n3 1 0:50 / /dev rw,nosuid - tmpfs tmpfs rw\n4 3 0:51 / /dev/pts rw,nosuid,noexec - devpts devpts rw\n5 3 0:52 / /dev/shm rw,nosuid,nodev,noexec - tmpfs tmpfs rw\n6 1 0:53 / /sys ro,nosuid,nodev,noexec - sysfs sysfs ro\n",
        ),
        "oom_score" | "oom_score_adj" | "wchan" => out.push_str("0\n"),
        "fdinfo" => out.push_str("pos:\t0\nflags:\t02\n"),
        _ => return Err(Errno::EINVAL),
    }
    let _ = system;
    Ok(out.into_bytes())
}

fn environment(process: &Rc<Process>, task: &Rc<Task>) -> Result<Vec<u8>, Errno> {
    if process.pid != task.process.pid {
        // Another process's memory is not mapped here.
        return Err(Errno::EACCES);
    }
    let (start, end) = process.memory.borrow().environment.get();
    let mut bytes = alloc::vec![0; end.saturating_sub(start).min(1 << 20) as usize];
    crate::machine::guest::read_bytes(start, &mut bytes)?;
    Ok(bytes)
}

fn comm(process: &Process) -> Vec<u8> {
    let name = process.tasks.borrow().first().map_or([0; 16], |task| task.name.get());
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(16);
    name.get(..length).unwrap_or_default().to_vec()
}

/// The letter of a process's state.
#[must_use]
pub fn state_letter(process: &Process) -> char {
    match process.life.get() {
        Life::Zombie(_) => 'Z',
        Life::Stopped(_) => 'T',
        Life::Running => {
            let runs = process
                .tasks
                .borrow()
                .iter()
                .any(|task| task.thread.stat().is_ok_and(|(_, state, _)| state == 1));
            if runs { 'R' } else { 'S' }
        }
    }
}

fn terminal_number(process: &Process) -> (u64, i32) {
    let terminal = process.terminal.borrow();
    terminal.as_ref().map_or((0, -1), |terminal| {
        let number = terminal.index.map_or(super::node::device_number(5, 1), |index| {
            super::node::device_number(136, index)
        });
        (number, terminal.foreground.get())
    })
}

fn write_stat(out: &mut String, process: &Process) {
    let name = String::from_utf8_lossy(&comm(process)).into_owned();
    let (terminal, foreground) = terminal_number(process);
    let (used, in_guest) = process.cpu_time();
    let ticks = |time: u64| rt::clock::nanoseconds(time) / 10_000_000;
    let memory = process.memory.borrow();
    let started = rt::clock::nanoseconds(process.started) / 10_000_000;
    let threads = process.tasks.borrow().len();
    let _ = writeln!(
        out,
        "{} ({name}) {} {} {} {} {terminal} {foreground} 0 0 0 0 0 {} {} 0 0 20 {} {threads} 0 {started} {} {} 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
        process.pid,
        state_letter(process),
        process.parent.get(),
        process.group.get(),
        process.session.get(),
        ticks(in_guest),
        ticks(used.saturating_sub(in_guest)),
        process.nice.get(),
        memory.total(),
        memory.total() >> 12,
    );
}

fn write_status(out: &mut String, process: &Process) {
    let credentials = process.credentials.borrow();
    let [r, e, s, f] = credentials.users;
    let [gr, ge, gs, gf] = credentials.groups;
    let groups: Vec<String> =
        credentials.more_groups.iter().map(|group| format!("{group}")).collect();
    let state = state_letter(process);
    let word = match state {
        'R' => "running",
        'T' => "stopped",
        'Z' => "zombie",
        _ => "sleeping",
    };
    let total = process.memory.borrow().total() >> 10;
    let actions = process.actions.borrow().clone();
    let mask = process.tasks.borrow().first().map_or(0, |task| task.mask.get());
    let caught = (1..=64_u8)
        .filter(|signo| actions.get(*signo).handler > 1)
        .fold(0_u64, |set, signo| set | 1 << (signo - 1));
    let _ = writeln!(
        out,
        "Name:\t{}\nUmask:\t0022\nState:\t{state} ({word})\nTgid:\t{pid}\nNgid:\t0\nPid:\t{pid}\nPPid:\t{}\nTracerPid:\t0\nUid:\t{r}\t{e}\t{s}\t{f}\nGid:\t{gr}\t{ge}\t{gs}\t{gf}\nFDSize:\t64\nGroups:\t{} \nNStgid:\t{pid}\nNSpid:\t{pid}\nVmPeak:\t{total:8} kB\nVmSize:\t{total:8} kB\nVmRSS:\t{total:8} kB\nThreads:\t{}\nSigQ:\t0/63000\nSigPnd:\t0000000000000000\nShdPnd:\t{:016x}\nSigBlk:\t{mask:016x}\nSigIgn:\t{:016x}\nSigCgt:\t{caught:016x}\nCapInh:\t{:016x}\nCapPrm:\t{:016x}\nCapEff:\t{:016x}\nCapBnd:\t{:016x}\nCapAmb:\t0000000000000000\nNoNewPrivs:\t{}\nSeccomp:\t0\nCpus_allowed:\t1\nCpus_allowed_list:\t0",
        String::from_utf8_lossy(&comm(process)),
        process.parent.get(),
        groups.join(" "),
        process.tasks.borrow().len(),
        process.pending.borrow().set(),
        actions.ignored(),
        credentials.inheritable,
        credentials.permitted,
        credentials.effective,
        credentials.bounding,
        u8::from(process.no_new_privileges.get()),
        pid = process.pid,
    );
}

fn write_maps(out: &mut String, process: &Process, detailed: bool) {
    process.memory.borrow().each_area(|start, area| {
        let flag = |bit, letter| if area.protection & bit != 0 { letter } else { '-' };
        let shared = if area.flags & MAP_SHARED != 0 { 's' } else { 'p' };
        let (offset, device, id) = area.file.as_ref().map_or((0, 0, 0), |(node, offset)| (*offset, node.device, node.id));
        let name = area.path.as_ref().map_or(area.name.into(), |path| String::from_utf8_lossy(path).into_owned());
        let _ = writeln!(
            out,
            "{start:08x}-{:08x} {}{}{}{shared} {offset:08x} 00:{device:02x} {id:<26} {name}",
            area.end,
            flag(PROT_READ, 'r'),
            flag(PROT_WRITE, 'w'),
            flag(PROT_EXEC, 'x'),
        );
        if detailed {
            let size = (area.end - start) >> 10;
            let _ = writeln!(out, "Size:           {size:8} kB\nRss:            {size:8} kB\nPss:            {size:8} kB");
        }
    });
}

fn write_limits(out: &mut String, process: &Process) {
    const NAMES: [(&str, &str); 16] = [
        ("Max cpu time", "seconds"),
        ("Max file size", "bytes"),
        ("Max data size", "bytes"),
        ("Max stack size", "bytes"),
        ("Max core file size", "bytes"),
        ("Max resident set", "bytes"),
        ("Max processes", "processes"),
        ("Max open files", "files"),
        ("Max locked memory", "bytes"),
        ("Max address space", "bytes"),
        ("Max file locks", "locks"),
        ("Max pending signals", "signals"),
        ("Max msgqueue size", "bytes"),
        ("Max nice priority", ""),
        ("Max realtime priority", ""),
        ("Max realtime timeout", "us"),
    ];
    let _ = writeln!(out, "{:<26}{:<21}{:<21}Units", "Limit", "Soft Limit", "Hard Limit");
    let text =
        |value: u64| if value == u64::MAX { String::from("unlimited") } else { format!("{value}") };
    for ((name, unit), limit) in NAMES.iter().zip(&*process.limits.borrow()) {
        let _ = writeln!(out, "{name:<26}{:<21}{:<21}{unit}", text(limit.soft), text(limit.hard));
    }
}
