//! The address space every native program and every guest sees.
//!
//! ```text
//! 0x0000_0000_0001_0000 .. 0x0000_7fff_ffff_f000   guest: Linux's user half, wholly the guest's
//! 0xffff_8000_0000_0000 .. 0xffff_8080_0000_0000   home: the native program (a service or a personality), one root entry
//! 0xffff_c000_0000_0000 ..                         kernel: direct map of physical memory, never executable
//! 0xffff_ffff_8000_0000 ..                         kernel: its image
//! ```
//!
//! A *home Space* is addressed by offsets from [`HOME_BASE`]; a *guest Space* by offsets from zero, so that an offset is the
//! guest's own address. A Space that only holds memory uses offsets from zero as well.

/// Lowest address a guest may use.
pub const GUEST_MIN: u64 = 0x1_0000;
/// One past the highest address a guest may use (Linux's `TASK_SIZE_MAX`).
pub const GUEST_MAX: u64 = 0x7fff_ffff_f000;
/// First address of the home region.
pub const HOME_BASE: u64 = 0xffff_8000_0000_0000;
/// Size of the home region: exactly one entry of the root page table.
pub const HOME_SIZE: u64 = 1 << 39;
/// Largest offset (exclusive) of a Space that only holds memory or is a guest: 128 TiB.
pub const SPACE_SIZE: u64 = 1 << 47;

/// Offsets inside the home region, by convention between the programs' creators and the runtime; the kernel does not know them. What a program uses
/// from its beginning lies close together, so that few page-table pages hold it.
pub mod home {
    /// The start-up block: what the program was handed, by name (read-only). See `rt::startup`.
    pub const STARTUP: u64 = 0x1_0000;
    /// Longest start-up block.
    pub const STARTUP_SIZE: u64 = 0x1_0000;
    /// First thread's stack: the top; it grows down and is [`STACK_SIZE`] long with an unmapped page below.
    pub const STACK_TOP: u64 = 0x8_0000;
    /// Size of the first thread's stack.
    pub const STACK_SIZE: u64 = 0x4_0000;
    /// Views: other Spaces mapped by the program, and the stacks and state pages of further threads. Ranges (from, to) in the order they are used.
    pub const VIEWS: [(u64, u64); 3] =
        [(0x8_0000, PROGRAM), (0x800_0000, HEAP), (HEAP_END, super::HOME_SIZE)];
    /// Where program text begins; the linker scripts of all native programs use it, or an address up to the next views.
    pub const PROGRAM: u64 = 0x20_0000;
    /// Heap of the runtime.
    pub const HEAP: u64 = 0x1010_0000;
    /// End (exclusive) of the heap's address range.
    pub const HEAP_END: u64 = 0x10_0000_0000;
}

/// Address of program text in every native program.
pub const PROGRAM_BASE: u64 = HOME_BASE + home::PROGRAM;
