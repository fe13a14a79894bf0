//! Texts of /proc/PID (proc(5)).

use crate::{
    linux::{Errno, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE},
    system::System,
    task::{Life, Process, Task},
};
use alloc::{format, rc::Rc, string::String, vec::Vec};
use core::fmt::Write;

/// The text of a file of /proc/PID, or of the thread with a number.
///
/// # Errors
/// `EACCES` for the environment of another process, `EINVAL` for what is no file.
pub(super) fn process_text(
    name: &str,
    (process, number): (&Rc<Process>, i32),
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
            return Ok(if matches!(process.life.get(), Life::Zombie(_)) {
                Vec::new()
            } else {
                bytes
            });
        }
        "environ" => return environment(process, task),
        "comm" => {
            let mut bytes = comm(process, number);
            bytes.push(b'\n');
            return Ok(bytes);
        }
        "stat" => write_stat(&mut out, process, number),
        "statm" => {
            let memory = process.memory.borrow();
            let pages = memory.total() >> 12;
            let _ = writeln!(out, "{pages} {} 0 0 0 {pages} 0", memory.resident());
        }
        "status" => write_status(&mut out, (process, number), system),
        "maps" | "smaps" => write_maps(&mut out, process, name == "smaps"),
        "limits" => write_limits(&mut out, process),
        "cgroup" => out.push_str("0::/\n"),
        "mounts" => return Ok(super::mounts::mounts(system)),
        "mountinfo" => return Ok(super::mounts::mountinfo(system)),
        "oom_score_adj" => {
            let _ = writeln!(out, "{}", process.oom_adjustment.get());
        }
        "oom_score" | "wchan" => out.push_str("0\n"),
        "fdinfo" => out.push_str("pos:\t0\nflags:\t02\n"),
        _ => return Err(Errno::EINVAL),
    }
    Ok(out.into_bytes())
}

/// Writes to a file of /proc/PID: `comm` and `oom_score_adj` can be changed.
///
/// # Errors
/// `EINVAL` for what is no number or for another process's name, `EACCES` for a negative adjustment, `EIO` for other files.
pub(super) fn write_process(
    name: &str,
    (process, number): (&Process, i32),
    text: &[u8],
    task: &Task,
) -> Result<(), Errno> {
    match name {
        "comm" if process.pid != task.process.pid => Err(Errno::EINVAL),
        "comm" => {
            let mut name = [0; 16];
            let text = text.strip_suffix(b"\n").unwrap_or(text);
            for (place, byte) in name.iter_mut().take(15).zip(text) {
                *place = *byte;
            }
            if let Some(task) = thread(process, number) {
                task.name.set(name);
            }
            Ok(())
        }
        "oom_score_adj" => {
            let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
            let value: i32 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
            if !(-1000..=1000).contains(&value) {
                return Err(Errno::EINVAL);
            }
            // Only CAP_SYS_RESOURCE, which is never held, moves the least value from 0.
            if value < 0 {
                return Err(Errno::EACCES);
            }
            process.oom_adjustment.set(value);
            Ok(())
        }
        _ => Err(Errno::EIO),
    }
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

/// The thread with a number; of a process whose first one has ended, another.
fn thread(process: &Process, number: i32) -> Option<Rc<Task>> {
    let tasks = process.tasks.borrow();
    tasks.iter().find(|task| task.tid == number).or_else(|| tasks.first()).cloned()
}

fn comm(process: &Process, number: i32) -> Vec<u8> {
    let living = thread(process, number).map(|task| task.name.get());
    let name = living.unwrap_or_else(|| process.last_name.get());
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
        (crate::file::node::device_number(136, terminal.index), terminal.foreground.get())
    })
}

fn write_stat(out: &mut String, process: &Process, number: i32) {
    let name = String::from_utf8_lossy(&comm(process, number)).into_owned();
    let (terminal, foreground) = terminal_number(process);
    let (used, in_guest) = process.cpu_time();
    let ticks = |time: u64| rt::clock::nanoseconds(time) / 10_000_000;
    let memory = process.memory.borrow();
    let started = rt::clock::nanoseconds(process.started) / 10_000_000;
    let threads = process.tasks.borrow().len();
    let _ = writeln!(
        out,
        "{number} ({name}) {} {} {} {} {terminal} {foreground} 0 0 0 0 0 {} {} 0 0 20 {} {threads} 0 {started} {} {} 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
        state_letter(process),
        process.parent.get(),
        process.group.get(),
        process.session.get(),
        ticks(in_guest),
        ticks(used.saturating_sub(in_guest)),
        process.nice.get(),
        memory.total(),
        memory.resident(),
    );
}

fn write_status(out: &mut String, (process, number): (&Process, i32), system: &System) {
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
    let resident = process.memory.borrow().resident() << 2;
    let actions = process.actions.borrow().clone();
    let (mask, umask, own) = thread(process, number).map_or((0, 0o022, 0), |task| {
        (task.mask.get(), task.place().mask.get(), task.pending.borrow().set())
    });
    let cpus = super::cpu_count(&system.budget);
    let caught = (1..=64_u8)
        .filter(|signo| actions.get(*signo).handler > 1)
        .fold(0_u64, |set, signo| set | 1 << (signo - 1));
    let _ = writeln!(
        out,
        "Name:\t{}\nUmask:\t{umask:04o}\nState:\t{state} ({word})\nTgid:\t{pid}\nNgid:\t0\nPid:\t{number}\nPPid:\t{}\nTracerPid:\t0\nUid:\t{r}\t{e}\t{s}\t{f}\nGid:\t{gr}\t{ge}\t{gs}\t{gf}\nFDSize:\t64\nGroups:\t{} \nNStgid:\t{pid}\nNSpid:\t{number}\nVmPeak:\t{total:8} kB\nVmSize:\t{total:8} kB\nVmRSS:\t{resident:8} kB\nThreads:\t{}\nSigQ:\t0/63000\nSigPnd:\t{own:016x}\nShdPnd:\t{:016x}\nSigBlk:\t{mask:016x}\nSigIgn:\t{:016x}\nSigCgt:\t{caught:016x}\nCapInh:\t{:016x}\nCapPrm:\t{:016x}\nCapEff:\t{:016x}\nCapBnd:\t{:016x}\nCapAmb:\t0000000000000000\nNoNewPrivs:\t{}\nSeccomp:\t0\nCpus_allowed:\t{:x}\nCpus_allowed_list:\t{}",
        String::from_utf8_lossy(&comm(process, number)),
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
        (1_u64 << cpus) - 1,
        if cpus == 1 { String::from("0") } else { format!("0-{}", cpus - 1) },
        pid = process.pid,
    );
}

fn write_maps(out: &mut String, process: &Process, detailed: bool) {
    let memory = process.memory.borrow();
    memory.each_area(|start, area| {
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
            let here = memory.resident_in(start, area.end) << 2;
            let _ = writeln!(out, "Size:           {size:8} kB\nRss:            {here:8} kB\nPss:            {here:8} kB");
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
