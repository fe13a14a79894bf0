//! Passes the linker script of native programs, and where this one lies, when built for the machine.

/// Its first address; no two programs share one.
const BASE: u64 = 0xffff_8000_0220_0000;

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rt/program.ld");
    println!("cargo::rerun-if-changed={script}");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        println!("cargo::rustc-link-arg-bins=-T{script}");
        println!("cargo::rustc-link-arg-bins=--defsym=PROGRAM_BASE={BASE:#x}");
    }
}
