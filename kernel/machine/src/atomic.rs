//! The atomics of the portable kernel and of object storage.
//!
//! On the machine and in ordinary tests they are the language's own. With the feature `interleave` every access is a place where the checker
//! of `models/tests/interleavings` may let another CPU go on, so that it plays the kernel's own code in many orders. It plays them one access
//! after the other: weaker orders of memory are argued for where an `ORDERING` comment stands.

pub use core::sync::atomic::Ordering;
#[cfg(not(feature = "interleave"))]
pub use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, fence,
};

#[cfg(feature = "interleave")]
pub use interleaved::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, fence, interleave,
};

#[cfg(feature = "interleave")]
mod interleaved {
    use core::sync::atomic::{self, Ordering};

    /// Whether accesses are such places now: a test sets its machine up without them.
    static IS_ON: atomic::AtomicBool = atomic::AtomicBool::new(false);

    /// Lets CPUs interleave at every access from now on, or no more.
    pub fn interleave(on: bool) {
        IS_ON.store(on, Ordering::SeqCst);
    }

    fn place() {
        if IS_ON.load(Ordering::Relaxed) {
            shuttle::thread::yield_now();
        }
    }

    /// A barrier; every access is one here.
    pub fn fence(order: Ordering) {
        place();
        atomic::fence(order);
    }

    macro_rules! common {
        ($name:ident, $value:ty $(, $generic:ident)?) => {
            impl $(<$generic>)? $name $(<$generic>)? {
                /// A value.
                #[must_use]
                pub const fn new(value: $value) -> Self {
                    Self(atomic::$name::new(value))
                }
                /// Reads it.
                pub fn load(&self, order: Ordering) -> $value {
                    place();
                    self.0.load(order)
                }
                /// Writes it.
                pub fn store(&self, value: $value, order: Ordering) {
                    place();
                    self.0.store(value, order);
                }
                /// Replaces it.
                pub fn swap(&self, value: $value, order: Ordering) -> $value {
                    place();
                    self.0.swap(value, order)
                }
                /// Replaces an expected value.
                ///
                /// # Errors
                /// The value that was there instead.
                pub fn compare_exchange(&self, from: $value, to: $value, yes: Ordering, no: Ordering) -> Result<$value, $value> {
                    place();
                    self.0.compare_exchange(from, to, yes, no)
                }
            }
        };
    }

    macro_rules! number {
        ($($name:ident $value:ty),*) => { $(
            /// As the language's own.
            #[derive(Debug, Default)]
            #[repr(transparent)]
            pub struct $name(atomic::$name);
            common!($name, $value);
            impl $name {
                /// Adds.
                pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                    place();
                    self.0.fetch_add(value, order)
                }
                /// Subtracts.
                pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                    place();
                    self.0.fetch_sub(value, order)
                }
                /// Sets bits.
                pub fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                    place();
                    self.0.fetch_or(value, order)
                }
                /// Clears bits.
                pub fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                    place();
                    self.0.fetch_and(value, order)
                }
                /// Raises.
                pub fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                    place();
                    self.0.fetch_max(value, order)
                }
                /// Changes it by a function, which another CPU's change makes run again.
                ///
                /// # Errors
                /// The value that the function refused.
                pub fn fetch_update(&self, yes: Ordering, no: Ordering, mut change: impl FnMut($value) -> Option<$value>) -> Result<$value, $value> {
                    let mut value = self.load(no);
                    while let Some(next) = change(value) {
                        match self.compare_exchange(value, next, yes, no) {
                            Ok(before) => return Ok(before),
                            Err(other) => value = other,
                        }
                    }
                    Err(value)
                }
            }
        )* };
    }
    number!(AtomicU8 u8, AtomicU16 u16, AtomicU32 u32, AtomicU64 u64, AtomicUsize usize);

    /// As the language's own.
    #[derive(Debug, Default)]
    #[repr(transparent)]
    pub struct AtomicBool(atomic::AtomicBool);
    common!(AtomicBool, bool);

    /// As the language's own.
    #[derive(Debug)]
    #[repr(transparent)]
    pub struct AtomicPtr<T>(atomic::AtomicPtr<T>);
    common!(AtomicPtr, *mut T, T);
}
