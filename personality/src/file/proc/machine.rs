//! Texts of /proc and /sys about the system: the compartment's limits and use in the place of a machine's.

use crate::{
    system::{System, time},
    task::Life,
};
use alloc::string::String;
use core::fmt::Write;

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

/// The text of a file that is no process's.
pub(super) fn machine_text(name: &str, system: &System) -> String {
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
            let (low, high) = crate::file::device::random();
            writeln!(out, "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}", low as u32, low >> 32 & 0xffff, low >> 48 & 0xfff, high & 0xfff, high >> 16)
        }
        "entropy_avail" => writeln!(out, "256"),
        "file-max" => writeln!(out, "9223372036854775807"),
        "max_queued_events" => writeln!(out, "{}", crate::file::watch::MAX_EVENTS),
        "max_user_instances" => writeln!(out, "128"),
        "max_user_watches" => writeln!(out, "{}", crate::file::watch::MAX_WATCHES),
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
