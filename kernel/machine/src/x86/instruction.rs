//! Single instructions.

use core::arch::{asm, x86_64::__cpuid_count};

/// Extended features.
pub(super) const EFER: u32 = 0xc000_0080;
/// Segments of `syscall`.
pub(super) const STAR: u32 = 0xc000_0081;
/// Entry of `syscall`.
pub(super) const LSTAR: u32 = 0xc000_0082;
/// Flags that `syscall` clears.
pub(super) const SFMASK: u32 = 0xc000_0084;
/// The GS base in use.
pub(super) const GS_BASE: u32 = 0xc000_0101;
/// The GS base that `swapgs` brings.
pub(super) const KERNEL_GS_BASE: u32 = 0xc000_0102;
/// Where the local interrupt controller is.
pub(super) const APIC_BASE: u32 = 0x1b;

/// What `cpuid` tells of a leaf.
pub(super) use core::arch::x86_64::CpuidResult;

/// Asks the CPU about itself.
pub(super) fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    __cpuid_count(leaf, subleaf)
}

/// # Safety
/// The register must exist.
pub(super) unsafe fn read_msr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller promises that the register exists; reading has no other effect.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    };
    u64::from(low) | u64::from(high) << 32
}

/// # Safety
/// The register must exist and the value must keep the kernel's assumptions.
pub(super) unsafe fn write_msr(register: u32, value: u64) {
    // SAFETY: as the caller promises.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack, preserves_flags));
    }
}

/// # Safety
/// Reading the port must have no effect that the kernel does not expect.
pub(super) unsafe fn in_byte(port: u16) -> u8 {
    let value: u8;
    // SAFETY: as the caller promises.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// # Safety
/// As [`in_byte`].
pub(super) unsafe fn in_word(port: u16) -> u16 {
    let value: u16;
    // SAFETY: as the caller promises.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// # Safety
/// As [`in_byte`].
pub(super) unsafe fn in_long(port: u16) -> u32 {
    let value: u32;
    // SAFETY: as the caller promises.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// # Safety
/// The device must not do anything to memory that the kernel relies on.
pub(super) unsafe fn out_byte(port: u16, value: u8) {
    // SAFETY: as the caller promises.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}

/// # Safety
/// As [`out_byte`].
pub(super) unsafe fn out_word(port: u16, value: u16) {
    // SAFETY: as the caller promises.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags)) };
}

/// # Safety
/// As [`out_byte`].
pub(super) unsafe fn out_long(port: u16, value: u32) {
    // SAFETY: as the caller promises.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags)) };
}

/// The time stamp counter.
#[inline]
#[must_use]
pub fn now() -> u64 {
    // SAFETY: reading the counter has no other effect.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Eases a spin loop.
#[inline]
pub fn relax() {
    core::hint::spin_loop();
}

/// A random word of the hardware, if it has a source.
pub(super) fn hardware_random() -> Option<u64> {
    if cpuid(1, 0).ecx & 1 << 30 == 0 {
        return None;
    }
    for _ in 0..16 {
        let (value, ok): (u64, u8);
        // SAFETY: the CPU has the instruction.
        unsafe { asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) ok, options(nomem, nostack)) };
        if ok != 0 {
            return Some(value);
        }
    }
    None
}

/// Lets pending interrupts in.
pub fn poll_interrupts() {
    // SAFETY: called where the kernel allows interrupts: no borrow of per-CPU data and no lock is held.
    unsafe { asm!("sti", "nop", "cli", options(nostack)) };
}

/// Waits for an interrupt.
pub fn idle() {
    // SAFETY: as for `poll_interrupts`; `sti` takes effect after `hlt` has begun, so no wake-up is lost.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Flushes one page from this CPU's TLB.
#[inline]
pub fn flush_page(address: u64) {
    // SAFETY: flushing never changes what memory means.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) };
}

/// The page-table root in use.
#[inline]
pub(super) fn root() -> u64 {
    let value: u64;
    // SAFETY: reading the register has no effect.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Loads a page-table root.
///
/// # Safety
/// The kernel's half of the table must be the kernel's own.
#[inline]
pub(super) unsafe fn load_root(address: u64) {
    // SAFETY: as the caller promises.
    unsafe { asm!("mov cr3, {}", in(reg) address, options(nostack, preserves_flags)) };
}

/// Flushes this CPU's TLB but for global entries.
#[inline]
pub fn flush_all() {
    // SAFETY: the root in use is loaded again.
    unsafe { load_root(root()) };
}

/// The address of the last page fault.
pub(super) fn fault_address() -> u64 {
    let value: u64;
    // SAFETY: reading the register has no effect.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}
