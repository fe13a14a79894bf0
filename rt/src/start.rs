//! The first Rust code of a program, its end, and what happens on a panic.

#[cfg(target_os = "none")]
use crate::arch;
#[cfg(target_os = "none")]
use kernel_abi::Operation;

/// Exit status of a machine whose root has ended.
const ROOT_ENDED: u8 = 0x7e;

#[cfg(target_os = "none")]
unsafe extern "Rust" {
    safe fn rt_main();
}

#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
extern "C" fn rt_start(argument: u64) -> ! {
    crate::startup::read(argument);
    crate::thread::set_up_first();
    rt_main();
    exit()
}

/// Runs a service's function on a thread whose faults are described in the log before the program ends; without memory for that, on this one.
pub fn serve(main: fn()) {
    let begun = crate::thread::spawn(true, move || {
        #[cfg(target_os = "none")]
        if let Err(error) = crate::crash::describe_faults() {
            crate::log!("{}: faults are not described: {error:?}", crate::startup::program());
        }
        main();
        exit()
    });
    match begun {
        Ok(thread) => {
            thread.forget();
            end_thread()
        }
        Err(_) => main(),
    }
}

/// Ends the program: its Domain is destroyed if it holds the capability to do so, else this thread ends.
pub fn exit() -> ! {
    // Root, which nobody has created, takes the machine with it: nobody else could end it any more.
    if crate::startup::block().is_none() {
        let _ = crate::Hardware(kernel_abi::cap::root::HARDWARE).power(0, ROOT_ENDED);
    }
    let _ = crate::Domain(kernel_abi::cap::root::DOMAIN).destroy();
    end_thread()
}

/// Ends the calling thread.
pub(crate) fn end_thread() -> ! {
    #[cfg(target_os = "none")]
    loop {
        let _ = arch::call(Operation::ThreadExit, [0; 6]);
    }
    // On the host the operation would fail, and nothing may run on after it.
    #[cfg(not(target_os = "none"))]
    std::process::abort()
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let mut name = crate::log::Line::new();
    let _ = core::fmt::Write::write_fmt(
        &mut name,
        format_args!("{}: {info}\n", crate::startup::program()),
    );
    name.flush();
    crate::crash::backtrace(arch::frame_pointer());
    exit()
}
