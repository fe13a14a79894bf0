//! The x86-64 backend: a PC as QEMU's `q35` and `microvm` are, booted by PVH.
//!
//! ```text
//! boot.s -> mett_boot_cpu: console, start info, memory, tables of this CPU, ACPI, interrupt controllers, clock,
//!           other CPUs -> mett_boot (the portable kernel) -> the first thread
//! entry.s -> trap -> the portable kernel -> back to user mode
//! ```

mod acpi;
mod apic;
mod bootinfo;
mod console;
mod context;
mod cpu;
mod instruction;
mod layout;
mod memory;
mod power;
mod smp;
mod time;
mod trap;

pub use apic::{cpu_count, interrupt, irq_free, irq_route, irq_unmask, irq_vector};
pub use console::log_bytes;
pub use context::{Context, VECTOR_FRAMES, resume, resume_none};
pub use cpu::{cpu, protections};
pub use instruction::{flush_all, flush_page, idle, now, poll_interrupts, relax};
pub use memory::{
    boot_memory, boot_words, copy, device_range_allowed, frame_of, frame_pointer, frame_words,
    kernel_entries, table, zero,
};
pub use power::{port_access, power, random};
pub use time::{set_timer, ticks_per_second};
pub use trap::stop;

core::arch::global_asm!(include_str!("boot.s"));
core::arch::global_asm!(include_str!("entry.s"));
#[cfg(feature = "multiboot")]
core::arch::global_asm!(include_str!("multiboot.s"));

/// First window of virtio devices on a machine without PCI (QEMU's microvm).
const VIRTIO_MMIO: u64 = 0xfeb0_0000;

// SAFETY: the kernel binary defines it with this type; it is called once, when everything above is set up.
unsafe extern "Rust" {
    safe fn mett_boot();
}

unsafe extern "C" {
    static boot_stack_top: u8;
}

#[unsafe(no_mangle)]
extern "C" fn mett_boot_cpu(start_info: u64) -> ! {
    console::set_up();
    if let Some(feature) = cpu::missing_feature() {
        stop(format_args!("this CPU lacks {feature}"));
    }
    cpu::set_up(0, (&raw const boot_stack_top).addr() as u64);
    let info = bootinfo::parse(start_info);
    memory::set_up(&info);
    let facts = acpi::read_tables(info.acpi_root);
    let virtio_mmio = facts.pci_window.is_none().then_some(VIRTIO_MMIO);
    memory::note_devices(facts.pci_window, virtio_mmio);
    apic::set_up(&facts);
    power::set_up(&facts);
    time::calibrate(&facts);
    let _count = smp::start(&facts);
    mett_boot();
    smp::release();
    smp::leave_boot()
}
