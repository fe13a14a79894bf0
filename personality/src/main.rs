//! .
#![cfg_attr(target_os = "none", no_std, no_main)]
extern crate alloc;
rt::entry!(main);
fn main() {
    rt::log!("personality");
}
