//! The processor: its registers, its instructions, and the state page that the kernel reads while others write it.

use crate::{
    Attempt, Breach, Dice,
    board::Board,
    gadget::{Faults, code},
    guest::Guest,
    hold, rounds,
};
use core::arch::asm;
use rt::abi::{Operation, guest::Registers};

/// `syscall; jmp` to itself.
const CALLS: [u8; 4] = [0x0f, 0x05, 0xeb, 0xfc];

/// A second thread writes every register of the state page while the first one enters and leaves its guest.
pub(crate) fn alias(_: &Board) -> Attempt {
    with_state_page(aliased)
}

fn aliased(board: &Board) -> Attempt {
    let guest = Guest::new(&CALLS).map_err(|_| Breach(line!(), 0))?;
    let state = rt::thread::state_page().ok_or(Breach(line!(), 1))?.expose_provenance();
    let writer = rt::thread::spawn(false, move || {
        let mut dice = Dice::new();
        loop {
            let index = (dice.word() % 20) as usize;
            let place = core::ptr::with_exposed_provenance_mut::<u64>(state + index * 8);
            // SAFETY: the state page is mapped for ever; whatever its words are, the kernel sanitises what it loads.
            unsafe { place.write_volatile(dice.garbage()) };
        }
    });
    hold!(writer.is_ok(), 2);
    let first =
        Registers { rip: crate::guest::CODE, rsp: crate::guest::STACK, ..Registers::default() };
    let mut dice = Dice::new();
    for _ in rounds(board, 4000) {
        // Every exit is one of the documented ones, and it comes back here and nowhere else.
        let left = guest.run(first).map_err(|error| Breach(line!(), error as u64))?;
        hold!(left.exit <= 3, left.exit);
        let wild =
            Registers { rip: dice.garbage(), rsp: dice.garbage(), rflags: dice.garbage(), ..first };
        if wild.rip & !0xfff != crate::guest::CODE {
            let left = guest.run(wild).map_err(|error| Breach(line!(), error as u64))?;
            hold!(left.exit <= 3, left.exit);
        }
    }
    Ok(())
}

/// A new thread finds nothing of anybody in any register, and a running one only its own.
pub(crate) fn registers(board: &Board) -> Attempt {
    let mut seen = [0_u64; 34];
    for round in rounds(board, 3000) {
        // SAFETY: the instructions write the array and flags, and read registers that nobody else's business is.
        unsafe {
            asm!(
                "movups [{0}], xmm6", "movups [{0} + 16], xmm7", "movups [{0} + 32], xmm8", "movups [{0} + 48], xmm9",
                "movups [{0} + 64], xmm10", "movups [{0} + 80], xmm11", "movups [{0} + 96], xmm12", "movups [{0} + 112], xmm13",
                "movups [{0} + 128], xmm14", "movups [{0} + 144], xmm15",
                "mov ax, ds", "movzx rax, ax", "mov [{0} + 160], rax",
                "mov ax, es", "movzx rax, ax", "mov [{0} + 168], rax",
                "mov ax, fs", "movzx rax, ax", "mov [{0} + 176], rax",
                "mov ax, gs", "movzx rax, ax", "mov [{0} + 184], rax",
                in(reg) seen.as_mut_ptr(), out("rax") _, options(nostack),
            );
        }
        // Nobody in this program uses them: what is there was there before.
        for (index, word) in seen.iter().enumerate() {
            hold!(*word == 0, *word);
            let _ = index;
        }
        if round % 8 == 0 {
            rt::thread::yield_now();
        } else {
            let _ = rt::thread::park_until(rt::clock::deadline_in(20_000));
        }
    }
    Ok(())
}

/// Runs an attempt on a thread that has a state page.
fn with_state_page(attempt: fn(&Board) -> Attempt) -> Attempt {
    const ENDED: u64 = 1;
    let ended = rt::Notification::create(rt::Domain::OWN);
    let ended = ended.map_err(|error| Breach(line!(), error as u64))?;
    let place = alloc::sync::Arc::new(rt::sync::SpinLock::new(None));
    let (result, board) = (alloc::sync::Arc::clone(&place), crate::port());
    let thread = rt::thread::spawn(true, move || {
        let outcome = board.as_ref().map_or(Err(Breach(line!(), 0)), attempt);
        *result.lock() = Some(outcome);
        let _ = ended.signal(ENDED);
    });
    hold!(thread.is_ok(), 0);
    let waited = ended.wait(ENDED, rt::clock::deadline_in(60_000_000_000));
    hold!(waited.is_ok(), 1);
    let outcome = place.lock().take();
    outcome.unwrap_or(Err(Breach(line!(), 2)))
}

/// What only the kernel may do faults.
pub(crate) fn privileged(_: &Board) -> Attempt {
    with_state_page(|_| attempts())
}

fn attempts() -> Attempt {
    let faults = Faults::new().map_err(|_| Breach(line!(), 0))?;
    let kernel = 0xffff_c000_0000_0000;
    for attempt in [
        code::cli(),
        code::sti(),
        code::hlt(),
        code::read_cr0(),
        code::read_cr3(),
        code::write_cr3(),
        code::write_cr4(),
        code::read_dr7(),
        code::write_dr0(),
        code::rdmsr(),
        code::wrmsr(),
        code::lidt(),
        code::lgdt(),
        code::invlpg(),
        code::wbinvd(),
        code::clts(),
        code::swapgs(),
        code::sysret(),
        code::xsetbv(),
        code::sgdt(),
        code::sidt(),
        code::smsw(),
        code::str_(),
        code::sldt(),
        code::int_timer(),
        code::load_ds(),
        code::far_return(),
        code::iret(),
    ] {
        hold!(faults.attempt(attempt, kernel).is_some(), 0);
    }
    for port in [0x20, 0x60, 0x70, 0xcf8, 0x3f8, 0xf4, 0x604] {
        hold!(faults.attempt(code::port_in(), port).is_some(), port);
        hold!(faults.attempt(code::port_out(), port).is_some(), port);
    }
    for address in [kernel, kernel + 0x10_0000, 0xffff_ffff_8000_0000, 0xffff_ffff_ffff_f000] {
        hold!(faults.attempt(code::read(), address).is_some(), address);
        hold!(faults.attempt(code::write(), address).is_some(), address);
        hold!(faults.attempt(code::jump(), address).is_some(), address);
    }
    for operation in [
        Operation::HardwareInfo,
        Operation::HardwarePower,
        Operation::PortAccess,
        Operation::KernelCounter,
    ] {
        for slot in 0..64 {
            hold!(rt::arch::call(operation, [slot, 0, 0, 0, 0, 0]).is_err(), slot);
        }
    }
    Ok(())
}
