//! The kernel: the portable part on the machine.
//!
//! Owns: the connection of the two, and the panic handler. The machine's upcalls are defined here, so that neither part knows the other's internals.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(target_os = "none", no_main)]

#[cfg(target_os = "none")]
mod upcalls {
    use core::panic::PanicInfo;
    use kernel_core::entry;
    use kernel_machine::{Interrupt, Mode};

    #[unsafe(no_mangle)]
    fn mett_boot() {
        if let Err(error) = entry::boot() {
            kernel_machine::stop(format_args!("root cannot be started: {error:?}"));
        }
    }

    #[unsafe(no_mangle)]
    fn mett_on_operation() {
        entry::on_operation();
    }

    #[unsafe(no_mangle)]
    fn mett_on_exception(mode: Mode, vector: u8, address: u64, code: u64) {
        entry::on_exception(mode, vector, address, code);
    }

    #[unsafe(no_mangle)]
    fn mett_on_interrupt(interrupt: Interrupt) {
        entry::on_interrupt(interrupt);
    }

    #[unsafe(no_mangle)]
    fn mett_on_idle() {
        entry::on_idle();
    }

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        kernel_machine::stop(format_args!("{info}"))
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("The kernel runs on the machine only: build it with `cargo xtask build`.");
    std::process::exit(2);
}
