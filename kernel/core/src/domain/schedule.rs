//! How a Domain's threads are scheduled: weight, bandwidth, CPU set, class; and the time they have used.

use crate::lock;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use kernel_abi::resource::{DEFAULT_WEIGHT, UNLIMITED};
use kernel_machine::{CpuId, MAX_CPUS, object::SpinLock};

/// A Domain's share of time: a quota for each period.
#[derive(Debug)]
struct Bandwidth {
    quota: u64,
    period: u64,
    period_end: u64,
    used: u64,
}

/// Scheduling of one Domain.
#[derive(Debug)]
pub struct Schedule {
    weight: AtomicU64,
    cpus: AtomicU64,
    is_service: AtomicBool,
    is_dying: AtomicBool,
    has_quota: AtomicBool,
    bandwidth: SpinLock<Bandwidth>,
    cpu_time: AtomicU64,
    throttled: AtomicU64,
    /// Threads that are runnable on each CPU: they share the weight.
    runnable: [AtomicU16; MAX_CPUS],
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
            runnable: [const { AtomicU16::new(0) }; MAX_CPUS],
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

    /// A thread became runnable (true) on a CPU or stopped being so.
    pub fn count_runnable(&self, cpu: CpuId, more: bool) {
        if let Some(count) = self.runnable.get(cpu) {
            if more {
                count.fetch_add(1, Ordering::Relaxed);
            } else {
                count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Virtual time that ticks on a CPU are worth for a thread with a weight.
    #[must_use]
    pub fn virtual_time(&self, ticks: u64, thread_weight: u64, cpu: CpuId) -> u64 {
        let sharing = self
            .runnable
            .get(cpu)
            .map_or(1, |count| u64::from(count.load(Ordering::Relaxed)).max(1));
        let weight = (self.weight.load(Ordering::Relaxed) * thread_weight / DEFAULT_WEIGHT).max(1);
        ticks.saturating_mul(DEFAULT_WEIGHT).saturating_mul(sharing) / weight
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
        self.period_end = if self.period_end == 0 {
            now + self.period
        } else {
            self.period_end + periods * self.period
        };
    }
}
