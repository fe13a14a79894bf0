//! The start-up block: what a native program was handed, by name.
//!
//! The creator writes a [`crate::wire`] encoding of [`Startup`] into pages mapped read-only at `kernel_abi::layout::home::STARTUP`.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;
pub use serde_bytes::Bytes;

/// Contents of the block. Whoever reads it borrows its strings from the pages, which stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Startup<'a> {
    /// Program name, for logs.
    #[serde(borrow)]
    pub program: &'a str,
    /// Named capabilities: name, slot in the program's own table.
    #[serde(borrow)]
    pub capabilities: Vec<(&'a Bytes, u32)>,
    /// First slot that is free.
    pub first_free_slot: u32,
    /// Named numbers (sizes, bits of notifications), for example `port.bits`.
    #[serde(borrow)]
    pub values: Vec<(&'a Bytes, u64)>,
    /// 256 bits of randomness for this program alone.
    pub seed: ByteArray<32>,
    /// What the program is to do (for a personality: an encoded [`crate::compartment::Spec`]).
    #[serde(borrow, with = "serde_bytes")]
    pub payload: &'a [u8],
}
