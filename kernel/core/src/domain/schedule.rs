//! How a Domain's threads are scheduled: weight, bandwidth, CPU set, class; and the time they have used.

use super::Domain;
use crate::lock;
use kernel_abi::resource::{DEFAULT_WEIGHT, UNLIMITED};
use kernel_machine::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel_machine::{CpuId, MAX_CPUS, object::SpinLock};

/// The half of [`Competition::joined`] that counts threads.
const THREADS: u64 = 0xffff_ffff;
/// Fractional bits of virtual time under way.
const FRACTION: u32 = 8;
/// A tick is worth at most this many: nobody is held back for ever.
const MAX_WORTH: u64 = 1 << 20;

/// A thread with a weight becomes runnable on a CPU (true) or stops being so.
///
/// The walk ends at the compartment: above it Domains are services', which do not compete.
pub fn count_runnable(domain: &Domain, cpu: CpuId, weight: u64, more: bool) {
    let mut change = Some(weight as u32);
    let mut next = Some(domain);
    while let Some(domain) = next {
        change = match change {
            Some(weight) => domain.schedule.count(cpu, weight, more),
            None => domain.schedule.count_below(cpu, more),
        };
        next = domain.rival_parent();
    }
}

/// Virtual time that ticks on a CPU are worth for a thread with a weight: the more, the smaller its share is in its Domain, that
/// one's in its parent, and so on up to the compartment, whose weight counts as it is.
#[must_use]
pub fn virtual_time(domain: &Domain, ticks: u64, weight: u64, cpu: CpuId) -> u64 {
    let most = ticks.saturating_mul(MAX_WORTH);
    let mut worth = u128::from(ticks) << FRACTION;
    let mut weight = weight;
    let mut next = Some(domain);
    while let Some(domain) = next {
        let (part, whole) = domain.schedule.share(cpu, weight);
        // Who has no rival, the common case, divides nothing.
        if part != whole {
            worth = (worth * u128::from(whole) / u128::from(part)).min(u128::from(most) << FRACTION);
        }
        weight = domain.schedule.weight.load(Ordering::Relaxed);
        next = domain.rival_parent();
    }
    if weight != DEFAULT_WEIGHT {
        worth = worth * u128::from(DEFAULT_WEIGHT) / u128::from(weight.max(1));
    }
    u64::try_from(worth >> FRACTION).unwrap_or(most).min(most)
}

/// A Domain's share of time: a quota for each period.
struct Bandwidth {
    quota: u64,
    period: u64,
    period_end: u64,
    used: u64,
}

/// Scheduling of one Domain.
pub struct Schedule {
    weight: AtomicU64,
    cpus: AtomicU64,
    is_service: AtomicBool,
    is_dying: AtomicBool,
    has_quota: AtomicBool,
    bandwidth: SpinLock<Bandwidth>,
    cpu_time: AtomicU64,
    throttled: AtomicU64,
    /// Its part in the competition on each CPU.
    competitions: [Competition; MAX_CPUS],
}

/// A Domain on one CPU.
///
/// A Domain's runnable threads and those of its children that have some compete for its time by their weights, and the Domain itself competes among
/// its parent's by its own. The weight that counts is the one at the time when a thread or a Domain joined the competition, so that
/// the same is taken away when it leaves.
struct Competition {
    /// Runnable threads in it and below (low half), and the weight it counts with in its parent while there are some.
    joined: AtomicU64,
    /// Sum of the weights of who competes in it.
    load: AtomicU64,
}

impl Competition {
    const fn new() -> Self {
        Self { joined: AtomicU64::new(0), load: AtomicU64::new(0) }
    }

    /// A thread in it or below became runnable; the weight with which the Domain joins its parent's competition, if it is the first.
    fn join(&self, weight: u32) -> Option<u32> {
        let before = self.joined.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            Some(if word & THREADS == 0 { u64::from(weight) << 32 | 1 } else { word.wrapping_add(1) })
        });
        before.is_ok_and(|word| word & THREADS == 0).then_some(weight)
    }

    /// It is no longer runnable; the weight with which the Domain leaves, if it was the last.
    fn leave(&self) -> Option<u32> {
        let before = self.joined.fetch_sub(1, Ordering::Relaxed);
        (before & THREADS == 1).then_some((before >> 32) as u32)
    }
}

impl Schedule {
    pub(super) const fn new() -> Self {
        Self {
            weight: AtomicU64::new(DEFAULT_WEIGHT),
            cpus: AtomicU64::new(u64::MAX),
            is_service: AtomicBool::new(false),
            is_dying: AtomicBool::new(false),
            has_quota: AtomicBool::new(false),
            bandwidth: SpinLock::new(
                lock::BANDWIDTH,
                Bandwidth { quota: UNLIMITED, period: 1, period_end: 0, used: 0 },
            ),
            cpu_time: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
            competitions: [const { Competition::new() }; MAX_CPUS],
        }
    }

    /// Changes everything that `DomainSchedule` names; the values are checked.
    pub fn set(&self, weight: u64, quota: u64, period: u64, cpus: u64, is_service: bool) {
        self.weight.store(weight, Ordering::Relaxed);
        self.cpus.store(cpus, Ordering::Relaxed);
        self.is_service.store(is_service, Ordering::Relaxed);
        let mut bandwidth = self.bandwidth.lock();
        *bandwidth = Bandwidth { quota, period: period.max(1), period_end: 0, used: 0 };
        self.has_quota.store(quota != UNLIMITED, Ordering::Relaxed);
    }

    /// Puts the Domain into the latency class of services.
    pub fn set_service(&self) {
        self.is_service.store(true, Ordering::Relaxed);
    }
    /// Whether it is in that class.
    #[must_use]
    pub fn is_service(&self) -> bool {
        self.is_service.load(Ordering::Relaxed)
    }
    /// Its threads must stop.
    pub fn set_dying(&self) {
        self.is_dying.store(true, Ordering::SeqCst);
    }
    /// Whether its threads must stop.
    #[must_use]
    pub fn is_dying(&self) -> bool {
        self.is_dying.load(Ordering::SeqCst)
    }
    /// CPUs its threads may run on.
    #[must_use]
    pub fn cpus(&self) -> u64 {
        self.cpus.load(Ordering::Relaxed)
    }

    /// Somebody with a weight joins the competition inside it on a CPU (true) or leaves; if that makes the Domain itself join or leave
    /// its parent's: with which weight.
    fn count(&self, cpu: CpuId, weight: u32, more: bool) -> Option<u32> {
        let competition = self.competitions.get(cpu)?;
        if more {
            competition.load.fetch_add(weight.into(), Ordering::Relaxed);
            competition.join(self.weight.load(Ordering::Relaxed) as u32)
        } else {
            competition.load.fetch_sub(weight.into(), Ordering::Relaxed);
            competition.leave()
        }
    }

    /// One more thread below it is runnable on a CPU (true), or one fewer, and that changes nothing for who competes inside it.
    fn count_below(&self, cpu: CpuId, more: bool) -> Option<u32> {
        self.count(cpu, 0, more)
    }

    /// What somebody with a weight has of the competition inside it on a CPU: `part` of `whole`.
    fn share(&self, cpu: CpuId, weight: u64) -> (u64, u64) {
        let load = self.competitions.get(cpu).map_or(0, |own| own.load.load(Ordering::Relaxed));
        // Between two changes on other CPUs a sum may be off for a moment, even below zero.
        let load = load.cast_signed().max(0).cast_unsigned();
        (weight.max(1), load.max(weight).max(1))
    }

    /// Time a Domain's threads have used.
    pub fn add_time(&self, ticks: u64) {
        self.cpu_time.fetch_add(ticks, Ordering::Relaxed);
        if self.has_quota.load(Ordering::Relaxed) {
            let mut bandwidth = self.bandwidth.lock();
            bandwidth.used = bandwidth.used.saturating_add(ticks);
        }
    }

    /// If the quota is used up: when the next period begins.
    #[must_use]
    pub fn throttled_until(&self, now: u64) -> Option<u64> {
        if !self.has_quota.load(Ordering::Relaxed) {
            return None;
        }
        let mut bandwidth = self.bandwidth.lock();
        bandwidth.refill(now);
        (bandwidth.used >= bandwidth.quota).then_some(bandwidth.period_end)
    }

    /// Ticks left in this period, if there is a quota.
    #[must_use]
    pub fn left(&self, now: u64) -> Option<u64> {
        if !self.has_quota.load(Ordering::Relaxed) {
            return None;
        }
        let mut bandwidth = self.bandwidth.lock();
        bandwidth.refill(now);
        Some(bandwidth.quota.saturating_sub(bandwidth.used))
    }

    /// Counts a thread held back.
    pub fn count_throttled(&self) {
        self.throttled.fetch_add(1, Ordering::Relaxed);
    }
    /// CPU time used, and how often threads were held back.
    #[must_use]
    pub fn figures(&self) -> (u64, u64) {
        (self.cpu_time.load(Ordering::Relaxed), self.throttled.load(Ordering::Relaxed))
    }
    /// The quota per period.
    #[must_use]
    pub fn quota(&self) -> u64 {
        self.bandwidth.lock().quota
    }
}

impl Bandwidth {
    /// Begins a new period if the last one is over; debt beyond the quota is carried on.
    fn refill(&mut self, now: u64) {
        if now < self.period_end {
            return;
        }
        let periods = 1 + (now - self.period_end) / self.period;
        self.used = self.used.saturating_sub(self.quota.saturating_mul(periods));
        self.period_end =
            if self.period_end == 0 { now + self.period } else { self.period_end + periods * self.period };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_competition_counts_more_threads_than_sixteen_bits_hold() {
        let schedule = Schedule::new();
        assert_eq!(schedule.count(0, 10_000, true), Some(100));
        for _ in 0..300_000 {
            assert_eq!(schedule.count(0, 10_000, true), None, "it has joined already");
        }
        assert_eq!(schedule.share(0, 10_000), (10_000, 300_001 * 10_000));
        for _ in 0..300_000 {
            assert_eq!(schedule.count(0, 10_000, false), None);
        }
        assert_eq!(schedule.count(0, 10_000, false), Some(100));
    }
}
