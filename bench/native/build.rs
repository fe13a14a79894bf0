//! Passes the linker script of native programs, and where these lie, when built for the machine.

/// Their first addresses; no two programs share one.
const BASES: [(&str, u64); 2] = [("bench", 0xffff_8000_0520_0000), ("echo", 0xffff_8000_0560_0000)];

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rt/program.ld");
    println!("cargo::rerun-if-changed={script}");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        println!("cargo::rustc-link-arg-bins=-T{script}");
        for (name, base) in BASES {
            println!("cargo::rustc-link-arg-bin={name}=--defsym=PROGRAM_BASE={base:#x}");
        }
    }
}
