//! A thread's user registers, on the fake machine: plain words that a test reads and writes.

use crate::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::types::{Frame, REGISTERS, Reg};
use kernel_abi::guest::Exit;

/// Word index in the state page of the exit's address, after the guest's registers.
const EXIT_ADDRESS: usize = REGISTERS;
const EXIT_CODE: usize = REGISTERS + 1;
const HOME: usize = REGISTERS + 2;
const HOME_FAULT_ADDRESS: usize = HOME + REGISTERS;
const HOME_FAULT_CODE: usize = HOME_FAULT_ADDRESS + 1;

/// A thread's registers and modes.
#[derive(Debug)]
pub struct Context {
    registers: [AtomicU64; REGISTERS],
    state_page: AtomicU32,
    vector_area: AtomicU32,
    guest: AtomicBool,
    attention: AtomicBool,
}

impl Context {
    /// A context that has not been started.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            registers: [const { AtomicU64::new(0) }; REGISTERS],
            state_page: AtomicU32::new(0),
            vector_area: AtomicU32::new(0),
            guest: AtomicBool::new(false),
            attention: AtomicBool::new(false),
        }
    }
    /// Sets up the first instruction, in home mode.
    pub fn start(&self, entry: u64, stack: u64, argument: u64) {
        self.set(Reg::Rip, entry);
        self.set(Reg::Rsp, stack);
        self.set(Reg::Rdi, argument);
    }
    /// Reads a register.
    #[must_use]
    pub fn get(&self, register: Reg) -> u64 {
        self.registers[register as usize].load(Ordering::Relaxed)
    }
    /// Writes a register.
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
        self.vector_area.store(frame.number(), Ordering::Release);
    }
    /// Whether the context is in guest mode.
    #[must_use]
    pub fn in_guest(&self) -> bool {
        self.guest.load(Ordering::Acquire)
    }
    /// Forces the slow path of `GuestEnter`.
    pub fn set_attention(&self, on: bool) {
        self.attention.store(on, Ordering::SeqCst);
    }
    /// Enters guest mode; the registers come from the state page when the context is resumed.
    pub fn enter_guest(&self) {
        self.guest.store(true, Ordering::Release);
    }
    /// Leaves guest mode towards home mode, where `GuestEnter` returns the exit.
    pub fn leave_guest(&self, exit: Exit, address: u64, code: u64) {
        if let Some(frame) = self.state_page() {
            let words = crate::table(frame);
            words[EXIT_ADDRESS].store(address, Ordering::Relaxed);
            words[EXIT_CODE].store(code, Ordering::Relaxed);
        }
        self.guest.store(false, Ordering::Release);
        self.set(Reg::Rax, exit as u64);
    }
    /// Stores the registers of a fault in home mode into the state page and continues at a handler.
    pub fn deliver_home_fault(&self, entry: u64, stack: u64, address: u64, code: u64) {
        let Some(frame) = self.state_page() else { return };
        let words = crate::table(frame);
        for (word, register) in words[HOME..].iter().zip(&self.registers) {
            word.store(register.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        words[HOME_FAULT_ADDRESS].store(address, Ordering::Relaxed);
        words[HOME_FAULT_CODE].store(code, Ordering::Relaxed);
        self.set(Reg::Rip, entry);
        self.set(Reg::Rsp, stack);
    }
    /// Loads the registers of `home` from the state page, sanitised: the end of a fault in home mode.
    pub fn return_from_home_fault(&self) {
        let Some(frame) = self.state_page() else { return };
        let words = crate::table(frame);
        for (word, register) in words[HOME..].iter().zip(&self.registers) {
            register.store(word.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}
