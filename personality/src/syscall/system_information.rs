//! The machine as the compartment sees it (uname(2), sysinfo(2), getrandom(2), ...).

use super::{Call, Outcome};
use crate::{
    file::device,
    linux::{Errno, layouts::Sysinfo},
    machine::guest::{self, Sink},
    task::credentials::CAP_SYS_ADMIN,
};
use alloc::vec::Vec;
use kernel_abi::resource::{Resource, UNLIMITED};

/// Longest host name.
const NAME: usize = 64;
/// The Linux release whose interface this is.
pub const RELEASE: &str = "6.1.0-mett";

/// Bytes of memory the compartment may use, and those that are free.
#[must_use]
pub fn memory(call: &Call<'_>) -> (u64, u64) {
    let limit = call.system.budget.memory;
    let used = rt::Domain::OWN.stat(Resource::Frames).map_or(0, |frames| frames.used * 4096);
    let total = match rt::Domain::OWN.stat(Resource::Frames) {
        Ok(frames) if frames.limit != UNLIMITED => frames.limit * 4096,
        _ => limit.unwrap_or(1 << 30),
    };
    (total, total.saturating_sub(used))
}

pub(super) fn uname(call: &mut Call<'_>) -> Outcome {
    let mut out = [0_u8; 6 * 65];
    let hostname = call.system.hostname.borrow().clone();
    let domain = call.system.domainname.borrow().clone();
    let is_32 = call.task.process.execution_domain.get() & 0xff == super::process::PER_LINUX32;
    let machine: &[u8] = if is_32 { b"i686" } else { b"x86_64" };
    let fields: [&[u8]; 6] =
        [b"Linux", &hostname, RELEASE.as_bytes(), b"#1 SMP MettEagle", machine, &domain];
    for (place, field) in out.chunks_exact_mut(65).zip(fields) {
        for (to, from) in place.iter_mut().take(64).zip(field) {
            *to = *from;
        }
    }
    guest::write_bytes(call.argument(0), &out)?;
    Ok(0)
}

pub(super) fn sysinfo(call: &mut Call<'_>) -> Outcome {
    let (total, free) = memory(call);
    let info = Sysinfo {
        uptime: (rt::clock::since_boot() / 1_000_000_000) as i64,
        totalram: total,
        freeram: free,
        procs: call.system.processes.task_count() as u16,
        mem_unit: 1,
        ..Sysinfo::default()
    };
    guest::write(call.argument(0), &info)?;
    Ok(0)
}

pub(super) fn getrandom(call: &mut Call<'_>) -> Outcome {
    if call.argument(2) & !7 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let length = call.argument(1).min(1 << 25) as usize;
    device::fill_random(&mut Sink::guest(call.argument(0), length))?;
    Ok(length as u64)
}

fn set_name(call: &mut Call<'_>) -> Result<Vec<u8>, Errno> {
    if !call.task.credentials().has(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let length = call.argument(1) as usize;
    if length > NAME {
        return Err(Errno::EINVAL);
    }
    let mut name = alloc::vec![0; length];
    guest::read_bytes(call.argument(0), &mut name)?;
    Ok(name)
}

pub(super) fn sethostname(call: &mut Call<'_>) -> Outcome {
    let name = set_name(call)?;
    *call.system.hostname.borrow_mut() = name;
    Ok(0)
}

pub(super) fn setdomainname(call: &mut Call<'_>) -> Outcome {
    let name = set_name(call)?;
    *call.system.domainname.borrow_mut() = name;
    Ok(0)
}

pub(super) fn getcpu(call: &mut Call<'_>) -> Outcome {
    crate::gap!(call.system, "getcpu: the answer is always the first CPU");
    for index in 0..2 {
        if call.argument(index) != 0 {
            guest::write(call.argument(index), &0_u32)?;
        }
    }
    Ok(0)
}

pub(super) fn syslog(call: &mut Call<'_>) -> Outcome {
    let _ = call;
    Err(Errno::EPERM.into())
}
