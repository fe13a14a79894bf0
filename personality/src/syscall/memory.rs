//! Memory maps (mmap(2), mprotect(2), mremap(2), madvise(2), brk(2)).

use super::{Call, Outcome};
use crate::{
    file::{Kind, Node, Object, data::FileData, lower},
    linux::{
        Errno, MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_GROWSDOWN, MAP_PRIVATE,
        MAP_SHARED, MAP_SHARED_VALIDATE, O_ACCMODE, O_RDWR, PROT_EXEC, PROT_READ, PROT_WRITE,
        RLIMIT_DATA, S_IFREG,
    },
    machine::guest,
    memory::{Mapping, Memory},
};
use alloc::rc::Rc;

/// Number of the file system that files without a name are in.
const NAMELESS: u64 = 1;

fn own(call: &Call<'_>) -> Rc<Memory> {
    call.task.process.memory.borrow().clone()
}

pub(super) fn mmap(call: &mut Call<'_>) -> Outcome {
    let (address, length, protection, flags) =
        (call.argument(0), call.argument(1), call.argument(2), call.argument(3));
    let offset = call.argument(5);
    if protection & !(PROT_READ | PROT_WRITE | PROT_EXEC) != 0
        || !offset.is_multiple_of(4096)
        || length == 0
    {
        return Err(Errno::EINVAL.into());
    }
    let shared = match flags & 3 {
        MAP_SHARED | MAP_SHARED_VALIDATE => true,
        MAP_PRIVATE => false,
        _ => return Err(Errno::EINVAL.into()),
    };
    let mut mapping = Mapping {
        protection,
        shared,
        file: None,
        flags: flags & MAP_GROWSDOWN,
        name: "",
        path: None,
    };
    if flags & MAP_ANONYMOUS == 0 {
        let file = call.file(4)?;
        let node = file.node.clone().ok_or(Errno::ENODEV)?;
        if !file.reads() {
            return Err(Errno::EACCES.into());
        }
        match (&file.object, &node.kind) {
            (Object::Node, Kind::File(data)) => {
                if protection & PROT_EXEC != 0 && lower::forbids_programs(node.device) {
                    return Err(Errno::EPERM.into());
                }
                if shared && protection & PROT_WRITE != 0 && file.flags() & O_ACCMODE != O_RDWR {
                    return Err(Errno::EACCES.into());
                }
                if shared && protection & PROT_WRITE != 0 && data.seals.get() & 8 != 0 {
                    return Err(Errno::EPERM.into());
                }
                mapping.file = Some((node, offset));
                mapping.path = Some(file.path.as_slice().into());
            }
            // /dev/zero is anonymous memory.
            (Object::Node, Kind::Device) if crate::file::node::minor(node.meta().rdev) == 5 => {}
            _ => return Err(Errno::ENODEV.into()),
        }
    }
    if shared && mapping.file.is_none() {
        mapping.file = Some((nameless(length)?, 0));
        mapping.path = Some(b"/dev/zero (deleted)".as_slice().into());
    }
    let fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0;
    own(call)
        .map(address, length, fixed, flags & MAP_FIXED_NOREPLACE != 0, &mapping)
        .map_err(Into::into)
}

/// A file without a name that shared memory of some processes is: pages that are never touched cost nothing, also after a fork.
fn nameless(length: u64) -> Result<Rc<Node>, Errno> {
    let data = FileData::new();
    let size = length.checked_next_multiple_of(4096).ok_or(Errno::ENOMEM)?;
    data.truncate(size).map_err(|_| Errno::ENOMEM)?;
    Ok(Node::new(Kind::File(data), S_IFREG | 0o777, 0, 0, 0, NAMELESS))
}

pub(super) fn munmap(call: &mut Call<'_>) -> Outcome {
    own(call).unmap(call.argument(0), call.argument(1))?;
    Ok(0)
}

pub(super) fn mprotect(call: &mut Call<'_>) -> Outcome {
    let protection = call.argument(2) & !0x0300_0000;
    if protection & !(PROT_READ | PROT_WRITE | PROT_EXEC) != 0 {
        return Err(Errno::EINVAL.into());
    }
    own(call).protect(call.argument(0), call.argument(1), protection)?;
    Ok(0)
}

pub(super) fn mremap(call: &mut Call<'_>) -> Outcome {
    const MAYMOVE: u64 = 1;
    const FIXED: u64 = 2;
    const DONTUNMAP: u64 = 4;
    let flags = call.argument(3);
    let bad_flags =
        flags & !(MAYMOVE | FIXED | DONTUNMAP) != 0 || flags & FIXED != 0 && flags & MAYMOVE == 0;
    if bad_flags || !call.argument(0).is_multiple_of(4096) {
        return Err(Errno::EINVAL.into());
    }
    if flags & DONTUNMAP != 0 {
        crate::gap!(call.system, "mremap: MREMAP_DONTUNMAP");
        return Err(Errno::EINVAL.into());
    }
    let fixed = (flags & FIXED != 0).then_some(call.argument(4));
    own(call)
        .remap(call.argument(0), call.argument(1), call.argument(2), flags & MAYMOVE != 0, fixed)
        .map_err(Into::into)
}

pub(super) fn brk(call: &mut Call<'_>) -> Outcome {
    let limit = call.task.process.limit(RLIMIT_DATA);
    Ok(own(call).set_break(call.argument(0), limit))
}

pub(super) fn madvise(call: &mut Call<'_>) -> Outcome {
    const DONTNEED: u64 = 4;
    const FREE: u64 = 8;
    const REMOVE: u64 = 9;
    let (start, length, advice) = (call.argument(0), call.argument(1), call.argument(2));
    if start % 4096 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let end = start
        .checked_add(length)
        .and_then(|end| end.checked_next_multiple_of(4096))
        .ok_or(Errno::EINVAL)?;
    match advice {
        DONTNEED | FREE => {
            let memory = own(call);
            if !memory.is_mapped(start, end) {
                return Err(Errno::ENOMEM.into());
            }
            if advice == DONTNEED {
                memory.forget(start, end)?;
            }
            Ok(0)
        }
        REMOVE => remove(call, start, end),
        // Normal, random, sequential, will need; merge and huge pages, and dumps: hints that change nothing here.
        0..=3 | 12..=17 | 20 | 21 => Ok(0),
        // Fork and wipe behaviour would have to be kept.
        _ => {
            crate::gap!(call.system, "madvise: advice");
            Err(Errno::EINVAL.into())
        }
    }
}

/// Makes the part of a shared file that is mapped in a range a hole (MADV_REMOVE).
fn remove(call: &Call<'_>, start: u64, end: u64) -> Outcome {
    let memory = own(call);
    let mut at = start;
    while at < end {
        let (begin, area) = memory.area_at(at).ok_or(Errno::ENOMEM)?;
        let behind = area.end.min(end);
        let (node, offset) = area.file.ok_or(Errno::EINVAL)?;
        if area.flags & MAP_SHARED == 0 || area.protection & PROT_WRITE == 0 {
            return Err(Errno::EACCES.into());
        }
        super::sizes::punch(call, &node, offset + (at - begin), behind - at)?;
        at = behind;
    }
    Ok(0)
}

pub(super) fn mincore(call: &mut Call<'_>) -> Outcome {
    let (start, length, out) = (call.argument(0), call.argument(1), call.argument(2));
    if start % 4096 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let pages = length.div_ceil(4096);
    let memory = own(call);
    if pages > 1 << 20 || !memory.is_mapped(start, start.saturating_add(pages * 4096)) {
        return Err(Errno::ENOMEM.into());
    }
    for page in 0..pages {
        guest::write(out + page, &u8::from(memory.is_resident(start + page * 4096)))?;
    }
    Ok(0)
}

pub(super) fn msync(call: &mut Call<'_>) -> Outcome {
    let (start, length) = (call.argument(0), call.argument(1));
    if start % 4096 != 0 || call.argument(2) & !7 != 0 || call.argument(2) & 5 == 5 {
        return Err(Errno::EINVAL.into());
    }
    let end = start.checked_add(length).ok_or(Errno::ENOMEM)?;
    // Shared pages are the file's own: there is nothing to write back.
    if own(call).is_mapped(start, end.next_multiple_of(4096)) {
        Ok(0)
    } else {
        Err(Errno::ENOMEM.into())
    }
}

/// mlock(2): no page ever leaves memory, so that all are locked already.
pub(super) fn lock(call: &mut Call<'_>) -> Outcome {
    crate::gap!(call.system, "mlock: RLIMIT_MEMLOCK and VmLck");
    Ok(0)
}

pub(super) fn nothing(_call: &mut Call<'_>) -> Outcome {
    Ok(0)
}

pub(super) fn membarrier(call: &mut Call<'_>) -> Outcome {
    match call.argument(0) {
        // Which commands there are: none that need other CPUs.
        0 => Ok(0),
        _ => {
            crate::gap!(call.system, "membarrier");
            Err(Errno::EINVAL.into())
        }
    }
}
