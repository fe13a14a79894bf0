//! Root.
#![cfg_attr(target_os = "none", no_std, no_main)]
extern crate alloc;
rt::entry!(main);
fn main() {
    rt::log!("root runs, {} ticks/s", rt::clock::ticks_per_second());
    let v: alloc::vec::Vec<u64> = (0..10000).collect();
    rt::log!("heap {}", v.iter().sum::<u64>());
    let t = rt::thread::spawn(false, || { rt::log!("thread runs"); }).map(|t| t.slot());
    rt::log!("spawned {:?}", t);
    let d = rt::clock::deadline_in(20_000_000);
    let r = rt::thread::park_until(d);
    rt::log!("parked {:?}", r);
    let _ = rt::Hardware(4).power(0, 3);
}
