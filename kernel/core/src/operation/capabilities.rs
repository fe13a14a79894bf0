//! Operations on capability tables, and destruction.

use super::{Outcome, Request};
use crate::{
    domain::Domain,
    ipc::{Endpoint, Gate, Notification, Reply},
    irq::Irq,
    space::Space,
    thread::Thread,
};
use kernel_abi::{Error, Kind, Rights};
use kernel_machine::object::{AnyBorrow, Entry};

pub(super) fn copy(request: Request<'_>) -> Outcome {
    let destination = request.domain(0, Rights::GRANT)?;
    let source = request.capability(1)?;
    if request.argument(0) != 0 && !source.rights.contains(Rights::COPY) {
        return Err(Error::MissingRight);
    }
    let mask = u16::try_from(request.argument(3) & u64::from(u16::MAX)).unwrap_or(0);
    let rights = source.rights & Rights::from_bits_truncate(mask);
    let object = source.object.to_ref().ok_or(Error::NoCapability)?;
    Domain::install(destination, request.argument(2), object, rights, request.entry)?;
    Ok(Some(0))
}

pub(super) fn delete(request: Request<'_>) -> Outcome {
    let domain = request.domain(0, Rights::GRANT)?;
    if Domain::remove(domain, request.argument(1)) { Ok(Some(0)) } else { Err(Error::NoCapability) }
}

pub(super) fn next(request: Request<'_>) -> Outcome {
    let domain = request.domain(0, Rights::INSPECT)?;
    let (slot, held) = domain.value().next(request.argument(1), request.entry).ok_or(Error::NotPresent)?;
    let Some(held) = held else {
        request.more(0, 0);
        return Ok(Some(u64::from(slot)));
    };
    let identity = held.object.identity() & u64::from(u32::MAX);
    request.more(held.kind() as u64 | u64::from(held.rights.bits()) << 16 | identity << 32, 0);
    Ok(Some(u64::from(slot)))
}

pub(super) fn destroy(request: Request<'_>) -> Outcome {
    let held = request.capability(0)?;
    if !held.rights.contains(Rights::DESTROY) {
        return Err(Error::MissingRight);
    }
    if held.kind() == Kind::Hardware {
        return Err(Error::WrongKind);
    }
    destroy_object(held.object, request.entry);
    Ok(Some(0))
}

/// Destroys an object for all its holders.
pub fn destroy_object(object: AnyBorrow<'_>, _entry: &Entry) {
    match object.kind() {
        Kind::Domain => object.downcast::<Domain>().map(Domain::destroy),
        Kind::Space => object.downcast::<Space>().map(Space::destroy),
        Kind::Thread => object.downcast::<Thread>().map(|thread| {
            // The mark makes its capabilities stale; the thread itself ends where it runs.
            let _first = thread.mark_dead();
            Thread::kill(thread);
        }),
        Kind::Endpoint => object.downcast::<Endpoint>().map(Endpoint::destroy),
        Kind::Gate => object.downcast::<Gate>().map(Gate::destroy),
        Kind::Reply => object.downcast::<Reply>().map(Reply::destroy),
        Kind::Notification => object.downcast::<Notification>().map(Notification::destroy),
        Kind::Irq => object.downcast::<Irq>().map(Irq::destroy),
        Kind::Hardware => None,
    };
}
