//! The suite's own assembly: operations by any number, and instructions that may fault.
//!
//! An instruction that may fault is run by [`Faults::attempt`]: the thread's fault handler lets the program go on behind it, so that the suite sees
//! what happened instead of dying.

use alloc::string::String;
use core::ptr;
use rt::{
    abi::{Operation, guest::StatePage},
    arch,
    view::View,
};

/// Performs whatever operation a number names: `rax`, `rdx`, `rdi`.
pub(crate) fn raw(number: u64, arguments: [u64; 6]) -> [u64; 3] {
    let [a, b, c, d, e, f] = arguments;
    let (rax, rdx, rdi): (u64, u64, u64);
    // SAFETY: the kernel changes registers as its convention says, and memory only through capabilities of the caller's.
    unsafe {
        core::arch::asm!("syscall",
            inlateout("rax") number => rax, inlateout("rdi") a => rdi, inlateout("rsi") b => _,
            inlateout("rdx") c => rdx, inlateout("r10") d => _, inlateout("r8") e => _, inlateout("r9") f => _,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    [rax, rdx, rdi]
}

/// Performs whatever operation a number names with every register of a message under the caller's control; `rax`.
pub(crate) fn raw_message(number: u64, arguments: [u64; 6], more: [u64; 4]) -> u64 {
    let [a, b, c, d, e, f] = arguments;
    let [r12, r13, r14, r15] = more;
    let rax: u64;
    // SAFETY: as in `raw`.
    unsafe {
        core::arch::asm!("syscall",
            inlateout("rax") number => rax, inlateout("rdi") a => _, inlateout("rsi") b => _,
            inlateout("rdx") c => _, inlateout("r10") d => _, inlateout("r8") e => _, inlateout("r9") f => _,
            in("r12") r12, in("r13") r13, in("r14") r14, in("r15") r15,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    rax
}

/// A piece of code that may fault: returns 0 when it did not.
pub(crate) type Attempt = unsafe extern "C" fn(u64) -> u64;

macro_rules! attempts {
    ($( $(#[$doc:meta])* $name:ident: $($line:literal)+; )*) => {
        core::arch::global_asm!(
            ".section .text.suite, \"ax\", @progbits",
            $(
                concat!(".global suite_", stringify!($name)),
                concat!("suite_", stringify!($name), ":"),
                "push rbx",
                "push rbp",
                "push r12",
                "mov r12, rsp",
                "lea rbx, [rip + 2f]",
                "mov eax, 1",
                $($line,)+
                "xor eax, eax",
                "2: mov rsp, r12",
                "pop r12",
                "pop rbp",
                "pop rbx",
                "ret",
            )*
            ".text",
        );
        /// Code that may fault, by what it does.
        pub(crate) mod code {
            $(
                $(#[$doc])*
                pub(crate) fn $name() -> super::Attempt {
                    unsafe extern "C" {
                        #[link_name = concat!("suite_", stringify!($name))]
                        fn code(argument: u64) -> u64;
                    }
                    code
                }
            )*
        }
    };
}

attempts! {
    /// Reads a byte.
    read: "movzx ecx, byte ptr [rdi]";
    /// Writes a byte.
    write: "mov byte ptr [rdi], 0x5a";
    /// Calls a function that returns at once.
    jump: "call rdi";
    /// Runs without a fault.
    nothing: "nop";
    /// Turns interrupts off.
    cli: "cli";
    /// Turns interrupts on.
    sti: "sti";
    /// Stops the processor.
    hlt: "hlt";
    /// Reads a port.
    port_in: "mov edx, edi" "in al, dx";
    /// Writes a port.
    port_out: "mov edx, edi" "out dx, al";
    /// Reads a control register.
    read_cr0: "mov rcx, cr0";
    /// Reads the page-table root.
    read_cr3: "mov rcx, cr3";
    /// Writes the page-table root.
    write_cr3: "mov cr3, rdi";
    /// Writes a control register.
    write_cr4: "mov cr4, rdi";
    /// Reads a debug register.
    read_dr7: "mov rcx, dr7";
    /// Writes a debug register.
    write_dr0: "mov dr0, rdi";
    /// Reads a model-specific register.
    rdmsr: "mov ecx, 0xc0000080" "rdmsr";
    /// Writes a model-specific register.
    wrmsr: "mov ecx, 0xc0000082" "xor edx, edx" "wrmsr";
    /// Loads an interrupt table.
    lidt: "lidt [rdi]";
    /// Loads a segment table.
    lgdt: "lgdt [rdi]";
    /// Invalidates a page.
    invlpg: "invlpg [rdi]";
    /// Invalidates the caches.
    wbinvd: "wbinvd";
    /// Clears the task-switched flag.
    clts: "clts";
    /// Swaps GS.
    swapgs: "swapgs";
    /// Returns from a system call.
    sysret: "mov rcx, rdi" "sysretq";
    /// Sets extended control register 0.
    xsetbv: "xor ecx, ecx" "mov eax, 1" "xor edx, edx" "xsetbv" "mov eax, 1";
    /// Stores the segment table's place, which UMIP hides.
    sgdt: "sub rsp, 16" "mov rbp, rsp" "sgdt [rsp]" "add rsp, 16";
    /// Stores the interrupt table's place, which UMIP hides.
    sidt: "sub rsp, 16" "sidt [rsp]" "add rsp, 16";
    /// Stores the machine status word, which UMIP hides.
    smsw: "smsw ecx";
    /// Stores the task register, which UMIP hides.
    str_: "str ecx";
    /// Stores the local table register, which UMIP hides.
    sldt: "sldt ecx";
    /// A breakpoint.
    int3: "int3";
    /// A software interrupt with a vector of the machine's.
    int_14: "int 14";
    /// A software interrupt with a vector of the kernel's own.
    int_timer: "int 0xf0";
    /// The system call of other systems.
    int_80: "int 0x80";
    /// The old fast call, for which nothing is set up.
    sysenter: "sysenter";
    /// An undefined instruction.
    ud2: "ud2";
    /// A division by zero.
    divide: "xor ecx, ecx" "xor edx, edx" "div ecx";
    /// A kernel segment in a segment register.
    load_ds: "mov ecx, 0x10" "mov ds, ecx";
    /// A far return into the kernel's segment.
    far_return: "push 0x08" "push rbx" "retfq";
    /// A stack access beyond the canonical addresses.
    stack: "mov rbp, 0x800000000000" "mov ecx, [rbp]";
    /// An interrupt return to the kernel's privilege.
    iret: "mov rcx, rsp" "push 0x10" "push rcx" "pushfq" "push 0x08" "push rbx" "iretq";
}

core::arch::global_asm!(
    ".section .text.suite, \"ax\", @progbits",
    // A fault in home mode: go on where rbx said. The word at the handler's stack is the state page's address.
    ".global suite_fault_entry",
    "suite_fault_entry:",
    "mov rax, [rsp]",
    "mov rcx, [rax + {rbx}]",
    "mov [rax + {rip}], rcx",
    "mov eax, 5",
    "syscall",
    "ud2",
    ".text",
    rbx = const core::mem::offset_of!(StatePage, home) + core::mem::offset_of!(rt::abi::guest::Registers, rbx),
    rip = const core::mem::offset_of!(StatePage, home) + core::mem::offset_of!(rt::abi::guest::Registers, rip),
);

unsafe extern "C" {
    fn suite_fault_entry();
}

/// A fault in home mode as the state page tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Vector.
    pub(crate) vector: u8,
    /// Hardware error code.
    pub(crate) code: u64,
    /// Faulting address.
    pub(crate) address: u64,
}

/// The calling thread's fault handler and its stack.
pub(crate) struct Faults {
    state: *mut StatePage,
    _stack: View,
}

impl Faults {
    /// Registers the handler for the calling thread, which has a state page.
    pub(crate) fn new() -> Result<Self, String> {
        use crate::check::Must;
        let state = rt::thread::state_page().ok_or("the thread has no state page")?;
        let stack = View::zeroed(1).must("stack")?;
        let top = stack.address() + 4096 - 16;
        let place = ptr::with_exposed_provenance_mut::<u64>(top as usize);
        // SAFETY: the view is writable and this thread's own.
        unsafe { place.write(state.expose_provenance() as u64) };
        let entry = (suite_fault_entry as *const ()).addr() as u64;
        arch::call(Operation::FaultHandler, [entry, top, 0, 0, 0, 0]).must("FaultHandler")?;
        Ok(Self { state, _stack: stack })
    }

    /// Runs code that may fault; how it faulted, if it did.
    pub(crate) fn attempt(&self, attempt: Attempt, argument: u64) -> Option<Fault> {
        // SAFETY: the code preserves what C functions preserve, and a fault in it continues at its end.
        let faulted = unsafe { attempt(argument) };
        (faulted != 0).then(|| {
            // SAFETY: the state page is mapped for ever.
            let code = unsafe { &raw const (*self.state).home_fault_code };
            // SAFETY: as above.
            let address = unsafe { &raw const (*self.state).home_fault_address };
            // SAFETY: the kernel has written the word.
            let code = unsafe { code.read_volatile() };
            // SAFETY: as above.
            let address = unsafe { address.read_volatile() };
            Fault { vector: code as u8, code: code >> 8, address }
        })
    }
}
