//! What the assembly calls, and the end of the kernel.

use super::{apic, console, cpu::own_block, instruction, layout, power};
use crate::types::{Interrupt, Mode};
use core::{fmt, sync::atomic::Ordering};

/// Debug trap.
const DEBUG: u64 = 1;
/// Non-maskable interrupt.
const NMI: u64 = 2;
/// Machine check.
const MACHINE_CHECK: u64 = 18;
/// Page fault.
const PAGE_FAULT: u64 = 14;
/// First vector that is an interrupt.
const FIRST_INTERRUPT: u64 = 32;
/// Exit status of a kernel that has stopped itself.
pub(super) const PANIC_STATUS: u8 = 0x7f;
/// Frames of a backtrace.
const MAX_FRAMES: usize = 24;

// SAFETY: the kernel binary defines these with exactly these types; they are safe to call once the machine is up.
unsafe extern "Rust" {
    safe fn mett_on_operation();
    safe fn mett_on_exception(mode: Mode, vector: u8, address: u64, code: u64);
    safe fn mett_on_interrupt(interrupt: Interrupt);
    safe fn mett_on_idle();
}

#[unsafe(no_mangle)]
extern "C" fn mett_operation() {
    mett_on_operation();
}

#[unsafe(no_mangle)]
extern "C" fn mett_idle() {
    mett_on_idle();
}

#[unsafe(no_mangle)]
extern "C" fn mett_user_trap(vector: u64, code: u64) {
    if vector >= FIRST_INTERRUPT {
        on_interrupt(vector as u8);
        return;
    }
    match vector {
        NMI => {}
        MACHINE_CHECK => stop(format_args!("machine check in user mode")),
        _ => {
            let context = own_block().context.load(Ordering::Relaxed);
            // SAFETY: a trap from user mode has a current context, which lives until another one is chosen.
            let in_guest = unsafe { context.as_ref() }.is_some_and(super::Context::in_guest);
            let mode = if in_guest { Mode::Guest } else { Mode::Home };
            let address = if vector == PAGE_FAULT { instruction::fault_address() } else { vector };
            mett_on_exception(mode, vector as u8, address, code);
        }
    }
}

fn on_interrupt(vector: u8) {
    if vector == apic::SPURIOUS {
        return;
    }
    let interrupt = match vector {
        apic::TIMER => Interrupt::Timer,
        apic::RESCHEDULE => Interrupt::Reschedule,
        apic::SHOOTDOWN => Interrupt::Shootdown,
        _ => {
            apic::mask_if_level(vector);
            Interrupt::Device(vector)
        }
    };
    apic::end_of_interrupt();
    mett_on_interrupt(interrupt);
}

/// What `entry.s` leaves on the stack of a trap in the kernel.
#[derive(Debug)]
#[repr(C)]
struct KernelFrame {
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rax: u64,
    vector: u64,
    code: u64,
    rip: u64,
    cs: u64,
    flags: u64,
    rsp: u64,
    ss: u64,
}

#[unsafe(no_mangle)]
extern "C" fn mett_kernel_trap(frame: *const KernelFrame, base: u64) {
    // SAFETY: the assembly passes the frame it has just built.
    let frame = unsafe { &*frame };
    match frame.vector {
        // User mode single-steps, and what it ran last (`mov ss`) held the trap back until `syscall` was over: it means nothing here.
        NMI | DEBUG => {}
        FIRST_INTERRUPT.. => on_interrupt(frame.vector as u8),
        vector => {
            log(format_args!(
                "\nkernel: exception {vector} code {:#x} at {:#x} address {:#x}\n",
                frame.code,
                frame.rip,
                instruction::fault_address()
            ));
            log(format_args!("{frame:x?}\n"));
            backtrace(base);
            power(crate::types::PowerAction::Off(PANIC_STATUS))
        }
    }
}

/// Prints the return addresses on the stack; frame pointers are kept in the whole kernel.
fn backtrace(base: u64) {
    let mut at = base;
    for _ in 0..MAX_FRAMES {
        if !at.is_multiple_of(8) || at < super::memory::DIRECT {
            return;
        }
        let words = core::ptr::with_exposed_provenance::<[u64; 2]>(at as usize);
        // SAFETY: a frame pointer of this kernel points to the saved one and the return address; it was checked to be the kernel's.
        let [next, address] = unsafe { words.read() };
        if !layout::is_code(address) {
            return;
        }
        log(format_args!("  {address:#x}\n"));
        at = next;
    }
}

fn log(text: fmt::Arguments<'_>) {
    let _ = fmt::write(&mut console::Console, text);
}

/// Ends the kernel with a message.
pub fn stop(message: fmt::Arguments<'_>) -> ! {
    log(format_args!("\nkernel: {message}\n"));
    let base: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) base, options(nomem, nostack, preserves_flags)) };
    backtrace(base);
    power(crate::types::PowerAction::Off(PANIC_STATUS))
}
