//! The memory that the calling thread's guest runs in, to be found by copies that fault in it.
//!
//! A thread holds a counted reference to it in its block, from [`attach`] until [`forget`]. Both, and every copy, happen under the lock of the shared state, which the
//! count belongs to.

use crate::{
    linux::Errno,
    memory::{
        Memory,
        mapped::{Touch, Wish},
    },
};
use alloc::rc::Rc;
use core::{
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

/// See [`is_short`]; it belongs to the holder of the shared state's lock.
static IS_SHORT: AtomicBool = AtomicBool::new(false);

/// Makes a memory the calling thread's lower half.
///
/// # Errors
/// `ENOMEM`; the memory before is still attached then.
pub fn attach(memory: &Rc<Memory>) -> Result<(), Errno> {
    let slot = memory.space().slot().into();
    rt::arch::call(kernel_abi::Operation::GuestAttach, [slot, 0, 0, 0, 0, 0])?;
    replace(Rc::into_raw(memory.clone()).cast_mut());
    Ok(())
}

/// Copies of the calling thread find no memory from here on.
pub fn forget() {
    replace(ptr::null_mut());
}

fn replace(new: *mut Memory) {
    let old = rt::thread::block().local.swap(new.cast(), Ordering::Relaxed).cast::<Memory>();
    if !old.is_null() {
        // SAFETY: only this function writes the word, and what it wrote came from `Rc::into_raw`; the swap makes it this call's own.
        drop(unsafe { Rc::from_raw(old) });
    }
}

/// Lets a copy go on that has faulted at an address of the guest; false if it cannot.
#[cfg_attr(not(target_os = "none"), expect(dead_code, reason = "copies fault on the machine only"))]
pub(super) fn resolve(address: u64, is_write: bool) -> bool {
    let memory = rt::thread::block().local.load(Ordering::Relaxed).cast_const().cast::<Memory>();
    // SAFETY: the thread's word is null or holds a counted reference, which nobody takes away during this call.
    let Some(memory) = (unsafe { memory.as_ref() }) else { return false };
    let wish = if is_write { Wish::Write } else { Wish::Read };
    let touch = memory.touch(address, wish);
    IS_SHORT.store(touch == Touch::NoMemory, Ordering::Relaxed);
    touch == Touch::Filled
}

/// Whether the last copy that could not go on lacked nothing but memory.
#[must_use]
pub fn is_short() -> bool {
    IS_SHORT.load(Ordering::Relaxed)
}

/// What [`is_short`] tells begins anew.
#[inline]
pub fn begin_call() {
    IS_SHORT.store(false, Ordering::Relaxed);
}
