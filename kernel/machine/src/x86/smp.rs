//! Starting the other CPUs (Intel SDM volume 3, 9.4.4).

use super::{acpi::Facts, apic, cpu, instruction, memory, time};
use core::{
    ptr,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

/// Where another CPU begins, and the page number it is told.
const TRAMPOLINE: u64 = 0x8000;
/// Bytes of a kernel stack.
pub(super) const STACK: u64 = 32 * 1024;
/// INIT, and the start-up message.
const INIT: u32 = 0x4500;
const STARTUP: u32 = 0x4600;

static READY: AtomicUsize = AtomicUsize::new(1);
static RELEASED: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    static mett_trampoline: u8;
    static mett_trampoline_end: u8;
    static mett_next_stack: AtomicU64;
    static mett_next_cpu: AtomicU64;
    fn mett_leave_boot() -> !;
}

/// Starts every CPU that the tables name; how many run then.
pub(super) fn start(facts: &Facts) -> usize {
    let start = (&raw const mett_trampoline).addr();
    let length = (&raw const mett_trampoline_end).addr() - start;
    let target = ptr::with_exposed_provenance_mut::<u8>(memory::direct(TRAMPOLINE) as usize);
    // SAFETY: the first MiB is mapped and never handed out; the trampoline is shorter than a page.
    unsafe { ptr::copy_nonoverlapping(&raw const mett_trampoline, target, length) };
    let own = apic::own_number();
    let mut count = 1;
    for apic in facts.apics.iter().take(facts.apic_count).filter(|apic| **apic != own) {
        if count < crate::types::MAX_CPUS && start_one(*apic, count) {
            count += 1;
        }
    }
    apic::set_cpu_count(count);
    count
}

fn start_one(apic: u32, id: usize) -> bool {
    let stack = memory::direct(memory::carve(STACK / 4096)) + STACK;
    // SAFETY: the words belong to the CPU that starts next, and only one starts at a time.
    let (next_stack, next_cpu) = unsafe { (&mett_next_stack, &mett_next_cpu) };
    next_stack.store(stack, Ordering::Release);
    next_cpu.store(id as u64, Ordering::Release);
    apic::command(apic, INIT);
    wait(200, || false);
    for _ in 0..2 {
        apic::command(apic, STARTUP | (TRAMPOLINE >> 12) as u32);
        if wait(100_000, || READY.load(Ordering::Acquire) > id) {
            return true;
        }
    }
    false
}

/// Waits until a condition holds, for some microseconds at most; whether it does.
fn wait(microseconds: u64, holds: impl Fn() -> bool) -> bool {
    let end = instruction::now() + time::ticks_per_second() / 1_000_000 * microseconds;
    while instruction::now() < end {
        if holds() {
            return true;
        }
        instruction::relax();
    }
    holds()
}

#[unsafe(no_mangle)]
extern "C" fn mett_other_cpu(id: u64) -> ! {
    // SAFETY: the kernel's root maps everything that boot's does but the trampoline.
    unsafe { instruction::load_root(memory::kernel_root()) };
    // SAFETY: the word was written for this CPU before it started.
    let stack = unsafe { &mett_next_stack }.load(Ordering::Acquire);
    cpu::set_up(id as usize, stack);
    apic::set_up_local(id as usize);
    READY.store(id as usize + 1, Ordering::Release);
    while !RELEASED.load(Ordering::Acquire) {
        instruction::relax();
    }
    leave_boot()
}

/// Lets the other CPUs go on.
pub(super) fn release() {
    RELEASED.store(true, Ordering::Release);
}

/// Runs whatever is chosen.
pub(super) fn leave_boot() -> ! {
    // SAFETY: this CPU's block has its stack; nothing on the boot stack is needed any more.
    unsafe { mett_leave_boot() }
}
