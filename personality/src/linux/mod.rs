//! Linux's user interface in numbers and layouts: errors, constants, structures. No behaviour.

pub mod constants;
pub mod errno;
pub mod layouts;

pub use constants::*;
pub use errno::Errno;
