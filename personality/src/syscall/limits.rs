//! Limits of processes (getrlimit(2)).

use super::{Call, Outcome, process::process_or_own};
use crate::{
    linux::{Errno, RLIM_INFINITY, RLIMIT_CPU, RLIMITS, layouts::Rlimit},
    machine::guest,
    session,
    task::Process,
};

fn set_limit(call: &Call<'_>, process: &Process, index: usize, new: Rlimit) -> Result<(), Errno> {
    if new.soft > new.hard {
        return Err(Errno::EINVAL);
    }
    let mut limits = process.limits.borrow_mut();
    let place = limits.get_mut(index).ok_or(Errno::EINVAL)?;
    // Only CAP_SYS_RESOURCE, which is never held, raises a hard limit.
    if new.hard > place.hard {
        return Err(Errno::EPERM);
    }
    *place = new;
    drop(limits);
    if index == RLIMIT_CPU {
        session::watch_cpu_limit(call.system, process);
    }
    Ok(())
}

pub(super) fn getrlimit(call: &mut Call<'_>) -> Outcome {
    let index = call.argument(0) as usize;
    if index >= RLIMITS {
        return Err(Errno::EINVAL.into());
    }
    let limit = call
        .task
        .process
        .limits
        .borrow()
        .get(index)
        .copied()
        .unwrap_or(Rlimit { soft: RLIM_INFINITY, hard: RLIM_INFINITY });
    guest::write(call.argument(1), &limit)?;
    Ok(0)
}

pub(super) fn setrlimit(call: &mut Call<'_>) -> Outcome {
    let new: Rlimit = guest::read(call.argument(1))?;
    set_limit(call, &call.task.process, call.argument(0) as usize, new)?;
    Ok(0)
}

pub(super) fn prlimit64(call: &mut Call<'_>) -> Outcome {
    let process = process_or_own(call, call.int(0))?;
    let index = call.argument(1) as usize;
    if index >= RLIMITS {
        return Err(Errno::EINVAL.into());
    }
    let new =
        if call.argument(2) == 0 { None } else { Some(guest::read::<Rlimit>(call.argument(2))?) };
    let old = process.limits.borrow().get(index).copied().unwrap_or_default();
    if let Some(new) = new {
        set_limit(call, &process, index, new)?;
    }
    if call.argument(3) != 0 {
        guest::write(call.argument(3), &old)?;
    }
    Ok(0)
}
