//! Users, groups and capabilities of processes (credentials(7), capabilities(7)).

use super::{
    Call, Outcome,
    process::{LAST_CAPABILITY, process_or_own},
};
use crate::{
    linux::Errno,
    machine::guest,
    task::{
        Process,
        credentials::{CAP_SETGID, CAP_SETUID, Credentials},
    },
};
use alloc::rc::Rc;

pub(super) fn getuid(call: &mut Call<'_>) -> Outcome {
    Ok(call.task.credentials().users[0].into())
}

pub(super) fn geteuid(call: &mut Call<'_>) -> Outcome {
    Ok(call.task.credentials().users[1].into())
}

pub(super) fn getgid(call: &mut Call<'_>) -> Outcome {
    Ok(call.task.credentials().groups[0].into())
}

pub(super) fn getegid(call: &mut Call<'_>) -> Outcome {
    Ok(call.task.credentials().groups[1].into())
}

fn tell_ids(call: &Call<'_>, ids: [u32; 4]) -> Outcome {
    for (index, id) in ids.iter().take(3).enumerate() {
        guest::write(call.argument(index), id)?;
    }
    Ok(0)
}

pub(super) fn getresuid(call: &mut Call<'_>) -> Outcome {
    tell_ids(call, call.task.credentials().users)
}

pub(super) fn getresgid(call: &mut Call<'_>) -> Outcome {
    tell_ids(call, call.task.credentials().groups)
}

/// Changes real, effective and saved ids (`u32::MAX`: no change), if each is one the process has or it is privileged.
fn change_ids(call: &Call<'_>, users: bool, new: [u32; 3]) -> Outcome {
    let mut credentials: Credentials = (*call.task.credentials()).clone();
    let old = if users { credentials.users } else { credentials.groups };
    let privileged = credentials.has(if users { CAP_SETUID } else { CAP_SETGID });
    if !privileged && new.iter().any(|id| *id != u32::MAX && !old[..3].contains(id)) {
        return Err(Errno::EPERM.into());
    }
    let mut ids = old;
    for (place, id) in ids.iter_mut().zip(new) {
        if id != u32::MAX {
            *place = id;
        }
    }
    ids[3] = ids[1];
    if users {
        credentials.users = ids;
        credentials.update_capabilities(old);
    } else {
        credentials.groups = ids;
    }
    *call.task.process.credentials.borrow_mut() = Rc::new(credentials);
    Ok(0)
}

fn set_id(call: &Call<'_>, users: bool) -> Outcome {
    let id = call.argument(0) as u32;
    let privileged = call.task.credentials().has(if users { CAP_SETUID } else { CAP_SETGID });
    change_ids(call, users, if privileged { [id; 3] } else { [u32::MAX, id, u32::MAX] })
}

pub(super) fn setuid(call: &mut Call<'_>) -> Outcome {
    set_id(call, true)
}

pub(super) fn setgid(call: &mut Call<'_>) -> Outcome {
    set_id(call, false)
}

fn set_pair(call: &Call<'_>, users: bool) -> Outcome {
    let (real, effective) = (call.argument(0) as u32, call.argument(1) as u32);
    let credentials = call.task.credentials();
    let old = if users { credentials.users } else { credentials.groups };
    let changes_saved = real != u32::MAX || effective != u32::MAX && effective != old[0];
    let saved = if changes_saved {
        if effective == u32::MAX { old[1] } else { effective }
    } else {
        u32::MAX
    };
    change_ids(call, users, [real, effective, saved])
}

pub(super) fn setreuid(call: &mut Call<'_>) -> Outcome {
    set_pair(call, true)
}

pub(super) fn setregid(call: &mut Call<'_>) -> Outcome {
    set_pair(call, false)
}

pub(super) fn setresuid(call: &mut Call<'_>) -> Outcome {
    let new = [call.argument(0) as u32, call.argument(1) as u32, call.argument(2) as u32];
    change_ids(call, true, new)
}

pub(super) fn setresgid(call: &mut Call<'_>) -> Outcome {
    let new = [call.argument(0) as u32, call.argument(1) as u32, call.argument(2) as u32];
    change_ids(call, false, new)
}

fn set_fs_id(call: &Call<'_>, users: bool) -> Outcome {
    let id = call.argument(0) as u32;
    let mut credentials: Credentials = (*call.task.credentials()).clone();
    let privileged = credentials.has(if users { CAP_SETUID } else { CAP_SETGID });
    let ids = if users { &mut credentials.users } else { &mut credentials.groups };
    let old = ids[3];
    if privileged || ids.contains(&id) {
        ids[3] = id;
        *call.task.process.credentials.borrow_mut() = Rc::new(credentials);
    }
    Ok(old.into())
}

pub(super) fn setfsuid(call: &mut Call<'_>) -> Outcome {
    set_fs_id(call, true)
}

pub(super) fn setfsgid(call: &mut Call<'_>) -> Outcome {
    set_fs_id(call, false)
}

pub(super) fn getgroups(call: &mut Call<'_>) -> Outcome {
    let credentials = call.task.credentials();
    let count = credentials.more_groups.len();
    match call.int(0) {
        0 => {}
        size if (size as usize) < count || size < 0 => return Err(Errno::EINVAL.into()),
        _ => guest::write_bytes(
            call.argument(1),
            zerocopy::IntoBytes::as_bytes(credentials.more_groups.as_slice()),
        )?,
    }
    Ok(count as u64)
}

pub(super) fn setgroups(call: &mut Call<'_>) -> Outcome {
    let count = call.argument(0) as usize;
    if !call.task.credentials().has(CAP_SETGID) {
        return Err(Errno::EPERM.into());
    }
    if count > 65_536 {
        return Err(Errno::EINVAL.into());
    }
    let mut groups = alloc::vec![0_u32; count];
    guest::read_bytes(call.argument(1), zerocopy::IntoBytes::as_mut_bytes(groups.as_mut_slice()))?;
    let mut credentials: Credentials = (*call.task.credentials()).clone();
    credentials.more_groups = groups;
    *call.task.process.credentials.borrow_mut() = Rc::new(credentials);
    Ok(0)
}

/// PR_CAP_AMBIENT: there are no ambient capabilities.
pub(super) fn ambient(call: &mut Call<'_>) -> Outcome {
    const IS_SET: u64 = 1;
    const RAISE: u64 = 2;
    const LOWER: u64 = 3;
    const CLEAR_ALL: u64 = 4;
    let (operation, capability) = (call.argument(1), call.argument(2));
    let rest_is_zero = call.argument(3) == 0 && call.argument(4) == 0;
    match operation {
        CLEAR_ALL if rest_is_zero && capability == 0 => Ok(0),
        IS_SET | LOWER if rest_is_zero && capability <= LAST_CAPABILITY => Ok(0),
        RAISE if rest_is_zero && capability <= LAST_CAPABILITY => {
            crate::gap!(call.system, "prctl: ambient capabilities");
            Err(Errno::EPERM.into())
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

/// Checks a capability header; the process.
fn capability_header(call: &Call<'_>) -> Result<Rc<Process>, Errno> {
    let [version, pid]: [u32; 2] = guest::read(call.argument(0))?;
    if version != 0x2008_0522 {
        guest::write(call.argument(0), &0x2008_0522_u32)?;
        return if call.argument(1) == 0 { Err(Errno::ESRCH) } else { Err(Errno::EINVAL) };
    }
    process_or_own(call, pid as i32)
}

pub(super) fn capget(call: &mut Call<'_>) -> Outcome {
    let process = match capability_header(call) {
        Err(Errno::ESRCH) if call.argument(1) == 0 => return Ok(0),
        other => other?,
    };
    let credentials = process.credentials.borrow();
    let parts = [credentials.effective, credentials.permitted, credentials.inheritable];
    let words: [u32; 6] =
        core::array::from_fn(|index| (parts[index % 3] >> (32 * (index / 3))) as u32);
    if call.argument(1) != 0 {
        guest::write(call.argument(1), &words)?;
    }
    Ok(0)
}

pub(super) fn capset(call: &mut Call<'_>) -> Outcome {
    capability_header(call)?;
    let words: [u32; 6] = guest::read(call.argument(1))?;
    let part = |index: usize| u64::from(words[index]) | u64::from(words[index + 3]) << 32;
    let mut credentials: Credentials = (*call.task.credentials()).clone();
    let (effective, permitted, inheritable) = (part(0), part(1), part(2));
    if permitted & !credentials.permitted != 0 || effective & !permitted != 0 {
        return Err(Errno::EPERM.into());
    }
    (credentials.effective, credentials.permitted, credentials.inheritable) =
        (effective, permitted, inheritable);
    *call.task.process.credentials.borrow_mut() = Rc::new(credentials);
    Ok(0)
}
