//! How threads share the CPUs (sched(7), getpriority(2), ioprio_get(2)).

use super::{Call, Outcome, process::process_or_own};
use crate::{
    linux::{Errno, layouts::Timespec},
    machine::guest,
    task::Process,
};
use alloc::{rc::Rc, vec::Vec};

pub(super) fn sched_yield(_call: &mut Call<'_>) -> Outcome {
    rt::thread::yield_now();
    Ok(0)
}

/// Checks that a call of sched(7) names a thread there is; a negative number is no name for some calls.
fn check_scheduled(call: &Call<'_>, negative: Errno) -> Result<(), Errno> {
    match call.int(0) {
        0 => Ok(()),
        tid if tid < 0 => Err(negative),
        tid => call.system.processes.task(tid).map(|_| ()).ok_or(Errno::ESRCH),
    }
}

pub(super) fn sched_setaffinity(call: &mut Call<'_>) -> Outcome {
    check_scheduled(call, Errno::ESRCH)?;
    let mask: u64 = guest::read(call.argument(2))?;
    if mask & 1 == 0 && mask == 0 {
        return Err(Errno::EINVAL.into());
    }
    crate::gap!(call.system, "sched_setaffinity: the mask is not kept");
    Ok(0)
}

pub(super) fn sched_getaffinity(call: &mut Call<'_>) -> Outcome {
    check_scheduled(call, Errno::ESRCH)?;
    if call.argument(1) < 8 {
        return Err(Errno::EINVAL.into());
    }
    let cpus = crate::file::proc::cpu_count(&call.system.budget);
    guest::write(call.argument(2), &((1_u64 << cpus) - 1))?;
    Ok(8)
}

pub(super) fn sched_getscheduler(call: &mut Call<'_>) -> Outcome {
    check_scheduled(call, Errno::EINVAL)?;
    Ok(0)
}

pub(super) fn sched_setscheduler(call: &mut Call<'_>) -> Outcome {
    check_scheduled(call, Errno::EINVAL)?;
    match call.argument(1) {
        0 => Ok(0),
        3 | 5 => {
            crate::gap!(call.system, "sched_setscheduler: SCHED_BATCH and SCHED_IDLE are not kept");
            Ok(0)
        }
        1 | 2 => Err(Errno::EPERM.into()),
        _ => Err(Errno::EINVAL.into()),
    }
}

pub(super) fn sched_getparam(call: &mut Call<'_>) -> Outcome {
    check_scheduled(call, Errno::EINVAL)?;
    guest::write(call.argument(1), &0_u32)?;
    Ok(0)
}

pub(super) fn sched_setparam(call: &mut Call<'_>) -> Outcome {
    if call.argument(1) == 0 {
        return Err(Errno::EINVAL.into());
    }
    let priority: u32 = guest::read(call.argument(1))?;
    check_scheduled(call, Errno::EINVAL)?;
    if priority == 0 { Ok(0) } else { Err(Errno::EINVAL.into()) }
}

fn priority_bound(call: &Call<'_>, real_time: u64) -> Outcome {
    match call.argument(0) {
        1 | 2 => Ok(real_time),
        0 | 3 | 5 => Ok(0),
        _ => Err(Errno::EINVAL.into()),
    }
}

pub(super) fn sched_get_priority_max(call: &mut Call<'_>) -> Outcome {
    priority_bound(call, 99)
}

pub(super) fn sched_get_priority_min(call: &mut Call<'_>) -> Outcome {
    priority_bound(call, 1)
}

pub(super) fn sched_rr_get_interval(call: &mut Call<'_>) -> Outcome {
    guest::write(call.argument(1), &Timespec { seconds: 0, nanoseconds: 4_000_000 })?;
    Ok(0)
}

/// Whom a call about priorities names: a process, the members of a group, or the processes of a user.
fn priority_targets(call: &Call<'_>) -> Result<Vec<Rc<Process>>, Errno> {
    let who = call.int(1);
    let found = match call.int(0) {
        0 => alloc::vec![process_or_own(call, who)?],
        1 if who == 0 => call.system.processes.group(call.task.process.group.get()),
        1 => call.system.processes.group(who),
        2 => {
            let user = match who {
                0 => call.task.credentials().users[0],
                who => who.cast_unsigned(),
            };
            let mut all = call.system.processes.all();
            all.retain(|process| process.credentials.borrow().users[0] == user);
            all
        }
        _ => return Err(Errno::EINVAL),
    };
    if found.is_empty() { Err(Errno::ESRCH) } else { Ok(found) }
}

/// The highest priority of those that are named.
pub(super) fn getpriority(call: &mut Call<'_>) -> Outcome {
    let targets = priority_targets(call)?;
    let least = targets.iter().map(|process| process.nice.get()).min().unwrap_or(0);
    Ok((20 - least) as u64)
}

/// Whether the caller may change another process's priority: CAP_SYS_NICE is never held.
fn may_reprioritise(call: &Call<'_>, process: &Process) -> bool {
    let (own, other) = (call.task.credentials(), process.credentials.borrow());
    let effective = own.users[1];
    effective == other.users[0] || effective == other.users[1]
}

/// As in Linux every process is tried, and an error of one is told in the end.
pub(super) fn setpriority(call: &mut Call<'_>) -> Outcome {
    let nice = call.int(2).clamp(-20, 19);
    let mut result = Ok(0);
    for process in priority_targets(call)? {
        if !may_reprioritise(call, &process) {
            result = Err(Errno::EPERM.into());
        } else if nice < process.nice.get() {
            result = Err(Errno::EACCES.into());
        } else {
            set_nice(&process, nice);
        }
    }
    result
}

fn set_nice(process: &Process, nice: i32) {
    process.nice.set(nice);
    for task in &*process.tasks.borrow() {
        // Each step of nice is worth a quarter, as in Linux.
        let mut weight = 1000_u64;
        for _ in 0..nice.max(0) {
            weight = weight * 4 / 5;
        }
        let _ = task.thread.set_affinity(u64::MAX, (weight / 10).max(1));
    }
}

pub(super) fn ioprio_get(_call: &mut Call<'_>) -> Outcome {
    Ok(4)
}

pub(super) fn ioprio_set(call: &mut Call<'_>) -> Outcome {
    crate::gap!(call.system, "ioprio_set: the priority is not kept");
    Ok(0)
}
