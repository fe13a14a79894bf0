//! The console device: PCI, virtqueues, the console itself.
//!
//! Source: Virtual I/O Device specification 1.2, chapters 2.7 (split virtqueues), 4.1 (PCI), 5.3 (console). The device is the emulator's and trusted as the
//! machine is; still, every index it writes is checked before it is used.

pub(crate) mod console;
mod pci;
mod queue;
