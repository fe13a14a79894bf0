//! The guest's registers in the state page, its segment bases and vector registers, and entering it.

use alloc::boxed::Box;
use core::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering},
};
use kernel_abi::{Operation, guest::Exit};
use rt::sync::SpinLock;

/// Words of the state page.
const WORDS: usize = 40;
/// Words of the fault in home mode: its registers begin at 20, rip is the 17th.
const HOME_IP: usize = 20 + 16;
const HOME_FAULT_ADDRESS: usize = 38;
const HOME_FAULT_CODE: usize = 39;
/// Bytes of a vector area.
pub const VECTOR_AREA: usize = 4096;

/// One thread's state page.
#[derive(Clone, Copy)]
pub struct GuestState(*const [Cell<u64>; WORDS]);

impl core::fmt::Debug for GuestState {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("GuestState")
    }
}

macro_rules! registers {
    ($($get:ident $set:ident $index:literal)*) => {
        #[expect(missing_docs, reason = "register names explain themselves")]
        impl GuestState {
            $(
                #[inline]
                #[must_use]
                pub fn $get(self) -> u64 { self.word($index).get() }
                #[inline]
                pub fn $set(self, value: u64) { self.word($index).set(value); }
            )*
        }
    };
}

registers! {
    rax set_rax 0 rbx set_rbx 1 rcx set_rcx 2 rdx set_rdx 3 rsi set_rsi 4 rdi set_rdi 5 rbp set_rbp 6 rsp set_rsp 7
    r8 set_r8 8 r9 set_r9 9 r10 set_r10 10 r11 set_r11 11 r12 set_r12 12 r13 set_r13 13 r14 set_r14 14 r15 set_r15 15
    rip set_rip 16 rflags set_rflags 17 exit_address set_exit_address 18 exit_code set_exit_code 19
}

/// The general registers in the order of the state page.
pub const REGISTERS: usize = 18;

impl GuestState {
    /// The state page of a thread that was prepared with one.
    #[must_use]
    pub fn new(page: *mut kernel_abi::guest::StatePage) -> Self {
        Self(page.cast_const().cast())
    }
    /// The calling thread's.
    #[must_use]
    pub fn of_thread() -> Self {
        Self::new(rt::thread::state_page().unwrap_or(core::ptr::null_mut()))
    }
    #[inline]
    fn word(&self, index: usize) -> &Cell<u64> {
        // SAFETY: the page belongs to its thread for the thread's whole life and is mapped; the kernel writes it only while the thread is in
        // the guest. Before the thread starts its creator alone uses it.
        unsafe { &(&*self.0)[index] }
    }
    /// All general registers.
    #[must_use]
    pub fn registers(self) -> [u64; REGISTERS] {
        core::array::from_fn(|index| self.word(index).get())
    }
    /// Writes all general registers.
    pub fn set_registers(self, registers: &[u64; REGISTERS]) {
        for (index, value) in registers.iter().enumerate() {
            self.word(index).set(*value);
        }
    }
}

#[cfg_attr(
    not(target_os = "none"),
    expect(dead_code, reason = "faults in home mode exist only on the machine")
)]
impl GuestState {
    /// Where a fault in home mode happened.
    pub(super) fn home_ip(self) -> u64 {
        self.word(HOME_IP).get()
    }
    pub(super) fn set_home_ip(self, value: u64) {
        self.word(HOME_IP).set(value);
    }
    pub(super) fn home_fault(self) -> (u64, u64) {
        (self.word(HOME_FAULT_ADDRESS).get(), self.word(HOME_FAULT_CODE).get())
    }
}

/// Runs the guest until it needs the personality.
#[inline]
pub fn enter() -> Exit {
    match rt::arch::call(Operation::GuestEnter, [0; 6]) {
        Ok((0, ..)) => Exit::Syscall,
        Ok((1, ..)) => Exit::Exception,
        Ok((2, ..)) => Exit::Fault,
        Ok(_) | Err(_) => Exit::Kick,
    }
}

/// The guest's FS base.
#[must_use]
pub fn fs_base() -> u64 {
    let value: u64;
    // SAFETY: reads a register that the personality does not use.
    unsafe {
        core::arch::asm!("rdfsbase {}", out(reg) value, options(nomem, nostack, preserves_flags));
    };
    value
}

/// Sets the guest's FS base, which is below the end of guest addresses.
#[cfg(target_os = "none")]
pub fn set_fs_base(value: u64) {
    // SAFETY: the personality does not use the register; a low address is canonical.
    unsafe {
        core::arch::asm!("wrfsbase {}", in(reg) value, options(nomem, nostack, preserves_flags));
    };
}

/// The guest's GS base.
#[must_use]
pub fn gs_base() -> u64 {
    let value: u64;
    // SAFETY: as for `fs_base`.
    unsafe {
        core::arch::asm!("rdgsbase {}", out(reg) value, options(nomem, nostack, preserves_flags));
    };
    value
}

/// Sets the guest's GS base, which is below the end of guest addresses.
#[cfg(target_os = "none")]
pub fn set_gs_base(value: u64) {
    // SAFETY: as for `set_fs_base`.
    unsafe {
        core::arch::asm!("wrgsbase {}", in(reg) value, options(nomem, nostack, preserves_flags));
    };
}

/// There is no guest on the host.
#[cfg(not(target_os = "none"))]
pub fn set_fs_base(_value: u64) {}

/// There is no guest on the host.
#[cfg(not(target_os = "none"))]
pub fn set_gs_base(_value: u64) {}

/// The guest's vector registers.
#[repr(C, align(64))]
#[derive(Clone)]
pub struct Vectors(pub [u8; VECTOR_AREA]);

impl core::fmt::Debug for Vectors {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("Vectors")
    }
}

/// An area for states that come and go within one system call, so that none has to be made.
#[cfg_attr(target_os = "none", unsafe(link_section = ".bss.cold"))]
static SCRATCH: SpinLock<Vectors> = SpinLock::new(Vectors([0; VECTOR_AREA]));

/// Legacy region and header of an area without any component; MXCSR as after reset.
#[repr(C, align(64))]
struct Reset([u32; 6], u32, [u32; 137]);

static RESET: Reset = Reset([0; 6], 0x1f80, [0; 137]);

impl Vectors {
    /// The registers of the calling thread, for another thread to load.
    #[must_use]
    pub fn saved() -> Box<Self> {
        // SAFETY: every byte may be zero.
        let mut vectors = unsafe { Box::<Self>::new_zeroed().assume_init() };
        vectors.save();
        vectors
    }
    /// Calls a function with the registers of the calling thread.
    pub fn with_saved<R>(use_saved: impl FnOnce(&mut Self) -> R) -> R {
        let mut vectors = SCRATCH.lock();
        vectors.save();
        use_saved(&mut vectors)
    }
    /// Loads the registers that a function puts into the area.
    ///
    /// # Errors
    /// That of the function; nothing is loaded then.
    pub fn load_from<E>(fill: impl FnOnce(&mut Self) -> Result<(), E>) -> Result<(), E> {
        let mut vectors = SCRATCH.lock();
        fill(&mut vectors)?;
        vectors.load();
        Ok(())
    }
    /// Loads the state that `execve` leaves: no component in use, control words as after reset.
    pub fn reset() {
        // SAFETY: the header names no component, so that nothing behind it is read, and has no reserved bit, nor has MXCSR.
        unsafe {
            core::arch::asm!("xrstor64 [{}]", in(reg) &raw const RESET, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack, readonly, preserves_flags));
        }
    }
    /// Saves the registers of the calling thread.
    pub fn save(&mut self) {
        // SAFETY: the area is aligned and as long as the largest that the kernel enables.
        unsafe {
            core::arch::asm!("xsave64 [{}]", in(reg) self.0.as_mut_ptr(), in("eax") u32::MAX, in("edx") u32::MAX, options(nostack, preserves_flags));
        }
    }
    /// Loads the registers of the calling thread. The header and MXCSR are made valid first, whatever the guest has written there.
    pub fn load(&mut self) {
        let components = enabled();
        let present =
            u64::from_le_bytes(self.0[512..520].try_into().unwrap_or_default()) & components;
        self.0[512..520].copy_from_slice(&present.to_le_bytes());
        self.0[520..576].fill(0);
        let control = u32::from_le_bytes(self.0[24..28].try_into().unwrap_or_default()) & 0xffff;
        self.0[24..28].copy_from_slice(&control.to_le_bytes());
        // SAFETY: the header names only enabled components and has no reserved bit, nor has MXCSR.
        unsafe {
            core::arch::asm!("xrstor64 [{}]", in(reg) self.0.as_ptr(), in("eax") u32::MAX, in("edx") u32::MAX, options(nostack, preserves_flags));
        }
    }
}

/// Enabled state components.
#[must_use]
pub fn enabled() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the kernel has enabled the instruction; it reads a register.
    unsafe {
        core::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    };
    u64::from(low) | u64::from(high) << 32
}

/// Bytes of a vector area with all enabled components.
#[must_use]
pub fn area_size() -> usize {
    static SIZE: AtomicUsize = AtomicUsize::new(0);
    let known = SIZE.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let size = core::arch::x86_64::__cpuid_count(0xd, 0).ebx as usize;
    let size = size.clamp(576, VECTOR_AREA);
    SIZE.store(size, Ordering::Relaxed);
    size
}
