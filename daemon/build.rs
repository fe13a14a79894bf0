//! Embeds the system image from the directory that METT_SYSTEM_IMAGE_DIR names at build time, if it is set.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn main() {
    println!("cargo::rerun-if-env-changed=METT_SYSTEM_IMAGE_DIR");
    let directory = env::var_os("METT_SYSTEM_IMAGE_DIR").filter(|value| !value.is_empty());
    let text = match directory.map(PathBuf::from) {
        None => String::from("None"),
        Some(directory) => {
            let kernel = embed(&directory.join("kernel.elf"));
            let boot_module = embed(&directory.join("boot.img"));
            let symbols = embed(&directory.join("symbols.txt"));
            format!("Some([{kernel}, {boot_module}, {symbols}])")
        }
    };
    let text = format!("const EMBEDDED: Option<[&[u8]; 3]> = {text};\n");
    let out = env::var_os("OUT_DIR").map(PathBuf::from).expect("cargo sets OUT_DIR");
    fs::write(out.join("embedded.rs"), text).expect("OUT_DIR can be written");
}

/// The expression for a file's bytes.
fn embed(path: &Path) -> String {
    let path = path
        .canonicalize()
        .unwrap_or_else(|error| panic!("METT_SYSTEM_IMAGE_DIR lacks {}: {error}", path.display()));
    println!("cargo::rerun-if-changed={}", path.display());
    format!("include_bytes!({:?})", path.to_string_lossy())
}
