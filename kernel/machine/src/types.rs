//! Types that both backends share: plain values, no behaviour of the machine.

use crate::atomic::{AtomicU64, Ordering};
use kernel_abi::PAGE_SHIFT;

/// Most CPUs the kernel drives.
pub const MAX_CPUS: usize = 32;
/// Most ranges of free RAM that the kernel keeps from the boot memory map.
pub const MAX_RANGES: usize = 32;
/// Words of a frame.
pub const FRAME_WORDS: usize = 512;
/// Number of device interrupt vectors.
pub const DEVICE_VECTORS: usize = 256;

/// Number of a CPU, counted from 0 (the boot CPU).
pub type CpuId = usize;
/// A frame seen as words: page-table entries, slots or plain data.
pub type Table = [AtomicU64; FRAME_WORDS];

/// How many words at the beginning there are before one in which `bits` finds any; eight are looked at in one.
#[inline(always)]
pub fn count_until(words: &[AtomicU64], bits: impl Fn(u64) -> u64) -> u32 {
    let found = |word: &AtomicU64| bits(word.load(Ordering::Acquire));
    let (groups, _) = words.as_chunks::<8>();
    let has_none = |group: &&[AtomicU64; 8]| group.iter().fold(0, |all, word| all | found(word)) == 0;
    let passed = groups.iter().take_while(has_none).count() * 8;
    let rest = words.get(passed..).unwrap_or_default();
    (passed + rest.iter().take_while(|word| found(word) == 0).count()) as u32
}

/// Number of a 4 KiB frame of RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame(u32);

impl Frame {
    /// The frame with a number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }
    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
    /// Its physical address.
    #[must_use]
    pub const fn address(self) -> u64 {
        (self.0 as u64) << PAGE_SHIFT
    }
    /// The frame that holds a physical address (below 16 TiB).
    #[must_use]
    pub const fn containing(address: u64) -> Self {
        Self((address >> PAGE_SHIFT) as u32)
    }
}

/// Bits of a page-table entry.
pub mod entry {
    /// The hardware walks the entry.
    pub const PRESENT: u64 = 1 << 0;
    /// Writable.
    pub const WRITE: u64 = 1 << 1;
    /// Reachable in user mode.
    pub const USER: u64 = 1 << 2;
    /// Not cached (write-through and cache-disable together).
    pub const UNCACHED: u64 = 3 << 3;
    /// Set by the hardware on access.
    pub const ACCESSED: u64 = 1 << 5;
    /// Set by the hardware on a write.
    pub const DIRTY: u64 = 1 << 6;
    /// A large leaf.
    pub const LARGE: u64 = 1 << 7;
    /// Kept over a load of the root.
    pub const GLOBAL: u64 = 1 << 8;
    /// Not executable.
    pub const NO_EXECUTE: u64 = 1 << 63;
    /// The frame's physical address.
    pub const FRAME_MASK: u64 = 0x000f_ffff_ffff_f000;
    /// Bits the hardware ignores in a present entry: free for the kernel's portable part.
    pub const SOFT_MASK: u64 = 0x07f0_0000_0000_0e00;
}

/// The page tables a thread runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Root while the thread is in home mode.
    pub run: Frame,
    /// Root while it is in guest mode, if it has a guest.
    pub guest: Option<Frame>,
}

/// Inter-processor interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipi {
    /// Look at the run queue and at the current thread's flags.
    Reschedule,
    /// Flush the TLB and acknowledge.
    Shootdown,
}

/// What interrupted a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// This CPU's timer.
    Timer,
    /// [`Ipi::Reschedule`].
    Reschedule,
    /// [`Ipi::Shootdown`].
    Shootdown,
    /// A device's vector.
    Device(Vector),
}

/// Number of a device interrupt vector.
pub type Vector = u8;

/// The mode a thread was in when an exception interrupted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Native code: a service or a personality.
    Home,
    /// A guest process.
    Guest,
}

/// A user register in a [`crate::Context`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "register names explain themselves")]
#[repr(usize)]
pub enum Reg {
    Rax,
    Rbx,
    Rcx,
    Rdx,
    Rsi,
    Rdi,
    Rbp,
    Rsp,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    Rip,
    Rflags,
}

/// Number of registers in [`Reg`].
pub const REGISTERS: usize = 18;

/// How an interrupt line is triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// On an edge.
    Edge,
    /// While low.
    LevelLow,
    /// While high.
    LevelHigh,
}

/// A message-signalled vector: what a device writes where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The vector.
    pub vector: Vector,
    /// Physical address the device writes to.
    pub address: u64,
    /// The value it writes.
    pub data: u32,
}

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerAction {
    /// Off, with a status for the emulator.
    Off(u8),
    /// Reset.
    Reset,
}

/// A range of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRange {
    /// First frame number.
    pub start: u32,
    /// One past the last.
    pub end: u32,
}

/// What boot found.
#[derive(Clone, Copy, Debug)]
pub struct BootMemory {
    /// Free RAM (without the kernel, its tables and the module), ascending, not overlapping.
    pub free: [FrameRange; MAX_RANGES],
    /// Number of valid entries in `free`.
    pub free_count: usize,
    /// One past the highest frame number that any table of the kernel covers.
    pub frame_limit: u32,
    /// Whole frames of the boot module.
    pub module: Option<FrameRange>,
    /// The kernel command line.
    pub command_line: &'static [u8],
    /// TSC at the kernel's first instruction.
    pub first_instruction: u64,
    /// Physical address of the PCI configuration window.
    pub pci_window: Option<u64>,
    /// Physical address of the first virtio-mmio window.
    pub virtio_mmio: Option<u64>,
    /// Whether user code may take the TSC for a clock.
    pub tsc_is_clock: bool,
}

/// Why the machine refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineError {
    /// There is no such line, port or memory, or it is the kernel's own.
    NotPresent,
    /// The line or every vector is in use.
    InUse,
}
