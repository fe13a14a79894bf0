//! The suite's own assembly: operations by any number.

/// Performs whatever operation a number names: `rax`, `rdx`, `rdi`.
pub(crate) fn raw(number: u64, arguments: [u64; 6]) -> [u64; 3] {
    let [a, b, c, d, e, f] = arguments;
    let (rax, rdx, rdi): (u64, u64, u64);
    // SAFETY: the kernel changes registers as its convention says, and memory only through capabilities of the caller's.
    unsafe {
        core::arch::asm!("syscall",
            inlateout("rax") number => rax, inlateout("rdi") a => rdi, inlateout("rsi") b => _,
            inlateout("rdx") c => rdx, inlateout("r10") d => _, inlateout("r8") e => _, inlateout("r9") f => _,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    [rax, rdx, rdi]
}
