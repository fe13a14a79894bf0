//! Operations on threads, and those of the calling thread on itself.

use super::{Outcome, Request};
use crate::{
    sched,
    space::Space,
    thread::{
        HANDLING, KILLED, Thread, UNPARKED,
        wait::{self, Wait},
    },
};
use kernel_abi::{
    Error, PAGE_SIZE, Rights,
    guest::Exit,
    layout::{HOME_BASE, HOME_SIZE},
    space::SpaceUse,
};
use kernel_machine as machine;
use kernel_machine::atomic::Ordering;

/// Bytes that `Log` takes at once.
const LOG_BYTES: u64 = 32;
/// Largest weight of a thread.
const MAX_WEIGHT: u64 = 10_000;

/// Whether an address lies in the home region.
fn is_home(address: u64) -> bool {
    address.checked_sub(HOME_BASE).is_some_and(|offset| offset < HOME_SIZE)
}

pub(super) fn thread_yield() -> Outcome {
    sched::request_reschedule();
    Ok(Some(0))
}

pub(super) fn exit(request: Request<'_>) -> Outcome {
    request.thread.set_flag(KILLED);
    sched::request_reschedule();
    Ok(None)
}

pub(super) fn park(request: Request<'_>) -> Outcome {
    let thread = request.thread()?;
    if thread.take_flag(UNPARKED) {
        return Ok(Some(0));
    }
    let deadline = request.argument(0);
    if deadline == 0 {
        return Err(Error::TimedOut);
    }
    wait::describe(&thread, Wait::Park);
    sched::timer::arm(&thread, deadline);
    let word = thread.waiting.block();
    if wait::commit(&thread, word) {
        sched::block();
    }
    Ok(None)
}

pub(super) fn guest_enter(request: Request<'_>) -> Outcome {
    let thread = request.thread;
    if thread.context.state_page().is_none() || thread.guest().is_none() {
        return Err(Error::WrongState);
    }
    if thread.take_kick() {
        return Ok(Some(Exit::Kick as u64));
    }
    thread.context.enter_guest();
    sched::reload_roots(request.entry);
    Ok(None)
}

pub(super) fn guest_attach(request: Request<'_>) -> Outcome {
    let guest = match request.argument(0) {
        0 => None,
        _ => Some(request.reference::<Space>(0, Rights::RUN)?),
    };
    if let Some(guest) = &guest {
        let fits = guest.used_for() == SpaceUse::Guest
            && guest.home().is_some_and(|home| home.is(request.thread.value().home()));
        if !fits {
            return Err(Error::BadArgument);
        }
    }
    request.thread.attach(guest);
    sched::reload_roots(request.entry);
    Ok(Some(0))
}

pub(super) fn fault_return(request: Request<'_>) -> Outcome {
    if !request.thread.take_flag(HANDLING) {
        return Err(Error::WrongState);
    }
    request.thread.context.return_from_home_fault();
    Ok(None)
}

pub(super) fn fault_handler(request: Request<'_>) -> Outcome {
    if request.thread.context.state_page().is_none() {
        return Err(Error::WrongState);
    }
    let (entry, stack) = (request.argument(0), request.argument(1));
    if !is_home(entry) || !is_home(stack) {
        return Err(Error::BadArgument);
    }
    request.thread.set_fault_handler(entry, stack);
    Ok(Some(0))
}

pub(super) fn log(request: Request<'_>) -> Outcome {
    let length = request.argument(0);
    if length > LOG_BYTES {
        return Err(Error::BadArgument);
    }
    if !request.own_domain().may_log(length) {
        return Ok(Some(0));
    }
    let mut bytes = [0; LOG_BYTES as usize];
    for (index, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&request.argument(index + 1).to_le_bytes());
    }
    machine::log_bytes(bytes.get(..length as usize).unwrap_or(&[]));
    Ok(Some(0))
}

pub(super) fn clock(request: Request<'_>) -> Outcome {
    request.more(machine::boot_memory().first_instruction, 0);
    Ok(Some(machine::ticks_per_second()))
}

pub(super) fn random(request: Request<'_>) -> Outcome {
    request.more(machine::random(), machine::random());
    Ok(Some(0))
}

pub(super) fn create(request: Request<'_>) -> Outcome {
    let domain = request.payer(0)?;
    let home = request.reference::<Space>(2, Rights::RUN)?;
    let state_page = match request.argument(3) {
        0 => None,
        offset if offset % PAGE_SIZE == 0 && offset < HOME_SIZE => Some(offset),
        _ => return Err(Error::BadArgument),
    };
    let slot = request.prepare_slot(1)?;
    let thread = Thread::create(&domain, home, state_page)?;
    request.install(slot, thread.into_any())?;
    Ok(Some(0))
}

pub(super) fn start(request: Request<'_>) -> Outcome {
    let thread = request.object::<Thread>(0, Rights::CONTROL)?;
    let (entry, stack) = (request.argument(1), request.argument(2));
    if !is_home(entry) || !is_home(stack) {
        return Err(Error::BadArgument);
    }
    Thread::start(thread, entry, stack, request.argument(3))?;
    Ok(Some(0))
}

pub(super) fn kick(request: Request<'_>) -> Outcome {
    Thread::kick(request.object(0, Rights::CONTROL)?);
    Ok(Some(0))
}

pub(super) fn unpark(request: Request<'_>) -> Outcome {
    Thread::unpark(request.object(0, Rights::CONTROL)?);
    Ok(Some(0))
}

pub(super) fn affinity(request: Request<'_>) -> Outcome {
    let thread = request.object::<Thread>(0, Rights::CONTROL)?;
    let (cpus, weight) = (request.argument(1), request.argument(2));
    if cpus & sched::mask_of_all() & thread.domain().cpus() == 0 || !(1..=MAX_WEIGHT).contains(&weight) {
        return Err(Error::BadArgument);
    }
    thread.sched.cpus.store(cpus, Ordering::Relaxed);
    thread.sched.weight.store(weight, Ordering::Relaxed);
    sched::request_reschedule();
    Ok(Some(0))
}

pub(super) fn stat(request: Request<'_>) -> Outcome {
    let thread = request.object::<Thread>(0, Rights::CONTROL)?;
    sched::account_now();
    request.more(thread.waiting.number(), thread.sched.used_in_guest.load(Ordering::Relaxed));
    Ok(Some(thread.sched.used.load(Ordering::Relaxed)))
}
