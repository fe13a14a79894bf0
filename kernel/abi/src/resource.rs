//! What a Domain may use, and what it uses.

/// The resources `domain_budget` limits and `domain_stat` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Resource {
    /// Frames: user memory, page-table pages and kernel objects, in pages.
    Frames = 0,
    /// Kernel objects.
    Objects = 1,
    /// Occupied capability slots.
    Slots = 2,
    /// Threads (they are objects too).
    Threads = 3,
    /// CPU time used, in TSC ticks (reported only).
    CpuTime = 4,
    /// CPU bandwidth: ticks of quota per period; see `domain_schedule`.
    CpuQuota = 5,
    /// Number of times a thread of the Domain was throttled (reported only).
    Throttled = 6,
}

impl Resource {
    /// Decodes a resource number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Frames,
            1 => Self::Objects,
            2 => Self::Slots,
            3 => Self::Threads,
            4 => Self::CpuTime,
            5 => Self::CpuQuota,
            6 => Self::Throttled,
            _ => return None,
        })
    }
}

/// No limit.
pub const UNLIMITED: u64 = u64::MAX;
/// Weight of a Domain that was given none (cgroup v2's default).
pub const DEFAULT_WEIGHT: u64 = 100;
