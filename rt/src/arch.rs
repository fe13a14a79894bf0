//! The `syscall` instruction and the first one: the only assembly of native programs but for a personality's own.

use kernel_abi::{Error, Operation};

/// What an operation returns on success: `rax`, `rdx`, `rdi`.
pub type Returned = (u64, u64, u64);

/// Registers of a message, in and out.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageRegisters {
    /// Gate, Endpoint or Reply; the badge on return.
    pub rdi: u64,
    /// Tag.
    pub rsi: u64,
    /// Words 0 to 3.
    pub words: [u64; 4],
    /// Capabilities to send.
    pub caps: [u64; 3],
    /// Reply slot and window.
    pub r15: u64,
}

/// Performs an operation with up to six arguments.
///
/// # Errors
/// Whatever the kernel says.
#[cfg(target_os = "none")]
#[inline]
pub fn call(operation: Operation, arguments: [u64; 6]) -> Result<Returned, Error> {
    let [a, b, c, d, e, f] = arguments;
    let (rax, rdx, rdi): (u64, u64, u64);
    // SAFETY: an operation changes registers as the convention says, and memory only where the program has asked for it by capability.
    unsafe {
        core::arch::asm!("syscall",
            inlateout("rax") operation as u64 => rax, inlateout("rdi") a => rdi, inlateout("rsi") b => _,
            inlateout("rdx") c => rdx, inlateout("r10") d => _, inlateout("r8") e => _, inlateout("r9") f => _,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    match Error::from_result(rax.cast_signed()) {
        Some(error) => Err(error),
        None => Ok((rax, rdx, rdi)),
    }
}

/// Performs a message operation.
///
/// # Errors
/// Whatever the kernel says.
#[cfg(target_os = "none")]
#[inline]
pub fn message(
    operation: Operation,
    registers: MessageRegisters,
) -> Result<MessageRegisters, Error> {
    let mut out = registers;
    let rax: u64;
    let [w0, w1, w2, w3] = registers.words;
    let [c0, c1, c2] = registers.caps;
    // SAFETY: as for `call`; r12 to r15 are read by the kernel and preserved.
    unsafe {
        core::arch::asm!("syscall",
            inlateout("rax") operation as u64 => rax, inlateout("rdi") registers.rdi => out.rdi,
            inlateout("rsi") registers.rsi => out.rsi, inlateout("rdx") w0 => out.words[0], inlateout("r10") w1 => out.words[1],
            inlateout("r8") w2 => out.words[2], inlateout("r9") w3 => out.words[3],
            in("r12") c0, in("r13") c1, in("r14") c2, in("r15") registers.r15,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    match Error::from_result(rax.cast_signed()) {
        Some(error) => Err(error),
        None => Ok(out),
    }
}

/// On the host there is no kernel.
///
/// # Errors
/// Always `UnknownOperation`.
#[cfg(not(target_os = "none"))]
pub fn call(_operation: Operation, _arguments: [u64; 6]) -> Result<Returned, Error> {
    Err(Error::UnknownOperation)
}

/// On the host there is no kernel.
///
/// # Errors
/// Always `UnknownOperation`.
#[cfg(not(target_os = "none"))]
pub fn message(
    _operation: Operation,
    _registers: MessageRegisters,
) -> Result<MessageRegisters, Error> {
    Err(Error::UnknownOperation)
}

/// The stack pointer.
#[inline]
#[must_use]
pub fn stack_pointer() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("mov {}, rsp", out(reg) value, options(nomem, nostack, preserves_flags));
    };
    value
}

/// The frame pointer of the function that this is inlined into.
#[inline(always)]
#[must_use]
pub fn frame_pointer() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("mov {}, rbp", out(reg) value, options(nomem, nostack, preserves_flags));
    };
    value
}

/// The time stamp counter.
#[inline]
#[must_use]
pub fn time_stamp() -> u64 {
    // SAFETY: reading the counter has no other effect.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Bytes at the end of every stack that are the thread's block.
pub(crate) const BLOCK_SIZE: usize = 64;

#[cfg(target_os = "none")]
core::arch::global_asm!(
    ".section .text.start, \"ax\", @progbits",
    ".global _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "sub rsp, {block}",
    "call rt_start",
    "ud2",
    ".global rt_thread_entry",
    "rt_thread_entry:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call rt_thread_start",
    "ud2",
    ".text",
    block = const BLOCK_SIZE,
);

#[cfg(target_os = "none")]
unsafe extern "C" {
    fn rt_thread_entry();
    static rt_data_start: u8;
    static rt_data_end: u8;
}

/// First address of the program's own data and the one behind its last, as its linker script tells them.
#[cfg(target_os = "none")]
pub(crate) fn data_bounds() -> (u64, u64) {
    ((&raw const rt_data_start).addr() as u64, (&raw const rt_data_end).addr() as u64)
}

/// First address of the program's own data and the one behind its last: none on the host.
#[cfg(not(target_os = "none"))]
pub(crate) fn data_bounds() -> (u64, u64) {
    (kernel_abi::layout::HOME_BASE, kernel_abi::layout::HOME_BASE)
}

/// Address where every thread but the first begins.
#[cfg(target_os = "none")]
pub(crate) fn thread_entry() -> u64 {
    (rt_thread_entry as *const ()).addr() as u64
}

/// Address where every thread but the first begins.
#[cfg(not(target_os = "none"))]
pub(crate) fn thread_entry() -> u64 {
    0
}
