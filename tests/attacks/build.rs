//! Passes the linker script of native programs when built for the machine.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rt/program.ld");
    println!("cargo::rerun-if-changed={script}");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        println!("cargo::rustc-link-arg-bins=-T{script}");
    }
}
