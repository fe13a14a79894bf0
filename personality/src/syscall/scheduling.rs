//! How threads share the CPUs (sched(7), getpriority(2), ioprio_get(2)).

use super::{Call, Outcome, process::process_or_own};
use crate::{
    linux::{Errno, layouts::Timespec},
    machine::guest,
    task::Process,
};
use alloc::rc::Rc;

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

fn priority_target(call: &Call<'_>) -> Result<Rc<Process>, Errno> {
    match call.argument(0) {
        0 => process_or_own(call, call.int(1)),
        1 | 2 => Ok(call.task.process.clone()),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn getpriority(call: &mut Call<'_>) -> Outcome {
    let process = priority_target(call)?;
    Ok((20 - process.nice.get()) as u64)
}

pub(super) fn setpriority(call: &mut Call<'_>) -> Outcome {
    let process = priority_target(call)?;
    let nice = call.int(2).clamp(-20, 19);
    if nice < process.nice.get() {
        return Err(Errno::EACCES.into());
    }
    process.nice.set(nice);
    for task in &*process.tasks.borrow() {
        // Each step of nice is worth a quarter, as in Linux.
        let mut weight = 1000_u64;
        for _ in 0..nice.max(0) {
            weight = weight * 4 / 5;
        }
        let _ = task.thread.set_affinity(u64::MAX, (weight / 10).max(1));
    }
    Ok(0)
}

pub(super) fn ioprio_get(_call: &mut Call<'_>) -> Outcome {
    Ok(4)
}

pub(super) fn ioprio_set(call: &mut Call<'_>) -> Outcome {
    crate::gap!(call.system, "ioprio_set: the priority is not kept");
    Ok(0)
}
