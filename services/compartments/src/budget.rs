//! Limits in the kernel's units.

use contract::compartments::{Budget, LEAST_MEMORY, Refusal};
use rt::{
    Domain,
    abi::{
        PAGE_SIZE,
        resource::{DEFAULT_WEIGHT, Resource, UNLIMITED},
    },
    clock,
    object::Limits,
};

/// Bandwidth is given per period of this many nanoseconds (cgroup v2's default).
const PERIOD: u64 = 100_000_000;
/// Objects and slots that one thread of a compartment may need.
const OBJECTS_PER_THREAD: u64 = 8;
/// Objects and slots of a compartment beside those of its threads.
const BASE_OBJECTS: u64 = 4096;
/// Threads of a personality that are no Linux threads.
const OWN_THREADS: u64 = 8;

/// The limits of a compartment's Domain.
pub(crate) fn limits(budget: &Budget) -> Result<Limits, Refusal> {
    let frames = match budget.memory {
        None => UNLIMITED,
        Some(bytes) if bytes < LEAST_MEMORY => return Err(Refusal::TooLittleMemory(LEAST_MEMORY)),
        Some(bytes) => bytes / PAGE_SIZE,
    };
    let (objects, threads) = match budget.threads {
        None => (UNLIMITED, UNLIMITED),
        Some(threads) => (
            threads.saturating_mul(OBJECTS_PER_THREAD).saturating_add(BASE_OBJECTS),
            threads.saturating_add(OWN_THREADS),
        ),
    };
    Ok(Limits { frames, objects, slots: objects, threads })
}

/// Whether a CPU set names a CPU of the machine.
pub(crate) fn check(budget: &Budget) -> Result<(), Refusal> {
    let bad_weight = budget.cpu_weight.is_some_and(|weight| !(1..=10_000).contains(&weight));
    if bad_weight {
        return Err(Refusal::BadSpec("the CPU weight is not in 1..=10000".into()));
    }
    if budget.cpu_set == Some(0) { Err(Refusal::NoSuchCpu) } else { Ok(()) }
}

/// Sets the scheduling of a compartment's Domain.
pub(crate) fn schedule(domain: Domain, budget: &Budget) -> Result<(), Refusal> {
    let period = clock::ticks(PERIOD);
    let quota = match budget.cpu_millis {
        None => UNLIMITED,
        Some(millis) => clock::ticks(millis.saturating_mul(PERIOD) / 1000).max(1),
    };
    let weight = budget.cpu_weight.unwrap_or(DEFAULT_WEIGHT);
    domain.schedule(weight, quota, period, budget.cpu_set.unwrap_or(0), 0).map_err(|error| {
        match error {
            rt::Error::BadArgument => Refusal::NoSuchCpu,
            _ => Refusal::OutOfMemory,
        }
    })
}

/// Changes the limits that a budget names.
pub(crate) fn update(domain: Domain, current: &mut Budget, change: &Budget) -> Result<(), Refusal> {
    check(change)?;
    let mut new = current.clone();
    new.memory = change.memory.or(new.memory);
    new.threads = change.threads.or(new.threads);
    new.cpu_millis = change.cpu_millis.or(new.cpu_millis);
    new.cpu_weight = change.cpu_weight.or(new.cpu_weight);
    new.cpu_set = change.cpu_set.or(new.cpu_set);
    let limits = limits(&new)?;
    schedule(domain, &new)?;
    for (resource, limit) in [
        (Resource::Frames, limits.frames),
        (Resource::Objects, limits.objects),
        (Resource::Slots, limits.slots),
        (Resource::Threads, limits.threads),
    ] {
        domain.set_limit(resource, limit).map_err(|_| Refusal::UnknownCompartment)?;
    }
    *current = new;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_limits_are_refused_with_the_cause() {
        let budget = |memory| Budget { memory: Some(memory), ..Budget::default() };
        assert_eq!(limits(&budget(4096)), Err(Refusal::TooLittleMemory(LEAST_MEMORY)));
        assert_eq!(limits(&budget(1 << 30)).map(|limits| limits.frames), Ok(1 << 18));
        assert_eq!(
            check(&Budget { cpu_set: Some(0), ..Budget::default() }),
            Err(Refusal::NoSuchCpu)
        );
        assert!(check(&Budget { cpu_weight: Some(0), ..Budget::default() }).is_err());
        assert!(limits(&Budget { threads: Some(u64::MAX), ..Budget::default() }).is_ok());
    }
}
