//! Guest mode: the state page through which a personality runs a Linux thread.
//!
//! One kernel Thread has two user-level modes. In *home mode* it runs the personality; `enter` makes it run the guest until something needs
//! the personality. The kernel copies and sanitises the registers from the page before it uses them and dereferences no user address. FS and
//! GS bases and the vector state belong to the Thread: `enter` and exits leave them alone, so the personality reads and writes the guest's with `rdfsbase`,
//! `wrfsbase`, `xsave` and `xrstor` and uses none of them for itself.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// General registers in the order of Linux's `user_regs_struct`-independent, plain list below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "register names explain themselves")]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
}

/// The state page: pinned, shared between the kernel and the personality, one per guest-capable Thread.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StatePage {
    /// The guest's registers: loaded by `enter`, stored on every exit.
    pub guest: Registers,
    /// Second word of the exit: the vector of an exception, the address of a fault.
    pub exit_address: u64,
    /// Third word of the exit: the hardware error code.
    pub exit_code: u64,
    /// Registers of the personality at a fault in home mode; `fault_return` loads them again.
    pub home: Registers,
    /// Faulting address of the fault in home mode.
    pub home_fault_address: u64,
    /// Vector (low byte) and hardware error code (from bit 8) of the fault in home mode.
    pub home_fault_code: u64,
}

/// Why `enter` returned (its result in `rax`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Exit {
    /// The guest executed `syscall`; `rip` is after it, `rcx` and `r11` are as the hardware left them.
    Syscall = 0,
    /// An exception other than a page fault: `exit_address` is the vector, `exit_code` the error code.
    Exception = 1,
    /// A page fault the kernel could not resolve: `exit_address` is the address, `exit_code` the hardware's error code.
    Fault = 2,
    /// A kick arrived (latched: also when it came before `enter`).
    Kick = 3,
}

/// RFLAGS bits a guest may set itself: CF PF AF ZF SF TF DF OF RF AC ID. IF is always on.
pub const GUEST_FLAGS: u64 = 0x0025_0dd5;
