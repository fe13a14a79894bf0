//! Home mode: what a native program's instructions can do, and what happens to its faults.

use crate::{
    act::{self, Act},
    check,
    check::{Must, Outcome},
    gadget::{Fault, Faults, code},
    refused,
    run::Case,
    same,
    world::{Sandbox, World},
};
use rt::{
    Domain, Space,
    abi::{
        Operation,
        layout::{GUEST_MAX, HOME_BASE, HOME_SIZE},
        space::{Access, SpaceUse},
    },
    arch,
    view::View,
};

pub(super) const CASES: &[Case] = &[
    Case { name: "home.handler", run: handler },
    Case { name: "home.handler_errors", run: handler_errors },
    Case { name: "home.addresses", run: addresses },
    Case { name: "home.no_execute", run: no_execute },
    Case { name: "home.read_only", run: read_only },
    Case { name: "home.privileged", run: privileged },
    Case { name: "home.ports", run: ports },
    Case { name: "home.exceptions", run: exceptions },
    Case { name: "home.umip", run: umip },
    Case { name: "home.write_or_execute", run: write_or_execute },
    Case { name: "home.protections", run: protections },
    Case { name: "home.death", run: death },
];

/// General protection.
const PROTECTION: u8 = 13;
const PAGE_FAULT: u8 = 14;

fn handler(_: &'static World) -> Outcome {
    let faults = Faults::new()?;
    same!(faults.attempt(code::nothing(), 0), None);
    for round in 0..1000_u64 {
        let address = round * 0x1234 % 0x1_0000;
        same!(
            faults.attempt(code::read(), address),
            Some(Fault { vector: PAGE_FAULT, code: 4, address })
        );
        same!(
            faults.attempt(code::write(), address),
            Some(Fault { vector: PAGE_FAULT, code: 6, address })
        );
    }
    Ok(())
}

fn handler_errors(_: &'static World) -> Outcome {
    let handler = |entry, stack| arch::call(Operation::FaultHandler, [entry, stack, 0, 0, 0, 0]);
    refused!(handler(0, HOME_BASE), BadArgument);
    refused!(handler(HOME_BASE, GUEST_MAX), BadArgument);
    refused!(handler(HOME_BASE + HOME_SIZE, HOME_BASE), BadArgument);
    refused!(handler(u64::MAX, u64::MAX), BadArgument);
    refused!(arch::call(Operation::FaultReturn, [0; 6]), WrongState);
    // A thread without a state page can have no handler.
    let (sender, answer) = super::channel();
    rt::thread::spawn(false, move || {
        let handler = arch::call(Operation::FaultHandler, [HOME_BASE, HOME_BASE, 0, 0, 0, 0]);
        let enter = arch::call(Operation::GuestEnter, [0; 6]);
        sender.send((handler, enter));
    })
    .must("thread")?;
    let (handler, enter) = answer.wait()?;
    refused!(handler, WrongState);
    refused!(enter, WrongState);
    Ok(())
}

fn addresses(_: &'static World) -> Outcome {
    let faults = Faults::new()?;
    // Canonical addresses fault as pages, whatever lies there; the kernel's are present and not the program's.
    for address in [
        0,
        GUEST_MAX,
        0x7fff_ffff_ffff,
        HOME_BASE,
        HOME_BASE + HOME_SIZE - 1,
        HOME_BASE + HOME_SIZE,
        0xffff_c000_0000_0000,
        u64::MAX,
    ] {
        let fault = faults.attempt(code::read(), address);
        check!(
            fault.is_some_and(|fault| fault.vector == PAGE_FAULT && fault.address == address),
            "read of {address:#x}: {fault:?}"
        );
        let fault = faults.attempt(code::write(), address);
        check!(
            fault.is_some_and(|fault| fault.vector == PAGE_FAULT && fault.code & 6 == 6),
            "write of {address:#x}: {fault:?}"
        );
        let fault = faults.attempt(code::jump(), address);
        check!(fault.is_some(), "jump to {address:#x}");
    }
    let image = 0xffff_ffff_8010_0000;
    let fault = faults.attempt(code::read(), image);
    check!(
        fault.is_some_and(|fault| fault.vector == PAGE_FAULT && fault.code & 5 == 5),
        "the kernel's image: {fault:?}"
    );
    // Addresses that are not canonical are a protection fault.
    for address in [0x8000_0000_0000, 0x1234_5678_9abc_def0, 0xffff_7fff_ffff_ffff] {
        let fault = faults.attempt(code::read(), address);
        check!(
            fault.is_some_and(|fault| fault.vector == PROTECTION),
            "read of {address:#x}: {fault:?}"
        );
        let fault = faults.attempt(code::jump(), address);
        check!(
            fault.is_some_and(|fault| fault.vector == PROTECTION),
            "jump to {address:#x}: {fault:?}"
        );
    }
    let fault = faults.attempt(code::stack(), 0);
    check!(
        fault.is_some_and(|fault| fault.vector == 12 || fault.vector == PROTECTION),
        "stack segment: {fault:?}"
    );
    Ok(())
}

fn no_execute(_: &'static World) -> Outcome {
    let faults = Faults::new()?;
    let view = View::zeroed(1).must("view")?;
    // SAFETY: the view is this case's own.
    unsafe { view.pointer().write(0xc3) };
    let fault = faults.attempt(code::jump(), view.address());
    same!(fault, Some(Fault { vector: PAGE_FAULT, code: 0x15, address: view.address() }));
    Ok(())
}

fn read_only(_: &'static World) -> Outcome {
    let faults = Faults::new()?;
    let start = rt::abi::layout::PROGRAM_BASE;
    same!(faults.attempt(code::read(), start), None);
    same!(
        faults.attempt(code::write(), start),
        Some(Fault { vector: PAGE_FAULT, code: 7, address: start })
    );
    let view = View::zeroed(1).must("view")?;
    same!(faults.attempt(code::write(), view.address()), None);
    rt::startup::home_space().protect(view.offset(), 1, Access::empty()).must("no access")?;
    check!(faults.attempt(code::read(), view.address()).is_some(), "no access");
    rt::startup::home_space().protect(view.offset(), 1, Access::READ).must("read")?;
    same!(faults.attempt(code::read(), view.address()), None);
    check!(faults.attempt(code::write(), view.address()).is_some(), "read only");
    Ok(())
}

fn privileged(_: &'static World) -> Outcome {
    let faults = Faults::new()?;
    let table = View::zeroed(1).must("view")?;
    // SAFETY: the view is this case's own.
    unsafe { table.pointer().write(0) };
    let argument = table.address();
    let attempts = [
        ("cli", code::cli()),
        ("sti", code::sti()),
        ("hlt", code::hlt()),
        ("read cr0", code::read_cr0()),
        ("read cr3", code::read_cr3()),
        ("write cr3", code::write_cr3()),
        ("write cr4", code::write_cr4()),
        ("read dr7", code::read_dr7()),
        ("write dr0", code::write_dr0()),
        ("rdmsr", code::rdmsr()),
        ("wrmsr", code::wrmsr()),
        ("lidt", code::lidt()),
        ("lgdt", code::lgdt()),
        ("invlpg", code::invlpg()),
        ("wbinvd", code::wbinvd()),
        ("clts", code::clts()),
        ("swapgs", code::swapgs()),
        ("sysret", code::sysret()),
        ("xsetbv", code::xsetbv()),
        ("int 14", code::int_14()),
        ("int timer", code::int_timer()),
        ("int 0x80", code::int_80()),
        ("sysenter", code::sysenter()),
        ("kernel data segment", code::load_ds()),
        ("far return", code::far_return()),
        ("iret", code::iret()),
    ];
    for (name, attempt) in attempts {
        let fault = faults.attempt(attempt, argument);
        // An emulator may read the frame of a far return with the kernel's rights, which SMAP forbids: a page fault without the user bit.
        let is_far = matches!(name, "far return" | "iret");
        let refused = fault.is_some_and(|fault| {
            fault.vector == PROTECTION
                || fault.vector == 6
                || is_far && (fault.vector, fault.code) == (14, 1)
        });
        check!(refused, "{name}: {fault:?}");
    }
    Ok(())
}

fn ports(_: &'static World) -> Outcome {
    let faults = Faults::new()?;
    for port in [0, 0x20, 0x40, 0x60, 0x70, 0x80, 0xf4, 0x3f8, 0x604, 0xcf8, 0xcf9, 0xffff] {
        for attempt in [code::port_in(), code::port_out()] {
            let fault = faults.attempt(attempt, port);
            check!(
                fault.is_some_and(|fault| fault.vector == PROTECTION),
                "port {port:#x}: {fault:?}"
            );
        }
    }
    Ok(())
}

fn exceptions(_: &'static World) -> Outcome {
    let faults = Faults::new()?;
    let vector = |attempt| faults.attempt(attempt, 0).map(|fault| fault.vector);
    same!(vector(code::divide()), Some(0));
    same!(vector(code::int3()), Some(3));
    same!(vector(code::ud2()), Some(6));
    Ok(())
}

fn umip(_: &'static World) -> Outcome {
    let faults = Faults::new()?;
    let attempts = [
        ("sgdt", code::sgdt()),
        ("sidt", code::sidt()),
        ("smsw", code::smsw()),
        ("str", code::str_()),
        ("sldt", code::sldt()),
    ];
    for (name, attempt) in attempts {
        let fault = faults.attempt(attempt, 0);
        check!(fault.is_some_and(|fault| fault.vector == PROTECTION), "{name}: {fault:?}");
    }
    Ok(())
}

fn write_or_execute(_: &'static World) -> Outcome {
    let all = Access::READ | Access::WRITE | Access::EXECUTE;
    let home = rt::startup::home_space();
    let offset = rt::view::reserve(1).must("range")?;
    refused!(home.zero(offset, 1, all, 0), BadArgument);
    // A page that may be written can never be executed in a home Space, by no way round.
    home.zero(offset, 1, Access::READ | Access::WRITE, 0).must("zero")?;
    refused!(home.protect(offset, 1, all), BadArgument);
    refused!(home.protect(offset, 1, Access::READ | Access::EXECUTE), MissingRight);
    home.unmap(offset, 1).must("unmap")?;
    rt::view::give_back(offset, 1);
    let hold = Space::create(Domain::OWN, SpaceUse::Hold, None).must("space")?;
    refused!(hold.zero(0, 1, all, 0), BadArgument);
    hold.destroy().must("destroy")
}

fn protections(world: &'static World) -> Outcome {
    use rt::abi::operation::{HardwareFact, Protection};
    // The fact is that of the CPU that is asked: look at every one.
    for cpu in 0..world.cpus {
        super::pin_to(cpu)?;
        let bits = world.hardware.fact(HardwareFact::Protections).must("fact")?;
        let names = [
            ("SMEP", Protection::SMEP),
            ("SMAP", Protection::SMAP),
            ("UMIP", Protection::UMIP),
            ("NX", Protection::NO_EXECUTE),
            ("WP", Protection::WRITE_PROTECT),
        ];
        for (name, bit) in names {
            check!(bits & bit.bits() != 0, "CPU {cpu} runs without {name}");
        }
    }
    super::pin_anywhere()
}

/// Every way to die of a fault ends one Domain and nothing else.
fn death(world: &'static World) -> Outcome {
    let sandbox = Sandbox::new().must("sandbox")?;
    for act in [
        Act::ReadNull,
        Act::WriteText,
        Act::JumpAway,
        Act::Halt,
        Act::DoubleFault,
        Act::EndlessFault,
        Act::StackOverflow,
        Act::NonCanonicalStack,
        Act::DestroySelf,
    ] {
        let assistant = world.assistant_in(sandbox.0, act, |_| Ok(())).must("assistant")?;
        assistant.wait(act::BEGUN).must("begin")?;
        assistant.buried().must("its death")?;
    }
    sandbox.close()
}
