//! Entries into the kernel: what the machine calls for operations, faults, interrupts and idle CPUs.
//!
//! Each function is one read section ([`epoch::enter`]), runs with interrupts off and ends with the CPU's choice of what to run.

use crate::{
    counter::{self, Counter},
    domain::Domain,
    frames, irq, operation, reaper, root, sched,
    space::{self, Space, shootdown},
    thread::{HANDLING, Thread},
};
use kernel_abi::{
    Error, PAGE_SHIFT,
    guest::Exit,
    layout::{GUEST_MAX, GUEST_MIN, HOME_BASE, HOME_SIZE},
    space::Access,
};
use kernel_machine::atomic::{AtomicU64, Ordering};
use kernel_machine::{
    self as machine, Interrupt, Mode,
    object::{Borrow, Entry, Ref, SpinLock, epoch},
};

/// Vector of a page fault.
const PAGE_FAULT: u8 = 14;
/// Bits of a page fault's error code.
const WRITE_FAULT: u64 = 1 << 1;
const USER_FAULT: u64 = 1 << 2;
const RESERVED_BIT: u64 = 1 << 3;
const FETCH_FAULT: u64 = 1 << 4;

static ROOT: SpinLock<Option<Ref<Domain>>> = SpinLock::new(crate::lock::LOG, None);
static LONGEST: AtomicU64 = AtomicU64::new(0);

/// Longest entry seen, in ticks; kept when the kernel is built with its checks.
#[must_use]
pub fn longest() -> u64 {
    LONGEST.load(Ordering::Relaxed)
}

/// The root Domain.
#[must_use]
pub fn root_domain() -> Option<Ref<Domain>> {
    ROOT.lock().clone()
}

/// Sets the kernel up on the boot CPU and makes root ready.
///
/// # Errors
/// What is wrong with the boot module, or `OutOfFrames`.
pub fn boot() -> Result<(), root::BootError> {
    prepare()?;
    let entry = epoch::enter();
    let domain = root::start(&entry)?;
    *ROOT.lock() = Some(domain);
    Ok(())
}

/// Sets up what the kernel needs before anything is created: frames, the zero page, the scheduler.
///
/// # Errors
/// `OutOfFrames`.
pub fn prepare() -> Result<(), Error> {
    #[cfg(not(target_os = "none"))]
    reset();
    frames::boot(&machine::boot_memory());
    space::fault::boot()?;
    sched::boot();
    Ok(())
}

/// Forgets the objects of a machine that is gone, for a kernel that boots again in a host test.
#[cfg(not(target_os = "none"))]
fn reset() {
    core::mem::forget(ROOT.lock().take());
    reaper::reset();
    irq::reset();
}

/// A native program asks for an operation.
pub fn on_operation() {
    let begun = begin();
    let entry = epoch::enter();
    if let Some(thread) = sched::current(&entry) {
        operation::perform(thread, &entry);
    }
    sched::leave_kernel(&entry);
    end(begun);
}

/// An exception in user mode.
pub fn on_exception(mode: Mode, vector: u8, address: u64, code: u64) {
    let begun = begin();
    let entry = epoch::enter();
    if let Some(thread) = sched::current(&entry) {
        match mode {
            Mode::Guest => guest_exception(thread, vector, address, code, &entry),
            Mode::Home => home_exception(thread, vector, address, code),
        }
    }
    sched::leave_kernel(&entry);
    end(begun);
}

/// An interrupt, in user mode or while the CPU idles.
pub fn on_interrupt(interrupt: Interrupt) {
    let begun = begin();
    let entry = epoch::enter();
    match interrupt {
        Interrupt::Timer => {
            sched::timer::fired();
            if reaper::is_pending() && !sched::is_idle() {
                reaper::work(&entry);
            }
        }
        Interrupt::Reschedule => sched::request_reschedule(),
        Interrupt::Shootdown => shootdown::serve(),
        Interrupt::Device(vector) => irq::fire(vector),
    }
    if !sched::is_idle() {
        sched::leave_kernel(&entry);
    }
    end(begun);
}

/// Nothing is chosen: works off what was deferred, then sleeps; returns when something is.
pub fn on_idle() {
    loop {
        match idle_step() {
            IdleStep::Chosen => return,
            IdleStep::Worked => machine::poll_interrupts(),
            IdleStep::Nothing => machine::idle(),
        }
    }
}

/// What an idle CPU has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleStep {
    /// Chosen a thread to run.
    Chosen,
    /// Worked off a slice of what was deferred; there may be more.
    Worked,
    /// Found nothing to do.
    Nothing,
}

/// Whether this CPU has deferred work to do.
#[must_use]
pub fn is_work_pending() -> bool {
    reaper::is_pending()
}

/// One entry of an idle CPU.
pub fn idle_step() -> IdleStep {
    let entry = epoch::enter();
    shootdown::serve();
    if sched::leave_idle(&entry) {
        sched::leave_kernel(&entry);
        IdleStep::Chosen
    } else if reaper::is_pending() {
        // Even the last slice may have woken a thread for this CPU.
        reaper::work(&entry);
        IdleStep::Worked
    } else {
        IdleStep::Nothing
    }
}

fn begin() -> u64 {
    if cfg!(debug_assertions) { machine::now() } else { 0 }
}

fn end(begun: u64) {
    if cfg!(debug_assertions) {
        LONGEST.fetch_max(machine::now().saturating_sub(begun), Ordering::Relaxed);
    }
}

/// The access a page fault wanted.
fn wanted(code: u64) -> Access {
    if code & FETCH_FAULT != 0 {
        Access::EXECUTE
    } else if code & WRITE_FAULT != 0 {
        Access::READ | Access::WRITE
    } else {
        Access::READ
    }
}

/// Whether giving a page more can end a fault. A fault of an access that the processor itself made with the kernel's rights, or
/// of a broken entry, would come again for ever.
const fn is_resolvable(code: u64) -> bool {
    code & RESERVED_BIT == 0 && code & USER_FAULT != 0
}

/// Resolves a fault at a guest address.
fn resolve_guest(guest: &Space, address: u64, code: u64) -> Result<(), Error> {
    if !(GUEST_MIN..GUEST_MAX).contains(&address) || !is_resolvable(code) {
        return Err(Error::Hole);
    }
    guest.resolve(address >> PAGE_SHIFT, wanted(code))
}

fn guest_exception(thread: Borrow<'_, Thread>, vector: u8, address: u64, code: u64, entry: &Entry) {
    let exit = if vector == PAGE_FAULT {
        let resolved = thread.guest().is_some_and(|guest| resolve_guest(&guest, address, code).is_ok());
        if resolved {
            return;
        }
        counter::add(Counter::GuestFaults, 1);
        Exit::Fault
    } else {
        Exit::Exception
    };
    counter::add(Counter::GuestExits, 1);
    thread.context.leave_guest(exit, address, code);
    sched::reload_roots(entry);
}

fn home_exception(thread: Borrow<'_, Thread>, vector: u8, address: u64, code: u64) {
    if vector == PAGE_FAULT && resolve_home(&thread, address, code) {
        return;
    }
    if let Some((handler, stack)) = thread.fault_handler()
        && !thread.set_flag(HANDLING)
    {
        thread.context.deliver_home_fault(handler, stack, address, u64::from(vector) | code << 8);
        return;
    }
    report_death(&thread, vector, address, code);
    Domain::destroy(thread.domain().borrow());
    sched::request_reschedule();
}

fn resolve_home(thread: &Thread, address: u64, code: u64) -> bool {
    if !is_resolvable(code) {
        return false;
    }
    match address.checked_sub(HOME_BASE) {
        Some(offset) if offset < HOME_SIZE => {
            thread.home().resolve(offset >> PAGE_SHIFT, wanted(code)).is_ok()
        }
        Some(_) => false,
        None => thread.guest().is_some_and(|guest| resolve_guest(&guest, address, code).is_ok()),
    }
}

/// One line in the log on a Domain that dies of a fault.
fn report_death(thread: &Thread, vector: u8, address: u64, code: u64) {
    let mut line = Line { bytes: [0; 160], length: 0 };
    let ip = thread.context.get(machine::Reg::Rip);
    let sp = thread.context.get(machine::Reg::Rsp);
    let domain = thread.domain();
    let identity = domain.borrow().identity();
    let _ = core::fmt::write(
        &mut line,
        format_args!(
            "kernel: Domain {identity:#x} dies: exception {vector} code {code:#x} address {address:#x} ip {ip:#x} sp {sp:#x}\n"
        ),
    );
    if domain.may_log(line.length as u64) {
        machine::log_bytes(line.bytes.get(..line.length).unwrap_or(&[]));
    }
}

/// A line of text of bounded length.
struct Line {
    bytes: [u8; 160],
    length: usize,
}

impl core::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            let Some(place) = self.bytes.get_mut(self.length) else { break };
            *place = byte;
            self.length += 1;
        }
        Ok(())
    }
}
