//! Sizes of files: cutting, reserving and punching holes, for the file and for everybody who has mapped it.

use super::{Call, Outcome, io::position};
use crate::{
    file::{Kind, Node, data::FileData, watch},
    linux::{Errno, RLIMIT_FSIZE, SIGXFSZ},
};
use alloc::rc::Rc;

/// Bytes of a page.
const PAGE: u64 = 4096;
/// Seals of a memfd that keep what is in it: F_SEAL_WRITE and F_SEAL_FUTURE_WRITE.
const SEALS_OF_WRITING: u32 = 8 | 16;

pub(super) fn ftruncate(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    if !file.writes() {
        return Err(Errno::EINVAL.into());
    }
    resize(call, &file.node.clone().ok_or(Errno::EINVAL)?, call.argument(1))
}

pub(super) fn truncate(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0)?;
    let node = call.at(crate::linux::AT_FDCWD, &path, |walker| {
        let node = walker.find(&path, true)?;
        if node.is_directory() {
            return Err(Errno::EISDIR);
        }
        walker.check(&node.meta(), 2)?;
        match &node.kind {
            _ if crate::file::path::is_read_only(&node) => Err(Errno::EROFS),
            Kind::File(data) if data.uses.is_run() => Err(Errno::ETXTBSY),
            _ => Ok(node),
        }
    })?;
    resize(call, &node, call.argument(1))
}

fn resize(call: &Call<'_>, node: &Rc<Node>, size: u64) -> Outcome {
    let Kind::File(data) = &node.kind else { return Err(Errno::EINVAL.into()) };
    if size > i64::MAX as u64 {
        return Err(Errno::EINVAL.into());
    }
    if size > data.size() && size > call.task.process.limit(RLIMIT_FSIZE) {
        call.signal_self(SIGXFSZ);
        return Err(Errno::EFBIG.into());
    }
    let seals = data.seals.get();
    if (seals & 2 != 0 && size < data.size()) || (seals & 4 != 0 && size > data.size()) {
        return Err(Errno::EPERM.into());
    }
    set_size(call, node, data, size)?;
    Ok(0)
}

/// Gives a file another size; what it has no more is gone from mappings too.
pub(super) fn set_size(
    call: &Call<'_>,
    node: &Rc<Node>,
    data: &FileData,
    size: u64,
) -> Result<(), Errno> {
    let shrinks = size < data.size();
    data.truncate(size)?;
    node.lose_set_ids(call.task);
    node.touch_modified();
    watch::tell(node, watch::MODIFY);
    if shrinks {
        forget_mapped(call, node, size.div_ceil(PAGE), u64::MAX, true);
    }
    Ok(())
}

/// Takes pages that a file has no more out of everybody's mappings; private copies with them, or not.
fn forget_mapped(call: &Call<'_>, node: &Rc<Node>, first: u64, count: u64, and_copies: bool) {
    if let Kind::File(data) = &node.kind
        && data.is_mapped()
    {
        for process in call.system.processes.all() {
            process.memory.borrow().forget_file(node, first, count, and_copies);
        }
    }
}

/// Makes a range of a file a hole.
pub(super) fn punch(
    call: &Call<'_>,
    node: &Rc<Node>,
    offset: u64,
    length: u64,
) -> Result<(), Errno> {
    let Kind::File(data) = &node.kind else { return Err(Errno::ENODEV) };
    if data.seals.get() & SEALS_OF_WRITING != 0 {
        return Err(Errno::EPERM);
    }
    data.punch(offset, length)?;
    let (first, behind) = (offset.div_ceil(PAGE), offset.saturating_add(length) / PAGE);
    forget_mapped(call, node, first, behind.saturating_sub(first), false);
    node.touch_modified();
    Ok(())
}

pub(super) fn fallocate(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    if !file.writes() {
        return Err(Errno::EBADF.into());
    }
    let data = file.data().map_err(|_| Errno::ENODEV)?;
    let node = file.node.as_ref().ok_or(Errno::ENODEV)?;
    let (mode, offset, length) =
        (call.argument(1), position(call.argument(2))?, position(call.argument(3))?);
    if length == 0 {
        return Err(Errno::EINVAL.into());
    }
    match mode {
        0 | 1 => data.allocate(offset, length, mode == 1)?,
        // PUNCH_HOLE with KEEP_SIZE.
        3 => punch(call, node, offset, length)?,
        // ZERO_RANGE.
        0x10 | 0x11 => {
            punch(call, node, offset, length)?;
            data.allocate(offset, length, mode == 0x11)?;
        }
        _ => {
            crate::gap!(call.system, "fallocate mode");
            return Err(Errno::EOPNOTSUPP.into());
        }
    }
    node.lose_set_ids(call.task);
    Ok(0)
}
