//! Guest mode: what a guest can do, and what its personality can make the kernel load.

use super::channel;
use crate::{
    check,
    check::{Must, Outcome},
    gadget::Faults,
    guest::{CODE, DATA, Guest, STACK, attach},
    refused,
    run::Case,
    same,
    world::{Sandbox, World, eventually},
};
use rt::{
    Domain, Space, Thread,
    abi::{
        Operation,
        guest::{Exit, Registers},
        layout::{GUEST_MAX, GUEST_MIN, HOME_BASE, home},
        space::{Access, SpaceUse},
    },
    arch::call,
    startup, thread,
};

pub(super) const CASES: &[Case] = &[
    Case { name: "guest.enter_errors", run: enter_errors },
    Case { name: "guest.syscall", run: syscall },
    Case { name: "guest.registers", run: registers },
    Case { name: "guest.exceptions", run: exceptions },
    Case { name: "guest.faults", run: faults },
    Case { name: "guest.cannot_see_home", run: cannot_see_home },
    Case { name: "guest.privileged", run: privileged },
    Case { name: "guest.wild_state", run: wild_state },
    Case { name: "guest.wild_flags", run: wild_flags },
    Case { name: "guest.trap_flag", run: trap_flag },
    Case { name: "guest.syscall_at_the_ceiling", run: syscall_at_the_ceiling },
    Case { name: "guest.bad_stack", run: bad_stack },
    Case { name: "guest.kick", run: kick },
    Case { name: "guest.state_page_unmapped", run: state_page_unmapped },
    Case { name: "guest.space_destroyed", run: space_destroyed },
    Case { name: "guest.home_fault_after_exit", run: home_fault_after_exit },
    Case { name: "guest.switching", run: switching },
];

const SYSCALL: [u8; 2] = [0x0f, 0x05];
const SPIN: [u8; 2] = [0xeb, 0xfe];

/// Registers to begin at the code's start.
fn start() -> Registers {
    Registers { rip: CODE, rsp: STACK, ..Registers::default() }
}

fn enter_errors(_: &'static World) -> Outcome {
    let enter = || call(Operation::GuestEnter, [0; 6]);
    attach(0).must("detach")?;
    refused!(enter(), WrongState);
    refused!(attach(startup::home_space().slot().into()), BadArgument);
    let hold = Space::create(Domain::OWN, SpaceUse::Hold, None).must("space")?;
    refused!(attach(hold.slot().into()), BadArgument);
    let other_home = Space::create(Domain::OWN, SpaceUse::Home, None).must("home")?;
    let foreign = Space::create(Domain::OWN, SpaceUse::Guest, Some(other_home))
        .must("guest of another home")?;
    refused!(attach(foreign.slot().into()), BadArgument);
    refused!(attach(999_999), NoCapability);
    refused!(enter(), WrongState);
    for space in [foreign, hold, other_home] {
        space.destroy().must("destroy")?;
    }
    Ok(())
}

fn syscall(_: &'static World) -> Outcome {
    let guest = Guest::new(&SYSCALL)?;
    for number in 0..1000_u64 {
        let left =
            guest.run(Registers { rax: number, rdi: !number, r10: 7, ..start() }).must("enter")?;
        check!(left.is(Exit::Syscall), "{left:?}");
        let after = guest.get();
        same!(
            (after.rax, after.rdi, after.r10, after.rip, after.rcx),
            (number, !number, 7, CODE + 2, CODE + 2)
        );
        check!(
            after.r11 & 0x202 == 0x202 && after.rflags == after.r11,
            "flags {:#x} {:#x}",
            after.r11,
            after.rflags
        );
    }
    guest.end()
}

/// Every register goes in and comes out, on the fast way and on the slow one.
fn registers(_: &'static World) -> Outcome {
    for code in [&SYSCALL[..], &[0xcc]] {
        let guest = Guest::new(code)?;
        let mut word = 0x0123_4567_89ab_cdef_u64;
        let mut next = || {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            word
        };
        for _ in 0..200 {
            let given = Registers {
                rax: next(),
                rbx: next(),
                rcx: next(),
                rdx: next(),
                rsi: next(),
                rdi: next(),
                rbp: next(),
                rsp: next(),
                r8: next(),
                r9: next(),
                r10: next(),
                r11: next(),
                r12: next(),
                r13: next(),
                r14: next(),
                r15: next(),
                rip: CODE,
                rflags: 0x202,
            };
            guest.run(given).must("enter")?;
            let mut taken = guest.get();
            taken.rip = CODE;
            taken.rflags = 0x202;
            if code == SYSCALL {
                (taken.rcx, taken.r11) = (given.rcx, given.r11);
            }
            check!(taken == given, "{taken:x?} is not {given:x?}");
        }
        guest.end()?;
    }
    Ok(())
}

fn exceptions(_: &'static World) -> Outcome {
    let cases: [(&str, &[u8], u64); 5] = [
        ("breakpoint", &[0xcc], 3),
        ("undefined", &[0x0f, 0x0b], 6),
        ("division", &[0x31, 0xc9, 0xf7, 0xf1], 0),
        ("int 0x80", &[0xcd, 0x80], 13),
        ("non-canonical jump", &[0xff, 0xe0], 13),
    ];
    for (name, code, vector) in cases {
        let guest = Guest::new(code)?;
        let left = guest.run(Registers { rax: 0x8000_0000_0000, ..start() }).must("enter")?;
        check!(left.is_exception(vector), "{name}: {left:?}");
        guest.end()?;
    }
    Ok(())
}

fn faults(_: &'static World) -> Outcome {
    // mov al, [rdi]; syscall; mov [rdi], al; syscall; jmp rdi
    let guest = Guest::new(&[0x8a, 0x07, 0x0f, 0x05, 0x88, 0x07, 0x0f, 0x05, 0xff, 0xe7])?;
    let (read, write, jump) = (CODE, CODE + 4, CODE + 8);
    guest.space.zero(0x60_0000, 1, Access::READ, 0).must("read-only")?;
    guest.space.zero(0x61_0000, 1, Access::empty(), 0).must("no access")?;
    for (rip, address, code) in [
        (read, 0x1000, 4),
        (write, 0x1000, 6),
        (jump, 0x1_0000, 0x14),
        (read, 0x10_0000, 4),
        (write, 0x60_0000, 7),
        (read, 0x61_0000, 4),
        (read, GUEST_MIN - 1, 4),
        (read, GUEST_MAX, 4),
        (read, GUEST_MAX - 1, 4),
        (jump, 0x60_0000, 0x15),
        (read, 0, 4),
    ] {
        let left = guest.run(Registers { rip, rdi: address, ..start() }).must("enter")?;
        check!(
            left.is(Exit::Fault) && left.address == address && left.code | 1 == code | 1,
            "{rip:#x} {address:#x}: {left:x?}"
        );
    }
    // What the kernel resolves never shows.
    let left =
        guest.run(Registers { rip: write, rdi: DATA + 5, rax: 0x77, ..start() }).must("enter")?;
    check!(left.is(Exit::Syscall), "{left:?}");
    same!(guest.read(DATA) >> 40, 0x77);
    guest.end()
}

fn cannot_see_home(_: &'static World) -> Outcome {
    let guest = Guest::new(&[0x8a, 0x07, 0x0f, 0x05, 0x88, 0x07, 0x0f, 0x05, 0xff, 0xe7])?;
    let state = thread::state_page().ok_or("no state page")?.expose_provenance() as u64;
    let targets = [
        HOME_BASE + home::PROGRAM,
        HOME_BASE + home::STARTUP,
        HOME_BASE + home::HEAP,
        state,
        0xffff_c000_0000_0000,
        0xffff_ffff_8010_0000,
        u64::MAX,
    ];
    for address in targets {
        for rip in [CODE, CODE + 4, CODE + 8] {
            let left = guest.run(Registers { rip, rdi: address, ..start() }).must("enter")?;
            check!(left.is(Exit::Fault) && left.address == address, "{address:#x}: {left:x?}");
        }
    }
    guest.end()
}

fn privileged(_: &'static World) -> Outcome {
    let cases: [(&str, &[u8]); 16] = [
        ("cli", &[0xfa]),
        ("sti", &[0xfb]),
        ("hlt", &[0xf4]),
        ("in", &[0xec]),
        ("out", &[0xee]),
        ("mov cr3", &[0x0f, 0x22, 0xd8]),
        ("mov from cr0", &[0x0f, 0x20, 0xc0]),
        ("rdmsr", &[0x0f, 0x32]),
        ("wrmsr", &[0x0f, 0x30]),
        ("swapgs", &[0x0f, 0x01, 0xf8]),
        ("sysretq", &[0x48, 0x0f, 0x07]),
        ("clts", &[0x0f, 0x06]),
        ("invd", &[0x0f, 0x08]),
        ("lgdt", &[0x0f, 0x01, 0x17]),
        ("clac", &[0x0f, 0x01, 0xca]),
        ("sgdt", &[0x0f, 0x01, 0x07]),
    ];
    for (name, code) in cases {
        let guest = Guest::new(code)?;
        let left = guest
            .run(Registers { rdi: DATA, rcx: 0xc000_0082, rdx: 0x3f8, ..start() })
            .must("enter")?;
        check!(left.is_exception(13) || left.is_exception(6), "{name}: {left:?}");
        guest.end()?;
    }
    Ok(())
}

/// Whatever addresses the personality puts into the state page, the guest faults and nobody else.
fn wild_state(_: &'static World) -> Outcome {
    let guest = Guest::new(&SYSCALL)?;
    for rip in [
        GUEST_MAX,
        GUEST_MAX - 1,
        0x7fff_ffff_ffff,
        0x8000_0000_0000,
        HOME_BASE,
        HOME_BASE + home::PROGRAM,
        0xffff_ffff_8010_0000,
        u64::MAX,
        0,
    ] {
        for same_rcx in [false, true] {
            let rcx = if same_rcx { rip } else { 0 };
            let left = guest
                .run(Registers { rip, rcx, r11: 0x202, rflags: 0x202, ..start() })
                .must("enter")?;
            check!(left.is(Exit::Fault) && left.code & 0x10 != 0, "rip {rip:#x}: {left:x?}");
        }
    }
    for rsp in [
        0,
        1,
        GUEST_MAX,
        0x8000_0000_0000,
        HOME_BASE,
        0xffff_ffff_8010_0000,
        u64::MAX,
        0xdead_beef_dead_beef,
    ] {
        for fast in [false, true] {
            let (rcx, r11) = if fast { (CODE, 0x202) } else { (0, 0) };
            let left =
                guest.run(Registers { rsp, rcx, r11, rflags: 0x202, ..start() }).must("enter")?;
            check!(left.is(Exit::Syscall) && guest.get().rsp == rsp, "rsp {rsp:#x}: {left:x?}");
        }
    }
    guest.end()
}

/// Whatever flags: interrupts stay on, the privilege level stays, nothing of it reaches the personality or the kernel.
fn wild_flags(_: &'static World) -> Outcome {
    // pushfq; pop rbx; syscall
    let guest = Guest::new(&[0x9c, 0x5b, 0x0f, 0x05])?;
    for bit in 0..64 {
        if bit == 8 {
            continue; // The trap flag has a case of its own.
        }
        for rflags in [1_u64 << bit, !(1 << bit) & !(1 << 8)] {
            for fast in [false, true] {
                let (rcx, r11) = if fast { (CODE, rflags) } else { (0, 0) };
                let left = guest.run(Registers { rflags, rcx, r11, ..start() }).must("enter")?;
                check!(left.is(Exit::Syscall), "flags {rflags:#x}: {left:x?}");
                let seen = guest.get().rbx;
                check!(
                    seen & 0x200 != 0
                        && seen & 0x7000 == 0
                        && seen >> 22 == 0
                        && seen & 0x1a_0000 == 0,
                    "flags {rflags:#x} became {seen:#x}"
                );
                let own: u64;
                // SAFETY: reads the flags.
                unsafe { core::arch::asm!("pushfq", "pop {}", out(reg) own) };
                check!(own & 0x0004_7700 == 0x200, "the personality's flags are {own:#x}");
            }
        }
    }
    guest.end()
}

fn trap_flag(_: &'static World) -> Outcome {
    // nop; nop; syscall
    let guest = Guest::new(&[0x90, 0x90, 0x0f, 0x05])?;
    for fast in [false, true] {
        let (rcx, r11) = if fast { (CODE, 0x302) } else { (0, 0) };
        let left = guest.run(Registers { rflags: 0x302, rcx, r11, ..start() }).must("enter")?;
        check!(left.is_exception(1), "{left:?}");
        same!(guest.get().rip, CODE + 1);
        let left = guest.enter().must("enter")?;
        check!(left.is_exception(1), "{left:?}");
        let mut after = guest.get();
        same!(after.rip, CODE + 2);
        // A system call with the trap flag on: the flag does not follow into the kernel.
        after.rflags |= 0x100;
        let left = guest.run(after).must("enter")?;
        check!(left.is(Exit::Syscall) || left.is_exception(1), "{left:?}");
    }
    // The guest sets it by itself: pushfq; or [rsp], 0x100; popfq; nop
    guest.write(CODE, &[0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0x90]);
    let left = guest.run(start()).must("enter")?;
    check!(left.is_exception(1) && guest.get().rip == CODE + 10, "{left:?} {:#x}", guest.get().rip);
    guest.end()
}

/// The last instruction below the ceiling is a system call: its return address is no guest address.
fn syscall_at_the_ceiling(_: &'static World) -> Outcome {
    let guest = Guest::new(&SYSCALL)?;
    guest.space.zero(GUEST_MAX - 0x1000, 1, Access::all(), 0).must("last page")?;
    guest.write(GUEST_MAX - 2, &SYSCALL);
    let left = guest.run(Registers { rip: GUEST_MAX - 2, ..start() }).must("enter")?;
    check!(left.is(Exit::Syscall), "{left:?}");
    same!(guest.get().rip, GUEST_MAX);
    let left = guest.enter().must("enter")?;
    check!(left.is(Exit::Fault) && left.code & 0x10 != 0, "{left:?}");
    guest.end()
}

fn bad_stack(_: &'static World) -> Outcome {
    // syscall; push rax
    let guest = Guest::new(&[0x0f, 0x05, 0x50])?;
    for rsp in [0, 0x1000, HOME_BASE + 0x1000, 0xffff_c000_0000_1000, 0xffff_ffff_8010_1000] {
        let left = guest.run(Registers { rsp, ..start() }).must("enter")?;
        check!(left.is(Exit::Syscall), "{left:?}");
        let left = guest.enter().must("enter")?;
        check!(left.is(Exit::Fault), "push at {rsp:#x}: {left:?}");
    }
    let left =
        guest.run(Registers { rip: CODE + 2, rsp: 0x8000_0000_1000, ..start() }).must("enter")?;
    check!(left.is_exception(12) || left.is_exception(13), "{left:?}");
    guest.end()
}

fn kick(_: &'static World) -> Outcome {
    let guest = Guest::new(&SPIN)?;
    let own = Thread(thread::own_slot());
    own.kick().must("kick")?;
    let left = guest.enter().must("enter")?;
    check!(left.is(Exit::Kick) && guest.get().rip == CODE, "latched: {left:?}");
    for _ in 0..50 {
        let (sender, answer) = channel();
        thread::spawn(false, move || {
            let _ = thread::park_until(rt::clock::deadline_in(300_000));
            sender.send(own.kick());
        })
        .must("thread")?;
        let left = guest.enter().must("enter")?;
        check!(left.is(Exit::Kick), "{left:?}");
        same!(answer.wait()?, Ok(()));
    }
    let (_, _, in_guest) = own.stat().must("stat")?;
    check!(in_guest > 0, "time in the guest is not counted");
    guest.end()
}

/// The kernel keeps the state page though the personality unmaps it.
fn state_page_unmapped(_: &'static World) -> Outcome {
    let sandbox = Sandbox::new().must("sandbox")?;
    let guest = Guest::new(&SYSCALL)?;
    let home = startup::home_space();
    let offset =
        thread::state_page().ok_or("no state page")?.expose_provenance() as u64 - HOME_BASE;
    let spare = rt::view::reserve(1).must("range")?;
    guest.set(start());
    home.map(spare, home, offset, 1, rt::abi::space::MapMode::Move, Access::empty(), false)
        .must("move it away")?;
    // Frames are given and taken meanwhile; the page must not be among them.
    for _ in 0..50 {
        let space = Space::create(sandbox.0, SpaceUse::Hold, None).must("space")?;
        space.zero(0, 32, Access::READ | Access::WRITE, 1 << 8).must("fill")?;
        space.destroy().must("destroy")?;
    }
    let left = call(Operation::GuestEnter, [0; 6]);
    home.map(offset, home, spare, 1, rt::abi::space::MapMode::Move, Access::empty(), false)
        .must("move it back")?;
    same!(left.map(|(exit, ..)| exit), Ok(Exit::Syscall as u64));
    same!(guest.get().rip, CODE + 2);
    guest.end()?;
    sandbox.close()
}

/// A guest Space dies while its guest runs, and while it is attached.
fn space_destroyed(_: &'static World) -> Outcome {
    let sandbox = Sandbox::new().must("sandbox")?;
    for round in 0..50_u64 {
        let guest = Guest::paid_by(sandbox.0, &SPIN)?;
        let space = guest.space;
        let (sender, answer) = channel();
        thread::spawn(false, move || {
            let _ = thread::park_until(rt::clock::deadline_in(round * 10_000));
            sender.send(space.destroy());
        })
        .must("thread")?;
        let left = guest.enter();
        check!(
            matches!(left, Ok(left) if left.is(Exit::Kick)) || left == Err(rt::Error::WrongState),
            "{left:?}"
        );
        same!(answer.wait()?, Ok(()));
        check!(
            eventually(|| call(Operation::GuestEnter, [0; 6]) == Err(rt::Error::WrongState)),
            "the guest Space is gone"
        );
    }
    sandbox.close()
}

/// A fault in home mode right after an exit, and at guest addresses, is the personality's own.
fn home_fault_after_exit(_: &'static World) -> Outcome {
    let handler = Faults::new()?;
    let guest = Guest::new(&SYSCALL)?;
    for _ in 0..100 {
        let left = guest.run(start()).must("enter")?;
        check!(left.is(Exit::Syscall), "{left:?}");
        let before = guest.get();
        let fault = handler.attempt(crate::gadget::code::read(), 0x1000);
        check!(
            fault.is_some_and(|fault| fault.vector == 14 && fault.address == 0x1000),
            "{fault:?}"
        );
        same!(guest.get(), before);
        same!(handler.attempt(crate::gadget::code::write(), DATA), None);
        // The personality may even run the guest's code, as itself.
        guest.write(DATA, &[0xc3]);
        let fault = handler.attempt(crate::gadget::code::jump(), DATA);
        check!(
            fault.is_some_and(|fault| fault.code & 0x10 != 0),
            "data is not executable: {fault:?}"
        );
    }
    guest.end()
}

/// Two guest Spaces of one home, attached in turn, keep their contents apart.
fn switching(_: &'static World) -> Outcome {
    // mov rax, [rdi]; syscall
    let code = [0x48, 0x8b, 0x07, 0x0f, 0x05];
    let one = Guest::new(&code)?;
    one.write(DATA, &1_u64.to_le_bytes());
    let two = Guest::new(&code)?;
    two.write(DATA, &2_u64.to_le_bytes());
    for _ in 0..500 {
        for (guest, value) in [(&one, 1), (&two, 2)] {
            guest.attach().must("attach")?;
            same!(guest.read(DATA), value);
            guest.run(Registers { rdi: DATA, ..start() }).must("enter")?;
            same!(guest.get().rax, value);
        }
    }
    one.end()?;
    two.end()
}
