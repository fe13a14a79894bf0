//! Reading, writing, positions (read(2), write(2), lseek(2), getdents(2), sendfile(2), ...).

use super::{Call, Outcome, read_vectors};
use crate::{
    file::{Kind, Object, OpenFile, watch},
    linux::{Errno, O_DIRECTORY, RLIMIT_FSIZE, S_IFDIR, SIGPIPE, SIGXFSZ},
    machine::guest::{self, Sink, Source},
    wait::Stop,
};
use alloc::{boxed::Box, rc::Rc, vec::Vec};

/// Most bytes of one transfer.
const MAX_TRANSFER: u64 = 0x7fff_f000;
/// Bytes that sendfile moves at once.
const CHUNK: usize = 16 * 1024;

pub(super) fn position(argument: u64) -> Result<u64, Errno> {
    if argument > i64::MAX as u64 { Err(Errno::EINVAL) } else { Ok(argument) }
}

fn read_into(call: &Call<'_>, file: &Rc<OpenFile>, pieces: Pieces, at: Option<u64>) -> Outcome {
    if let Object::Signal(mask) = &file.object {
        return super::signals::read_signalfd(call, file, mask.get(), &mut pieces.sink());
    }
    if let Pieces::One(address, length) = &pieces {
        guest::check(*address, *length as u64)?;
    }
    let mut sink = pieces.sink();
    if let Object::Node = file.object {
        // Nothing about signals and waiting concerns files.
        let io = call.io();
        return file.read(&mut sink, at, &io).map(|count| count as u64);
    }
    renew_text(call, file, at)?;
    let io = call.io();
    let result = file.read(&mut sink, at, &io);
    let (signals, told) = (io.signals.take(), io.told.get());
    call.settle(signals, told);
    result.map(|count| count as u64)
}

/// What a file of /proc says is found out when it is read from its beginning: programs keep such files open and read them again.
pub(super) fn renew_text(call: &Call<'_>, file: &OpenFile, at: Option<u64>) -> Result<(), Errno> {
    if let Object::Text(text) = &file.object
        && (at.unwrap_or(file.offset.get()) == 0 || text.borrow().is_empty())
        && let Some(Kind::Proc(proc)) = file.node.as_ref().map(|node| &node.kind)
    {
        *text.borrow_mut() = proc.text(call.system, call.task)?;
    }
    Ok(())
}

/// Where a call's bytes are.
enum Pieces {
    One(u64, usize),
    Many(Vec<(u64, u64)>),
}

impl Pieces {
    fn sink(&self) -> Sink<'static> {
        match self {
            Self::One(address, length) => Sink::guest(*address, *length),
            Self::Many(pieces) => Sink::pieces(pieces),
        }
    }
    /// The source after what was done before the call had to wait.
    fn source(&self, skip: usize) -> Source<'static> {
        match self {
            Self::One(address, length) => {
                Source::guest(*address + skip as u64, length.saturating_sub(skip))
            }
            Self::Many(pieces) => {
                let mut skip = skip as u64;
                let rest: Vec<(u64, u64)> = pieces
                    .iter()
                    .filter_map(|(base, length)| {
                        let skipped = skip.min(*length);
                        skip -= skipped;
                        (skipped < *length || *length == 0)
                            .then_some((base + skipped, length - skipped))
                    })
                    .collect();
                Source::pieces(&rest)
            }
        }
    }
}

fn write_from(call: &Call<'_>, file: &Rc<OpenFile>, pieces: Pieces, at: Option<u64>) -> Outcome {
    let limit = call.task.process.limit(RLIMIT_FSIZE);
    if let Object::Node = file.object {
        let io = call.io();
        let result = file.write(&mut pieces.source(0), at, limit, &io);
        if result == Err(Stop::Errno(Errno::EFBIG)) {
            call.signal_self(SIGXFSZ);
        }
        return result.map(|count| count as u64);
    }
    let mut state = call.task.call.get();
    loop {
        let mut source = pieces.source(state.progress);
        let is_blocking = file.flags() & crate::linux::O_NONBLOCK == 0;
        let left = source.left();
        let io = call.io();
        let result = file.write(&mut source, at, limit, &io);
        let (signals, told) = (io.signals.take(), io.told.get());
        call.settle(signals, told);
        match result {
            Ok(count) => {
                state = call.task.call.get();
                state.progress += count;
                if count == left || !is_blocking || count == 0 {
                    return Ok(state.progress as u64);
                }
                call.task.call.set(state);
            }
            Err(Stop::Errno(_)) if state.progress > 0 => return Ok(state.progress as u64),
            Err(stop) => {
                if stop == Stop::Errno(Errno::EPIPE) {
                    call.signal_self(SIGPIPE);
                }
                return Err(stop);
            }
        }
    }
}

pub(super) fn read(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    let length = call.argument(2).min(MAX_TRANSFER) as usize;
    read_into(call, &file, Pieces::One(call.argument(1), length), None)
}

pub(super) fn write(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    let length = call.argument(2).min(MAX_TRANSFER) as usize;
    write_from(call, &file, Pieces::One(call.argument(1), length), None)
}

pub(super) fn pread64(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    let at = position(call.argument(3))?;
    let length = call.argument(2).min(MAX_TRANSFER) as usize;
    read_into(call, &file, Pieces::One(call.argument(1), length), Some(at))
}

pub(super) fn pwrite64(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    let at = position(call.argument(3))?;
    let length = call.argument(2).min(MAX_TRANSFER) as usize;
    write_from(call, &file, Pieces::One(call.argument(1), length), Some(at))
}

pub(super) fn readv(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    let pieces = read_vectors(call.argument(1), call.argument(2))?;
    read_into(call, &file, Pieces::Many(pieces), None)
}

pub(super) fn writev(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    let pieces = read_vectors(call.argument(1), call.argument(2))?;
    write_from(call, &file, Pieces::Many(pieces), None)
}

pub(super) fn preadv(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    let pieces = read_vectors(call.argument(1), call.argument(2))?;
    read_into(call, &file, Pieces::Many(pieces), Some(position(call.argument(3))?))
}

pub(super) fn pwritev(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    let pieces = read_vectors(call.argument(1), call.argument(2))?;
    write_from(call, &file, Pieces::Many(pieces), Some(position(call.argument(3))?))
}

fn check_rw_flags(call: &mut Call<'_>) -> Result<Option<u64>, Errno> {
    if call.argument(5) != 0 {
        crate::gap!(call.system, "preadv2/pwritev2 flags");
        return Err(Errno::EOPNOTSUPP);
    }
    if call.argument(3) == u64::MAX { Ok(None) } else { position(call.argument(3)).map(Some) }
}

pub(super) fn preadv2(call: &mut Call<'_>) -> Outcome {
    let at = check_rw_flags(call)?;
    let file = call.file(0)?;
    let pieces = read_vectors(call.argument(1), call.argument(2))?;
    read_into(call, &file, Pieces::Many(pieces), at)
}

pub(super) fn pwritev2(call: &mut Call<'_>) -> Outcome {
    let at = check_rw_flags(call)?;
    let file = call.file(0)?;
    let pieces = read_vectors(call.argument(1), call.argument(2))?;
    write_from(call, &file, Pieces::Many(pieces), at)
}

pub(super) fn lseek(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    let offset = call.argument(1).cast_signed();
    let is_seekable = matches!(file.object, Object::Node | Object::Text(_));
    if !is_seekable {
        return Err(Errno::ESPIPE.into());
    }
    renew_text(call, &file, Some(1))?;
    let size = match &file.object {
        Object::Text(text) => text.borrow().len() as u64,
        _ => file.node.as_ref().map_or(0, |node| node.size()),
    };
    let base = match call.argument(2) {
        0 => 0,
        1 => file.offset.get().cast_signed(),
        2 => size.cast_signed(),
        whence @ (3 | 4) => {
            let at = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
            let found = file.data()?.seek_data(at, whence == 4).ok_or(Errno::ENXIO)?;
            file.offset.set(found);
            return Ok(found);
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    let target = base.checked_add(offset).ok_or(Errno::EOVERFLOW)?;
    let target = u64::try_from(target).map_err(|_| Errno::EINVAL)?;
    file.offset.set(target);
    if target == 0 {
        *file.listed.borrow_mut() = None;
    }
    Ok(target)
}

/// Copies from one file to another without the guest.
fn transfer(
    call: &Call<'_>,
    from: &Rc<OpenFile>,
    from_at: Option<u64>,
    to: &Rc<OpenFile>,
    to_at: Option<u64>,
    length: u64,
) -> Outcome {
    let mut state = call.task.call.get();
    let limit = call.task.process.limit(RLIMIT_FSIZE);
    let mut buffer = alloc::vec![0; CHUNK];
    while (state.progress as u64) < length {
        let wanted = (length - state.progress as u64).min(CHUNK as u64) as usize;
        let done = state.progress as u64;
        let begin = from_at.map_or_else(|| from.offset.get(), |at| at + done);
        let io = call.io();
        let is_seekable = matches!(from.object, Object::Node | Object::Text(_));
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        renew_text(call, from, Some(begin))?;
        let count = from.read(&mut Sink::kernel(part), is_seekable.then_some(begin), &io);
        let count = match count {
            Ok(0) => break,
            Ok(count) => count,
            Err(Stop::Errno(_) | Stop::Wait(_)) if state.progress > 0 => break,
            Err(stop) => return Err(stop),
        };
        let written = to.write(
            &mut Source::kernel(buffer.get(..count).unwrap_or_default()),
            to_at.map(|at| at + done),
            limit,
            &io,
        );
        let (signals, told) = (io.signals.take(), io.told.get());
        drop(io);
        call.settle(signals, told);
        let written = match written {
            Ok(written) => written,
            Err(Stop::Wait(deadline)) => {
                call.task.call.set(state);
                return Err(Stop::Wait(deadline));
            }
            Err(_) if state.progress > 0 => break,
            Err(stop) => {
                if stop == Stop::Errno(Errno::EPIPE) {
                    call.signal_self(SIGPIPE);
                }
                return Err(stop);
            }
        };
        state.progress += written;
        if from_at.is_none() && is_seekable {
            from.offset.set(begin + written as u64);
        }
        if written < count && !is_seekable {
            break;
        }
    }
    Ok(state.progress as u64)
}

pub(super) fn sendfile(call: &mut Call<'_>) -> Outcome {
    let (to, from) = (call.file(0)?, call.file(1)?);
    let offset_at = call.argument(2);
    let length = call.argument(3).min(MAX_TRANSFER);
    // Linux refuses what cannot be read again: bytes that the target does not take would be lost.
    if !matches!(from.object, Object::Node | Object::Text(_)) {
        return Err(Errno::EINVAL.into());
    }
    if offset_at == 0 {
        return transfer(call, &from, None, &to, None, length);
    }
    let at: u64 = guest::read(offset_at)?;
    let count = transfer(call, &from, Some(position(at)?), &to, None, length)?;
    guest::write(offset_at, &(at + count))?;
    Ok(count)
}

pub(super) fn copy_file_range(call: &mut Call<'_>) -> Outcome {
    let (from, to) = (call.file(0)?, call.file(2)?);
    if call.argument(5) != 0 {
        return Err(Errno::EINVAL.into());
    }
    from.data()?;
    to.data()?;
    let read_offset =
        |address: u64| if address == 0 { Ok(None) } else { guest::read::<u64>(address).map(Some) };
    let (from_at, to_at) = (read_offset(call.argument(1))?, read_offset(call.argument(3))?);
    let count = transfer(call, &from, from_at, &to, to_at, call.argument(4).min(MAX_TRANSFER))?;
    for (address, at) in [(call.argument(1), from_at), (call.argument(3), to_at)] {
        if let Some(at) = at {
            guest::write(address, &(at + count))?;
        }
    }
    Ok(count)
}

pub(super) fn getdents64(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    let node = file.node.clone().ok_or(Errno::ENOTDIR)?;
    if node.file_type() != S_IFDIR || file.flags() & O_DIRECTORY == 0 && !node.is_directory() {
        return Err(Errno::ENOTDIR.into());
    }
    let (address, limit) = (call.argument(1), call.argument(2).min(1 << 20) as usize);
    let mut out: Vec<u8> = Vec::with_capacity(limit.min(32 * 1024) + ALIGNMENT);
    let mut offset = file.offset.get();
    // Where in `out` the name lies after which the next call goes on.
    let mut last = None;
    let mut is_full = false;
    let parent = crate::file::path::parent_of(&node).unwrap_or_else(|| node.clone());
    for (index, (name, target)) in
        [(&b"."[..], &node), (&b".."[..], &parent)].into_iter().enumerate()
    {
        if offset == index as u64 && !is_full {
            is_full = !entry(&mut out, limit, target.id, offset + 1, 4, name);
            if !is_full {
                offset += 1;
            }
        }
    }
    if !is_full {
        let after = file.listed.borrow().clone();
        node.list(after.as_deref(), |name, child| {
            let start = out.len() + HEAD;
            let fits = entry(&mut out, limit, child.id, offset + 1, child.entry_type(), name);
            if fits {
                offset += 1;
                last = Some(start..start + name.len());
            } else {
                is_full = true;
            }
            fits
        })?;
    }
    if out.is_empty() && is_full {
        return Err(Errno::EINVAL.into());
    }
    guest::write_bytes(address, &out)?;
    file.offset.set(offset);
    if let Some(name) = last.and_then(|range| out.get(range)) {
        *file.listed.borrow_mut() = Some(Box::from(name));
    }
    node.touch_accessed();
    watch::tell(&node, watch::ACCESS);
    Ok(out.len() as u64)
}

/// Bytes of a `linux_dirent64` before its name.
const HEAD: usize = 19;
/// What a `linux_dirent64` is a multiple of.
const ALIGNMENT: usize = 8;

/// Appends a `linux_dirent64`; false if it does not fit.
fn entry(out: &mut Vec<u8>, limit: usize, id: u64, next: u64, kind: u8, name: &[u8]) -> bool {
    let length = (HEAD + name.len() + 1).next_multiple_of(ALIGNMENT);
    let end = out.len() + length;
    if end > limit {
        return false;
    }
    let [low, high] = (length as u16).to_le_bytes();
    out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&[id.to_le(), next.to_le()]));
    out.extend_from_slice(&[low, high, kind]);
    out.extend_from_slice(name);
    // A constant number of zeros, cut where the entry ends, takes a few instructions; a loop over what is missing takes many.
    out.extend_from_slice(&[0; ALIGNMENT]);
    out.truncate(end);
    true
}

pub(super) fn fadvise64(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    if !matches!(file.object, Object::Node) {
        return Err(Errno::ESPIPE.into());
    }
    if call.argument(3) > 5 { Err(Errno::EINVAL.into()) } else { Ok(0) }
}

pub(super) fn fsync(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    if matches!(file.object, Object::Node) { Ok(0) } else { Err(Errno::EINVAL.into()) }
}

pub(super) fn nothing(_call: &mut Call<'_>) -> Outcome {
    Ok(0)
}
