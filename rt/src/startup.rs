//! The start-up block: what this program was handed, by name.
//!
//! Decoded once, before the program begins. Root has none.

use crate::slots;
use alloc::boxed::Box;
use contract::startup::{Bytes, Startup};
use core::{
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};
use kernel_abi::{
    Slot,
    layout::{HOME_BASE, home},
};

static BLOCK: AtomicPtr<Startup<'static>> = AtomicPtr::new(ptr::null_mut());

/// Reads the block. `argument` is its length, 0 if there is none.
#[cfg_attr(
    not(target_os = "none"),
    expect(dead_code, reason = "programs begin on the machine only")
)]
pub(crate) fn read(argument: u64) {
    if argument == 0 || argument > home::STARTUP_SIZE {
        return;
    }
    let start = ptr::with_exposed_provenance::<u8>((HOME_BASE + home::STARTUP) as usize);
    // What a template left there is another program's.
    BLOCK.store(ptr::null_mut(), Ordering::Release);
    // SAFETY: the creator maps the block read-only before it starts the program with the block's length.
    let bytes: &'static [u8] = unsafe { core::slice::from_raw_parts(start, argument as usize) };
    if let Ok(Some((block, _))) = contract::wire::decode::<Startup<'_>>(bytes) {
        slots::set_first(block.first_free_slot);
        BLOCK.store(Box::into_raw(Box::new(block)), Ordering::Release);
    }
}

/// The block.
#[must_use]
pub fn block() -> Option<&'static Startup<'static>> {
    // SAFETY: the pointer is null or comes from a box that is never freed.
    unsafe { BLOCK.load(Ordering::Acquire).as_ref() }
}

/// The program's name.
#[must_use]
pub fn program() -> &'static str {
    block().map_or("root", |block| block.program)
}

/// The slot of a capability by name.
#[must_use]
pub fn capability(name: &str) -> Option<Slot> {
    block()?
        .capabilities
        .iter()
        .find(|(known, _)| **known == *name.as_bytes())
        .map(|(_, slot)| *slot)
}

/// A number by name.
#[must_use]
pub fn value(name: &str) -> Option<u64> {
    block()?.values.iter().find(|(known, _)| **known == *name.as_bytes()).map(|(_, value)| *value)
}

/// All capabilities that were handed over: their names and slots.
pub fn capabilities() -> impl Iterator<Item = &'static (&'static Bytes, Slot)> {
    block().into_iter().flat_map(|block| block.capabilities.iter())
}

/// The program's home Space, whose slot is the same in every program: the heap needs it before the block can be read.
#[must_use]
pub const fn home_space() -> crate::Space {
    crate::Space(kernel_abi::cap::root::HOME)
}
