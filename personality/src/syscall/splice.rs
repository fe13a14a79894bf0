//! Moving bytes between pipes and files (splice(2), tee(2), vmsplice(2)).
//!
//! Nothing is taken out of where it is before it is where it goes: a target that is full or fails costs no bytes.

use super::{Call, Outcome, read_vectors};
use crate::{
    file::{Object, OpenFile, pipe::Pipe},
    linux::{Errno, O_APPEND, O_NONBLOCK, RLIMIT_FSIZE, SIGPIPE},
    machine::guest::{self, Sink, Source},
    wait::Stop,
};
use alloc::{rc::Rc, vec::Vec};

/// SPLICE_F_NONBLOCK.
const NON_BLOCKING: u64 = 2;
/// All flags.
const FLAGS: u64 = 0xf;
/// Most bytes that are moved at once.
const CHUNK: usize = 64 * 1024;

fn pipe_of(file: &OpenFile) -> Option<&Rc<Pipe>> {
    match &file.object {
        Object::Pipe(pipe) => Some(pipe),
        _ => None,
    }
}

/// Whether an end of a pipe waits.
fn waits(file: &OpenFile, flags: u64) -> bool {
    flags & NON_BLOCKING == 0 && file.flags() & O_NONBLOCK == 0
}

/// Sends SIGPIPE for what found no reader.
fn report(call: &Call<'_>, outcome: Outcome) -> Outcome {
    if outcome == Err(Stop::Errno(Errno::EPIPE)) {
        call.signal_self(SIGPIPE);
    }
    outcome
}

/// Bytes from one pipe to another, which stay in the first if `keep`.
fn between(
    call: &Call<'_>,
    files: (&OpenFile, &OpenFile),
    pipes: (&Rc<Pipe>, &Rc<Pipe>),
    flags: u64,
    keep: bool,
) -> Outcome {
    let ((from, to), length) = (pipes, call_length(call, keep));
    if Rc::ptr_eq(from, to) {
        return Err(Errno::EINVAL.into());
    }
    if length == 0 {
        return Ok(0);
    }
    let waiter = call.task.waiter();
    if !from.await_bytes(!waits(files.0, flags), waiter)? {
        return Ok(0);
    }
    let wanted = length.min(from.length());
    let room = to.await_room(wanted, true, !waits(files.1, flags), waiter)?;
    let mut bytes = alloc::vec![0; room];
    from.copy(&mut Sink::kernel(&mut bytes))?;
    to.fill(&mut Source::kernel(&bytes), room)?;
    if !keep {
        from.skip(room);
    }
    Ok(room as u64)
}

fn call_length(call: &Call<'_>, is_tee: bool) -> usize {
    call.argument(if is_tee { 2 } else { 4 }).min(CHUNK as u64) as usize
}

/// Bytes from a pipe into a file at an offset, or at its own.
fn out_of(
    call: &Call<'_>,
    files: (&OpenFile, &OpenFile),
    pipe: &Rc<Pipe>,
    at: Option<u64>,
    flags: u64,
) -> Outcome {
    if files.1.flags() & O_APPEND != 0 {
        return Err(Errno::EINVAL.into());
    }
    if call_length(call, false) == 0
        || !pipe.await_bytes(!waits(files.0, flags), call.task.waiter())?
    {
        return Ok(0);
    }
    let mut bytes = alloc::vec![0; call_length(call, false).min(pipe.length())];
    pipe.copy(&mut Sink::kernel(&mut bytes))?;
    let io = call.io();
    let limit = call.task.process.limit(RLIMIT_FSIZE);
    let written = files.1.write(&mut Source::kernel(&bytes), at, limit, &io);
    call.settle(io.signals.take(), io.told.get());
    let written = written?;
    pipe.skip(written);
    Ok(written as u64)
}

/// Bytes of a file at an offset, or at its own, into a pipe.
fn into(
    call: &Call<'_>,
    files: (&OpenFile, &OpenFile),
    pipe: &Rc<Pipe>,
    at: Option<u64>,
    flags: u64,
) -> Outcome {
    let wanted = call_length(call, false);
    let room = pipe.await_room(wanted, true, !waits(files.1, flags), call.task.waiter())?;
    let mut bytes = alloc::vec![0; room];
    let io = call.io();
    super::io::renew_text(call, files.0, at)?;
    let count = files.0.read(&mut Sink::kernel(&mut bytes), at, &io);
    call.settle(io.signals.take(), io.told.get());
    let count = count?;
    pipe.fill(&mut Source::kernel(bytes.get(..count).unwrap_or_default()), count)?;
    Ok(count as u64)
}

fn offset(address: u64, is_pipe: bool) -> Result<Option<u64>, Errno> {
    match address {
        0 => Ok(None),
        _ if is_pipe => Err(Errno::ESPIPE),
        address => {
            let at: u64 = guest::read(address)?;
            if at > i64::MAX as u64 { Err(Errno::EINVAL) } else { Ok(Some(at)) }
        }
    }
}

pub(super) fn splice(call: &mut Call<'_>) -> Outcome {
    let (from, to) = (call.file(0)?, call.file(2)?);
    let flags = call.argument(5);
    if flags & !FLAGS != 0 {
        return Err(Errno::EINVAL.into());
    }
    if !from.reads() || !to.writes() {
        return Err(Errno::EBADF.into());
    }
    let (source, target) = (pipe_of(&from), pipe_of(&to));
    let (from_at, to_at) =
        (offset(call.argument(1), source.is_some())?, offset(call.argument(3), target.is_some())?);
    let files = (&*from, &*to);
    let moved = match (source, target) {
        (Some(source), Some(target)) => between(call, files, (source, target), flags, false),
        (Some(source), None) => out_of(call, files, source, to_at, flags),
        (None, Some(target)) => into(call, files, target, from_at, flags),
        (None, None) => Err(Errno::EINVAL.into()),
    };
    let moved = report(call, moved)?;
    for (address, at) in [(call.argument(1), from_at), (call.argument(3), to_at)] {
        if let Some(at) = at {
            guest::write(address, &(at + moved))?;
        }
    }
    Ok(moved)
}

pub(super) fn tee(call: &mut Call<'_>) -> Outcome {
    let (from, to) = (call.file(0)?, call.file(1)?);
    let flags = call.argument(3);
    if flags & !FLAGS != 0 {
        return Err(Errno::EINVAL.into());
    }
    if !from.reads() || !to.writes() {
        return Err(Errno::EBADF.into());
    }
    let (Some(source), Some(target)) = (pipe_of(&from), pipe_of(&to)) else {
        return Err(Errno::EINVAL.into());
    };
    let copied = between(call, (&from, &to), (source, target), flags, true);
    report(call, copied)
}

pub(super) fn vmsplice(call: &mut Call<'_>) -> Outcome {
    let file = call.file(0)?;
    let flags = call.argument(3);
    if flags & !FLAGS != 0 {
        return Err(Errno::EINVAL.into());
    }
    let pipe = pipe_of(&file).ok_or(Errno::EBADF)?;
    let pieces = read_vectors(call.argument(1), call.argument(2))?;
    let (non_blocking, waiter) = (!waits(&file, flags), call.task.waiter());
    if !file.writes() {
        return pipe
            .read(&mut Sink::pieces(&pieces), non_blocking, waiter)
            .map(|count| count as u64);
    }
    let mut state = call.task.call.get();
    let mut skip = state.progress as u64;
    let rest: Vec<(u64, u64)> = pieces
        .iter()
        .map(|(base, length)| {
            let skipped = skip.min(*length);
            skip -= skipped;
            (base.wrapping_add(skipped), length - skipped)
        })
        .collect();
    let mut source = Source::pieces(&rest);
    while source.left() > 0 {
        match pipe.write(&mut source, non_blocking, waiter) {
            Ok(count) => {
                state.progress += count;
                state.begun = call.task.call.get().begun;
                call.task.call.set(state);
            }
            Err(Stop::Errno(_)) if state.progress > 0 => break,
            Err(stop) => return report(call, Err(stop)),
        }
    }
    Ok(state.progress as u64)
}
