//! What a program says before it dies of a fault or a panic: registers, words of its stack and return addresses.
//!
//! Each line begins with the program's name, so that whoever reads the log can turn the addresses into the names of that program's functions. Only the
//! thread's own stack is read, within its bounds: a second fault would end the program in the middle of a word.

use crate::{arch, thread};
use kernel_abi::{
    guest::Registers,
    layout::{HOME_BASE, HOME_SIZE, home::STACK_SIZE},
};

/// Most return addresses.
const MAX_FRAMES: usize = 32;
/// Words of the stack, from its top.
const STACK_WORDS: u64 = 16;

/// From here on a fault of the calling thread, which needs a state page, is described before it ends the program.
///
/// # Errors
/// `WrongState` when the thread has no state page.
pub(crate) fn describe_faults() -> crate::Result<()> {
    let entry = (on_fault as *const ()).addr() as u64;
    // A function finds a return address at the top of its stack.
    let stack = thread::fault_stack() - 8;
    let handler = [entry, stack, 0, 0, 0, 0];
    arch::call(kernel_abi::Operation::FaultHandler, handler).map(|_| ())
}

extern "C" fn on_fault() -> ! {
    if let Some(page) = thread::state_page() {
        // SAFETY: the kernel has written the page before it came here, and does not while this thread runs.
        let page = unsafe { page.read_volatile() };
        let (vector, code) = (page.home_fault_code & 0xff, page.home_fault_code >> 8);
        let program = crate::startup::program();
        crate::log!(
            "{program}: exception {vector} code {code:#x} at {:#x} address {:#x}",
            page.home.rip,
            page.home_fault_address
        );
        registers(&page.home);
        backtrace(page.home.rbp);
    }
    crate::start::exit()
}

fn registers(of: &Registers) {
    let program = crate::startup::program();
    for named in [
        [("rax", of.rax), ("rbx", of.rbx), ("rcx", of.rcx), ("rdx", of.rdx)],
        [("rsi", of.rsi), ("rdi", of.rdi), ("rbp", of.rbp), ("rsp", of.rsp)],
        [("r8", of.r8), ("r9", of.r9), ("r10", of.r10), ("r11", of.r11)],
        [("r12", of.r12), ("r13", of.r13), ("r14", of.r14), ("r15", of.r15)],
    ] {
        let [(a, first), (b, second), (c, third), (d, fourth)] = named;
        crate::log!(
            "{program}:   {a:3} {first:016x} {b:3} {second:016x} {c:3} {third:016x} {d:3} {fourth:016x}"
        );
    }
    for at in (0..STACK_WORDS).step_by(4) {
        let word = |index: u64| of.rsp.checked_add(8 * (at + index)).and_then(stack_word);
        let [Some(a), Some(b), Some(c), Some(d)] = [word(0), word(1), word(2), word(3)] else {
            return;
        };
        crate::log!("{program}:   stack {a:#018x} {b:#018x} {c:#018x} {d:#018x}");
    }
}

/// Tells the return addresses that a frame pointer leads to; every function of a native program keeps one.
pub(crate) fn backtrace(mut frame: u64) {
    let program = crate::startup::program();
    for _ in 0..MAX_FRAMES {
        let saved = stack_word(frame);
        let address = frame.checked_add(8).and_then(stack_word);
        let (Some(saved), Some(address)) = (saved, address) else { return };
        if address.checked_sub(HOME_BASE).is_none_or(|offset| offset >= HOME_SIZE) {
            return;
        }
        crate::log!("{program}:   called from {address:#x}");
        if saved <= frame {
            return;
        }
        frame = saved;
    }
}

/// Lowest address of the calling thread's stack.
fn stack_base() -> u64 {
    arch::stack_pointer() & !(STACK_SIZE - 1)
}

/// A word of the calling thread's stack; none when the address is not in it.
fn stack_word(address: u64) -> Option<u64> {
    let offset = address.checked_sub(stack_base())?;
    if !address.is_multiple_of(8) || !(thread::STACK..STACK_SIZE).contains(&offset) {
        return None;
    }
    let word = core::ptr::with_exposed_provenance::<u64>(address as usize);
    // SAFETY: an aligned word of this thread's stack, which is mapped as long as the thread lives; whatever is there is a number.
    Some(unsafe { word.read_volatile() })
}
