//! Operations on Endpoints, Gates, Replies and Notifications.

use super::{Outcome, Request};
use crate::{
    ipc::{self, Endpoint, Gate, Notification, Reply},
    sched,
};
use kernel_abi::{Error, Rights};
use kernel_machine::Reg;

pub(super) fn endpoint_create(request: Request<'_>) -> Outcome {
    let domain = request.payer(0)?;
    let slot = request.prepare_slot(1)?;
    request.install(slot, Endpoint::create(&domain)?.into_any())?;
    Ok(Some(0))
}

pub(super) fn gate_create(request: Request<'_>) -> Outcome {
    let domain = request.payer(0)?;
    let endpoint = request.reference::<Endpoint>(2, Rights::SEND)?;
    let limit =
        u16::try_from(request.argument(4)).ok().filter(|limit| *limit != 0).ok_or(Error::BadArgument)?;
    let slot = request.prepare_slot(1)?;
    let gate = Gate::create(&domain, endpoint, request.argument(3), u32::from(limit))?;
    request.install(slot, gate.into_any())?;
    Ok(Some(0))
}

pub(super) fn reply_create(request: Request<'_>) -> Outcome {
    let domain = request.payer(0)?;
    let slot = request.prepare_slot(1)?;
    request.install(slot, Reply::create(&domain)?.into_any())?;
    Ok(Some(0))
}

pub(super) fn call(request: Request<'_>) -> Outcome {
    let gate = request.reference::<Gate>(0, Rights::SEND)?;
    ipc::call(&request.thread()?, &gate, request.entry)?;
    Ok(None)
}

/// The Reply that r15 names.
fn reply_of(request: Request<'_>) -> Result<kernel_machine::object::Ref<Reply>, Error> {
    let slot = request.thread.context.get(Reg::R15) >> 32;
    let held = request.own_domain().value().lookup(slot, request.entry)?;
    held.get::<Reply>(Rights::SEND)?.to_ref().ok_or(Error::NoCapability)
}

pub(super) fn receive(request: Request<'_>) -> Outcome {
    let endpoint = request.reference::<Endpoint>(0, Rights::RECEIVE)?;
    let notification = match request.argument(2) {
        0 => None,
        _ => Some(request.reference::<Notification>(2, Rights::RECEIVE)?),
    };
    let reception =
        ipc::Reception { endpoint, notification, reply: reply_of(request)?, deadline: request.argument(1) };
    if ipc::receive(&request.thread()?, reception, request.entry)? {
        sched::block();
    }
    Ok(None)
}

pub(super) fn reply(request: Request<'_>) -> Outcome {
    let reply = request.object::<Reply>(0, Rights::SEND)?;
    ipc::reply(&request.thread()?, &reply, request.entry)?;
    Ok(Some(0))
}

pub(super) fn reply_receive(request: Request<'_>) -> Outcome {
    let endpoint = request.reference::<Endpoint>(0, Rights::RECEIVE)?;
    let reception =
        ipc::Reception { endpoint, notification: None, reply: reply_of(request)?, deadline: u64::MAX };
    ipc::reply_receive(request.thread, reception, request.entry)?;
    Ok(None)
}

pub(super) fn notification_create(request: Request<'_>) -> Outcome {
    let domain = request.payer(0)?;
    let slot = request.prepare_slot(1)?;
    request.install(slot, Notification::create(&domain)?.into_any())?;
    Ok(Some(0))
}

pub(super) fn notification_signal(request: Request<'_>) -> Outcome {
    request.object::<Notification>(0, Rights::SEND)?.signal(request.argument(1));
    sched::donate();
    Ok(Some(0))
}

pub(super) fn notification_wait(request: Request<'_>) -> Outcome {
    let notification = request.reference::<Notification>(0, Rights::RECEIVE)?;
    let mask = request.argument(1);
    if mask == 0 {
        return Err(Error::BadArgument);
    }
    let bits = ipc::wait(&request.thread()?, &notification, mask, request.argument(2))?;
    if let Some(bits) = bits {
        request.more(bits, 0);
        return Ok(Some(0));
    }
    Ok(None)
}
