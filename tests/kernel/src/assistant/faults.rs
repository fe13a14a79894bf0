//! Ways to die of a fault.

use core::{arch::asm, ptr};
use rt::{
    abi::{Operation, layout::HOME_BASE},
    arch,
};

/// Reads an address.
pub(crate) fn read(address: u64) -> bool {
    let value: u8;
    // SAFETY: reads a byte or faults, which is what is wanted.
    unsafe {
        asm!("mov {}, byte ptr [{}]", out(reg_byte) value, in(reg) address, options(nostack));
    };
    value != 0
}

/// Writes an address.
pub(crate) fn write(address: u64) -> bool {
    // SAFETY: faults; where it does not, the program is lost, which is what is wanted.
    unsafe { asm!("mov byte ptr [{}], 0", in(reg) address, options(nostack)) };
    false
}

/// Jumps to a byte of data.
pub(crate) fn jump() -> bool {
    static RETURN: [u8; 1] = [0xc3];
    // SAFETY: faults: no data is executable.
    unsafe { asm!("call {}", in(reg) ptr::from_ref(&RETURN).addr(), clobber_abi("C")) };
    false
}

/// Executes a privileged instruction.
pub(crate) fn halt() -> bool {
    // SAFETY: faults.
    unsafe { asm!("hlt", options(nomem, nostack)) };
    false
}

/// An address of the program's own that is not executable: a handler there faults at once.
pub(crate) fn faulting_handler() -> u64 {
    static NOWHERE: u64 = 0;
    ptr::from_ref(&NOWHERE).addr() as u64
}

/// Faults in a thread whose handler is what it is told, with a stack or without.
pub(crate) fn with_handler(entry: u64, has_stack: bool) -> bool {
    let stack = if has_stack { arch::stack_pointer() - 4096 } else { HOME_BASE + 0x1000 };
    let spawned = rt::thread::spawn(true, move || {
        let _ = arch::call(Operation::FaultHandler, [entry, stack, 0, 0, 0, 0]);
        read(8);
    });
    loop {
        if spawned.is_err() {
            return false;
        }
        rt::thread::park();
    }
}

/// Recurses until the stack ends.
#[inline(never)]
#[expect(unconditional_recursion, reason = "the stack must end, not the function")]
pub(crate) fn recurse(depth: u64) -> u64 {
    let mut room = [depth; 64];
    // SAFETY: keeps the array in memory; touches nothing.
    unsafe { asm!("/* {} */", in(reg) room.as_mut_ptr(), options(nostack)) };
    recurse(depth + 1).wrapping_add(room[(depth % 64) as usize])
}

/// Pushes to a stack that no address names.
pub(crate) fn lose_stack() -> bool {
    // SAFETY: faults; the program is lost, which is what is wanted.
    unsafe {
        asm!("mov rsp, {}", "push rax", "ud2", in(reg) 0x8000_0000_1000_u64, options(noreturn))
    };
}
