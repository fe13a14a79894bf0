//! A thread's user state, and making a CPU run it.
//!
//! The first words of a [`Context`] are known to `entry.s` by offset. All words are atomics: another CPU may write a blocked thread's
//! registers while its Domain dies.

use super::{cpu::own_block, instruction, memory};
use crate::types::{Frame, REGISTERS, Reg, Roots};
use core::{
    arch::asm,
    mem::offset_of,
    ptr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};
use kernel_abi::{
    guest::Exit,
    layout::{HOME_BASE, HOME_SIZE},
};

/// Frames of a context's vector area.
pub const VECTOR_FRAMES: usize = 1;

/// Words of the state page after the guest's registers.
const EXIT_ADDRESS: usize = REGISTERS;
const EXIT_CODE: usize = REGISTERS + 1;
const HOME: usize = REGISTERS + 2;
const HOME_FAULT_ADDRESS: usize = HOME + REGISTERS;
const HOME_FAULT_CODE: usize = HOME_FAULT_ADDRESS + 1;

/// Flags a native program may set itself: those of a guest but for the trap flag.
const HOME_FLAGS: u64 = kernel_abi::guest::GUEST_FLAGS & !(1 << 8);
/// Interrupts on, and the bit that is always one.
const FIXED_FLAGS: u64 = 0x202;
/// Offset of MXCSR in a vector area, and its value after reset.
const MXCSR: (usize, u64) = (24, 0x1f80);

/// A thread's registers and modes.
#[derive(Debug)]
#[repr(C)]
pub struct Context {
    registers: [AtomicU64; REGISTERS],
    in_guest: AtomicU32,
    by_syscall: AtomicU32,
    attention: AtomicU32,
    state_page: AtomicU32,
    vector_area: AtomicU32,
    fs_base: AtomicU64,
    gs_base: AtomicU64,
}

const _: () = {
    assert!(offset_of!(Context, in_guest) == 144);
    assert!(offset_of!(Context, by_syscall) == 148);
    assert!(offset_of!(Context, attention) == 152);
};

impl Context {
    /// A context that has not been started.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            registers: [const { AtomicU64::new(0) }; REGISTERS],
            in_guest: AtomicU32::new(0),
            by_syscall: AtomicU32::new(0),
            attention: AtomicU32::new(0),
            state_page: AtomicU32::new(0),
            vector_area: AtomicU32::new(0),
            fs_base: AtomicU64::new(0),
            gs_base: AtomicU64::new(0),
        }
    }
    /// Sets up the first instruction, in home mode; the entry is in the home region.
    pub fn start(&self, entry: u64, stack: u64, argument: u64) {
        self.set(Reg::Rip, entry);
        self.set(Reg::Rsp, stack);
        self.set(Reg::Rdi, argument);
        self.set(Reg::Rflags, FIXED_FLAGS);
    }
    /// Reads a register.
    #[inline]
    #[must_use]
    pub fn get(&self, register: Reg) -> u64 {
        self.registers[register as usize].load(Ordering::Relaxed)
    }
    /// Writes a register that an operation returns (never `Rip` or `Rflags`).
    #[inline]
    pub fn set(&self, register: Reg, value: u64) {
        self.registers[register as usize].store(value, Ordering::Relaxed);
    }
    /// Gives the context its state page.
    pub fn set_state_page(&self, frame: Frame) {
        self.state_page.store(frame.number(), Ordering::Release);
    }
    /// Its state page.
    #[must_use]
    pub fn state_page(&self) -> Option<Frame> {
        let number = self.state_page.load(Ordering::Acquire);
        (number != 0).then(|| Frame::new(number))
    }
    /// Gives the context a vector area, zeroed by the caller.
    pub fn set_vector_area(&self, frame: Frame) {
        memory::table(frame)[MXCSR.0 / 8].store(MXCSR.1, Ordering::Relaxed);
        self.vector_area.store(frame.number(), Ordering::Release);
    }
    /// Whether the context is in guest mode.
    #[inline]
    #[must_use]
    pub fn in_guest(&self) -> bool {
        self.in_guest.load(Ordering::Acquire) != 0
    }
    /// Forces the slow path of `GuestEnter`.
    pub fn set_attention(&self, on: bool) {
        self.attention.store(u32::from(on), Ordering::SeqCst);
    }
    /// Enters guest mode; the registers come from the state page when the context is resumed.
    pub fn enter_guest(&self) {
        self.in_guest.store(1, Ordering::Release);
    }
    /// Leaves guest mode towards home mode, where `GuestEnter` returns the exit.
    pub fn leave_guest(&self, exit: Exit, address: u64, code: u64) {
        if let Some(frame) = self.state_page() {
            let words = memory::table(frame);
            words[EXIT_ADDRESS].store(address, Ordering::Relaxed);
            words[EXIT_CODE].store(code, Ordering::Relaxed);
        }
        self.in_guest.store(0, Ordering::Release);
        self.set(Reg::Rax, exit as u64);
    }
    /// Stores the registers of a fault in home mode into the state page and continues at a handler in the home region.
    pub fn deliver_home_fault(&self, entry: u64, stack: u64, address: u64, code: u64) {
        let Some(frame) = self.state_page() else { return };
        let words = memory::table(frame);
        for (word, register) in words[HOME..].iter().zip(&self.registers) {
            word.store(register.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        words[HOME_FAULT_ADDRESS].store(address, Ordering::Relaxed);
        words[HOME_FAULT_CODE].store(code, Ordering::Relaxed);
        self.set(Reg::Rip, entry);
        self.set(Reg::Rsp, stack);
        self.set(Reg::Rflags, FIXED_FLAGS);
        self.by_syscall.store(0, Ordering::Relaxed);
    }
    /// Loads the registers of `home` from the state page, sanitised: the end of a fault in home mode.
    pub fn return_from_home_fault(&self) {
        let Some(frame) = self.state_page() else { return };
        let words = memory::table(frame);
        for (word, register) in words[HOME..].iter().zip(&self.registers) {
            register.store(word.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let is_home = self.get(Reg::Rip).checked_sub(HOME_BASE).is_some_and(|offset| offset < HOME_SIZE);
        if !is_home {
            // Address zero is never mapped: the program faults there instead of the kernel on its way out.
            self.set(Reg::Rip, 0);
        }
        self.set(Reg::Rflags, self.get(Reg::Rflags) & HOME_FLAGS | FIXED_FLAGS);
        self.by_syscall.store(0, Ordering::Relaxed);
    }

    /// Saves what the entry code does not: FS and GS bases, vector state. The context is this CPU's current one.
    fn save(&self) {
        let (fs, gs): (u64, u64);
        // SAFETY: reading the bases has no effect; between the two `swapgs` nothing uses GS.
        unsafe {
            asm!("rdfsbase {}", "swapgs", "rdgsbase {}", "swapgs", out(reg) fs, out(reg) gs, options(nomem, nostack, preserves_flags));
        }
        self.fs_base.store(fs, Ordering::Relaxed);
        self.gs_base.store(gs, Ordering::Relaxed);
        if let Some(area) = self.vector_area() {
            // SAFETY: the area is a whole frame of this context's own, 64-byte aligned, and large enough for all enabled components.
            unsafe {
                asm!("xsave64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack, preserves_flags));
            };
        }
    }

    /// Loads what [`Self::save`] saves.
    fn load(&self) {
        let (fs, gs) = (self.fs_base.load(Ordering::Relaxed), self.gs_base.load(Ordering::Relaxed));
        // Selectors mean nothing to 64-bit code, but what one program loads another one must not read.
        // SAFETY: null selectors are valid; the bases came from `save`, so they are canonical; between the two `swapgs` nothing uses GS.
        unsafe {
            asm!("mov ds, {zero:x}", "mov es, {zero:x}", "mov fs, {zero:x}", "wrfsbase {fs}",
                "swapgs", "mov gs, {zero:x}", "wrgsbase {gs}", "swapgs",
                zero = in(reg) 0_u64, fs = in(reg) fs, gs = in(reg) gs, options(nomem, nostack, preserves_flags));
        }
        if let Some(area) = self.vector_area() {
            // SAFETY: the area holds what `xsave64` wrote, or zeros and a valid MXCSR; user mode cannot write it.
            unsafe {
                asm!("xrstor64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack, preserves_flags));
            };
        }
    }

    fn vector_area(&self) -> Option<*mut u8> {
        let number = self.vector_area.load(Ordering::Acquire);
        (number != 0).then(|| memory::frame_pointer(Frame::new(number)))
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes a context this CPU's current one: its user state is loaded, and what ran before is wholly in memory. The caller keeps the
/// context's thread and both roots alive until the next call.
pub fn resume(context: &Context, roots: Roots) {
    let block = own_block();
    let before = block.context.load(Ordering::Relaxed);
    let new = ptr::from_ref(context).cast_mut();
    if before != new {
        if !before.is_null() {
            // SAFETY: the previous call's caller keeps the context alive until this call returns.
            unsafe { &*before }.save();
        }
        context.load();
        block.context.store(new, Ordering::Relaxed);
    }
    let guest = match (roots.guest, context.state_page()) {
        (Some(root), Some(page)) => {
            block.state_page.store(memory::frame_pointer(page).addr() as u64, Ordering::Relaxed);
            root.address()
        }
        _ => 0,
    };
    block.run_root.store(roots.run.address(), Ordering::Relaxed);
    block.guest_root.store(guest, Ordering::Relaxed);
    let root = if context.in_guest() && guest != 0 { guest } else { roots.run.address() };
    if instruction::root() != root {
        // SAFETY: every root of the portable kernel was filled by `kernel_entries`.
        unsafe { instruction::load_root(root) };
    }
}

/// Leaves this CPU without a current context, on the kernel's root.
pub fn resume_none() {
    let block = own_block();
    let before = block.context.swap(ptr::null_mut(), Ordering::Relaxed);
    if !before.is_null() {
        // SAFETY: the caller of `resume` keeps the context alive until this call returns.
        unsafe { &*before }.save();
    }
    block.guest_root.store(0, Ordering::Relaxed);
    // SAFETY: the kernel's own root.
    unsafe { instruction::load_root(memory::kernel_root()) };
}
