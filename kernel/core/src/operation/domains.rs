//! Operations on Domains.

use super::{Outcome, Request};
use crate::{
    domain::{Amounts, Domain, FRAME_UNITS},
    ipc::Notification,
    sched,
};
use kernel_abi::{
    Error, Rights,
    resource::{Resource, UNLIMITED},
};

/// Largest weight.
const MAX_WEIGHT: u64 = 10_000;
/// Longest period and quota: some minutes, so that products of ticks do not overflow.
const MAX_TICKS: u64 = 1 << 42;
/// Largest bit a watch can have: it uses the next one too.
const MAX_WATCH_BIT: u64 = 62;

pub(super) fn create(request: Request<'_>) -> Outcome {
    let parent = request.payer(0)?;
    let limits = Amounts {
        units: request.argument(2).saturating_mul(FRAME_UNITS),
        objects: request.argument(3),
        slots: request.argument(4),
        threads: request.argument(5),
    };
    let slot = request.prepare_slot(1)?;
    let domain = Domain::child(&parent, limits)?;
    request.install(slot, domain.into_any())?;
    Ok(Some(0))
}

/// Index of an account in the order of `Amounts`.
const fn account_of(resource: Resource) -> Option<usize> {
    match resource {
        Resource::Frames => Some(0),
        Resource::Objects => Some(1),
        Resource::Slots => Some(2),
        Resource::Threads => Some(3),
        Resource::CpuTime | Resource::CpuQuota | Resource::Throttled => None,
    }
}

pub(super) fn budget(request: Request<'_>) -> Outcome {
    if request.argument(0) == 0 {
        // A Domain that could raise its own limits would have none.
        return Err(Error::MissingRight);
    }
    let domain = request.domain(0, Rights::BUDGET)?;
    let account =
        Resource::from_number(request.argument(1)).and_then(account_of).ok_or(Error::BadArgument)?;
    domain.set_limit(account, request.argument(2));
    Ok(Some(0))
}

pub(super) fn schedule(request: Request<'_>) -> Outcome {
    if request.argument(0) == 0 {
        return Err(Error::MissingRight);
    }
    let domain = request.domain(0, Rights::BUDGET)?;
    let (weight, quota, period) = (request.argument(1), request.argument(2), request.argument(3));
    let cpus = match request.argument(4) {
        0 => sched::mask_of_all(),
        mask => mask & sched::mask_of_all(),
    };
    let class = request.argument(5);
    let quota_fits =
        quota == UNLIMITED || (1..=MAX_TICKS).contains(&quota) && (1..=MAX_TICKS).contains(&period);
    if !(1..=MAX_WEIGHT).contains(&weight) || !quota_fits || cpus == 0 || class > 1 {
        return Err(Error::BadArgument);
    }
    if class == 1 && !request.own_domain().schedule.is_service() {
        return Err(Error::MissingRight);
    }
    domain.schedule.set(weight, quota, period, cpus, class == 1);
    sched::interrupt_domain(domain);
    Ok(Some(0))
}

pub(super) fn stat(request: Request<'_>) -> Outcome {
    let domain = request.domain(0, Rights::INSPECT)?;
    let resource = Resource::from_number(request.argument(1)).ok_or(Error::BadArgument)?;
    let (used, limit, peak) = match account_of(resource) {
        Some(account) => domain.account(account),
        None => {
            let (time, throttled) = domain.schedule.figures();
            let time = time + sched::time_under_way(domain);
            match resource {
                Resource::CpuTime => (time, UNLIMITED, time),
                Resource::Throttled => (throttled, UNLIMITED, throttled),
                _ => (0, domain.schedule.quota(), 0),
            }
        }
    };
    request.more(limit, peak);
    Ok(Some(used))
}

pub(super) fn watch(request: Request<'_>) -> Outcome {
    let domain = request.domain(0, Rights::INSPECT)?;
    let notification = request.reference::<Notification>(1, Rights::SEND)?;
    let bit = request.argument(2);
    if bit > MAX_WATCH_BIT {
        return Err(Error::BadArgument);
    }
    Domain::watch(domain, notification, u8::try_from(bit).unwrap_or(0))?;
    Ok(Some(0))
}
