//! Limits of processes (getrlimit(2)).

use super::{Call, Outcome, process::process_or_own};
use crate::{
    linux::{Errno, RLIM_INFINITY, RLIMITS, layouts::Rlimit},
    machine::guest,
    task::Process,
};

fn set_limit(process: &Process, index: usize, new: Rlimit, privileged: bool) -> Result<(), Errno> {
    if new.soft > new.hard {
        return Err(Errno::EINVAL);
    }
    let mut limits = process.limits.borrow_mut();
    let place = limits.get_mut(index).ok_or(Errno::EINVAL)?;
    if new.hard > place.hard && !privileged {
        return Err(Errno::EPERM);
    }
    *place = new;
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
    set_limit(&call.task.process, call.argument(0) as usize, new, false)?;
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
        set_limit(&process, index, new, false)?;
    }
    if call.argument(3) != 0 {
        guest::write(call.argument(3), &old)?;
    }
    Ok(0)
}
