//! The machine under the kernel: everything unsafe, behind a safe interface with two backends.
//!
//! Owns: boot, traps, contexts, paging hardware, interrupt controllers, timers, CPUs, physical memory access, storage of kernel
//! objects. Must not know: what a capability, a Domain or a scheduler is. `kernel-core` uses only the names of this module; on the host the `fake`
//! backend defines the same names over ordinary memory, so that the whole portable kernel runs in unit, property and model tests.
//!
//! # The interface (each name exists in both backends)
//!
//! ```text
//! memory   Frame                         number of a 4 KiB frame of RAM (newtype over u32)
//!          Table = [AtomicU64; 512]      a frame seen as page-table entries or words
//!          table(Frame) -> &'static Table            any frame of RAM; words are atomics, so any value is defined
//!          zero(Frame), copy(to, from)   whole frames
//!          frame_words(Frame) -> &'static [AtomicU64; 2]   the frame's 16 bytes of metadata (meaning is core's)
//!          boot_memory() -> BootMemory   free ranges of RAM, module range, command line; boot_words(n) -> &'static [AtomicU64]
//! object   see `object`: header, slabs in frames, Ref<T> counted references, weak tombstones, typed slot words
//! cpu      MAX_CPUS, cpu() -> CpuId, cpu_count(), PerCpu<T> (interrupts are off in the kernel: exclusive by construction)
//!          interrupt(CpuId, Ipi)         Ipi::{Reschedule, Shootdown}
//!          counter                       what happened how often, per CPU: counter::{add, read}, Counter
//!          idle()                        enables interrupts, halts, returns after one; relax() in spin loops
//! time     now() -> u64 (TSC), ticks_per_second(), set_timer(deadline)  (this CPU's one-shot; 0 stops it)
//! paging   Root(Frame), load_root(Root), kernel_root(), flush_page(addr), flush_all(), kernel_entries(&Table) fills entries 256..512 of a new root
//!          entry bits: PRESENT WRITE USER ACCESSED DIRTY LARGE GLOBAL NO_EXECUTE UNCACHED, FRAME_MASK, SOFT_MASK (bits free for core)
//! context  Context: a thread's user registers for home mode, its state-page frame, FS/GS bases and vector area; all words atomic.
//!          Context::{new, start(entry, stack, argument), get(Reg), set(Reg, value), set_state_page, set_vector_area(frames), copy_fault_to_state}
//!          resume(&Context, root): what the CPU runs when the current kernel entry returns (core keeps the thread alive)
//!          enter_guest(&Context, guest_root, home_root) -> Result<(), ()>, leave_guest(exit, address, code)
//! irq      irq_route(line, trigger) -> Result<Vector>, irq_vector() -> Option<(Vector, MessageAddress, MessageData)>, irq_unmask(line), irq_free
//! misc     log_bytes(&[u8]), random() -> u64, protections() -> Protection, power(action, status) -> !, port_access, device_range_allowed(phys, pages)
//! ```
//!
//! Upcalls, defined by the kernel binary and implemented in core: `on_operation`, `on_guest_exit`, `on_home_fault`, `on_interrupt`, `on_idle`. Each
//! runs to completion with interrupts off on the CPU's one kernel stack, and before it returns it has chosen what to resume.
#![cfg_attr(target_os = "none", no_std)]

pub mod atomic;
pub mod counter;
#[cfg(not(target_os = "none"))]
mod fake;
pub mod object;
mod percpu;
mod types;
#[cfg(target_os = "none")]
#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "the steps of one hardware protocol are argued together"
)]
mod x86;

#[cfg(not(target_os = "none"))]
pub use fake::{
    Context, Machine, VECTOR_FRAMES, boot_memory, boot_words, copy, cpu, cpu_count, device_range_allowed,
    flush_all, flush_page, frame_of, frame_pointer, frame_words, idle, interrupt, irq_free, irq_route,
    irq_unmask, irq_vector, kernel_entries, log_bytes, now, on_cpu, poll_interrupts, port_access, power,
    protections, random, relax, resume, resume_none, set_timer, table, ticks_per_second, zero,
};
pub use percpu::{CpuCell, PerCpu};
pub use types::{
    BootMemory, CpuId, DEVICE_VECTORS, FRAME_WORDS, Frame, FrameRange, Interrupt, Ipi, MAX_CPUS, MAX_RANGES,
    MachineError, Message, Mode, PowerAction, REGISTERS, Reg, Roots, Table, Trigger, Vector, count_until,
    entry,
};
#[cfg(target_os = "none")]
pub use x86::{
    Context, VECTOR_FRAMES, boot_memory, boot_words, copy, cpu, cpu_count, device_range_allowed, flush_all,
    flush_page, frame_of, frame_pointer, frame_words, idle, interrupt, irq_free, irq_route, irq_unmask,
    irq_vector, kernel_entries, log_bytes, now, poll_interrupts, port_access, power, protections, random,
    relax, resume, resume_none, set_timer, stop, table, ticks_per_second, zero,
};
