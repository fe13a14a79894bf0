//! A guest of the calling thread: a guest Space with code, stack and data, and the state page.

use crate::check::Must;
use alloc::string::String;
use core::ptr;
use rt::{
    Domain, Space,
    abi::{
        Operation,
        guest::{Exit, Registers, StatePage},
        space::{Access, SpaceUse},
    },
    arch, startup,
};

/// Where the guest's code begins.
pub(crate) const CODE: u64 = 0x40_0000;
/// A page the guest may write.
pub(crate) const DATA: u64 = 0x50_0000;
/// The end of the guest's stack.
pub(crate) const STACK: u64 = 0x7000_0000_0000;

/// A guest attached to the calling thread.
pub(crate) struct Guest {
    /// Its Space.
    pub(crate) space: Space,
    state: *mut StatePage,
}

/// An exit: why, and its two words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// `Exit` as a number.
    pub(crate) exit: u64,
    /// Vector or address.
    pub(crate) address: u64,
    /// Error code.
    pub(crate) code: u64,
}

impl Left {
    /// Whether the exit was of a kind.
    pub(crate) const fn is(&self, exit: Exit) -> bool {
        self.exit == exit as u64
    }
    /// Whether it was an exception with a vector.
    pub(crate) const fn is_exception(&self, vector: u64) -> bool {
        self.is(Exit::Exception) && self.address == vector
    }
}

impl Guest {
    /// Makes a guest with code and attaches it.
    pub(crate) fn new(code: &[u8]) -> Result<Self, String> {
        Self::paid_by(Domain::OWN, code)
    }

    /// The same with a Space that another Domain pays for.
    pub(crate) fn paid_by(domain: Domain, code: &[u8]) -> Result<Self, String> {
        let state = rt::thread::state_page().ok_or("the thread has no state page")?;
        let space = Space::create(domain, SpaceUse::Guest, Some(startup::home_space()))
            .must("guest Space")?;
        let write = Access::READ | Access::WRITE;
        space.zero(CODE, 1, write | Access::EXECUTE, 0).must("code")?;
        space.zero(DATA, 1, write, 0).must("data")?;
        space.zero(STACK - 0x1000, 1, write, 0).must("stack")?;
        let guest = Self { space, state };
        guest.attach().must("attach")?;
        guest.write(CODE, code);
        guest.set(Registers { rip: CODE, rsp: STACK, ..Registers::default() });
        Ok(guest)
    }

    /// Attaches it to the calling thread again.
    pub(crate) fn attach(&self) -> rt::Result<()> {
        attach(self.space.slot().into())
    }

    /// Writes bytes into the attached guest's memory.
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        let target = ptr::with_exposed_provenance_mut::<u8>(address as usize);
        // SAFETY: the page is the guest's, which nobody else runs, and demand-zero or populated.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
    }

    /// Reads a word of the attached guest's memory.
    pub(crate) fn read(&self, address: u64) -> u64 {
        // SAFETY: as for `write`.
        unsafe { ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() }
    }

    /// The registers.
    pub(crate) fn get(&self) -> Registers {
        // SAFETY: the state page belongs to this thread, which is in home mode.
        let guest = unsafe { &raw const (*self.state).guest };
        // SAFETY: as above; any value is a valid register.
        unsafe { guest.read_volatile() }
    }

    /// Sets the registers.
    pub(crate) fn set(&self, registers: Registers) {
        // SAFETY: as for `get`.
        let guest = unsafe { &raw mut (*self.state).guest };
        // SAFETY: as above; nobody else reads it meanwhile.
        unsafe { guest.write_volatile(registers) };
    }

    /// Runs it until an exit.
    pub(crate) fn enter(&self) -> rt::Result<Left> {
        let (exit, ..) = arch::call(Operation::GuestEnter, [0; 6])?;
        // SAFETY: as for `get`.
        let address = unsafe { &raw const (*self.state).exit_address };
        // SAFETY: as for `get`.
        let code = unsafe { &raw const (*self.state).exit_code };
        // SAFETY: the kernel has written the word.
        let address = unsafe { address.read_volatile() };
        // SAFETY: as above.
        let code = unsafe { code.read_volatile() };
        Ok(Left { exit, address, code })
    }

    /// Runs it from given registers.
    pub(crate) fn run(&self, registers: Registers) -> rt::Result<Left> {
        self.set(registers);
        self.enter()
    }

    /// Gives everything back.
    pub(crate) fn end(self) -> Result<(), String> {
        attach(0).must("detach")?;
        self.space.destroy().must("destroy the guest Space")
    }
}

/// Attaches a Space by slot; 0 detaches.
pub(crate) fn attach(slot: u64) -> rt::Result<()> {
    arch::call(Operation::GuestAttach, [slot, 0, 0, 0, 0, 0]).map(|_| ())
}
